"""Where the headers of an IP packet are: IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768).

Positions are counted from the start of the frame, so that an Ethernet header may come before.

IPv4 and IPv6, what is looked at:

     0        1        2        3                     0        1        2        3
    +--------+--------+--------+--------+            +--------+--------+--------+--------+
    |4 | IHL |        |  total length   |            |6 |                                |
    +--------+--------+--------+--------+            +--------+--------+--------+--------+
    | identification  |flags|  offset   |            | payload length  |  next  |        |
    +--------+--------+--------+--------+            +--------+--------+--------+--------+
    |        |protocol|    checksum     |            | source (16), destination (16)     |
    +--------+--------+--------+--------+            +-----------------------------------+
    | source, destination, options      |            | extension headers                 |
"""

from __future__ import annotations

from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

# fixed by the specification
IPV4: Final = 4
IPV6: Final = 6
IPV4_HEADER_SIZE: Final = 20
IPV4_LENGTH_AT: Final = 2
IPV4_FLAGS_AT: Final = 6
IPV4_HOPS_AT: Final = 8
IPV4_CHECKSUM_AT: Final = 10
IPV4_SOURCE_AT: Final = 12
IPV4_DESTINATION_AT: Final = 16
IPV6_HEADER_SIZE: Final = 40
IPV6_LENGTH_AT: Final = 4
IPV6_HOPS_AT: Final = 7
IPV6_SOURCE_AT: Final = 8
IPV6_DESTINATION_AT: Final = 24
IPV6_LEAST_MTU: Final = 1280
"""Bytes that every link carries (RFC 8200, section 5)."""
HOP_BY_HOP: Final = 0
TCP: Final = 6
UDP: Final = 17
ROUTING: Final = 43
FRAGMENT: Final = 44
AUTHENTICATION: Final = 51
NO_NEXT_HEADER: Final = 59
DESTINATION_OPTIONS: Final = 60
TCP_HEADER_SIZE: Final = 20
TCP_SEQUENCE_AT: Final = 4
TCP_DATA_OFFSET_AT: Final = 12
TCP_FLAGS_AT: Final = 13
TCP_CHECKSUM_AT: Final = 16
TCP_FIN: Final = 0x01
TCP_PSH: Final = 0x08
TCP_CWR: Final = 0x80
UDP_HEADER_SIZE: Final = 8
UDP_LENGTH_AT: Final = 4
UDP_CHECKSUM_AT: Final = 6
DONT_FRAGMENT: Final = 0x40
"""In the first byte of IPv4's flags."""
_MORE_FRAGMENTS_OR_OFFSET: Final = 0x3FFF
_FRAGMENT_OFFSET: Final = 0x1FFF
_EXTENSIONS: Final = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS))

# chosen by us
MAX_EXTENSIONS: Final = 16
"""Extension headers looked behind, at most: RFC 8200, section 4.1, names no sensible packet with more than seven."""


class Packet(NamedTuple):
    """An IP packet's outline. Positions in bytes from the start of the frame."""

    version: int
    end: int
    """Where the packet ends by its own length field. May lie behind the end of the bytes at hand, or before it."""
    protocol: int
    """What is at `transport`; NO_NEXT_HEADER if no transport header is there (a fragment that is not the first)."""
    transport: int
    whole: bool
    """Whether each part of the payload could go in a packet of its own behind a copy of these headers: the packet is
    no fragment and its payload not authenticated."""


def outline(frame: Buffer, at: int) -> Packet:
    """Find the transport header of the IP packet that begins at `at`, behind options and extension headers.

    `frame` may hold the headers only. Raises Malformed if they are cut short or contradict themselves.
    """
    if at >= len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "no network header")
    version = frame[at] >> 4
    if version == IPV4:
        return _outline_ipv4(frame, at)
    if version == IPV6:
        return _outline_ipv6(frame, at)
    raise Malformed(DropReason.FRAME_SHORT, f"IP version {version}")


def _outline_ipv4(frame: Buffer, at: int) -> Packet:
    header_size = (frame[at] & 0x0F) * 4
    transport = at + header_size
    if header_size < IPV4_HEADER_SIZE or transport > len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "IPv4 header is cut short")
    length = frame[at + 2] << 8 | frame[at + 3]
    if length < header_size:
        raise Malformed(DropReason.FRAME_SHORT, "IPv4 length is less than its header")
    fragment = frame[at + 6] << 8 | frame[at + 7]
    protocol = NO_NEXT_HEADER if fragment & _FRAGMENT_OFFSET else frame[at + 9]
    return Packet(IPV4, at + length, protocol, transport, not fragment & _MORE_FRAGMENTS_OR_OFFSET)


