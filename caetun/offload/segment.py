"""What a device without offloads cannot do, done in software: segmentation and checksums, as Linux does them."""

from __future__ import annotations

import struct
from typing import Final

from caetun.errors import Malformed
from caetun.offload.headers import part_headers
from caetun.offload.validate import Superframe, divisible
from caetun.types import Buffer, DropReason, Mode
from caetun.wire import ip
from caetun.wire.checksum import checksum
from caetun.wire.virtio_net import GSO_NONE, NEEDS_CSUM, VnetHeader

_WORD: Final = struct.Struct(">H")
_NO_CHECKSUM_STANDS_FOR: Final = 0xFFFF
"""A computed 0 is sent as this, because 0 in UDP means "no checksum" (RFC 768)."""


def segment(frame: Buffer, header: Buffer, mode: Mode) -> list[bytes]:
    """The complete frames that a superframe stands for: each at most gso_size of payload, all checksums computed.

    `header`: its virtio_net_hdr (10 bytes). A frame without GSO comes back alone, its checksum completed. Raises
    Malformed (OFFLOAD_INVALID) if the header does not fit the frame.
    """
    if VnetHeader.decode(header).gso_type == GSO_NONE:
        return [complete(frame, header)]
    whole = divisible(frame, len(frame), header, mode)
    view = memoryview(frame)
    total = whole.length - whole.payload
    return [
        _packet(whole, view, start, min(start + whole.gso_size, total)) for start in range(0, total, whole.gso_size)
    ]


def first_packet(frame: Buffer, header: Buffer, mode: Mode) -> bytes:
    """The first of what `segment` would return."""
    if VnetHeader.decode(header).gso_type == GSO_NONE:
        return complete(frame, header)
    whole = divisible(frame, len(frame), header, mode)
    return _packet(whole, memoryview(frame), 0, min(whole.gso_size, whole.length - whole.payload))


def _packet(whole: Superframe, view: memoryview, start: int, stop: int) -> bytes:
    """One complete frame with payload bytes `start` to `stop`."""
    packet = part_headers(whole, view, start, stop)
    packet += view[whole.payload + start : whole.payload + stop]
    check = checksum(packet[whole.transport :])
    if whole.protocol == ip.TCP:
        check_at = whole.transport + ip.TCP_CHECKSUM_AT
    else:
        check_at = whole.transport + ip.UDP_CHECKSUM_AT
        check = check or _NO_CHECKSUM_STANDS_FOR
    _WORD.pack_into(packet, check_at, check)
    return bytes(packet)


def complete(frame: Buffer, header: Buffer) -> bytes:
    """A copy of a frame (one packet, no GSO) with its open checksum, if it has one, computed.

    `header`: its virtio_net_hdr (10 bytes). Raises Malformed (OFFLOAD_INVALID) if the checksum lies outside the frame.
    """
    fields = VnetHeader.decode(header)
    if not fields.flags & NEEDS_CSUM:
        return bytes(frame)
    check_at = fields.csum_start + fields.csum_offset
    if check_at + _WORD.size > len(frame):
        raise Malformed(DropReason.OFFLOAD_INVALID, "checksum lies behind the frame's end")
    whole = bytearray(frame)
    check = checksum(whole[fields.csum_start :])
    _WORD.pack_into(whole, check_at, check or _NO_CHECKSUM_STANDS_FOR)
    return bytes(whole)
