"""Who wants which multicast group: IGMPv1, v2 and v3, MLDv1 and v2, and what tells of multicast routers.

IGMPv3 query (RFC 9776, section 4.1); v1 and v2 end after the group   MLDv2 query (RFC 9777, section 5.1); v1 likewise

 +--------+----------+-----------------+        +--------+--------+-----------------+
 |  0x11  | max resp |    checksum     |        |  130   |   0    |    checksum     |
 +--------+----------+-----------------+        +--------+--------+-----------------+
 |               group (4)             |        |   max response  |    reserved     |
 +-----+-+--+--------+-----------------+        +-----------------+-----------------+
 |resv |S|QRV| QQIC  |     sources     |        |              group (16)           |
 +-----+-+--+--------+-----------------+        +-----+-+---+------+-----------------+
 |          source addresses           |        |resv |S|QRV| QQIC |     sources     |
                                                +-----+-+---+------+-----------------+
Report records (sections 4.2 and 5.2):
 type (1) | auxiliary words (1) | sources (2) | group (4 or 16) | source addresses | auxiliary data

Both protocols come out as the same values, with addresses of 4 or 16 bytes. Whoever calls has found the IP header; what
is checked here: checksums, lengths, counts, and that what must not leave the link has not (hop limit 1 for MLD).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.checksum import ones_sum
from caetun.wire.ip import IPV4, Packet

# fixed by the specification
PROTOCOL_IGMP: Final = 2
PROTOCOL_PIM: Final = 103
PROTOCOL_ICMPV6: Final = 58
IGMP_QUERY: Final = 0x11
IGMP_V1_REPORT: Final = 0x12
IGMP_V2_REPORT: Final = 0x16
IGMP_LEAVE: Final = 0x17
IGMP_V3_REPORT: Final = 0x22
IGMP_MRD: Final = 0x30
"""Multicast Router Advertisement (RFC 4286, section 3)."""
MLD_QUERY: Final = 130
MLD_REPORT: Final = 131
MLD_DONE: Final = 132
MLD_V2_REPORT: Final = 143
MLD_MRD: Final = 151
_PIM_HELLO: Final = 0x20
"""Version 2, type 0 (RFC 7761, section 4.9)."""
_IGMP_TYPES: Final = frozenset((IGMP_QUERY, IGMP_V1_REPORT, IGMP_V2_REPORT, IGMP_LEAVE, IGMP_V3_REPORT, IGMP_MRD))
_MLD_TYPES: Final = frozenset((MLD_QUERY, MLD_REPORT, MLD_DONE, MLD_V2_REPORT, MLD_MRD))
_V1_MAX_RESPONSE: Final = 10.0
"""Seconds that IGMPv1 hosts take, whose queries do not say (RFC 2236, section 4)."""
_IPV6_SOURCE_AT: Final = 8
_IPV6_HOP_LIMIT_AT: Final = 7
_IPV4_SOURCE_AT: Final = 12

# chosen by us
MAX_RECORDS: Final = 1024
"""Group records of one report: more fit no frame that a host would send."""


class Kind(enum.IntEnum):
    """What a group record says (RFC 9776, section 4.2.12). Older versions' joins and leaves are put in these words."""

    IS_INCLUDE = 1
    IS_EXCLUDE = 2
    TO_INCLUDE = 3
    TO_EXCLUDE = 4
    ALLOW = 5
    BLOCK = 6


class GroupRecord(NamedTuple):
    """What a host wants of one group."""

    kind: Kind
    group: bytes
    sources: tuple[bytes, ...] = ()


class Query(NamedTuple):
    """A querier asks."""

    version: int
    """Of IGMP 1..3, of MLD 1..2."""
    source: bytes
    """The querier's address; all zeros for a switch that has none."""
    group: bytes
    """All zeros: a general query."""
    max_response: float
    """Seconds within which hosts answer."""
    suppress: bool = False
    """Whether other routers leave their timers alone."""
    robustness: int = 0
    """0: not said."""
    interval: float = 0.0
    """Seconds between the querier's general queries; 0: not said."""
    sources: tuple[bytes, ...] = ()


class Report(NamedTuple):
    """A host tells."""

    version: int
    source: bytes
    records: tuple[GroupRecord, ...]


class RouterHello(NamedTuple):
    """A multicast router is there: MRD advertisement or PIM hello."""

    source: bytes


Membership: TypeAlias = Query | Report | RouterHello


def decode(frame: Buffer, at: int, packet: Packet) -> Membership | None:
    """What the IP packet at `at`, of that outline, says about multicast; None if nothing that is known.

    Raises Malformed: `MULTICAST_CHECKSUM` if a checksum is wrong, `MULTICAST_MALFORMED` for anything else.
    """
    if packet.end > len(frame):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "packet is cut short")
    body = bytes(frame[packet.transport : packet.end])
    if packet.version == IPV4:
        return _decode_ipv4(frame, at, packet, body)
    if packet.protocol == PROTOCOL_ICMPV6 and body and body[0] in _MLD_TYPES and packet.whole:
        return _decode_mld(frame, at, body)
    if packet.protocol == PROTOCOL_PIM and body and body[0] == _PIM_HELLO:
        return RouterHello(bytes(frame[at + _IPV6_SOURCE_AT : at + 24]))
    return None


