"""The device contract: where frames come from and go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from caetun.types import Iovec, Mode
from caetun.wire.container import Batch


class Device(Protocol):
    """A TUN or TAP device, or its double.

    - `read_batch` takes what is waiting, never blocks, and stops when the batch is full.
    - `write_batch` never blocks either; what the device refuses is dropped and counted.
    - Each frame written is preceded by its virtio_net_hdr (10 bytes), already validated.
    - A device without offloads gives and takes headers of zeros only.
    """

    @property
    def name(self) -> str:
        """The interface's name."""

    @property
    def mode(self) -> Mode:
        """IP packets or Ethernet frames."""

    @property
    def offloads(self) -> int:
        """What frames written may rely on: bits of docs/wire.md 2.3, field 3."""

    def fileno(self) -> int:
        """Descriptor to wait on for reading."""

    def read_batch(self, batch: Batch) -> None:
        """Add waiting frames to the batch."""

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Write frames, in order."""

    def close(self) -> None:
        """Give the device back. May be called twice."""
