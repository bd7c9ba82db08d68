"""An authentication module of somebody else: nobody comes in outside of working hours.

    caetun --auth password --auth hours ...         on the hub

It asks for nothing, and does not say who calls: what does stands before it in the chain. `docs/modules.md` goes
through this file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from caetun.auth.base import Claim, Denied, Field


class Hours:
    """Fulfils `auth.base.Method`."""

    name = "hours"
    fields: Sequence[Field] = ()

    def __init__(self, first: int, last: int) -> None:
        """`first`, `last`: hours of the day (UTC), 0..24, between which the door is open."""
        self._first, self._last = first, last

    def check(self, claim: Claim) -> str:
        """The time is the claim's, so that a test can say what it is."""
        hour = time.gmtime(claim.wall).tm_hour
        if self._first <= hour < self._last:
            return ""
        raise Denied("closed: come back in working hours", note=f"{hour} h, open from {self._first} to {self._last}")


def make() -> Hours:
    """What the entry point names. A module of this kind has settings of its own: here, a variable."""
    first, _, last = os.environ.get("CAETUN_EXAMPLE_HOURS", "8-18").partition("-")
    return Hours(int(first), int(last))
