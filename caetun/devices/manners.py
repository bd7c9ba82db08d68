"""Gives way to whoever reads what was written, as long as that costs little.

An application's socket holds a few hundred small packets. A burst of more, written in one go by a process that shares
the processor with the application, is lost in that socket, though the network has carried it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

# chosen by us
BURST: Final = 128
"""Frames that are written before somebody else may run; a default socket takes 277 small ones (rmem_default)."""
SHORT: Final = 0.002
"""Seconds: a reader that catches up is back sooner than that, a program that computes is not."""
AFTER_LONG: Final = 10
"""How many times as long as others have had the processor it is ours, before they are asked again."""


class Manners:
    """Decides when to give way. Keeps one time."""

    __slots__ = ("_clock", "_give_way", "_ours_until")

    def __init__(
        self, give_way: Callable[[], None] = os.sched_yield, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`give_way`: lets others run who want to, on this processor; `clock`: seconds."""
        self._give_way = give_way
        self._clock = clock
        self._ours_until = 0.0

    def after_burst(self) -> None:
        """A burst has been written: let its readers run, unless the last time took the processor away for long."""
        began = self._clock()
        if began < self._ours_until:
            return
        self._give_way()
        now = self._clock()
        if now - began > SHORT:
            self._ours_until = now + (now - began) * AFTER_LONG
