"""Whether this machine has nothing else to do: what measures throughput looks now and then, and judges only if so.

It looks while nothing of its own runs. So the answer does not depend on the outcome, which would let chance pass a bar.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

# chosen by us
_LOOK: Final = 0.5
"""Seconds."""
_BUSY: Final = 0.15
"""Share of the cores' time that other programs may take."""


class Others:
    """What other programs take of the cores, as far as we looked."""

    def __init__(self) -> None:
        self._spent = [0] * 8

    def look(self) -> None:
        """To be called when all that the test has started is idle."""
        before = _times()
        time.sleep(_LOOK)  # nothing to wait for: this is how long we look
        now = [later - earlier for earlier, later in zip(before, _times(), strict=True)]
        self._spent = [so_far + more for so_far, more in zip(self._spent, now, strict=True)]

    @property
    def disturb(self) -> str:
        """Why no throughput can be judged; "" if it can."""
        taken = 1 - sum(self._spent[3:5]) / max(1, sum(self._spent))
        if taken <= _BUSY:
            return ""
        return f"other programs use {taken:.0%} of this machine's cores: no throughput is judged"


def _times() -> list[int]:
    """What the cores did so far, in ticks: user, nice, system, idle, waiting for a disk, ... (proc_stat(5))."""
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
