"""Which initiations are new: times that only grow, and ephemeral keys of our own (docs/wire.md, section 2.3)."""

from __future__ import annotations

from collections import deque
from typing import Final

from caetun.errors import Refused
from caetun.session.identity import PeerId
from caetun.types import DropReason

# chosen by us
MAX_OWN: Final = 1024
"""Own initiations remembered: more than a day of handshakes with one peer, the only one whose reflections pass mac1."""
_NANOSECONDS: Final = 1e9


class Freshness:
    """The memory that tells a new initiation from a replayed or reflected one. One number a peer."""

    def __init__(self) -> None:
        self._last_stamp = 0
        self._accepted: dict[PeerId, int] = {}
        self._own: set[bytes] = set()
        self._own_in_order: deque[bytes] = deque()

    def stamp(self, wall: float) -> int:
        """The time for a new initiation, in nanoseconds since 1970; later than any before, whatever the clock does."""
        self._last_stamp = max(int(wall * _NANOSECONDS), self._last_stamp + 1)
        return self._last_stamp

    def sent(self, ephemeral: bytes) -> None:
        """An initiation of ours with this ephemeral public key goes out."""
        self._own.add(ephemeral)
        self._own_in_order.append(ephemeral)
        if len(self._own_in_order) > MAX_OWN:
            self._own.discard(self._own_in_order.popleft())

    def check_reflection(self, ephemeral: bytes) -> None:
        """Raises Refused if an initiation with this ephemeral public key is our own."""
        if ephemeral in self._own:
            raise Refused(DropReason.HANDSHAKE_REFLECTED)

    def check_replay(self, peer: PeerId, time: int) -> None:
        """Raises Refused unless the time of a peer's initiation is later than that of every accepted one."""
        if time <= self._accepted.get(peer, -1):
            raise Refused(DropReason.HANDSHAKE_REPLAYED)

    def forget(self, peer: PeerId) -> None:
        """A peer is a stranger again. An old initiation of it leads to keys that nobody has."""
        self._accepted.pop(peer, None)

    def accept(self, peer: PeerId, time: int) -> None:
        """A peer's initiation with this time was authenticated and is being answered."""
        self._accepted[peer] = time
