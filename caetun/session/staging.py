"""Frames kept while there are no keys yet, so that a first ping needs no second."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from caetun.types import Buffer, DropReason, Drops
from caetun.wire.container import Batch

# chosen by us
MAX_STAGED: Final = 64
"""Frames: the newest ones, as the hosts behind them have given up waiting for the oldest."""
STAGED_SECONDS: Final = 2.0
"""After that an answer would come too late to be of use."""


class Staging:
    """A short queue of copied frames; what does not fit or waits too long is counted as `peer.no-session`."""

    __slots__ = ("_drops", "_frames")

    def __init__(self, drops: Drops | None) -> None:
        """Without `drops` nothing is counted: the frames are copies of others, which were sent."""
        self._drops = drops
        self._frames: deque[tuple[float, bytes, bytes]] = deque()
        """(since, frame, virtio_net_hdr), oldest first."""

    def __len__(self) -> int:
        return len(self._frames)

    def keep(self, batch: Batch, now: float) -> None:
        """Copy a batch's frames; the oldest give way to them."""
        self.keep_frames(batch.frames(), now)

    def keep_frames(self, frames: Iterable[tuple[Buffer, bytes]], now: float) -> None:
        """The same for frames, each with its virtio_net_hdr."""
        self._frames += [(now, bytes(frame), header) for frame, header in frames]
        excess = len(self._frames) - MAX_STAGED
        if excess > 0:
            for _ in range(excess):
                self._frames.popleft()
            self._count(excess)

    def take(self, now: float) -> Iterator[Batch]:
        """All frames that are fresh enough, in order, in as many batches as it takes."""
        self.expire(now)
        while self._frames:
            batch = Batch()
            while self._frames and not batch.full:
                _, frame, header = self._frames.popleft()
                batch.append(frame, header)
            yield batch

    def expire(self, now: float) -> None:
        """Drop frames that have waited too long."""
        while self._frames and now >= self._frames[0][0] + STAGED_SECONDS:
            self._frames.popleft()
            self._count(1)

    def clear(self) -> None:
        """They are not needed."""
        self._frames.clear()

    def _count(self, frames: int) -> None:
        if self._drops is not None:
            self._drops.count(DropReason.NO_SESSION, frames)

    def next_deadline(self) -> float | None:
        """When `expire` next has something to do."""
        return self._frames[0][0] + STAGED_SECONDS if self._frames else None
