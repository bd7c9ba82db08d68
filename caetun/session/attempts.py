"""When to send the next initiation to one peer, and with which cipher. Whose turn it is among its links: `ways.py`.

    attempt    0      1      2      3      4      5      6      7   ...
    link       A      B      A      B      A      B      A      B          who was asked the longest ago
    cipher     best   best   best   best   other  other  best   best       another one each round, after two rounds

The best cipher has two chances by each link, for a lost datagram is more common than a far end that allows only the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from caetun.session.retry import Retry
from caetun.session.security import Cipher

# chosen by us
_BEST_ROUNDS: Final = 2


class Attempts:
    """The attempts to shake hands with one peer."""

    __slots__ = ("_ciphers", "_retry", "at", "made", "paused_until")

    def __init__(self, ciphers: Sequence[Cipher], entropy: Callable[[int], bytes]) -> None:
        """`ciphers`: allowed ones, best first; `entropy`: gives as many random bytes as it is asked for."""
        self._ciphers = ciphers
        self._retry = Retry(entropy)
        self.at: float | None = None
        """When the next attempt is due; None if none is wanted."""
        self.made = 0
        """How many there were since `begin`."""
        self.paused_until = 0.0

    def begin(self, now: float, *, at_once: bool = True) -> None:
        """Try from now on, or after the first short delay."""
        self._retry.reset()
        self.made = 0
        self.at = now if at_once else now + self._retry.next()

    def pause(self, until: float) -> None:
        """Trying soon is of no use."""
        self.at = self.paused_until = until

    def end(self) -> None:
        """There are keys, or nobody to try."""
        self.at = None

    def take(self, now: float) -> None:
        """An attempt is made now: plan the next one."""
        self.made += 1
        self.at = now + self._retry.next()

    def prefer(self, ciphers: Sequence[Cipher]) -> None:
        """Another order of the allowed ciphers, best first."""
        self._ciphers = ciphers

    def cipher(self, asked: int) -> Cipher:
        """The cipher for a link that was asked so many times before."""
        return self._ciphers[max(0, asked + 1 - _BEST_ROUNDS) % len(self._ciphers)]
