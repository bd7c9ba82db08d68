"""Containers: what one record seals (docs/wire.md, section 4), and the batch of frames a device fills.

Outbound, a device reads frames straight into a `Batch`, which lays them out as container elements: what is sealed
is the batch's own memory, nothing is copied. Inbound, `session/unpacking.py` walks an opened container.

    head (4) | frame                                  kind 1
    head (4) | frame | csum start (1) | offset (1)    kind 2
    head (4) | frame | virtio_net_hdr (10)            kind 3
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from caetun.types import Buffer
from caetun.wire.element import FRAME, FRAME_CHECKSUM, HEAD, SUPERFRAME
from caetun.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD

# fixed by the specification
HEAD_SIZE: Final = HEAD.size
VNET_SIZE: Final = 10
OFFLOAD_CHECKSUM: Final = 1
OFFLOAD_TSO4: Final = 2
OFFLOAD_TSO6: Final = 4
OFFLOAD_USO: Final = 8
_GSO_TYPE_AT: Final = 1
_CSUM_START_AT: Final = 6
_CSUM_OFFSET_AT: Final = 8
_GSO_ECN: Final = 0x80
_CHECKSUM_HEAD: Final = (FRAME_CHECKSUM << 24) + 2
_OFFLOAD_OF_GSO: Final = {1: OFFLOAD_TSO4, 4: OFFLOAD_TSO6, 5: OFFLOAD_USO}

# chosen by us
MAX_FRAME: Final = 65535 + 22
"""Bytes: the largest IP packet behind an Ethernet header with two VLAN tags."""
BATCH_ROOM: Final = 2 * (MAX_FRAME + HEAD_SIZE + VNET_SIZE)
"""Bytes of a batch's memory: a full container, and one more superframe that was read before it was known to be one."""
MAX_BATCH_FRAMES: Final = 128


class Batch:
    """Frames read at one wake-up, laid out as container elements in one piece of memory.

    Element i lies in `buffer[starts[i]:starts[i + 1]]`, the last one ends at `end`. The memory is used again for the
    next batch: whoever keeps bytes beyond that copies them.
    """

    __slots__ = ("_alike", "_trailer", "buffer", "end", "header", "limit", "offloads", "starts", "view")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        """`limit`: bytes after which a device stops adding frames (it may go one frame beyond)."""
        self.buffer = bytearray(BATCH_ROOM)
        self.view = memoryview(self.buffer)
        self.header = bytearray(VNET_SIZE)
        """Where a device puts the virtio_net_hdr of the frame it is about to add."""
        self._alike = b""
        self._trailer = b""
        """The last header that asked for a checksum only, and its trailer: the next one is mostly the same."""
        self.limit = limit
        self.starts: list[int] = []
        self.end = 0
        self.offloads = 0
        """Which offloads (bits of docs/wire.md 2.3, field 3) the frames in here rely on."""

    def __len__(self) -> int:
        return len(self.starts)

    def clear(self) -> None:
        """Forget all frames."""
        self.starts.clear()
        self.end = self.offloads = 0
        self._alike = b""

    @property
    def full(self) -> bool:
        """Whether no further frame should be added."""
        return self.end > self.limit or len(self.starts) >= MAX_BATCH_FRAMES

    def fill(self, readv: Callable[[int, list[Buffer]], int], fd: int, most: int = MAX_BATCH_FRAMES) -> None:
        """Read frames behind their virtio_net_hdr until there are `most`, the batch is full or `readv` raises.

        Hot: one turn a frame.
        """
        header, view, buffer, starts, pack_head = self.header, self.view, self.buffer, self.starts, HEAD.pack_into
        limit = self.limit
        end = self.end
        buffers: list[Buffer] = [header, view]
        try:
            while end <= limit and len(starts) < most:
                buffers[1] = view[end + HEAD_SIZE :]
                length = readv(fd, buffers) - VNET_SIZE
                if header == self._alike:
                    starts.append(end)
                    pack_head(buffer, end, _CHECKSUM_HEAD + length)
                    stop = end + HEAD_SIZE + length
                    end = stop + 2
                    buffer[stop:end] = self._trailer
                    continue
                self.end = end
                self.commit(length)
                end = self.end
        finally:
            self.end = end

    def commit(self, length: int) -> None:
        """Take in the frame of `length` bytes that was just put at `view[end + 4:]`, and its header in `header`."""
        at = self.end
        self.starts.append(at)
        header = self.header
        stop = at + HEAD_SIZE + length
        if not header[0] & NEEDS_CSUM and not header[_GSO_TYPE_AT]:
            # Complete as it is; that a network card has verified the checksum (DATA_VALID) ends with this host.
            HEAD.pack_into(self.buffer, at, FRAME << 24 | length)
            self.end = stop
            return
        self.offloads |= OFFLOAD_CHECKSUM
        gso_type = header[_GSO_TYPE_AT] & ~_GSO_ECN
        if not gso_type and not header[_CSUM_START_AT + 1] and not header[_CSUM_OFFSET_AT + 1]:
            self._alike = bytes(header)
            self._trailer = bytes((header[_CSUM_START_AT], header[_CSUM_OFFSET_AT]))
            HEAD.pack_into(self.buffer, at, _CHECKSUM_HEAD + length)
            self.end = stop + 2
            self.buffer[stop : self.end] = self._trailer
            return
        self.offloads |= _OFFLOAD_OF_GSO.get(gso_type, 0)
        HEAD.pack_into(self.buffer, at, SUPERFRAME << 24 | length + VNET_SIZE)
        self.end = stop + VNET_SIZE
        self.buffer[stop : self.end] = header

    def append(self, frame: Buffer, header: Buffer = NO_OFFLOAD) -> None:
        """Add a copy of a frame. For everything that is not a device's hot loop."""
        at = self.end + HEAD_SIZE
        self.view[at : at + len(frame)] = frame
        self.header[:] = header
        self.commit(len(frame))

    def append_parts(self, header: Buffer, parts: Iterable[Buffer]) -> None:
        """Add a copy of a frame that lies in several pieces."""
        begin = at = self.end + HEAD_SIZE
        for part in parts:
            after = at + len(part)
            self.view[at:after] = part
            at = after
        self.header[:] = header
        self.commit(at - begin)

    def frames(self) -> Iterator[tuple[memoryview, bytes]]:
        """Each frame with its virtio_net_hdr; the views end with the batch's next `clear`."""
        for start, stop in self.spans():
            yield self.frame(start, stop)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where each element starts and stops."""
        return zip(self.starts, [*self.starts, self.end][1:], strict=True)

    def keep(self, spans: Iterable[tuple[int, int]]) -> None:
        """Forget all elements but those at these places, which are given in order."""
        starts, view, end = self.starts, self.view, 0
        starts.clear()
        for start, stop in spans:
            starts.append(end)
            after = end + stop - start
            if end != start:
                view[end:after] = view[start:stop]
            end = after
        self.end = end

    def frame(self, start: int, stop: int) -> tuple[memoryview, bytes]:
        """The frame and virtio_net_hdr of the element in `buffer[start:stop]`."""
        kind = self.buffer[start]
        at = start + HEAD_SIZE
        if kind == FRAME:
            return self.view[at:stop], NO_OFFLOAD
        if kind == FRAME_CHECKSUM:
            header = bytes((1, 0, 0, 0, 0, 0, self.buffer[stop - 2], 0, self.buffer[stop - 1], 0))
            return self.view[at : stop - 2], header
        return self.view[at : stop - VNET_SIZE], bytes(self.view[stop - VNET_SIZE : stop])
