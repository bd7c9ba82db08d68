"""A flood of handshakes from 1,000 addresses: whoever has a session keeps at least 80 % of its throughput.

    client ---- server ---- flooder, which owns 10.50.0.0/16

The flooder sends far more than makes the tunnel feel under load (20 handshakes a second), but not all it could: client,
server, flooder and both ends of the TCP stream share this machine's cores, and what the flooder itself takes of them is
not the tunnel's fault. So in quiet rounds it sends just as much, to a port where nobody reads.

What other programs take comes and goes: quiet and flooded rounds alternate, medians count, and on a busy machine none
is judged. How many rounds there are is fixed beforehand, and they are judged once.
"""

from __future__ import annotations

import base64
import os
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Final

import pytest

from caetun.lab import Host, Lab
from caetun.lab.traffic import stream
from caetun.session.cookies import NO_MAC2, mac, mac1_key
from caetun.types import DropReason
from caetun.wire.handshake import Header, cut
from caetun.wire.record import INITIATION
from tests.tunnel.ends import INNER4, OUTER4, PORT, key_arguments, start, tunnel_arguments, two_hosts
from tests.tunnel.idle import Others

pytestmark = [pytest.mark.needs("namespaces", "tun", "ip"), pytest.mark.alone]

# fixed by the specification: linux/in.h
_IP_PKTINFO: Final = 8

