"""A client's core on a real socket: what a daemon does that is asked who it is, less the second that a start takes.

    guesser = Guesser(site, "10.99.0.2", hub=("10.99.0.1", 4500), name="mallory")
    guesser.guess({"user": "alice", "password": "secret"})     # what the hub says to it

Node, peer and session are those of `tests/simulator.py`; the network and the time are the real ones. Each guess is one
of a client that was just started, with the key that it always has.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from caetun.lab import Host as Site
from caetun.output import Output
from caetun.session.channel import Kind
from caetun.types import Mode
from caetun.wire.authentication import Accepted, Ask, Denied, Reply, decode, encode
from tests.simulator import WALL, Host, Setup, World

HUB: Final = "hub"
"""The hub's key is `simulator.key_of(HUB)`."""
PATIENCE: Final = 60.0
"""Seconds for an answer: under load the hub takes five handshakes a second from one address."""
_SETUP: Final = Setup({HUB: [HUB]}, mode=Mode.TAP)


class _Outdoors:
    """Stands for a `World` that is no simulation."""

    def __init__(self, sock: socket.socket, hub: tuple[str, int]) -> None:
        self.seed = os.urandom(8).hex()
        self._socket = sock
        self._hub = hub

    @property
    def now(self) -> float:
        return time.monotonic()

    def carry(self, host: Host, target: str, datagram: bytes) -> None:
        self._socket.sendto(datagram, self._hub)


class Guesser:
    """Somebody at an address of a site."""

    def __init__(self, site: Site, address: str, hub: tuple[str, int], name: str) -> None:
        self._name = name
        self._hub = hub
        self._socket = site.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.setblocking(False)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def guess(self, values: Mapping[str, str], *, stays: float = 0.0) -> str:
        """What the hub says to these answers: "accepted as USER", or why not. `stays`: seconds before it goes."""
        host = Host(cast(World, _Outdoors(self._socket, self._hub)), self._name, _SETUP)
        host.clock = time.time() - time.monotonic() - WALL
        verdict = ""

        def hear(out: Output) -> None:
            nonlocal verdict
            for _, kind, body in out.said:
                if kind != Kind.AUTHENTICATION:
                    continue
                match decode(body):
                    case Ask(nonce, _):
                        _say(host, Reply(nonce, values))
                    case Accepted(user):
                        verdict = f"accepted as {user}"
                    case Denied(why):
                        verdict = why

        host.shell = hear
        host.start()
        self._run(host, lambda: bool(verdict), PATIENCE)
        assert verdict, f"no answer within {PATIENCE:g} s"
        self._run(host, lambda: False, stays)
        host.stop()
        return verdict

    def _run(self, host: Host, done: Any, seconds: float) -> None:
        """What a loop does: datagrams and deadlines, until it is done or time is up."""
        end = time.monotonic() + seconds
        host.look()
        while not done() and (left := end - time.monotonic()) > 0:
            due = host.deadline
            wait = left if due is None else min(left, max(0.0, due - time.monotonic()))
            if select.select([self._socket], [], [], wait)[0]:
                host.hear(HUB, self._socket.recv(65536))
            host.look()


def _say(host: Host, message: Reply) -> None:
    host.peer.say(Kind.AUTHENTICATION, encode(message), time.monotonic(), host._out)
    host._flush()
