"""How often somebody may be wrong: by user and by address. Pure.

Whoever has been let in before is known by his key, and counted by that instead: strangers who guess in his name, or
from behind the same address, do not keep him out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

# chosen by us
FAILURES: Final = 5
"""Wrong answers of one user, or from one address, before there is a pause."""
FIRST_PAUSE: Final = 2.0
"""Seconds; twice as long after each further failure."""
LONGEST_PAUSE: Final = 300.0
"""Seconds. A stranger who guesses in a user's name keeps a new key of that user out for no longer at a time."""
FORGET_SECONDS: Final = 3600.0
"""Without a failure for so long, all is forgotten."""
MAX_ENTRIES: Final = 4096
"""One more takes the place of the one that failed the longest ago."""
MAX_KNOWN: Final = 4096
"""Keys of users that were let in: one more takes the place of the one that came the longest ago."""


class Limiter:
    """Counts failures by key, and says how long to wait."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """(failures, when the last one was), the one that failed last at the end."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Who has been let in, the one that came last at the end."""

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self, user: str, ident: bytes, host: str) -> tuple[str, ...]:
        """By what an answer in the name of `user` is counted; `ident`: by which the handshake knows who gives it."""
        known = _known(user, ident)
        if known in self._known:
            return (known,)
        return (f"address {host}", *([f"user {user}"] if user else []))

    def wait(self, key: str, now: float) -> float:
        """Seconds to wait before the next attempt; 0 if it may be made."""
        failures, at = self._entries.get(key, (0, 0.0))
        if failures < FAILURES or now - at >= FORGET_SECONDS:
            return 0.0
        # the exponent is bounded: a power of the number of failures would overflow
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - FAILURES, 16))
        return max(0.0, at + pause - now)

    def failed(self, key: str, now: float) -> None:
        """An answer was wrong."""
        failures, at = self._entries.pop(key, (0, now))
        if now - at >= FORGET_SECONDS:
            failures = 0
        self._entries[key] = (failures + 1, now)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def passed(self, keys: Iterable[str], user: str, ident: bytes) -> None:
        """An answer was right that was counted by these keys."""
        for key in keys:
            self._entries.pop(key, None)
        known = _known(user, ident)
        self._known[known] = None
        self._known.move_to_end(known)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def _known(user: str, ident: bytes) -> str:
    return f"key {ident.hex()} of {user}"
