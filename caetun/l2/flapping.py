"""Addresses that keep moving between ports: one is held where it is at home; many at once are a loop.

A probe finds a loop first (`loop.py`), unless they are switched off, or something on the way eats them. Then it shows
in addresses: what goes in circles comes back by a port that is nobody's home. That port is muted, so whoever forges
addresses that others have in use mutes himself. The device's port is not muted: its hosts have no other way.
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
TELL_SECONDS: Final = 5.0
"""People hear of a flapping address so often: in a loop it is one after the other. Counters have them all."""


class Flapping:
    """What has lately begun to flap, by the port that it should not come by."""

    def __init__(self, tell: Callable[[Notice], None], mute: Callable[[int, str, float], None]) -> None:
        """`mute`: have a port, for a reason, forward nothing for a while from now on."""
        self._tell, self._mute = tell, mute
        self._began: dict[int, deque[float]] = {}
        """When the last ones began, for each port that is up."""
        self._told_at = -inf

    def began(self, source: bytes, intruder: int, name: str, now: float) -> None:
        """An address (6 bytes) that is at home elsewhere keeps coming by a port of that name, too: it is held now."""
        if self._is_loop(intruder, now):
            self._mute(intruder, f"loop: {MANY} addresses of other ports keep coming by {name}", now)
        elif now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            what = f"{source.hex(':')} keeps moving, now to {name}"
            self._tell(Notice("warning", "bridge.flapping", f"{what}: a loop, or one address twice; held"))

    def _is_loop(self, intruder: int, now: float) -> bool:
        if intruder == LOCAL:
            return False
        began = self._began.setdefault(intruder, deque(maxlen=MANY))
        began.append(now)
        if len(began) < MANY or now - began[0] > MANY_SECONDS:
            return False
        began.clear()
        return True

    def forget_port(self, number: int) -> None:
        """A port goes down."""
        self._began.pop(number, None)
