"""What crosses a device of a host, datagram by datagram (packet(7)): proof of silence, and something to mutate."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Final, NamedTuple

from caetun.lab import Host

# fixed by the specification: linux/if_packet.h, linux/if_ether.h, RFC 791, RFC 768
_PACKET_OUTGOING: Final = 4
_ETH_P_ALL: Final = 3
_ETH_P_IP: Final = 0x0800
_PROTOCOL_UDP: Final = 17
_UDP: Final = struct.Struct(">HHHH")
_SO_RCVBUFFORCE: Final = 33

# chosen by us
_BUFFER: Final = 16 << 20
"""Bytes kept between two looks."""


class Datagram(NamedTuple):
    """One UDP datagram over IPv4."""

    outgoing: bool
    """Whether the host of the capture sent it."""
    source: tuple[str, int]
    target: tuple[str, int]
    payload: bytes


class Capture:
    """Notes the UDP datagrams over IPv4 on one device, from now on."""

    def __init__(self, host: Host, device: str) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setblocking(False)
        host.inside(lambda: self._socket.bind((device, _ETH_P_ALL)))

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._socket.close()

    def take(self) -> list[Datagram]:
        """The datagrams since the last time."""
        found: list[Datagram] = []
        while True:
            try:
                packet, (_, protocol, kind, *_) = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return found
            if protocol == _ETH_P_IP and (datagram := _decode(packet, kind == _PACKET_OUTGOING)):
                found.append(datagram)


def _decode(packet: bytes, outgoing: bool) -> Datagram | None:
    """The UDP datagram in an IPv4 packet, if there is one."""
    at = (packet[0] & 0x0F) * 4
    if packet[9] != _PROTOCOL_UDP:
        return None
    source, target, length, _ = _UDP.unpack_from(packet, at)
    payload = packet[at + _UDP.size : at + length]
    addresses = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    return Datagram(outgoing, (addresses[0], source), (addresses[1], target), payload)
