"""CoDel: when a queue that has stood for too long must lose something (RFC 8289). One queue's state, no queue.

What counts is the *least* time a frame spent waiting within an interval: a burst comes and goes, a queue that never
gets shorter than `TARGET` serves nobody. Then one frame is dropped or marked, the next one a little sooner:

    waiting >= TARGET for INTERVAL        now >= next: again, next += INTERVAL / sqrt(count)
    [ calm ] ---------------------> [ dropping ] <----+
        ^                                |  |         |
        +--- waiting < TARGET, or short -+  +---------+
"""

from __future__ import annotations

from math import sqrt
from typing import Final

# fixed by the specification: RFC 8289, sections 4.2, 4.3 and 5
TARGET: Final = 0.005
"""Seconds."""
INTERVAL: Final = 0.1
"""Seconds: the round trip of a far-away host."""
REMEMBERED: Final = 16 * INTERVAL
"""Seconds after which the last round of drops says nothing about the next one."""


class Codel:
    """The state of one queue."""

    __slots__ = ("_above_at", "_count", "_dropping", "_last_count", "_next")

    def __init__(self) -> None:
        self._above_at: float | None = None
        """When the queue has stood for an interval, if it goes on like this."""
        self._dropping = False
        self._count = self._last_count = 0
        """Drops of this round, and what the round began with."""
        self._next = 0.0
        """When the next drop is due, while dropping; when it would have been, after that."""

    def due(self, waited: float, behind: int, largest: int, now: float) -> bool:
        """Whether the frame at the queue's head is to be dropped or marked; called once for each that leaves.

        `waited`: seconds it was in the queue; `behind`: bytes that stay when it is gone; `largest`: bytes of the
        largest frame of this queue. A queue of no more than one frame beyond this one is no standing queue, however
        long a superframe takes on a slow link: dropping from it would only leave the link idle.
        """
        standing = self._standing(waited, behind, largest, now)
        if not self._dropping:
            if standing:
                self._begin(now)
            return standing
        if not standing:
            self._dropping = False
            return False
        if now < self._next:
            return False
        self._count += 1
        self._next += INTERVAL / sqrt(self._count)
        return True

    def _standing(self, waited: float, behind: int, largest: int, now: float) -> bool:
        if waited < TARGET or behind <= largest:
            self._above_at = None
            return False
        if self._above_at is None:
            self._above_at = now + INTERVAL
            return False
        return now >= self._above_at

    def _begin(self, now: float) -> None:
        """A round of drops begins: where the last one ended, if that was a moment ago."""
        self._dropping = True
        rate = self._count - self._last_count
        self._count = rate if rate > 1 and now - self._next < REMEMBERED else 1
        self._last_count = self._count
        self._next = now + INTERVAL / sqrt(self._count)

    def emptied(self) -> None:
        """The queue has run empty, maybe not by `due`."""
        self._above_at = None
        self._dropping = False

    def forgettable(self, now: float) -> bool:
        """Whether a fresh state would do as well, for a queue that is empty."""
        return not self._count or now - self._next >= REMEMBERED
