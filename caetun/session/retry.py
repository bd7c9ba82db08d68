"""When to try a handshake again: soon at first, then ever more rarely, never all peers at once, and for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# chosen by us
FIRST_DELAY: Final = 0.1
"""Seconds: above most round trips, and one lost datagram is still not noticed by a user."""
MAX_DELAY: Final = 15.0
"""Seconds: a peer that comes back after hours is found within this (and the jitter)."""
JITTER: Final = 0.2
"""Share of the delay: a thousand clients that lost one server spread out within a few attempts."""
_ENTROPY_SIZE: Final = 4


class Retry:
    """Jittered exponential backoff of one peer's handshake."""

    __slots__ = ("_delay", "_entropy")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        """`entropy`: gives as many random bytes as it is asked for."""
        self._entropy = entropy
        self._delay = FIRST_DELAY

    def next(self) -> float:
        """Seconds to wait after the attempt that is made now; longer each time until `reset`."""
        share = int.from_bytes(self._entropy(_ENTROPY_SIZE), "big") / (256**_ENTROPY_SIZE - 1)
        delay = self._delay * (1 + JITTER * (2 * share - 1))
        # doubled step by step: a power of the number of attempts would overflow after four hours of them
        self._delay = min(self._delay * 2, MAX_DELAY)
        return delay

    def reset(self) -> None:
        """The handshake is complete: the next one starts with short delays again."""
        self._delay = FIRST_DELAY
