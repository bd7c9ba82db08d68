"""Ethernet frames that tests of the switch are written with."""

from __future__ import annotations

import struct

from caetun.wire.checksum import ones_sum
from caetun.wire.membership import GroupRecord, Query, encode_query, encode_report, mld_checksum

ALL_ROUTERS6 = bytes.fromhex("ff020000000000000000000000000016")


def mac(number: int) -> bytes:
    """A host's address."""
    return b"\x02\0\0" + number.to_bytes(3, "big")


def ipv4(number: int) -> bytes:
    """A host's address."""
    return bytes((10, 0)) + number.to_bytes(2, "big")


def ipv6(number: int) -> bytes:
    """A host's link-local address."""
    return b"\xfe\x80" + bytes(10) + number.to_bytes(4, "big")


def group_mac(group: bytes) -> bytes:
    """RFC 1112, section 6.4; RFC 2464, section 7."""
    if len(group) == 16:
        return b"\x33\x33" + group[12:]
    return b"\x01\0\x5e" + bytes((group[1] & 0x7F,)) + group[2:]


def ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return destination + source + struct.pack(">H", kind) + payload


def packet4(source: bytes, destination: bytes, protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    size = 20 + len(options)
    head = struct.pack(">BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 0, 0, 1, protocol, 0)
    head += source + destination + options
    return head[:10] + (ones_sum(head) ^ 0xFFFF).to_bytes(2, "big") + head[12:] + payload


def packet6(source: bytes, destination: bytes, next_header: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), next_header, 1) + source + destination + payload


def data(host: int, group: bytes, payload: bytes = b"data" * 4) -> bytes:
    """A UDP datagram to a group."""
    udp = struct.pack(">HHHH", 5004, 5004, 8 + len(payload), 0) + payload
    if len(group) == 4:
        return ethernet(group_mac(group), mac(host), 0x0800, packet4(ipv4(host), group, 17, udp))
    return ethernet(group_mac(group), mac(host), 0x86DD, packet6(ipv6(host), group, 17, udp))


def _membership(host: int, message: bytes, destination: bytes, source: bytes) -> bytes:
    if len(destination) == 4:
        packet = packet4(source, destination, 2, message, b"\x94\x04\0\0")
        return ethernet(group_mac(destination), mac(host), 0x0800, packet)
    body = b"\x3a\0\5\2\0\0\1\0" + mld_checksum(source, destination, message)
    return ethernet(group_mac(destination), mac(host), 0x86DD, packet6(source, destination, 0, body))


def report(host: int, version: int, *records: GroupRecord) -> bytes:
    """An IGMP or MLD report."""
    size = len(records[0].group)
    newest = version == (3 if size == 4 else 2)
    destination = records[0].group
    if newest:
        destination = bytes((224, 0, 0, 22)) if size == 4 else ALL_ROUTERS6
    source = ipv4(host) if size == 4 else ipv6(host)
    return _membership(host, encode_report(version, records, size), destination, source)


def query(host: int, asked: Query) -> bytes:
    """An IGMP or MLD query, from its `source`."""
    size = len(asked.group)
    everybody = bytes((224, 0, 0, 1)) if size == 4 else bytes.fromhex("ff020000000000000000000000000001")
    return _membership(host, encode_query(asked), asked.group if any(asked.group) else everybody, asked.source)
