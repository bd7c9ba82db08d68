"""The replay window: which counters have been opened under one key (docs/wire.md, section 3; RFC 6479).

RFC 6479 keeps a ring of 64-bit words. In Python a shift and a mask on a word cost more than the memory they save,
so the ring holds one byte a counter: advancing by one writes one byte, advancing far clears a slice.

    seen[counter % size]:   ... 1 1 0 1 1 | 0 1 1 1 ...
                               highest  ^   ^ highest - size + 1, the oldest counter still told apart
"""

from __future__ import annotations

from typing import Final

from caetun.types import DropReason

# fixed by the specification
MIN_WINDOW: Final = 8192
"""Counters: the least a receiver has to tell apart."""


class ReplayWindow:
    """Opens each counter at most once, however its records are delayed, repeated or reordered.

    `check` a record before it is opened, `mark` it once it is authentic, and check the next one only after that: two
    copies checked side by side would both pass. Time and memory are bounded by the window, whatever the counters.
    """

    __slots__ = ("_seen", "highest", "opened", "size")

    def __init__(self, size: int = MIN_WINDOW) -> None:
        """`size`: counters behind the highest that are told apart, and bytes of memory; at least 1."""
        assert size > 0
        self.size = size
        self.highest = -1
        """The highest counter marked, -1 if none."""
        self.opened = 0
        """How many counters were marked."""
        self._seen = bytearray(size)

    def check(self, counter: int) -> DropReason | None:
        """Why a record with this counter (0..2^64-1) must be dropped, or None if it may be opened.

        Hot: one call a record. It changes nothing, as the counter is not authenticated yet.
        """
        highest = self.highest
        if counter > highest:
            return None
        if counter <= highest - self.size:
            return DropReason.RECORD_OLD
        return DropReason.RECORD_REPLAYED if self._seen[counter % self.size] else None

    def mark(self, counter: int) -> None:
        """Take note of a counter that passed `check` and whose record proved authentic.

        Hot: one call a record.
        """
        ahead = counter - self.highest
        if ahead > 0:
            if ahead > 1:
                self._forget(self.highest + 1, counter)
            self.highest = counter
        self._seen[counter % self.size] = 1
        self.opened += 1

    def _forget(self, first: int, stop: int) -> None:
        """Clear the places of the counters `first..stop-1`, which were jumped over."""
        count = stop - first
        if count >= self.size:
            self._seen[:] = bytes(self.size)
            return
        start = first % self.size
        before_wrap = min(count, self.size - start)
        self._seen[start : start + before_wrap] = bytes(before_wrap)
        self._seen[: count - before_wrap] = bytes(count - before_wrap)
