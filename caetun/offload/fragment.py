"""Fragments: any frame, cut into runs of bytes and put together again (docs/wire.md, section 4.2).

What is cut is the frame behind its virtio_net_hdr. A frame is complete or it is nothing, as with IP fragments; and as
there (RFC 5722), fragments that overlap spoil the whole frame.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.element import FRAGMENT, FRAGMENT_FIELDS, HEAD
from caetun.wire.virtio_net import VNET

# fixed by the specification: docs/wire.md, section 4.2
MAX_FRAMES: Final = 64
MAX_MEMORY: Final = 4 << 20
"""Bytes of unfinished frames."""
LIFETIME: Final = 1.0
"""Seconds from a frame's first fragment until it is given up."""
MAX_TOTAL: Final = 0xFFFF
"""Bytes of virtio_net_hdr and frame that `total` can express."""

# chosen by us
MAX_FRAGMENTS: Final = 512
"""Fragments of one frame. A sender with room for 256 bytes makes 269 at most; more would only cost memory."""


def fragments(blob: Buffer, room: int, ident: int) -> list[bytes]:
    """Fragment elements, heads included, of at most `room` bytes (at least 256) that carry `blob`, in order.

    `ident`: frame id, 0..2**32-1. Raises Malformed (FRAME_OVERSIZE) if the blob is longer than 65,535 bytes.
    """
    total = len(blob)
    if total > MAX_TOTAL:
        raise Malformed(DropReason.FRAME_OVERSIZE, f"{total} bytes cannot be carried in fragments")
    view = memoryview(blob)
    piece = room - HEAD.size - FRAGMENT_FIELDS.size
    elements = []
    for at in range(0, total, piece):
        run = view[at : at + piece]
        head = HEAD.pack(FRAGMENT << 24 | FRAGMENT_FIELDS.size + len(run))
        elements.append(b"".join((head, FRAGMENT_FIELDS.pack(ident, at, total), run)))
    return elements


class _Unfinished:
    """A frame some fragments of which are here."""

    __slots__ = ("blob", "deadline", "missing", "starts", "stops")

    def __init__(self, total: int, deadline: float) -> None:
        self.blob = bytearray(total)
        self.missing = total
        self.deadline = deadline
        self.starts: list[int] = []
        """Where fragments begin, ascending; `stops` says where each ends."""
        self.stops: list[int] = []

    def place(self, offset: int, run: Buffer) -> bool:
        """Put a fragment in; False if it overlaps another one, or is one too many. A duplicate changes nothing."""
        stop = offset + len(run)
        at = bisect_left(self.starts, offset)
        if at < len(self.starts) and self.starts[at] == offset:
            return self.stops[at] == stop
        before = at > 0 and self.stops[at - 1] > offset
        behind = at < len(self.starts) and self.starts[at] < stop
        if before or behind or len(self.starts) >= MAX_FRAGMENTS:
            return False
        self.starts.insert(at, offset)
        self.stops.insert(at, stop)
        self.blob[offset:stop] = run
        self.missing -= len(run)
        return True


class Reassembly:
    """Puts fragments of one peer together. Bounded in frames, bytes and time; the oldest frame gives way."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._frames: dict[int, _Unfinished] = {}
        """By frame id, oldest first; so the first has the earliest deadline."""
        self.memory = 0
        """Bytes held for unfinished frames."""

    def fragment(self, body: Buffer, now: float) -> memoryview | None:
        """Take in the body of a fragment element; returns virtio_net_hdr (10 bytes) and frame when that is complete.

        `body` is valid during the call only; what is returned belongs to the caller. `now`: monotonic seconds. A
        fragment that contradicts itself or others is dropped and counted, with the frame it would have belonged to.
        """
        self.expire(now)
        if len(body) <= FRAGMENT_FIELDS.size:
            self._drops.count(DropReason.FRAGMENT_MALFORMED)
            return None
        ident, offset, total = FRAGMENT_FIELDS.unpack_from(body)
        run = memoryview(body)[FRAGMENT_FIELDS.size :]
        frame = self._frames.get(ident)
        if total <= VNET.size or offset + len(run) > total or (frame is not None and len(frame.blob) != total):
            self._spoil(ident)
            return None
        if frame is None:
            if len(run) == total:
                return memoryview(bytes(run))
            frame = self._open(ident, total, now)
        if not frame.place(offset, run):
            self._spoil(ident)
            return None
        if frame.missing:
            return None
        self._forget(ident)
        return memoryview(frame.blob)

    def expire(self, now: float) -> None:
        """Give up frames whose time is over. `now`: monotonic seconds."""
        while self._frames:
            ident, frame = next(iter(self._frames.items()))
            if frame.deadline > now:
                return
            self._forget(ident)
            self._drops.count(DropReason.FRAGMENT_INCOMPLETE)

    def next_deadline(self) -> float | None:
        """When `expire` next has something to do, in monotonic seconds; None if nothing is held."""
        for frame in self._frames.values():
            return frame.deadline
        return None

    def _open(self, ident: int, total: int, now: float) -> _Unfinished:
        """Begin a frame; the oldest ones make room for it."""
        while len(self._frames) >= MAX_FRAMES or self.memory + total > MAX_MEMORY:
            self._forget(next(iter(self._frames)))
            self._drops.count(DropReason.FRAGMENT_OVERFLOW)
        frame = self._frames[ident] = _Unfinished(total, now + LIFETIME)
        self.memory += total
        return frame

    def _spoil(self, ident: int) -> None:
        """Drop a fragment, and the frame of that id if one is begun."""
        self._drops.count(DropReason.FRAGMENT_MALFORMED)
        if ident in self._frames:
            self._forget(ident)

    def _forget(self, ident: int) -> None:
        self.memory -= len(self._frames.pop(ident).blob)
