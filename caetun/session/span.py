"""How many datagrams one sealed record may take, learned from the receiver's reports (docs/wire.md, sections 3 and 5).

A record of many datagrams costs one seal instead of many, but is lost when any one of them is: a path that loses a
share p of its datagrams loses about span * p of the records. So the span grows only where nothing is lost.

    1 <-> 4 <-> 16 <-> 44        up: enough records without loss; down: a report that shows loss, or no report at all

A report says (highest, opened) under the key pair, so highest + 1 - opened records are missing: lost, or late. They
count as lost when the next report still misses them, and only as far as more are missing than in each of the last few
reports: on a path that reorders, some are always late, in changing number.

    report          n - 1            n           n + 1
    counters  --------+--------------+-------------+----->
                      |<-- judged -->|  may be late       when report n + 1 comes in
"""

from __future__ import annotations

from collections import deque
from typing import Final

from caetun.errors import ConfigurationError

# fixed by the specification
_FIRST_COUNTER: Final = 0

# chosen by us
STEPS: Final = (1, 4, 16, 44)
"""Datagrams a record takes. 44 of 1,456 bytes carry a superframe of 64 KiB, the most a device hands over at once."""
MAX_DATAGRAMS: Final = STEPS[-1]
GROW_LOSS: Final = 0.0025
"""Share of records: at most this much loss lets the span grow, and four times it is still below `SHRINK_LOSS`."""
SHRINK_LOSS: Final = 0.02
"""Share of records: more than this costs more in inner retransmissions than a longer record saves."""
COLLAPSE_LOSS: Final = 0.1
"""Share of records: more than this sends the span back to 1 at once."""
GROW_RECORDS: Final = 256
GROW_RECORDS_FROM_ONE: Final = 512
"""Records that must have been judged before the span grows; more at 1, where they are small and come quickly."""
CERTAIN_LOSS: Final = 0.5
"""Share of records: so many missing at once are not merely late, so the next report is not waited for."""
LATE_REPORTS: Final = 8
"""Reports (about half a second) within which the number of late records is expected to vary."""
LOSS_RECORDS: Final = 512
"""Records after which a former loss counts little."""
SHRINK_RECORDS: Final = 16
"""Records a judgement of loss covers at least."""
SHRINK_LOST: Final = 3
"""Records: one or two lost in a short report are an accident, not a rate."""
MAX_CAUTION: Final = 16
"""How often the evidence for growth may double: on a lossy path, lucky spells must not make the span flap."""
RELAX_SECONDS: Final = 30.0
"""Without a shrink for so long, half the evidence is enough again."""


