"""Which side of DHCP a datagram comes from, and what a server gives away: DHCPv4 (RFC 2131), DHCPv6 (RFC 8415).

DHCPv4, behind the UDP header                                DHCPv6
     0        1        2        3        4                       0        1                 4
    +--------+--------+--------+--------+----------------+      +--------+-----------------+-----------
    |   op   |hardware| size 6 |  hops  | transaction ...|      |  type  |   transaction   | options
    +--------+--------+--------+--------+----------------+      +--------+-----------------+-----------
    | ciaddr at 12, yiaddr at 16, chaddr at 28           |      option: | code (2) | length (2) | data |
    | cookie 63 82 53 63 at 236, options at 240          |
    option: | code (1) | length (1) | data |

Only what a switch has to know is read; servers and clients check the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.ip import IPV4, UDP, UDP_HEADER_SIZE, Packet

# fixed by the specification
SERVER4: Final = 67
CLIENT4: Final = 68
CLIENT6: Final = 546
SERVER6: Final = 547
_BOOTREPLY: Final = 2
_COOKIE: Final = bytes.fromhex("63825363")
_COOKIE_AT: Final = 236
_OPTIONS_AT: Final = 240
_ADDRESS_AT: Final = 16
_HARDWARE_AT: Final = 28
_PAD: Final = 0
_LEASE_TIME: Final = 51
_MESSAGE_TYPE: Final = 53
_END: Final = 255
_ACK: Final = 5
_REPLY: Final = 7
_FROM_SERVERS6: Final = frozenset((2, _REPLY, 10, 13))
"""Advertise, Reply, Reconfigure, Relay-reply (RFC 8415, section 7.3)."""
_IA_NA: Final = 3
_IA_TA: Final = 4
_IAADDR: Final = 5
_OPTION_HEAD6: Final = 4
FOREVER: Final = 0xFFFFFFFF
"""A lease that does not end (RFC 2131, section 3.3; RFC 8415, section 7.7)."""

# chosen by us
MAX_LEASES: Final = 16
"""Addresses of one reply: a client asks for one or two."""


class Lease(NamedTuple):
    """A server gives an address to a client."""

    address: bytes
    """4 or 16 bytes."""
    seconds: int
    """`FOREVER` for always; 0: it is taken back."""
    hardware: bytes | None
    """The client's MAC address; None where the frame's destination is the client (DHCPv6)."""


def from_server(frame: Buffer, packet: Packet) -> bool:
    """Whether the IP packet of that outline is what a DHCP server, or a relay on its behalf, sends.

    By its destination port: hosts listen there whatever the source port is, and do not look at `op` before. Raises
    Malformed (`DHCP_MALFORMED`) if a UDP packet ends before that can be told.
    """
    if packet.protocol != UDP:
        return False
    at = packet.transport
    if at + 4 > min(len(frame), packet.end):
        raise Malformed(DropReason.DHCP_MALFORMED, "UDP ports are cut off")
    port = frame[at + 2] << 8 | frame[at + 3]
    if port == (CLIENT4 if packet.version == IPV4 else CLIENT6):
        return True
    if port != (SERVER4 if packet.version == IPV4 else SERVER6):
        return False
    if at + UDP_HEADER_SIZE >= min(len(frame), packet.end):
        raise Malformed(DropReason.DHCP_MALFORMED, "no message")
    first = frame[at + UDP_HEADER_SIZE]
    return first == _BOOTREPLY if packet.version == IPV4 else first in _FROM_SERVERS6


def leases(frame: Buffer, packet: Packet) -> tuple[Lease, ...]:
    """What a server's message to a client gives away: of an ACK or a Reply; nothing in any other packet.

    Raises Malformed (`DHCP_MALFORMED`). A message in fragments is none: nobody sends such to a client.
    """
    at = packet.transport
    if packet.protocol != UDP or not packet.whole:
        return ()
    if packet.end > len(frame) or at + UDP_HEADER_SIZE > packet.end:
        raise Malformed(DropReason.DHCP_MALFORMED, "packet is cut short")
    port = frame[at + 2] << 8 | frame[at + 3]
    if port != (CLIENT4 if packet.version == IPV4 else CLIENT6):
        return ()
    message = bytes(frame[at + UDP_HEADER_SIZE : packet.end])
    return _leases4(message) if packet.version == IPV4 else _leases6(message)


def _leases4(message: bytes) -> tuple[Lease, ...]:
    if len(message) < _OPTIONS_AT or message[_COOKIE_AT:_OPTIONS_AT] != _COOKIE:
        raise Malformed(DropReason.DHCP_MALFORMED, "cut short, or BOOTP")
    if message[0] != _BOOTREPLY or message[1:3] != b"\1\6":
        return ()
    options = dict(_options4(message))
    address = message[_ADDRESS_AT : _ADDRESS_AT + 4]
    lasts = options.get(_LEASE_TIME, b"")
    # An answer to DHCPINFORM has neither address nor lease (RFC 2131, section 4.3.5).
    if options.get(_MESSAGE_TYPE) != bytes((_ACK,)) or len(lasts) != 4 or not any(address):
        return ()
    return (Lease(address, int.from_bytes(lasts, "big"), message[_HARDWARE_AT : _HARDWARE_AT + 6]),)


def _options4(message: bytes) -> Iterator[tuple[int, bytes]]:
    """RFC 2132, section 2."""
    at = _OPTIONS_AT
    while at < len(message) and message[at] != _END:
        if message[at] == _PAD:
            at += 1
            continue
        if at + 2 > len(message) or at + 2 + message[at + 1] > len(message):
            raise Malformed(DropReason.DHCP_MALFORMED, "option is cut short")
        yield message[at], message[at + 2 : at + 2 + message[at + 1]]
        at += 2 + message[at + 1]


def _leases6(message: bytes) -> tuple[Lease, ...]:
    if len(message) < 4:
        raise Malformed(DropReason.DHCP_MALFORMED, "cut short")
    if message[0] != _REPLY:
        return ()
    found: list[Lease] = []
    for code, association in _options6(message[4:]):
        head = 12 if code == _IA_NA else 4  # IAID, and for IA_NA two timers (RFC 8415, sections 21.4 and 21.5)
        if code not in (_IA_NA, _IA_TA):
            continue
        if len(association) < head:
            raise Malformed(DropReason.DHCP_MALFORMED, "association is cut short")
        for inner, data in _options6(association[head:]):
            if inner != _IAADDR:
                continue
            if len(data) < 24:
                raise Malformed(DropReason.DHCP_MALFORMED, "address is cut short")
            found.append(Lease(data[:16], int.from_bytes(data[20:24], "big"), None))
    return tuple(found[:MAX_LEASES])


def _options6(options: bytes) -> Iterator[tuple[int, bytes]]:
    """RFC 8415, section 21.1."""
    at = 0
    while at < len(options):
        if at + _OPTION_HEAD6 > len(options):
            raise Malformed(DropReason.DHCP_MALFORMED, "option is cut short")
        code, size = struct.unpack_from(">HH", options, at)
        if at + _OPTION_HEAD6 + size > len(options):
            raise Malformed(DropReason.DHCP_MALFORMED, "option is cut short")
        yield code, options[at + _OPTION_HEAD6 : at + _OPTION_HEAD6 + size]
        at += _OPTION_HEAD6 + size