def _outline_ipv6(frame: Buffer, at: int) -> Packet:
    transport = at + IPV6_HEADER_SIZE
    if transport > len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "IPv6 header is cut short")
    end = transport + (frame[at + 4] << 8 | frame[at + 5])
    protocol = frame[at + 6]
    whole = True
    if protocol in _EXTENSIONS:
        protocol, transport, whole = _behind_extensions(frame, transport, protocol)
    return Packet(IPV6, end, protocol, transport, whole)


def _behind_extensions(frame: Buffer, at: int, protocol: int) -> tuple[int, int, bool]:
    """Walk IPv6 extension headers (RFC 8200, section 4; AH: RFC 4302, section 2.2): (protocol, position, whole)."""
    whole = True
    for _ in range(MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS:
            return protocol, at, whole
        if at + 8 > len(frame):
            raise Malformed(DropReason.FRAME_SHORT, "extension header is cut short")
        following, size = frame[at], (frame[at + 1] + 1) * 8
        if protocol == FRAGMENT:
            whole, size = False, 8
            if (frame[at + 2] << 8 | frame[at + 3]) & 0xFFF8:
                return NO_NEXT_HEADER, at + size, whole
        elif protocol == AUTHENTICATION:
            whole, size = False, (frame[at + 1] + 2) * 4
        at += size
        if at > len(frame):
            raise Malformed(DropReason.FRAME_SHORT, "extension header is cut short")
        protocol = following
    raise Malformed(DropReason.FRAME_SHORT, f"more than {MAX_EXTENSIONS} extension headers")


def ends(packet: Buffer) -> tuple[bytes, bytes] | None:
    """Source and destination; None if it is no IP packet, or shorter than its header."""
    if len(packet) >= IPV4_HEADER_SIZE and packet[0] >> 4 == IPV4:
        return bytes(packet[IPV4_SOURCE_AT:IPV4_DESTINATION_AT]), bytes(packet[IPV4_DESTINATION_AT:IPV4_HEADER_SIZE])
    if len(packet) >= IPV6_HEADER_SIZE and packet[0] >> 4 == IPV6:
        return bytes(packet[IPV6_SOURCE_AT:IPV6_DESTINATION_AT]), bytes(packet[IPV6_DESTINATION_AT:IPV6_HEADER_SIZE])
    return None


def is_to_many(address: bytes) -> bool:
    """Whether an address, 4 or 16 bytes, is a multicast one, or IPv4's limited broadcast."""
    return address[0] == 0xFF if len(address) == 16 else address[0] >> 4 == 0xE or address == b"\xff\xff\xff\xff"


def hops(frame: Buffer, at: int) -> int:
    """The hop limit (TTL) of the packet that begins at `at`, whose IP header is there."""
    return frame[at + (IPV4_HOPS_AT if frame[at] >> 4 == IPV4 else IPV6_HOPS_AT)]


def take_hop(packet: bytearray, at: int) -> None:
    """Take one from a hop limit, at least 1, and keep IPv4's header checksum as right, or as wrong, as it was.

    In a superframe too: whoever segments it copies both from here.
    """
    if packet[at] >> 4 != IPV4:
        packet[at + IPV6_HOPS_AT] -= 1
        return
    packet[at + IPV4_HOPS_AT] -= 1
    at += IPV4_CHECKSUM_AT
    # RFC 1624, equation 3: the word went from m to m - 0x100, so that ~m + m' is 0xFEFF whatever m was.
    total = ((packet[at] << 8 | packet[at + 1]) ^ 0xFFFF) + 0xFEFF
    check = ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF
    packet[at], packet[at + 1] = check >> 8, check & 0xFF


def tcp_payload(frame: Buffer, at: int) -> int:
    """Where the payload behind the TCP header at `at` begins (RFC 9293, section 3.1); raises Malformed if cut short."""
    if at + TCP_HEADER_SIZE > len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "TCP header is cut short")
    size = (frame[at + TCP_DATA_OFFSET_AT] >> 4) * 4
    if size < TCP_HEADER_SIZE or at + size > len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "TCP options are cut short")
    return at + size


def udp_payload(frame: Buffer, at: int) -> int:
    """Where the payload behind the UDP header at `at` begins (RFC 768); raises Malformed if cut short."""
    if at + UDP_HEADER_SIZE > len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "UDP header is cut short")
    return at + UDP_HEADER_SIZE
