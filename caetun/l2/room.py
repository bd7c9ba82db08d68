"""How much of a table each port may fill, so that a flood at one port leaves room for the others.

table has an entry more at a port   --take-->   one less is free
no room at a port                   --may_search-->  look for what is over, but not for each frame of a flood
"""

from __future__ import annotations

from typing import Final

# chosen by us
SEARCH_SECONDS: Final = 1.0
"""Between two searches for what is over, for the sake of one port: a flood must not cost a walk each."""


class Room:
    """The entries of one table, counted by port."""

    def __init__(self, total: float, each: int) -> None:
        """`total`: entries of all ports together, may be infinite; `each`: of a port for which nothing else is said."""
        self._total = total
        self._each = each
        self._limits: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._searched_at: dict[int, float] = {}
        self.taken = 0
        """Entries of all ports."""

    def limit(self, port: int, limit: int | None) -> None:
        """Let a port have at most so many; None: as many as any."""
        if limit is None:
            self._limits.pop(port, None)
            self._searched_at.pop(port, None)
        else:
            self._limits[port] = limit

    def count(self, port: int) -> int:
        """Entries of a port."""
        return self._taken.get(port, 0)

    def full(self, port: int) -> bool:
        """Whether a port has as many as it may have."""
        return self._taken.get(port, 0) >= self._limits.get(port, self._each)

    def left(self, port: int) -> bool:
        """Whether there is room for one more at a port."""
        return self.taken < self._total and not self.full(port)

    def take(self, port: int) -> None:
        """A port has one more."""
        self._taken[port] = self._taken.get(port, 0) + 1
        self.taken += 1

    def give(self, port: int) -> None:
        """A port has one less."""
        left = self._taken[port] - 1
        if left:
            self._taken[port] = left
        else:
            del self._taken[port]
        self.taken -= 1

    def may_search(self, port: int, now: float) -> bool:
        """Whether what is over may be looked for now: then this counts as a search."""
        before = self._searched_at.get(port)
        if before is not None and now - before < SEARCH_SECONDS:
            return False
        self._searched_at[port] = now
        return True
