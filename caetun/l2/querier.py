"""Who asks for memberships on one VLAN: us, or a real querier, the one with the lowest address.

    START   --(first tick)-->            ASKING     general queries, soon at first, then every query interval
    ASKING  --(query of a lower one)-->  LISTENING
    LISTENING --(nothing for a while)--> ASKING

RFC 9776, sections 6.6.2 and 8 (IGMPv3), RFC 9777, sections 7.6.2 and 9 (MLDv2). A switch without an address asks from
a proxy's, which wins no election (RFC 4541, section 2.1.1, item 4): it falls silent as soon as any real querier speaks.
For IPv4 that is 0.0.0.0. RFC 4541, section 3, has :: for IPv6, but hosts discard a query that does not come from a
link-local address (RFC 9777, section 5.1.14; Linux does), and would be forgotten; so it is the highest one of these.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from caetun.l2.filter import NOTHING, Asked, Timing
from caetun.wire.membership import GroupRecord, Kind, Query

# fixed by the specification (RFC 9776, section 8; RFC 9777, section 9)
ROBUSTNESS: Final = 2
QUERY_INTERVAL: Final = 125.0
RESPONSE_INTERVAL: Final = 10.0

# chosen by us
LAST_MEMBER_INTERVAL: Final = 0.9
"""Seconds that whoever has stayed may take to answer after a leave, asked twice: with the way to the hub and back, what
nobody wants ends within 2 s. RFC 9776, section 8.8, has 1 s, and lets it be tuned for that."""
PROXY: Final = {4: bytes(4), 16: bytes.fromhex("fe80000000000000fffffffffffffffe")}
"""From where a switch without an address asks, by the size of addresses: all its like from the same one."""
GREETING_RESPONSE: Final = 1.0
"""Seconds that hosts of one port may take to answer when it has come up: nothing flows there until they have."""
MAX_QUESTIONS: Final = 1024
"""Groups being asked about at a time: a flood of leaves makes no flood of questions."""
MAX_ASKED_SOURCES: Final = 64
"""Sources in one question: fits a packet of 576 bytes (IPv4), or 1,280 (IPv6)."""


def is_proxy(source: bytes) -> bool:
    """Whether a query from here (4 or 16 bytes) comes from a switch without an address, which is no querier."""
    return not any(source) or source == PROXY[len(source)]


class State(enum.Enum):
    """What we are at the moment."""

    OFF = "off"
    ASKING = "asking"
    LISTENING = "listening"


class _Question(NamedTuple):
    """A group, or sources of it, somebody may have left."""

    group: bytes
    asked: Asked
    left: int
    """How often it is still to be asked."""
    at: float
    answered: Asked = NOTHING
    """What somebody has said meanwhile that he wants."""


class Querier:
    """The querier of one protocol on one VLAN. Says what to ask; somebody else sends it."""

    def __init__(self, address: bytes, version: int, enabled: bool, now: float, interval: float | None = None) -> None:
        """`address`: ours, all zeros (4 or 16 bytes) if we have none: see `PROXY`; `version`: of the queries we send.

        `interval`: seconds between general queries of ours, more than `RESPONSE_INTERVAL`; None: that of the RFC.
        """
        self._proxy = PROXY[len(address)]
        self._source = address if any(address) else self._proxy
        self._version = version
        self._nobody = bytes(len(address))
        self.state = State.ASKING if enabled else State.OFF
        self.robustness = ROBUSTNESS
        self._own_interval = QUERY_INTERVAL if interval is None else interval
        self.interval = self._own_interval
        self.response = RESPONSE_INTERVAL
        self.other = self._nobody
        """The address of the querier we listen to; all zeros if there is none."""
        self._other_until = 0.0
        self._answered_at = 0.0
        """When all hosts have had time to answer the first query after a silence."""
        self._starting = ROBUSTNESS
        """General queries that still come at the short start-up interval."""
        self._general_at = now
        self._questions: dict[bytes, _Question] = {}

    @property
    def timing(self) -> Timing:
        """How long memberships last by what is asked here (RFC 9776, sections 8.4, 8.10 and 8.13; RFC 9777, 9.4)."""
        asked = self.robustness * self.interval
        return Timing(asked + 2 * self.response, LAST_MEMBER_INTERVAL * ROBUSTNESS, asked + self.response)

    def live(self, now: float) -> bool:
        """Whether anybody asks, so that whoever has not answered wants nothing."""
        return self.state is State.ASKING or self._answered_at <= now < self._other_until

    # what is heard

    def heard(self, query: Query, now: float) -> None:
        """A query came in by a port."""
        if is_proxy(query.source):
            return  # a switch like us: no querier (RFC 4541, section 2.1.1, item 1b)
        if self.state is not State.ASKING and now >= self._other_until:
            if any(query.group):
                return  # hosts have not been asked about other groups
            self._answered_at = now + query.max_response  # until then what was flooded goes on, or streams would stop
        if query.robustness:
            self.robustness = query.robustness
        if query.interval:
            self.interval = query.interval
        if not any(query.group):
            self.response = query.max_response
        if self.state is State.ASKING and self._source != self._proxy and query.source >= self._source:
            return  # we have the lower address: the other one will fall silent
        if self.other != self._nobody and query.source > self.other and now < self._other_until:
            return  # it will hear the one we listen to
        self.other = query.source
        self._other_until = now + self.robustness * self.interval + self.response / 2
        if self.state is State.ASKING:
            self.state = State.LISTENING
        self._questions.clear()

    def ask_about(self, group: bytes, asked: Asked, now: float) -> bool:
        """A host may have left: ask, if it is for us to do. Returns whether it is."""
        if self.state is not State.ASKING or not asked:
            return False
        if group not in self._questions and len(self._questions) >= MAX_QUESTIONS:
            return False
        before = self._questions.get(group)
        if before is not None:
            asked = Asked(before.asked.group or asked.group, before.asked.sources | asked.sources)
        self._questions[group] = _Question(group, asked, ROBUSTNESS, now)
        return True

    def answered(self, record: GroupRecord) -> None:
        """A host wants a group, or sources of it: if that is being asked about, other routers need not shorten its time
        when it is asked again (RFC 9776, section 6.6.3; RFC 9777, section 7.6.3)."""
        question = self._questions.get(record.group)
        if question is None:
            return
        group, sources = question.answered
        match record.kind:
            case Kind.IS_EXCLUDE | Kind.TO_EXCLUDE:
                group, sources = True, sources | question.asked.sources.difference(record.sources)
            case Kind.IS_INCLUDE | Kind.TO_INCLUDE | Kind.ALLOW:
                sources |= question.asked.sources.intersection(record.sources)
        self._questions[record.group] = question._replace(answered=Asked(group, sources))

    def greeting(self, now: float) -> Query | None:
        """What to ask a port that has come up or moved, whoever the querier is (RFC 4541, section 2.1.1, item 4)."""
        if self.state is State.OFF or (self.state is State.ASKING and now >= self._general_at):
            return None  # all are asked anyway
        query = self._query(self._nobody, GREETING_RESPONSE, frozenset())
        # Who asks although another is the querier must win no election.
        return query if self.state is State.ASKING else query._replace(source=self._proxy)

    def speaker(self, now: float) -> bytes:
        """The address whose queries count; all zeros: nobody's, or ours without an address of IPv4."""
        return self._source if self.state is State.ASKING else self.other if now < self._other_until else self._nobody

    # time

    def tick(self, now: float) -> list[Query]:
        """What to ask now."""
        if self.state is State.LISTENING and now >= self._other_until:
            self.state, self.other = State.ASKING, self._nobody
            self.robustness, self.interval, self.response = ROBUSTNESS, self._own_interval, RESPONSE_INTERVAL
            self._general_at = now
        if self.state is not State.ASKING:
            return []
        queries = [query for question in self._due(now) for query in self._specific(question)]
        if now >= self._general_at:
            self._starting = max(self._starting - 1, 0)
            self._general_at = now + (self.interval / 4 if self._starting else self.interval)
            queries.append(self._query(self._nobody, self.response, frozenset()))
        return queries

    def _due(self, now: float) -> list[_Question]:
        due = [question for question in self._questions.values() if now >= question.at]
        for question in due:
            if question.left > 1:
                again = question._replace(left=question.left - 1, at=now + LAST_MEMBER_INTERVAL)
                self._questions[question.group] = again
            else:
                del self._questions[question.group]
        return due

    def _specific(self, question: _Question) -> list[Query]:
        """The queries for a group, or for sources of it: what has been answered is asked for with the S flag, or not at
        all beside the group."""
        group, (asked, answered) = question.group, (question.asked, question.answered)
        queries = []
        if asked.group:
            query = self._query(group, LAST_MEMBER_INTERVAL, frozenset())
            queries.append(query._replace(suppress=answered.group and self._newest))
        for sources, suppress in ((asked.sources - answered.sources, False), (answered.sources, True)):
            if sources and self._newest and not (suppress and asked.group):
                some = frozenset(sorted(sources)[:MAX_ASKED_SOURCES])
                queries.append(self._query(group, LAST_MEMBER_INTERVAL, some)._replace(suppress=suppress))
        return queries

    @property
    def _newest(self) -> bool:
        """Whether our queries know sources and flags."""
        return self._version == (3 if len(self._nobody) == 4 else 2)

    def _query(self, group: bytes, response: float, sources: frozenset[bytes]) -> Query:
        return Query(
            self._version,
            self._source,
            group,
            response,
            robustness=ROBUSTNESS if self._newest else 0,
            interval=self.interval if self._newest else 0.0,
            sources=tuple(sorted(sources)),
        )

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        if self.state is State.OFF:
            return None
        if self.state is State.LISTENING:
            return self._other_until
        return min(self._general_at, *(question.at for question in self._questions.values()), self._general_at)
