"""Handshakes of ours that wait for answers: by the index the answer carries, and by whom was called."""

from __future__ import annotations

from collections import deque
from typing import Final, TypeVar

from caetun.session.identity import PeerId

# chosen by us
ATTEMPT_SECONDS: Final = 20.0
"""How long a response is waited for: longer than between two attempts, while its far end still has the keys."""
MAX_ATTEMPTS: Final = 12
"""Initiations to one peer that wait for responses: on a long path the first answer comes after several of them, and
eight links may be tried at once."""

A = TypeVar("A")


class Pending(dict[int, A]):
    """Local index -> attempt. Bounded: `MAX_ATTEMPTS` a peer."""

    def __init__(self) -> None:
        self._to: dict[PeerId, deque[int]] = {}
        """Local indices, oldest first."""

    def begin(self, peer: PeerId, index: int, attempt: A) -> None:
        """One more to a peer; the oldest goes if they are too many."""
        self[index] = attempt
        indices = self._to.setdefault(peer, deque())
        indices.append(index)
        if len(indices) > MAX_ATTEMPTS:
            del self[indices.popleft()]

    def newest(self, peer: PeerId) -> int | None:
        """The index of the last one to a peer that waits."""
        indices = self._to.get(peer)
        return indices[-1] if indices else None

    def end(self, peer: PeerId, index: int) -> None:
        """One to a peer has failed."""
        self._to[peer].remove(index)
        del self[index]

    def abandon(self, peer: PeerId) -> None:
        """Forget all to a peer."""
        for index in self._to.pop(peer, ()):
            del self[index]
