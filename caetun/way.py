"""One link to a far end, and what is known about it: a row of the table in `ways.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from caetun.output import LinkView
from caetun.session.pathmtu import PathMtu

# chosen by us
PROBE_SECONDS: Final = 0.2
"""Between two probes of a trial."""
MAX_PROBES: Final = 7
"""Probes of a trial: where three of ten get lost each way, one trial of thirty fails."""
LAST_PROBE_SECONDS: Final = 1.0
"""After the last probe of a trial, until it has failed."""
UNUSED_SECONDS: Final = 2.0
"""Since a link was left, and since the far end last used it: what was on its way has arrived."""
ROUND_TRIP_SLACK: Final = 1.2
NEVER: Final = float("-inf")


class Trial:
    """Probes sent by one link, and when the next one is due."""

    __slots__ = ("due", "sent")

    def __init__(self, at: float) -> None:
        self.due = at
        self.sent: dict[int, float] = {}
        """When, by number: at most `MAX_PROBES`."""

    @property
    def over(self) -> bool:
        """Whether all probes were sent: at `due` it has failed."""
        return len(self.sent) == MAX_PROBES

    def probed(self, ident: int, now: float, round_trip: float) -> None:
        """A probe goes out; the next is due after a `round_trip` (seconds, 0 if not known) at the earliest."""
        self.sent[ident] = now
        self.due = now + max(LAST_PROBE_SECONDS if self.over else PROBE_SECONDS, round_trip * ROUND_TRIP_SLACK)


@dataclass(slots=True, eq=False)
class Way:
    """One link to the far end, and what is known about it."""

    link: LinkView
    rank: int
    """Lower is preferred."""
    offered: bool
    """Whether this side brought it up; else the far end did."""
    origin: LinkView | None
    """The offered link that this is, or was before the far end's address changed."""
    trial: Trial | None = None
    round_trip: float = 0.0
    """Seconds until a probe was last acknowledged; 0 if none was."""
    path: PathMtu | None = None
    """Path MTU discovery; None on a stream, and before the first use."""
    probes_before: int = 0
    """The number of the last probe before `path` began."""
    path_probe: tuple[int, float] = (0, 0.0)
    """The newest probe of `path`: its number, and when it went out."""
    asked: int = 0
    """Initiations sent by it since looking for the far end began."""
    asked_at: float = NEVER
    fresh: float | None = None
    """When it was offered, until the first initiation has gone out by it."""
    waiting_since: float | None = None
    """When the first initiation went out that nothing has answered; None also once that was told."""
    told: bool = False
    """Whether it was told that nobody answers, or needs it."""
    left_at: float | None = None
    """When another one took its place, while it has its grace."""
    heard_at: float = NEVER
    """When the far end last sent something but probes by it although it was not in use."""
    hold_until: float = NEVER

    def unused_at(self) -> float | None:
        """When its grace ends."""
        return None if self.left_at is None else max(self.left_at, self.heard_at) + UNUSED_SECONDS
