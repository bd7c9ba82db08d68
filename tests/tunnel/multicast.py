"""Real multicast sockets in hosts of a Lab, a stream between them, and what of it crosses other devices."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Final

from caetun.lab import Host
from tests.tunnel.campus import BRIDGE, DEVICE, Place, index
from tests.tunnel.watch import until

# fixed by the specification: linux/in.h, linux/if_packet.h
_IP_MULTICAST_ALL: Final = 49
_MCAST_JOIN_SOURCE_GROUP: Final = 46
_MCAST_LEAVE_SOURCE_GROUP: Final = 47
_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_STORAGE: Final = 128
"""Bytes of a struct sockaddr_storage."""

# chosen by us
PORT: Final = 5004
_SIZE: Final = 1000
_RATE: Final = 1000
"""Datagrams a second: 8 Mbit/s."""
_GROUP: Final = 10
"""Datagrams between two pauses."""
_MARK: Final = b"caetun-stream-"
_BUFFER: Final = 16 << 20
SECOND: Final = _RATE
"""Datagrams of a second."""
LEFT_SECONDS: Final = 3.0
"""Within 2 s a stream ends after the last leave; and what other programs on this machine may take."""
_numbers = itertools.count(1)


def _family(group: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in group else socket.AF_INET


def _storage(address: str) -> bytes:
    """A struct sockaddr_storage."""
    if ":" in address:
        packed = struct.pack("@HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address), 0)
    else:
        packed = struct.pack("@HH4s", socket.AF_INET, 0, socket.inet_aton(address))
    return packed.ljust(_STORAGE, b"\0")


class Member:
    """A socket that is a member of a group on a host's device: from all sources, or from those named."""

    def __init__(self, host: Host, group: str, sources: Sequence[str] = (), device: str = "eth0") -> None:
        self._group, self._index = group, index(host, device)
        self.sources: set[str] = set()
        self._level = socket.IPPROTO_IPV6 if ":" in group else socket.IPPROTO_IP
        self.socket = host.socket(_family(group), socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self.socket.setblocking(False)
        self.socket.bind((group, PORT))
        if self._level == socket.IPPROTO_IP:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        if sources:
            for source in sources:
                self._set(_MCAST_JOIN_SOURCE_GROUP, _storage(group) + _storage(source))
        elif self._level == socket.IPPROTO_IPV6:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", self._index)
            self.socket.setsockopt(self._level, socket.IPV6_JOIN_GROUP, request)
        else:
            request = socket.inet_aton(group) + bytes(4) + struct.pack("@i", self._index)
            self.socket.setsockopt(self._level, socket.IP_ADD_MEMBERSHIP, request)

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set(self, option: int, addresses: bytes) -> None:
        # struct group_req, group_source_req: the number of the device, then addresses that want 8 bytes alignment
        self.socket.setsockopt(self._level, option, struct.pack("@I4x", self._index) + addresses)

    def leave_source(self, source: str) -> None:
        """Do without one of the sources."""
        self._set(_MCAST_LEAVE_SOURCE_GROUP, _storage(self._group) + _storage(source))

    def close(self) -> None:
        """Leave."""
        self.socket.close()

    def take(self) -> int:
        """Datagrams since the last time; `sources` has sent them."""
        found = 0
        self.sources = set()
        while True:
            try:
                data, where = self.socket.recvfrom(2048)
            except BlockingIOError:
                return found
            if data.startswith(_MARK):
                found += 1
                self.sources.add(where[0])


class Sender:
    """Sends to a group from a host's device."""

    def __init__(self, host: Host, group: str, source: str = "", device: str = "eth0") -> None:
        self._where = (group, PORT)
        self.socket = host.socket(_family(group), socket.SOCK_DGRAM)
        number = index(host, device)
        if ":" in group:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@8xi", number))
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
        if source:
            self.socket.bind((source, 0))
        self._payload = _MARK.ljust(_SIZE, b"\0")

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, count: int = 1) -> None:
        """Some datagrams at once."""
        for _ in range(count):
            self.socket.sendto(self._payload, self._where)

    def stream(self, count: int) -> None:
        """So many, at 8 Mbit/s."""
        began = time.monotonic()
        for number in range(0, count, _GROUP):
            time.sleep(max(0.0, began + number / _RATE - time.monotonic()))
            self.send(min(_GROUP, count - number))


