"""Two QUIC ends on the loopback interface or in the Lab."""

from __future__ import annotations

import asyncio
import functools
import select
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from aioquic.quic.configuration import QuicConfiguration

from caetun.lab import Host
from caetun.transports.base import Arrivals, Context, Options, Reactor, Sessions
from caetun.transports.mmsg import address_of, source_of
from caetun.transports.quic_endpoint import QuicEndpoint
from caetun.transports.quic_link import QuicLink
from caetun.transports.quic_tls import client_configuration, server_configuration
from caetun.transports.udp_endpoint import UdpEndpoint, open_udp
from caetun.transports.udp_socket import Address
from caetun.types import Drops
from tests.transports.recorder import Recorder

_T = TypeVar("_T")
SESSION = 7


@functools.cache
def shared_server() -> QuicConfiguration:
    """A server's configuration with a certificate, made once for all tests."""
    return server_configuration(context_of(None, Recorder(), Drops(), Options()))


def context_of(
    loop: asyncio.AbstractEventLoop | None,
    arrivals: Arrivals,
    drops: Drops,
    options: Options,
    sessions: Sessions = frozenset({SESSION, 8}),
) -> Context:
    return Context(loop, arrivals, sessions, drops, options, lambda *_: None)  # type: ignore[arg-type]  # not used


class QuicEnd:
    """An endpoint on a socket of its own, which serves and calls; fulfils `Endpoint`."""

    def __init__(self, family: socket.AddressFamily, host: str, inside: Host | None = None) -> None:
        self.inside = inside
        self.drops = Drops()
        self.hears = Recorder()
        self.udp: UdpEndpoint = self.do(lambda: open_udp(host, 0, family, self.drops))
        self.options = Options()

    def use(self, sock: socket.socket) -> None:
        """Go on with another object for the same socket."""
        self.udp._sock.detach()
        self.udp = UdpEndpoint(sock, self.drops)

    def do(self, function: Callable[[], _T]) -> _T:
        """In its host, if it is in one."""
        return function() if self.inside is None else self.inside.inside(function)

    @property
    def name(self) -> str:
        return self.quic.name

    @property
    def address(self) -> Address:
        """Where it listens."""
        address: Address = self.udp._sock.getsockname()
        return address

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        self.context = context_of(asyncio.get_running_loop(), arrivals, self.drops, self.options, sessions)
        self.udp.native = False
        self.udp.start(reactor, arrivals, sessions)
        self.quic = QuicEndpoint(self.udp, self.context)
        self.quic.serve(shared_server())

    def begin(self) -> None:
        """The same with what it hears itself."""
        self.start(asyncio.get_running_loop(), self.hears, {SESSION, 8})

    def call(self, address: Address) -> QuicLink:
        configuration = client_configuration("hub.example", self.options)
        return self.quic.call(configuration, address_of(source_of(address)))

    def close(self) -> None:
        self.udp.close()


def meet(link: QuicLink, *ends: QuicEnd) -> None:
    """Let a handshake happen here and now, without the event loop."""
    until = time.monotonic() + 5.0
    while not (link.connection.is_open and link.connection.quic._handshake_confirmed):
        if time.monotonic() > until:
            raise TimeoutError("no handshake")
        ready, _, _ = select.select([end.udp._sock for end in ends], [], [], 0.1)
        for end in ends:
            if end.udp._sock in ready:
                end.udp._readable()