# chosen by us
_RATE: Final = 2_000
"""Initiations a second: a hundred times what makes the tunnel feel under load."""
_SOURCES: Final = [IPv4Address("10.50.0.0") + 256 * (number // 200) + number % 200 + 1 for number in range(1_000)]
_TICK: Final = 0.005
"""Seconds between two bursts of the flooder."""
_ROUNDS: Final = 6
"""Of each kind."""
_SECONDS: Final = 0.4
"""Of TCP in one stretch."""
_STRETCHES: Final = 3
"""In one round."""
_LEAD: Final = 1.0
"""Seconds a flood lasts before we measure: the tunnel's limits are per second, a short flood would find them unused."""
_KEEPS: Final = 0.8
"""Share of the quiet throughput."""
_NOBODY: Final = 4501
"""Port of the server where nobody reads."""
_POOL: Final = 2_000
"""Different datagrams, sent over and over."""


class Flooder:
    """Sends initiations in a thread of this process while it is told to."""

    def __init__(self, host: Host, pool: list[bytes]) -> None:
        self.sent = 0
        """To the tunnel."""
        self.replies = 0
        self._port = _NOBODY
        self._turn = 0
        self._seconds = 0.0
        self._pool = pool
        self._flooding = threading.Event()
        self._ended = False
        self._socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="flooder")
        self._thread.start()

    @contextmanager
    def flooding(self, port: int) -> Iterator[None]:
        """Flood this port of the server as long as this lasts."""
        self._port = port
        began = time.monotonic()
        self._flooding.set()
        try:
            yield
        finally:
            self._flooding.clear()
            if port == PORT:
                self._seconds += time.monotonic() - began

    @property
    def rate(self) -> float:
        """Datagrams a second while flooding."""
        return self.sent / self._seconds

    def close(self) -> None:
        """Stop; afterwards the counts are final."""
        self._ended = True
        self._flooding.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ended:
            self._flooding.wait()
            began, already = time.monotonic(), self._turn
            while self._flooding.is_set() and not self._ended:
                due = int((time.monotonic() - began) * _RATE) - (self._turn - already)
                self._burst(due)
                time.sleep(_TICK)

    def _burst(self, count: int) -> None:
        """Send so many, each from another address than the one before; count what has come back."""
        port = self._port
        for _ in range(count):
            # IP_PKTINFO (ip(7)): the address to send from
            source = struct.pack("=i4s4s", 0, _SOURCES[self._turn % len(_SOURCES)].packed, bytes(4))
            datagram = self._pool[self._turn % len(self._pool)]
            self._socket.sendmsg([datagram], [(socket.IPPROTO_IP, _IP_PKTINFO, source)], 0, (OUTER4[0], port))
            self._turn += 1
            self.sent += port == PORT
        try:
            while True:
                self._socket.recv(2048)
                self.replies += 1
        except BlockingIOError:
            pass


def initiations(target: bytes) -> list[bytes]:
    """Initiations with random contents under the code for `target`: half of them whole, half first pieces of two."""
    key, found = mac1_key(target), []
    for number in range(_POOL):
        header = Header(INITIATION, 1, int.from_bytes(os.urandom(4), "big"), 0)
        bare = cut(header, os.urandom(150 if number % 2 else 1300))[0]
        found.append(bare + mac(key, bare) + NO_MAC2)
    return found


def set_up(lab: Lab) -> tuple[tuple[Host, Host], Host]:
    """Server and client, and the flooder with its own way to the server."""
    hosts, flooder = two_hosts(lab), lab.host("flooder")
    lab.link(hosts[0], flooder, left=["10.98.0.1/24"], right=["10.98.0.2/24"])
    hosts[0].run(["ip", "route", "add", "10.50.0.0/16", "via", "10.98.0.2"])
    flooder.run(["ip", "route", "add", "10.99.0.0/24", "via", "10.98.0.1"])
    flooder.run(["ip", "route", "add", "local", "10.50.0.0/16", "dev", "lo"])
    return hosts, flooder


def kept(quiet: list[float], flooded: list[float]) -> float:
    """Share of the throughput that a flood leaves: median over stretches, each with one of the round before."""
    return statistics.median(shares(quiet, flooded))


def shares(quiet: list[float], flooded: list[float]) -> list[float]:
    """Of each stretch."""
    return [less / more for more, less in zip(quiet, flooded, strict=True)]


def spread(quiet: list[float], flooded: list[float]) -> str:
    """The median, and between what the middle half lies."""
    low, middle, high = statistics.quantiles(shares(quiet, flooded), n=4)
    return f"{middle:.0%} ({low:.0%}..{high:.0%})"


@pytest.mark.parametrize("knows", [True, False], ids=["right mac1", "wrong mac1"])
def test_a_session_keeps_its_throughput(lab: Lab, knows: bool) -> None:
    hosts, far = set_up(lab)
    arguments = tunnel_arguments(hosts, keys=key_arguments)
    one, other = start(hosts, arguments)
    public = base64.b64decode(arguments[1][arguments[1].index("--peer") + 1])
    flooder = Flooder(far, initiations(public if knows else os.urandom(32)))
    rates: dict[int, list[float]] = {_NOBODY: [], PORT: []}
    quiet, flooded = rates.values()
    others = Others()
    sink = hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind((OUTER4[0], _NOBODY))
    try:
        for _ in range(_ROUNDS):
            others.look()
            for port, measured in rates.items():
                with flooder.flooding(port):
                    time.sleep(_LEAD)
                    measured += [stream(hosts[1], hosts[0], INNER4[0], _SECONDS).rate for _ in range(_STRETCHES)]
    finally:
        flooder.close()
        sink.close()
    drops = one.drops()
    print(
        f"\n{'right' if knows else 'wrong'} mac1, {flooder.rate:,.0f} initiations/s, {len(quiet)} stretches: TCP "
        f"{statistics.median(quiet) / 1e6:,.0f} -> {statistics.median(flooded) / 1e6:,.0f} Mbit/s, "
        f"{spread(quiet, flooded)} kept; {flooder.replies:,} cookie replies; {drops}"
    )
    assert flooder.rate > 0.5 * _RATE
    assert (flooder.replies > 0) == knows
    assert flooder.replies <= 0.8 * flooder.sent, "there is a limit"
    if not knows:
        assert drops[DropReason.HANDSHAKE_MAC] == flooder.sent
    for end in (one, other):
        assert not end.events("peer.down", "peer.moved")
    assert (one.stop(), other.stop()) == (0, 0)
    if others.disturb:
        pytest.skip(others.disturb)
    assert kept(quiet, flooded) >= _KEEPS
