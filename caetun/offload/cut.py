"""Frames that are larger than a datagram, cut to size (docs/wire.md, sections 4.1 and 4.2). The opposite is `join.py`.

1. A TCP superframe, or a full-size TCP frame with open checksum, is cut anywhere: its segments fill datagrams exactly.
2. A UDP superframe is cut between its datagrams.
3. A superframe that can be neither (headers or datagrams too large for the room) is segmented in software first.
4. Everything else is cut into fragments, with its virtio_net_hdr.
"""

from __future__ import annotations

from typing import Final

from caetun.errors import Malformed
from caetun.offload.fragment import fragments
from caetun.offload.segment import segment
from caetun.offload.validate import Superframe, divisible
from caetun.types import Buffer, DropReason, Drops, Mode
from caetun.wire import ip
from caetun.wire.element import FRAME, HEAD, SEGMENT, SEGMENT_FIELDS
from caetun.wire.virtio_net import GSO_NONE, NO_OFFLOAD, VNET, VnetHeader

# fixed by the specification
_OVERHEAD: Final = HEAD.size + SEGMENT_FIELDS.size + VNET.size
"""Bytes of a segment element before the headers."""

# chosen by us
LEAST_PIECE: Final = 128
"""Bytes of TCP payload worth a segment. With less room, repeated headers would outweigh what they carry, and a
superframe would have more pieces than one `writev` takes."""


class Cutter:
    """Cuts the frames of one node. Ids are from a 32-bit counter, so they recur only when nobody holds the old ones."""

    def __init__(self, mode: Mode, drops: Drops | None = None) -> None:
        """`drops`: where frames are counted that cannot be carried at all; a counter of its own if not given."""
        self._mode = mode
        self._drops = Drops() if drops is None else drops
        self._ident = 0

    def cut(self, frame: Buffer, header: Buffer, room: int) -> list[bytes]:
        """Elements, heads included, that carry `frame` with its virtio_net_hdr `header` (10 bytes), in order.

        `room`: bytes of the largest element, at least 256. All elements of a TCP superframe but the last are that
        long. Nothing of `frame` is referred to afterwards. A frame that cannot be carried is counted and gives none.
        """
        try:
            whole = divisible(frame, len(frame), header, self._mode)
        except Malformed:
            if VnetHeader.decode(header).gso_type != GSO_NONE:
                self._drops.count(DropReason.OFFLOAD_INVALID)
                return []
            return self._fragments(frame, header, room)
        piece = room - _OVERHEAD - whole.payload
        if whole.protocol == ip.UDP:
            piece -= piece % whole.gso_size
        if piece >= (LEAST_PIECE if whole.protocol == ip.TCP else whole.gso_size):
            return self._segments(whole, frame, piece)
        if whole.gso_size:
            return self._frames(segment(frame, header, self._mode), room)
        return self._fragments(frame, header, room)

    def _segments(self, whole: Superframe, frame: Buffer, piece: int) -> list[bytes]:
        """Segment elements of `piece` bytes of payload. Hot: one pack and one join for each."""
        self._ident = ident = self._ident + 1 & 0xFFFFFFFF
        view = memoryview(frame)
        payload, length = whole.payload, whole.length
        total = length - payload
        template = b"".join((whole.header, view[:payload]))
        body = SEGMENT_FIELDS.size + len(template)
        fields, head_size, pack, join = SEGMENT_FIELDS.pack, HEAD.size, HEAD.pack, b"".join
        head = pack(SEGMENT << 24 | body + piece)
        elements = [
            join((head, fields(ident, at, total, payload), template, view[payload + at : payload + at + piece]))
            for at in range(0, total, piece)
        ]
        if total % piece:
            elements[-1] = pack(SEGMENT << 24 | body + total % piece) + elements[-1][head_size:]
        return elements

    def _frames(self, frames: list[bytes], room: int) -> list[bytes]:
        """Elements for frames that are complete: whole where they fit."""
        elements: list[bytes] = []
        for frame in frames:
            if HEAD.size + len(frame) <= room:
                elements.append(HEAD.pack(FRAME << 24 | len(frame)) + frame)
            else:
                elements += self._fragments(frame, NO_OFFLOAD, room)
        return elements

    def _fragments(self, frame: Buffer, header: Buffer, room: int) -> list[bytes]:
        self._ident = self._ident + 1 & 0xFFFFFFFF
        try:
            return fragments(b"".join((header, frame)), room, self._ident)
        except Malformed as oversize:
            self._drops.count(oversize.reason)
            return []
