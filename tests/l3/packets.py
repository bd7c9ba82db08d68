"""IP packets that tests of the router are written with, and how to read what comes back. Checksums are dpkt's."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import dpkt

from caetun.types import Iovec
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD


def packet(
    source: str, destination: str, size: int = 100, *, hops: int = 64, dont_fragment: bool = True, protocol: int = 17
) -> bytes:
    """A packet of `size` bytes, at least 60, with a counted payload behind a UDP header."""
    one, other = ip_address(source).packed, ip_address(destination).packed
    if len(one) == 4:
        payload = _udp(size - 20)
        flags = 0x4000 if dont_fragment else 0
        head = struct.pack(">BBHHHBBH", 0x45, 0, size, 7, flags, hops, protocol, 0) + one + other
        return head[:10] + struct.pack(">H", dpkt.in_cksum(head)) + head[12:] + payload
    return struct.pack(">IHBB", 6 << 28, size - 40, protocol, hops) + one + other + _udp(size - 40)


def _udp(size: int) -> bytes:
    payload = bytes(at & 0xFF for at in range(size - 8))
    return struct.pack(">HHHH", 4000, 5000, size, 0) + payload


def frames(*packets: bytes) -> list[Iovec]:
    """As they come from a peer."""
    return [(NO_OFFLOAD, memoryview(each)) for each in packets]


def batch(*packets: bytes) -> Batch:
    """As they come from the device."""
    made = Batch()
    for each in packets:
        made.append(each)
    return made


def read(raw: bytes) -> Any:
    """An IP packet in dpkt's terms, its checksums verified."""
    if raw[0] >> 4 == 4:
        found = dpkt.ip.IP(raw)
        assert dpkt.in_cksum(raw[: (raw[0] & 0x0F) * 4]) == 0, "the header's checksum"
        if isinstance(found.data, dpkt.icmp.ICMP):
            assert dpkt.in_cksum(raw[20:]) == 0, "ICMP's checksum"
        return found
    found = dpkt.ip6.IP6(raw)
    if found.nxt == 58:
        pseudo = raw[8:40] + struct.pack(">II", len(raw) - 40, 58)
        assert dpkt.in_cksum(pseudo + raw[40:]) == 0, "ICMPv6's checksum"
    return found


def told(raw: bytes) -> tuple[str, str, int, int, int, bytes]:
    """An ICMP error: (from, to, type, code, the four bytes as a number, what it quotes)."""
    found = read(raw)
    message = raw[20:] if raw[0] >> 4 == 4 else raw[40:]
    kind, code, _, number = struct.unpack_from(">BBHI", message)
    return str(ip_address(found.src)), str(ip_address(found.dst)), kind, code, number, message[8:]
