"""IPv4 packets divided as a router divides them for a link that takes less (RFC 791, section 3.2; RFC 1812, 5.2.2)."""

from __future__ import annotations

import struct
from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire import ip
from caetun.wire.checksum import checksum

# fixed by the specification
_UNIT: Final = 8
"""Bytes in which offsets are counted."""
_MORE: Final = 0x2000
_OFFSET: Final = 0x1FFF
_COPIED: Final = 0x80
"""Options with this bit belong in every fragment (RFC 791, section 3.1)."""
_END: Final = 0
_NO_OPERATION: Final = 1
_LENGTH_AND_FLAGS: Final = struct.Struct(">HHH")
_WORD: Final = struct.Struct(">H")


def fragment_ipv4(frame: Buffer, network: int, mtu: int) -> list[bytes]:
    """The frames that carry the IPv4 packet of `frame`, each at most `mtu` bytes from the IP header on.

    `network`: where that begins; what comes before is put in front of each. The packet is complete (checksums computed)
    and larger than `mtu`; it may be a fragment already. Raises Malformed if it contradicts itself, or if `mtu` has no
    room for its header and 8 bytes.
    """
    packet = ip.outline(frame, network)
    if packet.end > len(frame):
        raise Malformed(DropReason.FRAME_SHORT, "IPv4 packet is cut short")
    size = (frame[network] & 0x0F) * 4
    link, header = bytes(frame[:network]), bytearray(frame[network : network + size])
    payload = bytes(frame[network + size : packet.end])
    if mtu < size + _UNIT:
        raise Malformed(DropReason.PACKET_TOO_BIG, "no room for a fragment")
    _, _, flags = _LENGTH_AND_FLAGS.unpack_from(header, ip.IPV4_LENGTH_AT)
    offset = flags & _OFFSET
    flags &= ~_OFFSET
    frames: list[bytes] = []
    at = 0
    while at < len(payload):
        room = (mtu - len(header)) // _UNIT * _UNIT
        part = payload[at : at + room]
        more = flags if at + len(part) == len(payload) else flags | _MORE
        _WORD.pack_into(header, ip.IPV4_LENGTH_AT, len(header) + len(part))
        _WORD.pack_into(header, ip.IPV4_FLAGS_AT, more | (offset + at // _UNIT))
        _WORD.pack_into(header, ip.IPV4_CHECKSUM_AT, 0)
        _WORD.pack_into(header, ip.IPV4_CHECKSUM_AT, checksum(header))
        frames.append(b"".join((link, header, part)))
        if not at and size > ip.IPV4_HEADER_SIZE:
            header = _later_header(header)
        at += len(part)
    return frames


def _later_header(header: bytearray) -> bytearray:
    """Of all fragments but the first: with those options only that are to be copied."""
    kept = bytearray()
    at = ip.IPV4_HEADER_SIZE
    while at < len(header) and header[at] != _END:
        length = 1 if header[at] == _NO_OPERATION else (header[at + 1] if at + 1 < len(header) else 0)
        if length < 1 or at + length > len(header) or (length < 2 and header[at] != _NO_OPERATION):
            break  # malformed: whoever put them together copies what he can be sure of (the rest is dropped)
        if header[at] & _COPIED:
            kept += header[at : at + length]
        at += length
    kept += bytes(-len(kept) % 4)
    later = header[: ip.IPV4_HEADER_SIZE] + kept
    later[0] = ip.IPV4 << 4 | len(later) // 4
    return later