class Meter:
    """Counts what of such streams comes in by a device: of a site's, what has crossed its link to the hub."""

    def __init__(self, host: Host, device: str = DEVICE) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setblocking(False)
        host.inside(lambda: self._socket.bind((device, _ETH_P_ALL)))

    def close(self) -> None:
        """Count no more."""
        self._socket.close()

    def take(self) -> int:
        """Datagrams since the last time."""
        found = 0
        while True:
            try:
                found += _MARK in self._socket.recv(2048)
            except BlockingIOError:
                return found


@contextlib.contextmanager
def meters(*hosts: Host, device: str = DEVICE) -> Iterator[list[Meter]]:
    """One for each host."""
    made = [Meter(host, device) for host in hosts]
    try:
        yield made
    finally:
        for meter in made:
            meter.close()


# a conversation


def new_group(version: int) -> str:
    """A group that nobody has been in before."""
    number = next(_numbers)
    return f"239.1.2.{number}" if version == 4 else f"ff0e::1:{number:x}"


def address(place: Place, version: int, number: int = 0) -> str:
    return place.address(number) if version == 4 else place.address6(number)


def flows(sender: Sender, *members: Member) -> None:
    """Send until something has arrived at all members."""
    for member in members:

        def arrived(member: Member = member) -> bool:
            sender.send()
            return member.take() > 0

        until(arrived, "the first datagram")


def streamed(sender: Sender, *counted: Meter | Member, count: int = SECOND // 5) -> list[int]:
    """Stream, and say how many datagrams each has counted once nothing comes any more."""
    rest(counted)
    sender.stream(count)
    return rest(counted)


def rest(counted: tuple[Meter | Member, ...]) -> list[int]:
    """What is counted until nothing comes any more."""
    found = [0] * len(counted)
    while True:
        time.sleep(0.1)
        some = [each.take() for each in counted]
        found = [one + other for one, other in zip(found, some, strict=True)]
        if not any(some):
            return found


def ebb(sender: Sender, meter: Meter) -> float:
    """Keep sending until nothing crosses a link any more; returns how many seconds it took."""
    began = last = time.monotonic()
    while (now := time.monotonic()) < last + 0.5:
        sender.send()
        time.sleep(0.01)
        if meter.take():
            last = now
        assert now < began + 10, "it does not end"
    return last - began


def keep_sending(sender: Sender, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sender.send()
        time.sleep(0.01)


def ask(place: Place) -> None:
    """Make a Linux bridge the querier, with ordinary addresses; hosts answer within half a second."""
    run = place.host.run
    # It takes queries from 0.0.0.0 for those of a querier, and would be silent: so it is to forget those it has heard.
    for state in ("down", "up"):
        run(["ip", "link", "set", BRIDGE, state])
    run(["ip", "-6", "address", "flush", "dev", BRIDGE])
    run(["ip", "address", "add", f"10.88.{place.number}.250/16", "dev", BRIDGE])
    run(["ip", "address", "add", "fe80::ffff:0:0:1/64", "dev", BRIDGE, "nodad"])
    times = ["mcast_query_response_interval", "50", "mcast_last_member_interval", "50"]  # hundredths of a second
    words = ["mcast_igmp_version", "3", "mcast_mld_version", "2", "mcast_query_use_ifaddr", "1", *times]
    run(["ip", "link", "set", BRIDGE, "type", "bridge", *words, "mcast_querier", "1"])
