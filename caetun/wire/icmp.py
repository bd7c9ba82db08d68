"""ICMP errors: what a router tells the sender of a packet (RFC 792, RFC 1812 section 4.3; RFC 4443).

     0        1        2        3        4 ...    8
    +--------+--------+--------+--------+--------+----------------------------------------+
    |  type  |  code  |    checksum     | unused | packet that it is about, from its IP   |
    |        |        |                 | or MTU | header on, as much of it as may be     |
    +--------+--------+--------+--------+--------+----------------------------------------+

An MTU is in the last two of the four bytes for IPv4 (RFC 1191, section 4), in all of them for IPv6 (RFC 4443, section
3.2).
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer
from caetun.wire import ip
from caetun.wire.checksum import checksum

# fixed by the specification
ICMP: Final = 1
ICMPV6: Final = 58
_ERRORS: Final = frozenset((3, 4, 5, 11, 12))
"""Of IPv4: unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1812, section 4.3.2.7)."""
_INFORMATIONAL6: Final = 128
"""Of IPv6: types below are errors (RFC 4443, section 2.1)."""
_REDIRECT6: Final = 137
_MULTICAST: Final = 224
"""First byte of IPv4 addresses from which on none is a single host's."""
_MULTICAST6: Final = 0xFF
_LONGEST4: Final = 576
"""Bytes of an IPv4 packet with an error, at most (RFC 1812, section 4.3.2.3)."""
_LONGEST6: Final = 1280
"""The same of IPv6: its least MTU (RFC 4443, section 2.4 c)."""
_HEADER4: Final = struct.Struct(">BBHHHBBH4s4s")
_HEADER6: Final = struct.Struct(">IHBB16s16s")
_PSEUDO6: Final = struct.Struct(">16s16sII")
_ICMP: Final = struct.Struct(">BBHI")
_CHECKSUM_AT: Final = 2
_INTERNETWORK_CONTROL: Final = 0xC0
"""Precedence of errors (RFC 1812, section 4.3.2.5)."""

# chosen by us
_HOPS: Final = 64
"""The default of RFC 1700, and of Linux."""


class Error(enum.Enum):
    """Why a packet goes no further."""

    NO_ROUTE = enum.auto()
    HOST = enum.auto()
    """The network is known, but nobody is there."""
    PROHIBITED = enum.auto()
    EXPIRED = enum.auto()
    """Its hop limit is used up."""
    TOO_BIG = enum.auto()


_CODES4: Final = {
    Error.NO_ROUTE: (3, 0),
    Error.HOST: (3, 1),
    Error.PROHIBITED: (3, 13),
    Error.EXPIRED: (11, 0),
    Error.TOO_BIG: (3, 4),
}
_CODES6: Final = {
    Error.NO_ROUTE: (1, 0),
    Error.HOST: (1, 3),
    Error.PROHIBITED: (1, 1),
    Error.EXPIRED: (3, 0),
    Error.TOO_BIG: (2, 0),
}


def answerable(frame: Buffer, at: int) -> bool:
    """Whether an error may be sent about the IP packet that begins at `at`. Total.

    Not about errors (nor redirects), fragments other than the first, packets to many, or from no single host (RFC 1122,
    section 3.2.2; RFC 1812, section 4.3.2.7; RFC 4443, section 2.4 e). Packet too big about IPv6 multicast would be
    allowed, but one packet would bring as many errors as there are receivers.
    """
    try:
        packet = ip.outline(frame, at)
    except Malformed:
        return False
    if packet.protocol == ip.NO_NEXT_HEADER:
        return False
    if packet.version == ip.IPV4:
        source, destination = frame[at + 12], frame[at + 16]
        if source in (0, 127) or source >= _MULTICAST or destination >= _MULTICAST:
            return False
        return packet.protocol != ICMP or (packet.transport < len(frame) and frame[packet.transport] not in _ERRORS)
    source6 = bytes(frame[at + 8 : at + 24])
    if source6[0] == _MULTICAST6 or not any(source6[:15]) or frame[at + 24] == _MULTICAST6:
        return False
    if packet.protocol != ICMPV6:
        return True
    kind = frame[packet.transport] if packet.transport < len(frame) else 0
    return kind >= _INFORMATIONAL6 and kind != _REDIRECT6


def encode(error: Error, source: bytes, packet: Buffer, mtu: int = 0) -> bytes:
    """The IP packet that tells the sender of `packet` (answerable) of an error.

    `source`: who tells, 4 or 16 bytes, of the same family as the packet; `mtu`: bytes, of `Error.TOO_BIG`.
    """
    if len(source) == 4:
        return _encode4(error, source, packet, mtu)
    kind, code = _CODES6[error]
    quoted = bytes(packet[: _LONGEST6 - _HEADER6.size - _ICMP.size])
    destination = quoted[8:24]
    message = bytearray(_ICMP.pack(kind, code, 0, mtu) + quoted)
    pseudo = _PSEUDO6.pack(source, destination, len(message), ICMPV6)
    struct.pack_into(">H", message, _CHECKSUM_AT, checksum(pseudo + message))
    return _HEADER6.pack(0x60000000, len(message), ICMPV6, _HOPS, source, destination) + message


def _encode4(error: Error, source: bytes, packet: Buffer, mtu: int) -> bytes:
    kind, code = _CODES4[error]
    quoted = bytes(packet[: _LONGEST4 - _HEADER4.size - _ICMP.size])
    message = bytearray(_ICMP.pack(kind, code, 0, mtu) + quoted)
    struct.pack_into(">H", message, _CHECKSUM_AT, checksum(message))
    fields = [0x45, _INTERNETWORK_CONTROL, _HEADER4.size + len(message), 0, 0, _HOPS, ICMP, 0, source, quoted[12:16]]
    fields[7] = checksum(_HEADER4.pack(*fields))
    return _HEADER4.pack(*fields) + message