class Span:
    """Datagrams per record towards one peer. Reports are peer input: whatever they say, the span stays in its steps."""

    __slots__ = (
        "_barrier",
        "_caution",
        "_evidence_lost",
        "_evidence_sent",
        "_fixed",
        "_highest",
        "_judged",
        "_lost",
        "_missing",
        "_opened",
        "_relax_at",
        "_step",
        "_window_lost",
        "_window_sent",
        "datagrams",
        "loss",
    )

    def __init__(self, fixed: int = 0) -> None:
        """`fixed`: datagrams, 1..44, whatever is lost; 0 lets the reports decide. Raises ConfigurationError."""
        if not 0 <= fixed <= MAX_DATAGRAMS:
            raise ConfigurationError(f"a record cannot span {fixed} datagrams: give 1 to {MAX_DATAGRAMS}, or 0")
        self._fixed = fixed
        self._step = 0
        self.datagrams = fixed or STEPS[0]
        """How many datagrams a record may take now, 1..44."""
        self._caution = 1
        self._relax_at = 0.0
        self._evidence_sent = self._evidence_lost = 0
        self._window_sent = self._window_lost = 0
        self.loss = 0.0
        """Share of records lost lately, 0..1, smoothed over some `LOSS_RECORDS` of them."""
        self.restart_counts()

    def restart_counts(self) -> None:
        """A new key pair: counters and counts start again at 0. What was learned about the path stays."""
        self._highest = self._judged = _FIRST_COUNTER - 1
        self._opened = self._missing = 0
        # records lost for good, cumulative, as each of the last reports told
        self._lost = deque([0], LATE_REPORTS)
        # the newest counter sent before the span changed: only later records speak for the span there is now
        self._barrier: int | None = _FIRST_COUNTER - 1

    def report(self, sent_highest: int, highest: int, opened: int, now: float) -> None:
        """The receiver reports.

        `sent_highest`: highest counter we sent under the current key pair. `highest`, `opened`: what the receiver
        says it opened under it; reports that come late, twice or cannot be true are ignored. `now`: seconds, monotonic.
        """
        if self._fixed or not self._plausible(sent_highest, highest, opened):
            return
        self._relax(now)
        if self._barrier is None:
            self._barrier = sent_highest
        certain = self._certain(highest, opened)
        sent, lost = self._judge(highest, opened)
        if sent:
            self.loss += (lost / sent - self.loss) * min(1.0, sent / LOSS_RECORDS)
        if certain:
            self._shrink_to(0, sent_highest, now)
            return
        self._window_sent += sent
        self._window_lost += lost
        self._evidence_sent += sent
        self._evidence_lost += lost
        if not self._shrink(sent_highest, now):
            self._grow(sent_highest)

    def silence(self, now: float) -> None:
        """Data was sent for more than a second and no report came back: nothing long may get through at all."""
        if self._fixed:
            return
        self._shrink_to(0, None, now)

    def _plausible(self, sent_highest: int, highest: int, opened: int) -> bool:
        if highest > sent_highest or opened > highest + 1:
            return False
        if highest < self._highest or opened < self._opened:
            return False
        return highest > self._highest or opened > self._opened

    def _certain(self, highest: int, opened: int) -> bool:
        """Whether so many of the newest records, all sent with the present span, are missing that it must be loss."""
        sent = highest - self._highest
        missing = sent - (opened - self._opened)
        return self._current(self._highest) and sent >= SHRINK_RECORDS and missing > sent * CERTAIN_LOSS

    def _current(self, counter: int) -> bool:
        """Whether all records after this counter were sent with the present span."""
        return self._barrier is not None and counter >= self._barrier

    def _judge(self, highest: int, opened: int) -> tuple[int, int]:
        """Take in a report and judge the records that the one before it covered first.

        Returns how many records were judged, and how many of them are lost; none if a former span sent them.
        """
        missing = highest + 1 - opened
        lost = min(missing, self._missing)
        verdict = 0, 0
        if self._current(self._judged):
            verdict = self._highest - self._judged, max(0, lost - max(self._lost))
        self._lost.append(lost)
        self._judged = self._highest
        self._highest, self._opened, self._missing = highest, opened, missing
        return verdict

    def _relax(self, now: float) -> None:
        while self._caution > 1 and now >= self._relax_at:
            self._caution //= 2
            self._relax_at += RELAX_SECONDS

    def _shrink(self, sent_highest: int, now: float) -> bool:
        """Shorten the span if the last records show loss; returns whether it did."""
        sent, lost = self._window_sent, self._window_lost
        if sent < SHRINK_RECORDS:
            return False
        heavy = lost > sent * SHRINK_LOSS
        if heavy and lost < SHRINK_LOST:
            return False
        self._window_sent = self._window_lost = 0
        if not heavy or not self._step:
            return False
        self._shrink_to(0 if lost > sent * COLLAPSE_LOSS else self._step - 1, sent_highest, now)
        return True

    def _shrink_to(self, step: int, sent_highest: int | None, now: float) -> None:
        """Shorten the span, and ask for more evidence next time."""
        if self._step:
            self._caution = min(self._caution * 2, MAX_CAUTION)
            self._relax_at = now + RELAX_SECONDS
        self._change(step, sent_highest)

    def _grow(self, sent_highest: int) -> None:
        """Lengthen the span if enough records show next to no loss."""
        needed = (GROW_RECORDS if self._step else GROW_RECORDS_FROM_ONE) * self._caution
        if self._evidence_sent < needed:
            return
        clean = self._evidence_lost <= self._evidence_sent * GROW_LOSS
        if clean and self._step + 1 < len(STEPS):
            self._change(self._step + 1, sent_highest)
        else:
            # old luck must not outweigh what the path does now
            self._evidence_sent = self._evidence_lost = 0

    def _change(self, step: int, sent_highest: int | None) -> None:
        """Take another span; `sent_highest` None: the next report tells which records were sent with the old one."""
        self._step = step
        self.datagrams = STEPS[step]
        self._barrier = sent_highest
        self._evidence_sent = self._evidence_lost = 0
        self._window_sent = self._window_lost = 0
