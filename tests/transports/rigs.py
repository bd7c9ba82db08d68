"""Two ends of every transport, ready for the contract test: a new transport adds its maker to `RIGS`.

rig = make()
rig.link.send(records)                          # from `rig.near` to `rig.far`
await rig.until(lambda: rig.far.arrivals.got)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import pytest

from caetun.errors import NetworkError
from caetun.transports.base import SEND_QUEUE, Endpoint, Link
from caetun.transports.memory import Conditions, MemoryEndpoint, MemoryNetwork
from caetun.transports.udp_endpoint import UdpEndpoint, open_udp
from caetun.transports.websocket import WebSocketLink
from caetun.types import Drops
from caetun.wire.websocket import WebSocketCodec
from tests.transports.quic_ends import QuicEnd, meet
from tests.transports.recorder import Recorder
from tests.transports.stream_ends import StreamEnd, StreamSocket, connected, pipe_pair

SESSIONS: Final = {7, 8}
"""What both sides have given out."""


class Side:
    """One end: its endpoint, and what it has heard."""

    def __init__(self, endpoint: Endpoint, drops: Drops) -> None:
        """Starts the endpoint on the running loop."""
        self.endpoint = endpoint
        self.drops = drops
        self.arrivals = Recorder()
        endpoint.start(asyncio.get_running_loop(), self.arrivals, SESSIONS)


class Rig:
    """Two sides and the link from the near one to the far one."""

    near: Side
    far: Side
    link: Link

    async def until(self, condition: Callable[[], object]) -> None:
        """Let things happen until the condition holds; TimeoutError if it does not come to that."""
        raise NotImplementedError

    async def turn(self) -> None:
        """Let happen what is about to, without waiting for anything."""
        raise NotImplementedError

    def block(self, blocked: bool) -> None:
        """Whether the network takes little or nothing from the near side."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""
        self.near.endpoint.close()
        self.far.endpoint.close()


RigMaker: TypeAlias = Callable[[], Rig]


class MemoryRig(Rig):
    """Two endpoints on one network in memory."""

    def __init__(self) -> None:
        self._network = MemoryNetwork()
        near, far = Drops(), Drops()
        endpoint: MemoryEndpoint = self._network.endpoint("near", near)
        self.near, self.far = Side(endpoint, near), Side(self._network.endpoint("far", far), far)
        self.link = endpoint.link("far")

    async def until(self, condition: Callable[[], object]) -> None:
        self._network.settle()
        if not condition():
            raise TimeoutError("nothing is under way any more")

    async def turn(self) -> None:
        self._network.settle()

    def block(self, blocked: bool) -> None:
        # what is sent lies on the network until somebody waits for it
        self._network.conditions = Conditions(capacity=SEND_QUEUE) if blocked else Conditions()


class StuckSocket(socket.socket):
    """A socket that takes nothing while it is `stuck`, as one whose network is slower than we are."""

    stuck = False

    def sendmsg(self, buffers: Sequence[Any], *rest: Any) -> int:  # type: ignore[override]
        if self.stuck:
            raise BlockingIOError
        return super().sendmsg(buffers, *rest)


class SocketRig(Rig):
    """Two ends on the loopback interface, driven by the running loop."""

    _socket: StuckSocket | StreamSocket
    """What the near side sends by."""

    async def until(self, condition: Callable[[], object]) -> None:
        both = [asyncio.ensure_future(side.arrivals.until(condition)) for side in (self.near, self.far)]
        done, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for waiting in pending:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        for over in done:
            over.result()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def block(self, blocked: bool) -> None:
        self._socket.stuck = blocked


class UdpRig(SocketRig):
    """Two sockets."""

    def __init__(self, family: socket.AddressFamily) -> None:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        near, far = Drops(), Drops()
        opened = open_udp(host, 0, family, near)
        self._socket = StuckSocket(fileno=opened._sock.detach())
        self._socket.setblocking(False)
        endpoint = UdpEndpoint(self._socket, near)
        other = open_udp(host, 0, family, far)
        self.near, self.far = Side(endpoint, near), Side(other, far)
        self.link = endpoint.link(other._sock.getsockname())


class StreamRig(SocketRig):
    """One connection with a link at each end, as if both had called: the contract is about links that are proven."""

    def __init__(self, kind: str, family: socket.AddressFamily = socket.AF_INET, **how: Any) -> None:
        """`how`: codec and link class, see `StreamEnd`."""
        near, far = Drops(), Drops()
        self._socket, other = connected(family)
        names = self._socket.getsockname(), other.getsockname()
        pipes = pipe_pair(kind, self._socket, other)
        ends = [
            StreamEnd(kind, pipe, local, drops, **how)
            for pipe, local, drops in zip(pipes, names, (near, far), strict=True)
        ]
        self.near, self.far = Side(ends[0], near), Side(ends[1], far)
        self.link = ends[0].link


class QuicRig(SocketRig):
    """A QUIC connection between two sockets, its handshake done."""

    def __init__(self, family: socket.AddressFamily) -> None:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        near, far = QuicEnd(family, host), QuicEnd(family, host)
        self._socket = StuckSocket(fileno=near.udp._sock.fileno())
        self._socket.setblocking(False)
        near.use(self._socket)
        self.near, self.far = Side(near, near.drops), Side(far, far.drops)
        self.link = near.call(far.address)
        meet(self.link, near, far)


def quic_ipv6() -> Rig:
    try:
        return QuicRig(socket.AF_INET6)
    except (OSError, NetworkError) as error:
        pytest.skip(f"no IPv6 on this machine: {error}")


def udp_ipv4() -> Rig:
    return UdpRig(socket.AF_INET)


def udp_ipv6() -> Rig:
    try:
        return UdpRig(socket.AF_INET6)
    except (OSError, NetworkError) as error:
        pytest.skip(f"no IPv6 on this machine: {error}")


def tcp_ipv6() -> Rig:
    try:
        return StreamRig("tcp", socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")


def websocket(kind: str) -> Rig:
    codecs = iter(WebSocketCodec(client, os.urandom) for client in (True, False))
    return StreamRig(kind, codec=codecs.__next__, link=WebSocketLink)


RIGS: Final[dict[str, RigMaker]] = {
    "memory": MemoryRig,
    "udp-ipv4": udp_ipv4,
    "udp-ipv6": udp_ipv6,
    "quic-ipv4": lambda: QuicRig(socket.AF_INET),
    "quic-ipv6": quic_ipv6,
    "tcp-ipv4": lambda: StreamRig("tcp"),
    "tcp-ipv6": tcp_ipv6,
    "tls-ipv4": lambda: StreamRig("tls"),
    "ws-ipv4": lambda: websocket("ws"),
    "wss-ipv4": lambda: websocket("wss"),
}