def _decode_ipv4(frame: Buffer, at: int, packet: Packet, body: bytes) -> Membership | None:
    source = bytes(frame[at + _IPV4_SOURCE_AT : at + 16])
    if packet.protocol not in (PROTOCOL_IGMP, PROTOCOL_PIM) or not packet.whole:
        return None
    if ones_sum(frame[at : packet.transport]) != 0xFFFF:
        raise Malformed(DropReason.MULTICAST_CHECKSUM, "IPv4 header")
    if packet.protocol == PROTOCOL_PIM:
        return RouterHello(source) if body[:1] == bytes((_PIM_HELLO,)) else None
    if len(body) < 8:
        raise Malformed(DropReason.MULTICAST_MALFORMED, "IGMP message is cut short")
    if ones_sum(body) != 0xFFFF:
        raise Malformed(DropReason.MULTICAST_CHECKSUM, "IGMP")
    kind = body[0]
    if kind not in _IGMP_TYPES:
        return None
    if kind == IGMP_MRD:
        return RouterHello(source)
    group = body[4:8]
    if kind == IGMP_QUERY:
        return _igmp_query(source, body)
    if kind == IGMP_V3_REPORT:
        return Report(3, source, _records(body, 4))
    if not _is_group(group):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "not a group address")
    if kind == IGMP_LEAVE:
        return Report(2, source, (GroupRecord(Kind.TO_INCLUDE, group),))
    return Report(1 if kind == IGMP_V1_REPORT else 2, source, (GroupRecord(Kind.IS_EXCLUDE, group),))


def _igmp_query(source: bytes, body: bytes) -> Query:
    """RFC 9776, section 7.1: the version follows from length and maximum response code."""
    group, code = body[4:8], body[1]
    if any(group) and not _is_group(group):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "query for what is no group")
    if len(body) == 8:
        if not code:
            return Query(1, source, group, _V1_MAX_RESPONSE)
        return Query(2, source, group, code / 10)
    if len(body) < 12:
        raise Malformed(DropReason.MULTICAST_MALFORMED, "query of 9 to 11 bytes")
    return Query(3, source, group, _float8(code) / 10, *_query_tail(body, 8, 4))


def _decode_mld(frame: Buffer, at: int, body: bytes) -> Membership:
    source = bytes(frame[at + _IPV6_SOURCE_AT : at + 24])
    if len(body) < 8:
        raise Malformed(DropReason.MULTICAST_MALFORMED, "MLD message is cut short")
    # The pseudo-header of RFC 8200, section 8.1; with a routing header its destination would be the last one, but MLD
    # never leaves the link.
    pseudo = ones_sum(frame[at + _IPV6_SOURCE_AT : at + 40]) + len(body) + PROTOCOL_ICMPV6
    if ones_sum(body, pseudo) != 0xFFFF:
        raise Malformed(DropReason.MULTICAST_CHECKSUM, "MLD")
    if frame[at + _IPV6_HOP_LIMIT_AT] != 1:
        raise Malformed(DropReason.MULTICAST_MALFORMED, "MLD from another link")
    # RFC 9777, sections 5.1.14 and 5.2.13: from a link-local address; a report also from none at all.
    if not (source[0] == 0xFE and source[1] & 0xC0 == 0x80) and any(source):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "MLD from an address of another scope")
    kind = body[0]
    if kind == MLD_MRD:
        return RouterHello(source)
    if kind == MLD_V2_REPORT:
        return Report(2, source, _records(body, 16))
    if len(body) < 24:
        raise Malformed(DropReason.MULTICAST_MALFORMED, "MLD message is cut short")
    group = body[8:24]
    if kind == MLD_QUERY:
        return _mld_query(source, group, body)
    if not _is_group(group):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "not a group address")
    return Report(1, source, (GroupRecord(Kind.TO_INCLUDE if kind == MLD_DONE else Kind.IS_EXCLUDE, group),))


def _mld_query(source: bytes, group: bytes, body: bytes) -> Query:
    """RFC 9777, section 8.1: 24 bytes are version 1, 28 and more version 2."""
    if any(group) and not _is_group(group):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "query for what is no group")
    (code,) = struct.unpack_from(">H", body, 4)
    if len(body) == 24:
        return Query(1, source, group, code / 1000)
    if len(body) < 28:
        raise Malformed(DropReason.MULTICAST_MALFORMED, "query of 25 to 27 bytes")
    return Query(2, source, group, _float16(code) / 1000, *_query_tail(body, 24, 16))


def _query_tail(body: bytes, at: int, size: int) -> tuple[bool, int, float, tuple[bytes, ...]]:
    """S, QRV, QQIC and sources, which both protocols end with."""
    flags, interval, count = struct.unpack_from(">BBH", body, at)
    return bool(flags & 8), flags & 7, float(_float8(interval)), _addresses(body, at + 4, count, size)


