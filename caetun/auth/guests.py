"""Peers that no configuration names: how many may wait for their authentication, in all and from one host. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

# chosen by us
MAX_WAITING: Final = 64
MAX_WAITING_PER_HOST: Final = 8
MAX_GUESTS: Final = 1024
"""Those who have passed."""
CONFIRM_SECONDS: Final = 35.0
"""Until a guest's first record: whoever has only replayed an initiation has no keys to send one."""
AWAY_SECONDS: Final = 180.0
"""A guest that is away so long is forgotten, and asked again when it comes back."""


class Guests:
    """Who is there, by key."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, str] = {}
        """Host by key."""
        self._hosts: Counter[str] = Counter()
        self._passed: set[bytes] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._waiting or key in self._passed

    def may_come(self, key: bytes) -> bool:
        """Whether there is room for one more, whom nothing is known of yet but its key."""
        return key in self or (len(self._waiting) < MAX_WAITING and len(self._passed) < MAX_GUESTS)

    def come(self, key: bytes, host: str) -> bool:
        """A handshake with it has ended well: it waits, if there is room."""
        if not self.may_come(key) or self._hosts[host] >= MAX_WAITING_PER_HOST:
            return False
        self._waiting[key] = host
        self._hosts[host] += 1
        return True

    def passed(self, key: bytes) -> None:
        """It has been let in."""
        self._leave(key)
        self._passed.add(key)

    def gone(self, key: bytes) -> None:
        """It is not there any more."""
        self._leave(key)
        self._passed.discard(key)

    def _leave(self, key: bytes) -> None:
        host = self._waiting.pop(key, None)
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
