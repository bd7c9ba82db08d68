"""Addresses that keep moving between ports: one is held where it is at home; many at once are a loop.

A probe says so for certain (`loop.py`), and one is sent as soon as an address flaps. If none comes back, as they are
switched off or something on the way eats them, the addresses decide: what goes in circles comes back by a port that is
nobody's home. That port is muted, so whoever forges addresses that others have in use mutes himself. The device's port
is not muted: its hosts have no other way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from caetun.board import LOCAL
from caetun.l2.outcome import Notice

# chosen by us
MANY: Final = 4
"""Addresses that begin to flap to one port: fewer are two hosts with one address, or a host with two cables."""
MANY_SECONDS: Final = 10.0
"""Within so long. Shorter than an address is held, so that each counts once."""
WAIT_SECONDS: Final = 1.0
"""For a probe to come back, before the addresses decide."""
TELL_SECONDS: Final = 5.0
"""People hear of a flapping address so often: in a loop it is one after the other. Counters have them all."""


class Flapping:
    """What has lately begun to flap, by the port that it should not come by."""

    def __init__(self, tell: Callable[[Notice], None]) -> None:
        self._tell = tell
        self._began: dict[int, deque[tuple[float, str]]] = {}
        """Port -> when the last ones began, and the names of their homes."""
        self._loops: dict[int, tuple[float, str]] = {}
        """Port -> when it is to be muted, and why."""
        self._told_at = -inf

    def began(self, source: bytes, intruder: int, names: tuple[str, str], now: float) -> bool:
        """An address (6 bytes) keeps coming by a port, too, that is not its home; it is held now.

        `names`: of its home and of that port. Returns whether this is news, so that probes are worth sending.
        """
        if intruder != LOCAL:
            began = self._began.setdefault(intruder, deque(maxlen=MANY))
            began.append((now, names[0]))
            if len(began) == MANY and now - began[0][0] <= MANY_SECONDS and intruder not in self._loops:
                homes = ", ".join(sorted({home for _, home in began}))
                why = f"loop: {MANY} addresses of {homes} keep coming by {names[1]}"
                self._loops[intruder] = now + WAIT_SECONDS, why
        news = now - self._told_at >= TELL_SECONDS
        if news:
            self._told_at = now
            what = f"{source.hex(':')} of {names[0]} keeps moving to {names[1]}"
            self._tell(Notice("warning", "bridge.flapping", f"{what}: a loop, or one address twice; held"))
        return news

    def loops(self, now: float) -> list[tuple[int, str]]:
        """Ports that are to be muted now, and why. Of two that are one loop, muting the first is enough."""
        due = [(number, why) for number, (at, why) in self._loops.items() if now >= at]
        for number, _ in due[:1]:
            del self._loops[number]
        return due[:1]

    def next_deadline(self) -> float | None:
        """When `loops` next has something to say."""
        return min((at for at, _ in self._loops.values()), default=None)

    def forget_port(self, number: int) -> None:
        """A port goes down."""
        self._began.pop(number, None)
        self._loops.pop(number, None)

    def clear(self) -> None:
        """A port was muted, or is open again: what flaps from now on counts anew."""
        self._began.clear()
        self._loops.clear()