def _records(body: bytes, size: int) -> tuple[GroupRecord, ...]:
    """The group records of an IGMPv3 or MLDv2 report; those of a kind that is not known are passed over."""
    (count,) = struct.unpack_from(">H", body, 6)
    if count > MAX_RECORDS:
        raise Malformed(DropReason.MULTICAST_MALFORMED, f"{count} group records")
    records: list[GroupRecord] = []
    at = 8
    for _ in range(count):
        if at + 4 + size > len(body):
            raise Malformed(DropReason.MULTICAST_MALFORMED, "group record is cut short")
        kind, words, sources = struct.unpack_from(">BBH", body, at)
        group = body[at + 4 : at + 4 + size]
        addresses = _addresses(body, at + 4 + size, sources, size)
        at += 4 + size + sources * size + words * 4
        if at > len(body):
            raise Malformed(DropReason.MULTICAST_MALFORMED, "auxiliary data is cut short")
        if not _is_group(group):
            raise Malformed(DropReason.MULTICAST_MALFORMED, "not a group address")
        if Kind.IS_INCLUDE <= kind <= Kind.BLOCK:
            records.append(GroupRecord(Kind(kind), group, addresses))
    return tuple(records)


def _addresses(body: bytes, at: int, count: int, size: int) -> tuple[bytes, ...]:
    if at + count * size > len(body):
        raise Malformed(DropReason.MULTICAST_MALFORMED, "source addresses are cut short")
    return tuple(body[start : start + size] for start in range(at, at + count * size, size))


def _is_group(address: bytes) -> bool:
    return address[0] == 0xFF if len(address) == 16 else address[0] & 0xF0 == 0xE0


def _float8(code: int) -> int:
    """RFC 9776, sections 4.1.1 and 4.1.7."""
    return code if code < 0x80 else ((code & 0x0F) | 0x10) << ((code >> 4 & 7) + 3)


def _float16(code: int) -> int:
    """RFC 9777, section 5.1.3."""
    return code if code < 0x8000 else ((code & 0x0FFF) | 0x1000) << ((code >> 12 & 7) + 3)


def float_code(value: int, bits: int) -> int:
    """The code of 8 or 16 bits for a value, rounded down where it is not exact; the largest one beyond the range."""
    mantissa_bits = bits - 4
    top = 1 << (bits - 1)
    if value < top:
        return max(value, 0)
    exponent = value.bit_length() - 1 - mantissa_bits - 3
    if exponent > 7:
        return (1 << bits) - 1
    return top | exponent << mantissa_bits | (value >> (exponent + 3)) & ((1 << mantissa_bits) - 1)


def encode_query(query: Query) -> bytes:
    """The IGMP or MLD message for a query; its checksum is complete for IGMP, 0 for MLD (see `mld_checksum`)."""
    size = len(query.group)
    tail = b""
    if query.version == (3 if size == 4 else 2):
        flags = (8 if query.suppress else 0) | min(query.robustness, 7) * (query.robustness <= 7)
        tail = struct.pack(">BBH", flags, float_code(round(query.interval), 8), len(query.sources))
        tail += b"".join(query.sources)
    if size == 16:
        code = round(query.max_response * 1000)
        code = float_code(code, 16) if tail else min(code, 0xFFFF)
        return struct.pack(">BBHHH", MLD_QUERY, 0, 0, code, 0) + query.group + tail
    code = round(query.max_response * 10)
    code = 0 if query.version == 1 else float_code(code, 8) if tail else min(code, 0xFF)
    message = struct.pack(">BBH", IGMP_QUERY, code, 0) + query.group + tail
    return message[:2] + (ones_sum(message) ^ 0xFFFF).to_bytes(2, "big") + message[4:]


def mld_checksum(source: bytes, destination: bytes, message: bytes) -> bytes:
    """The message with its checksum, for these IPv6 addresses."""
    pseudo = ones_sum(source + destination) + len(message) + PROTOCOL_ICMPV6
    return message[:2] + (ones_sum(message, pseudo) ^ 0xFFFF).to_bytes(2, "big") + message[4:]


def encode_report(version: int, records: Sequence[GroupRecord], size: int) -> bytes:
    """An IGMPv3 (`size` 4) or MLDv2 (16) report of these records, or the older message of the first one."""
    if version == (3 if size == 4 else 2):
        kind = IGMP_V3_REPORT if size == 4 else MLD_V2_REPORT
        body = struct.pack(">BBHHH", kind, 0, 0, 0, len(records))
        for record in records:
            head = struct.pack(">BBH", record.kind, 0, len(record.sources))
            body += head + record.group + b"".join(record.sources)
    else:
        leaves = records[0].kind is Kind.TO_INCLUDE
        if size == 16:
            body = struct.pack(">BBHHH", MLD_DONE if leaves else MLD_REPORT, 0, 0, 0, 0) + records[0].group
        else:
            kind = IGMP_LEAVE if leaves else IGMP_V1_REPORT if version == 1 else IGMP_V2_REPORT
            body = struct.pack(">BBH", kind, 0, 0) + records[0].group
    if size == 16:
        return body
    return body[:2] + (ones_sum(body) ^ 0xFFFF).to_bytes(2, "big") + body[4:]
