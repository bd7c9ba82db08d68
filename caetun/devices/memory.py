"""The device's in-memory double: frames to read are put in, frames written are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from caetun.types import Buffer, Iovec, Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD


class MemoryDevice:
    """Fulfils the device contract without a kernel."""

    def __init__(self, mode: Mode = Mode.TAP, offloads: int = 0, name: str = "memory") -> None:
        self.name = name
        self.mode = mode
        self.offloads = offloads
        self.waiting: deque[tuple[bytes, bytes]] = deque()
        """(frame, virtio_net_hdr) to be read."""
        self.written: list[tuple[bytes, bytes]] = []
        """(frame, virtio_net_hdr) that were written, in order."""

    def put(self, frame: Buffer, header: Buffer = NO_OFFLOAD) -> None:
        """Let the host send a frame."""
        self.waiting.append((bytes(frame), bytes(header)))

    def fileno(self) -> int:
        """There is none."""
        return -1

    def read_batch(self, batch: Batch) -> None:
        """Add waiting frames to the batch."""
        while self.waiting and not batch.full:
            batch.append(*self.waiting.popleft())

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Keep the frames."""
        for iovec in frames:
            whole = b"".join(iovec)
            self.written.append((whole[10:], whole[:10]))

    def close(self) -> None:
        """Nothing to give back."""
