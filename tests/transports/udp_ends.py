"""Two UDP ends that meet on loopback or in the Lab, with sockets that refuse what they are told to."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from caetun.lab import Cable, Host, Lab, Port
from caetun.transports.udp_endpoint import UdpEndpoint, open_udp
from caetun.transports.udp_link import UdpLink
from caetun.transports.udp_socket import Address
from caetun.types import Drops
from caetun.wire.record import Record
from tests.transports.recorder import Recorder

_T = TypeVar("_T")
SESSION: Final = 7
AnyHost: TypeAlias = tuple[socket.AddressFamily, str]
ANY4, ANY6 = (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")


class PickySocket(socket.socket):
    """A socket whose next sends go as told: an error number refuses one, 0 lets it pass; then all pass."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.verdicts: list[int] = []
        self.refuses_bursts_with = 0
        self.sends = 0

    def sendmsg(self, buffers: Sequence[Any], ancillary: Any = (), *rest: Any) -> int:  # type: ignore[override]
        self.sends += 1
        verdict = self.verdicts.pop(0) if self.verdicts else 0
        if verdict or (ancillary and self.refuses_bursts_with):
            number = verdict or self.refuses_bursts_with
            raise OSError(number, os.strerror(number))
        return super().sendmsg(buffers, ancillary, *rest)


class End:
    """An endpoint, and what it hears."""

    def __init__(self, family: socket.AddressFamily, host: str, inside: Host | None = None) -> None:
        self.inside = inside
        self.drops = Drops()
        opened: UdpEndpoint = self.do(lambda: open_udp(host, 0, family, self.drops))
        self.socket = PickySocket(fileno=opened._sock.detach())
        self.socket.setblocking(False)
        self.endpoint = UdpEndpoint(self.socket, self.drops)
        self.port: int = self.socket.getsockname()[1]
        self.hears = Recorder()

    def do(self, function: Callable[[], _T]) -> _T:
        """In its host, if it is in one."""
        return function() if self.inside is None else self.inside.inside(function)

    def start(self) -> None:
        self.endpoint.start(asyncio.get_running_loop(), self.hears, {SESSION})

    async def got(self, count: int) -> list[Record]:
        """What has arrived once there are so many records, in the order of arrival."""
        await self.hears.until(lambda: len(self.hears.got) >= count)
        return self.hears.got


class Two:
    """Two ends, started."""

    def __init__(self, one: End, other: End, where: str = "127.0.0.1") -> None:
        self.one, self.other = one, other
        one.start()
        other.start()
        self.link = self.link_to(where)

    def link_to(self, host: str) -> UdpLink:
        """The link from the one to the other under an address."""
        address: Address = (host, self.other.port)
        if self.one.endpoint.family == socket.AF_INET6:
            address = (host, self.other.port, 0, 0)
        link: UdpLink = self.one.do(lambda: self.one.endpoint.link(address))
        return link

    def close(self) -> None:
        self.one.endpoint.close()
        self.other.endpoint.close()


class Cabled(Two):
    """Two ends in two hosts of a Lab."""

    def __init__(self, lab: Lab, cable: Cable = Cable(), any_host: AnyHost = ANY4) -> None:  # noqa: B008 - frozen
        left, right = ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"]
        one, other = lab.host("one"), lab.host("other")
        self.port: Port
        self.port, _ = lab.link(one, other, left=left, right=right, cable=cable)
        where = "10.0.0.2" if any_host is ANY4 else "fd00::2"
        super().__init__(End(*any_host, one), End(*any_host, other), where)


def record(counter: int, size: int) -> Record:
    return Record(SESSION, counter, random.Random(counter).randbytes(size))
