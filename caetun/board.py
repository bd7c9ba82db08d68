"""What decides where frames go between the device and several peers: a switch (`l2`) or a router (`l3`).

    device batch   --outbound-->  (ports, batch) ...              the batch itself if all of it goes to the same ports
    peer's frames  --inbound-->   for the device: as they are     for other peers: (ports, batch) ...
    time           --tick-->      frames of the board's own, for both

Between two ends there is nothing to decide, and no board.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from caetun.types import Iovec
from caetun.wire.container import VNET_SIZE, Batch

LOCAL: Final = 0
"""The port of this host's device. Peers' ports are 1, 2, ..."""

# chosen by us
MAX_SPARE: Final = 16
"""Batches kept for the next time: more ways at once are rare."""


class Parcel(NamedTuple):
    """A batch, and the peers' ports it leaves by. Its memory is good until the board is used again."""

    ports: tuple[int, ...]
    batch: Batch


class Board(Protocol):
    """Joins the device and peers. Ports other than `LOCAL` are the peers', and are up while there are keys."""

    @property
    def waiting(self) -> bool:
        """Whether `tick` has something to give at once; looked at after each `outbound` and `inbound`."""

    def outbound(self, batch: Batch, now: float) -> Sequence[Parcel]:
        """Frames that the host sends, and where they go. Hot: once a batch."""

    def inbound(self, port: int, frames: Sequence[Iovec], now: float) -> tuple[list[Iovec], Sequence[Parcel]]:
        """Frames that a peer sent: what the host gets, and what goes on to peers. Hot: once a burst."""

    def tick(self, now: float) -> tuple[list[Iovec], Sequence[Parcel]]:
        """Frames of the board's own that are due: for the host, and for peers."""

    def add_port(self, number: int, settings: Any, now: float) -> None:
        """A peer has come up; `settings`: what `Node.add` was given for it."""

    def remove_port(self, number: int) -> None:
        """A peer has gone down."""

    def port_moved(self, number: int, now: float) -> None:
        """A peer that is up is reached by another link than before."""

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""

    def notices(self) -> Sequence[tuple[str, str, str]]:
        """What people should hear of since this was last asked: (level, event, text)."""


def parted(frame: Iovec) -> Iovec:
    """The frame with its virtio_net_hdr in a part of its own: what was joined has the packet's headers in the first."""
    first = frame[0]
    if len(first) == VNET_SIZE:
        return frame
    return (first[:VNET_SIZE], memoryview(first)[VNET_SIZE:], *frame[1:])


class Batches:
    """Memory for parcels: what was lent comes back when the board is used the next time."""

    def __init__(self) -> None:
        self._spare: list[Batch] = []
        self._lent: list[Batch] = []

    def __len__(self) -> int:
        """All there are, lent and spare."""
        return len(self._spare) + len(self._lent)

    def lend(self) -> Batch:
        """A batch to fill, until `reclaim`."""
        batch = self._spare.pop() if self._spare else Batch()
        batch.clear()
        self._lent.append(batch)
        return batch

    def reclaim(self) -> None:
        """Nobody looks any more at what was lent."""
        if self._lent:
            self._spare += self._lent[: MAX_SPARE - len(self._spare)]
            self._lent.clear()
