"""The other way of `packing`: walks an opened container (docs/wire.md, section 4).

Whole frames, with and without an open checksum, are dealt with here, at one step a frame; what is rarer goes to another
function. Order is kept: a flow's last small segment must not overtake the superframe before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from caetun.errors import Malformed
from caetun.offload.validate import validated_checksum
from caetun.types import DropReason, Drops, Iovec
from caetun.wire.container import HEAD_SIZE
from caetun.wire.element import FRAME, FRAME_CHECKSUM, HEAD, PADDING
from caetun.wire.virtio_net import NO_OFFLOAD

_TRAILER: Final = 2


def unpack(
    plain: bytes,
    smallest: int,
    frames: list[Iovec],
    drops: Drops,
    other: Callable[[int, memoryview], None],
    open_checksums: bool = True,
) -> None:
    """Append the frames of a container to `frames`, in order; calls `other(kind, body)` for every other element.

    `smallest`: bytes of the shortest frame there can be. `open_checksums`: whether this side has said that it takes
    frames with one; otherwise they are dropped. All views are on `plain`. Raises Malformed when an element reaches
    beyond the end; what came before it has been taken in.
    """
    view = memoryview(plain)
    at, end, head_of, append = 0, len(plain), HEAD.unpack_from, frames.append
    # The last open checksum's place: the next one is mostly the same, and then needs no second judgement.
    known_place, known_length, known_header = b"", 0, NO_OFFLOAD
    while at + HEAD_SIZE <= end:
        (head,) = head_of(plain, at)
        start = at + HEAD_SIZE
        at = start + (head & 0xFFFFFF)
        if at > end:
            if head >> 24 == PADDING:
                return  # whatever its length says, it is everything up to the end
            raise Malformed(DropReason.CONTAINER_MALFORMED, "an element reaches beyond the end")
        kind = head >> 24
        if kind == FRAME_CHECKSUM:
            stop = at - _TRAILER
            length = stop - start
            if length < smallest:
                drops.count(DropReason.FRAME_SHORT)
                continue
            place = plain[stop:at]
            if place != known_place or length < known_length:
                header = _judged(length, place, open_checksums, drops)
                if header is None:
                    continue
                known_place, known_length, known_header = place, length, header
            append((known_header, view[start:stop]))
        elif kind == FRAME:
            if at - start < smallest:
                drops.count(DropReason.FRAME_SHORT)
                continue
            append((NO_OFFLOAD, view[start:at]))
        elif kind == PADDING:
            return
        else:
            other(kind, view[start:at])
    if at < end and plain[at] != PADDING:
        raise Malformed(DropReason.CONTAINER_MALFORMED, "an element's head is cut short")


def _judged(length: int, place: bytes, open_checksums: bool, drops: Drops) -> bytes | None:
    """The virtio_net_hdr of a frame of `length` bytes whose checksum is open; None if it is refused (and counted)."""
    if open_checksums:
        with contextlib.suppress(Malformed):
            return validated_checksum(length, place[0], place[1])
    drops.count(DropReason.OFFLOAD_INVALID)
    return None
