"""What the hosts behind one port want of one multicast group: the router's state of IGMPv3 and MLDv2, kept for a port.

RFC 9776, section 6 (IGMPv3) and RFC 9777, section 7 (MLDv2) give the same tables. The state is one of

    INCLUDE (A)       only the sources A, each with a timer that runs
    EXCLUDE (X, Y)    all but Y; the sources X are still asked for, and stay when the group's timer runs out

Times are monotonic seconds. Hosts that speak older versions are kept in mind as long as they may be there (RFC 9776,
section 7.3.2; RFC 9777, section 8.3.2): what they cannot hear is not acted upon.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from caetun.wire.membership import GroupRecord, Kind

# chosen by us
MAX_SOURCES: Final = 256
"""Of one group at one port: hosts that want more get the group from all sources."""


class Timing(NamedTuple):
    """Seconds, from what the querier says (RFC 9776, section 8; RFC 9777, section 9)."""

    membership: float = 270.0
    """Group Membership Interval: robustness times query interval, and twice the response interval."""
    last_member: float = 1.8
    """Last Member Query Time: that interval times its count."""
    older_host: float = 260.0
    """Older Host Present Interval: robustness times query interval, and the response interval."""


class Asked(NamedTuple):
    """What a querier now has to ask: the group, or some of its sources."""

    group: bool = False
    sources: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return self.group or bool(self.sources)


NOTHING: Final = Asked()


class PortFilter:
    """One group at one port."""

    __slots__ = ("blocked", "excluding", "old_until", "oldest_until", "running", "until")

    def __init__(self) -> None:
        """INCLUDE of nothing: nobody is here."""
        self.excluding = False
        self.until = 0.0
        """Excluding: when the group's timer runs out."""
        self.running: dict[bytes, float] = {}
        """A, or X: source -> when its timer runs out."""
        self.blocked: set[bytes] = set()
        """Y."""
        self.old_until = 0.0
        """Hosts of IGMPv2 (or MLDv1) may be here until then: they report whole groups only."""
        self.oldest_until = 0.0
        """Hosts of IGMPv1 may be here until then: they do not say when they leave."""

    @property
    def empty(self) -> bool:
        """Whether nobody wants anything."""
        return not self.excluding and not self.running

    def wants(self, source: bytes) -> bool:
        """Whether what `source` sends to the group goes out here."""
        return source not in self.blocked if self.excluding else source in self.running

    # what hosts say

    def hear(self, record: GroupRecord, version: int, now: float, timing: Timing, oldest: int = 3) -> Asked:
        """Take in a record that came in a report of `version`; returns what is to be asked.

        `oldest`: the number of versions this protocol has, 3 (IGMP) or 2 (MLD): reports of lower ones come from hosts
        that do not know sources.
        """
        if version == 1 and oldest == 3:
            self.oldest_until = now + timing.older_host
        if version < oldest and record.kind is Kind.IS_EXCLUDE:
            self.old_until = max(self.old_until, now + timing.older_host)
        kind, sources = record.kind, frozenset(record.sources)
        if now < self.oldest_until and kind in (Kind.TO_INCLUDE, Kind.BLOCK):
            return NOTHING
        if now < self.old_until:
            if kind is Kind.BLOCK:
                return NOTHING
            if kind is Kind.TO_EXCLUDE:
                sources = frozenset()
        asked = (
            self._excluding(kind, sources, now, timing)
            if self.excluding
            else self._including(kind, sources, now, timing)
        )
        if len(self.running) + len(self.blocked) > MAX_SOURCES:
            self._take_all(now + timing.membership)
        return asked

    def _including(self, kind: Kind, b: frozenset[bytes], now: float, timing: Timing) -> Asked:
        """RFC 9776, sections 6.4.1 and 6.4.2: the rows of INCLUDE (A)."""
        a = frozenset(self.running)
        match kind:
            case Kind.IS_INCLUDE | Kind.ALLOW:
                self._run(b, now + timing.membership)
                return NOTHING
            case Kind.IS_EXCLUDE | Kind.TO_EXCLUDE:
                self._exclude(x=a & b, y=b - a, until=now + timing.membership)
                return Asked(sources=a & b) if kind is Kind.TO_EXCLUDE else NOTHING
            case Kind.BLOCK:
                return Asked(sources=a & b)
            case Kind.TO_INCLUDE:
                self._run(b, now + timing.membership)
                return Asked(sources=a - b)

    def _excluding(self, kind: Kind, a: frozenset[bytes], now: float, timing: Timing) -> Asked:
        """The rows of EXCLUDE (X, Y)."""
        x, y = frozenset(self.running), frozenset(self.blocked)
        until = now + timing.membership
        match kind:
            case Kind.IS_INCLUDE | Kind.ALLOW | Kind.TO_INCLUDE:
                self._run(a, until)
                self.blocked -= a
                return Asked(True, x - a) if kind is Kind.TO_INCLUDE else NOTHING
            case Kind.IS_EXCLUDE:
                self._run(a - x - y, until)
                self._exclude(x=a - y, y=y & a, until=until)
                return NOTHING
            case Kind.BLOCK:
                self._run(a - x - y, self.until)
                return Asked(sources=a - y)
            case Kind.TO_EXCLUDE:
                self._run(a - x - y, self.until)
                self._exclude(x=a - y, y=y & a, until=until)
                return Asked(sources=a - y)

    def _run(self, sources: Iterable[bytes], until: float) -> None:
        self.running.update(dict.fromkeys(sources, until))

    def _exclude(self, x: frozenset[bytes], y: frozenset[bytes], until: float) -> None:
        self.running = {source: at for source, at in self.running.items() if source in x}
        self.blocked = set(y)
        self.excluding, self.until = True, until

    def _take_all(self, until: float) -> None:
        self.running, self.blocked = {}, set()
        self.excluding, self.until = True, until

    # what the querier asks

    def asked(self, asked: Asked, now: float, timing: Timing) -> None:
        """Somebody has been asked whether he is still there: without an answer the state ends soon (section 6.6.1)."""
        soon = now + timing.last_member
        if asked.group and self.excluding:
            self.until = min(self.until, soon)
        for source in asked.sources & self.running.keys():
            self.running[source] = min(self.running[source], soon)

    # time

    def expire(self, now: float) -> bool:
        """Let timers run out; returns whether anything changed."""
        over = [source for source, until in self.running.items() if now >= until]
        for source in over:
            del self.running[source]
        if not self.excluding:
            return bool(over)
        self.blocked.update(over)
        if now >= self.until:
            # Section 6.5: with sources still asked for it is INCLUDE of these, without it is nothing.
            self.excluding, self.blocked = False, set()
            return True
        return bool(over)

    def next_deadline(self) -> float | None:
        """When `expire` next has something to do; None if nobody is here."""
        due = list(self.running.values())
        if self.excluding:
            due.append(self.until)
        return min(due, default=None)
