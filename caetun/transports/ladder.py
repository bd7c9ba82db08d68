"""Which carrier to try when: from the best rung down, and up again in the background. Pure: no loop, no clock.

    idle --dial--> dialling --dialled--> trying --up--> up      trying: the link is there, the far end has yet to answer
      ^               |                    |             |
      +---cancelled---+--------------------+             |
    failed <----------+--------failed------+-------------+ lost

- Nothing works yet: a race from the top, each rung a little after the one before, or at once if one has failed. What
  drops the best rung may well drop its kin: one of each family comes first. Who is up first ends it for rungs that are
  no better; better ones go on.
- All have failed: the race begins again after a pause that grows, for ever.
- A worse rung is up: better ones are tried again in the background, each after a pause of its own that grows.
- The rung in use is silent or gone: all others at once.

The shell dials what `poll` says, and tells what becomes of it; `peers.py` decides which link is used.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

# chosen by us
STAGGER: Final = 0.25
"""Seconds between two rungs of a race: a good path has answered by then (RFC 8305, section 5: 0.25 of 0.1 to 2)."""
RACE_PAUSE: Final = 1.0
"""Seconds until the race begins again after all rungs have failed; twice as long each time."""
RACE_PAUSE_MOST: Final = 30.0
BETTER_PAUSE: Final = 5.0
"""Seconds until a better rung is tried again while a worse one works; twice as long each time."""
BETTER_PAUSE_MOST: Final = 60.0
SHORT_LIFE: Final = 5.0
"""Seconds: a rung that was up for less has not proven itself, and is tried again after a longer pause, too."""
SHORT_PAUSE_MOST: Final = 20.0
"""Seconds of that pause at most: the carrier does get through, at times."""
JITTER: Final = 0.2
"""Share of a pause: many clients that lost one server spread out."""
_ENTROPY_SIZE: Final = 2


class Rung(NamedTuple):
    """One carrier to one target."""

    transport: str
    """Its name: `wss`."""
    target: str
    """What tells rungs of one transport apart, such as a URL."""
    rank: int
    """Lower is preferred."""
    text: str
    """For people: `wss hub:443`."""
    family: str = ""
    """Those of one family are likely to fail together: by UDP to one host, say (RFC 8305, section 4, has addresses)."""


class Phase(enum.StrEnum):
    """What a rung is doing."""

    IDLE = "idle"
    DIALLING = "dialling"
    TRYING = "trying"
    UP = "up"
    FAILED = "failed"


UNDER_WAY: Final = (Phase.DIALLING, Phase.TRYING)


@dataclass(slots=True)
class Status:
    """A rung, for people and for the display of a status."""

    rung: Rung
    phase: Phase = Phase.IDLE
    why: str = ""
    """Why it failed last."""
    since: float = 0.0
    """Monotonic seconds: when the phase began."""
    pause: float = BETTER_PAUSE
    retry_at: float = 0.0
    """Not before then is it tried in the background."""
    told: bool = False
    """Whether a person knows why it failed; it was not up since."""


class Orders(NamedTuple):
    """What the shell has to do."""

    dial: list[Rung]
    cancel: list[Rung]
    """End the dialling, close and withdraw links."""
    lines: list[str]
    """For the log."""


class Ladder:
    """The rungs to one peer."""

    def __init__(self, rungs: Sequence[Rung], entropy: Callable[[int], bytes]) -> None:
        """`rungs`: at least one; of equal rank, the first is preferred. `entropy`: gives that many random bytes."""
        self._entropy = entropy
        self._statuses = {rung: Status(rung) for rung in sorted(rungs, key=lambda rung: rung.rank)}
        self._best = min(rung.rank for rung in rungs)
        self._up: Status | None = None
        self._suspect_since: float | None = None
        self._queue: list[Status] = []
        """What is left of a race, next one first."""
        self._next_at = 0.0
        self._stagger = STAGGER
        self._again_at: float | None = None
        self._pause = RACE_PAUSE
        self._cancel: list[Rung] = []
        self._lines: list[str] = []
        self._told = ""

    @property
    def up_rung(self) -> Rung | None:
        """The one in use."""
        return None if self._up is None else self._up.rung

    def describe(self) -> list[Status]:
        """All rungs, best first."""
        return list(self._statuses.values())

    # what happens

    def start(self, now: float) -> None:
        """Begin to look for the far end."""
        self._race(now, STAGGER)

    def dialled(self, rung: Rung, now: float) -> None:
        """A link is there and has been offered to the peer."""
        status = self._statuses[rung]
        if status.phase is Phase.DIALLING:
            self._enter(status, Phase.TRYING, now)

    def failed(self, rung: Rung, now: float, why: str = "") -> None:
        """It could not be dialled, nobody has answered (`why` is empty), or its link has ended."""
        status = self._statuses[rung]
        if status is self._up:
            self.lost(now, why or "lost")
        elif status.phase in UNDER_WAY:
            self._fail(status, now, why or f"no answer in {now - status.since:.1f} s")
            self._next_at = min(self._next_at, now)
            self._tell_failed(status)
            self._all_failed(now)

    def up(self, rung: Rung, now: float) -> None:
        """The peer uses it, and it works. A rung that is none of ours stands for a link that the far end brought up."""
        status, before = self._statuses.get(rung) or Status(rung), self._up
        same = before is not None and before.rung == rung
        if before is not None and same:
            status = before
            if self._suspect_since is None:
                return
        if before is not None and not same:
            if self._suspect_since is None:
                self._enter(before, Phase.IDLE, now)
            else:
                self._end(before, self._suspect_since, "went silent")
        if not same:
            self._enter(status, Phase.UP, now)
            self._tell_up(status)
        self._up, self._suspect_since, self._again_at, self._pause = status, None, None, RACE_PAUSE
        self._queue = [other for other in self._queue if other.rung.rank < rung.rank]
        for other in self._statuses.values():
            if other.phase in UNDER_WAY and other.rung.rank >= rung.rank:
                self._cancel.append(other.rung)
                self._enter(other, Phase.IDLE, now)
            elif other.phase is Phase.IDLE and other.rung.rank < rung.rank:
                other.retry_at = now + self._jittered(other.pause)

    def suspect(self, now: float) -> None:
        """The rung in use does not answer: any other will do, if it does not recover."""
        if self._up is not None and self._suspect_since is None:
            self._suspect_since = now
            self._race(now, 0.0)

    def lost(self, now: float, why: str = "lost") -> None:
        """The peer has no link any more, or is gone."""
        if self._up is None:
            return
        status, self._up, self._suspect_since = self._up, None, None
        self._end(status, now, why)
        self._race(now, 0.0)

    def network_changed(self, now: float) -> None:
        """This host's addresses or routes are others now: what has failed may work."""
        for status in self._statuses.values():
            status.pause, status.retry_at = BETTER_PAUSE, now
        self._pause = RACE_PAUSE
        if self._in_need and not self._queue:
            self._race(now, STAGGER)

    # what to do

    def poll(self, now: float) -> Orders:
        """What is to be done now. To be asked after each of the calls above, and at `next_deadline`."""
        dial = self._due_better(now)
        if self._again_at is not None and now >= self._again_at:
            self._race(now, STAGGER)
        while self._queue and (now >= self._next_at or not self._under_way):
            status = self._queue.pop(0)
            self._enter(status, Phase.DIALLING, now)
            self._next_at = now + self._stagger
            dial.append(status.rung)
        cancel, self._cancel = self._cancel, []
        lines, self._lines = self._lines, []
        return Orders(dial, cancel, lines)

    def next_deadline(self) -> float | None:
        """When to `poll` next; None if only news can change anything."""
        due = [] if self._again_at is None else [self._again_at]
        if self._queue:
            due.append(self._next_at)
        due += [status.retry_at for status in self._better()]
        return min(due, default=None)

    # how it is decided

    @property
    def _in_need(self) -> bool:
        return self._up is None or self._suspect_since is not None

    @property
    def _under_way(self) -> bool:
        return any(status.phase in UNDER_WAY for status in self._statuses.values())

    def _better(self) -> list[Status]:
        """Rungs that wait to be tried in the background."""
        up = self._up
        if up is None or self._suspect_since is not None or up.rung.rank == self._best:
            return []
        waiting = (status for status in self._statuses.values() if status.rung.rank < up.rung.rank)
        return [status for status in waiting if status.phase not in UNDER_WAY and status not in self._queue]

    def _due_better(self, now: float) -> list[Rung]:
        due = [status for status in self._better() if now >= status.retry_at]
        for status in due:
            self._enter(status, Phase.DIALLING, now)
        return [status.rung for status in due]

    def _race(self, now: float, stagger: float) -> None:
        """Try all rungs that are not being tried, the best of each family first; not the one in use."""
        self._again_at, self._stagger, self._next_at = None, stagger, now
        taken = (*UNDER_WAY, Phase.UP)
        families = {status.rung.family for status in self._statuses.values() if status.phase in taken}
        first: list[Status] = []
        later: list[Status] = []
        for status in self._statuses.values():
            if status.phase not in taken:
                (later if status.rung.family in families else first).append(status)
                families.add(status.rung.family)
        self._queue = first + later

    @staticmethod
    def _enter(status: Status, phase: Phase, now: float) -> None:
        status.phase, status.since = phase, now

    def _fail(self, status: Status, now: float, why: str) -> None:
        self._enter(status, Phase.FAILED, now)
        status.why = why
        status.retry_at = now + self._jittered(status.pause)
        status.pause = min(2 * status.pause, BETTER_PAUSE_MOST)

    def _end(self, status: Status, now: float, why: str) -> None:
        """A rung that was up is not any more. One that lasted is as good as new."""
        lasted = now - status.since >= SHORT_LIFE
        status.pause = BETTER_PAUSE if lasted else min(status.pause, SHORT_PAUSE_MOST)
        self._fail(status, now, why)

    def _all_failed(self, now: float) -> None:
        """Plan another race if this one has ended without a winner."""
        if not self._in_need or self._queue or self._under_way or self._again_at is not None:
            return
        self._again_at = now + self._jittered(self._pause)
        self._pause = min(2 * self._pause, RACE_PAUSE_MOST)
        self._tell("nobody answers: " + self._reasons(self._statuses.values()))

    def _tell_failed(self, status: Status) -> None:
        """A better rung than the one in use has turned out to fail, too: told once, not at each try."""
        if self._up is not None and status.rung.rank < self._up.rung.rank and not status.told:
            self._tell(f"not via {self._reasons([status])}")

    def _tell_up(self, status: Status) -> None:
        status.told = False
        better = [other for other in self._statuses.values() if other.rung.rank < status.rung.rank]
        reasons = self._reasons(better)
        self._told = ""
        self._tell(f"up via {status.rung.text}" + (f"; {reasons}" if reasons else ""))

    @staticmethod
    def _reasons(statuses: Iterable[Status]) -> str:
        """Why those of them failed that did, for a person."""
        failed = [status for status in statuses if status.phase is Phase.FAILED]
        for status in failed:
            status.told = True
        return "; ".join(f"{status.rung.text}: {status.why}" for status in failed)

    def _tell(self, line: str) -> None:
        """A line for the log, unless it says what the last one did."""
        if line != self._told:
            self._told = line
            self._lines.append(line)

    def _jittered(self, pause: float) -> float:
        share = int.from_bytes(self._entropy(_ENTROPY_SIZE), "big") / (256**_ENTROPY_SIZE - 1)
        return pause * (1 + JITTER * (2 * share - 1))
