"""The state tables of RFC 9776, section 6.4, and RFC 9777, section 7.4, row by row; timers; older hosts."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.filter import MAX_SOURCES, NOTHING, Asked, PortFilter, Timing
from caetun.wire.membership import GroupRecord, Kind

GROUP = bytes((239, 1, 2, 3))
TIMING = Timing(270.0, 2.0, 260.0)
BORN, NOW = 100.0, 200.0
UNTIL = NOW + TIMING.membership
OLD = BORN + TIMING.membership


def sources(names: str) -> frozenset[bytes]:
    return frozenset(name.encode() * 4 for name in names)


def record(kind: Kind, names: str = "") -> GroupRecord:
    return GroupRecord(kind, GROUP, tuple(sorted(sources(names))))


def include(names: str) -> PortFilter:
    """INCLUDE (names), since `BORN`."""
    made = PortFilter()
    made.hear(record(Kind.ALLOW, names), 3, BORN, TIMING)
    return made


def exclude(x: str, y: str) -> PortFilter:
    """EXCLUDE (x, y), since `BORN`."""
    made = PortFilter()
    made.hear(record(Kind.IS_EXCLUDE, y), 3, BORN, TIMING)
    made.hear(record(Kind.ALLOW, x), 3, BORN, TIMING)
    return made


def state(port: PortFilter) -> tuple[str, str, str]:
    """("IN", A, "") or ("EX", X, Y), by names."""

    def names(some: Iterable[bytes]) -> str:
        return "".join(sorted(each[:1].decode() for each in some))

    return ("EX" if port.excluding else "IN", names(port.running), names(port.blocked))


ROWS = [
    # old state, record, new state, sources whose timer is set to the membership interval, asked (section of RFC 9776)
    ("6.4.1", include("ab"), Kind.IS_INCLUDE, "bc", ("IN", "abc", ""), "bc", NOTHING),
    ("6.4.1", include("ab"), Kind.IS_EXCLUDE, "bc", ("EX", "b", "c"), "", NOTHING),
    ("6.4.1", exclude("ab", "yz"), Kind.IS_INCLUDE, "by", ("EX", "aby", "z"), "by", NOTHING),
    ("6.4.1", exclude("ab", "yz"), Kind.IS_EXCLUDE, "bcy", ("EX", "bc", "y"), "c", NOTHING),
    ("6.4.2", include("ab"), Kind.ALLOW, "bc", ("IN", "abc", ""), "bc", NOTHING),
    ("6.4.2", include("ab"), Kind.BLOCK, "bc", ("IN", "ab", ""), "", Asked(sources=sources("b"))),
    ("6.4.2", include("ab"), Kind.TO_EXCLUDE, "bc", ("EX", "b", "c"), "", Asked(sources=sources("b"))),
    ("6.4.2", include("ab"), Kind.TO_INCLUDE, "bc", ("IN", "abc", ""), "bc", Asked(sources=sources("a"))),
    ("6.4.2", exclude("ab", "yz"), Kind.ALLOW, "by", ("EX", "aby", "z"), "by", NOTHING),
    ("6.4.2", exclude("ab", "yz"), Kind.BLOCK, "bcy", ("EX", "abc", "yz"), "", Asked(sources=sources("bc"))),
    ("6.4.2", exclude("ab", "yz"), Kind.TO_EXCLUDE, "bcy", ("EX", "bc", "y"), "", Asked(sources=sources("bc"))),
    ("6.4.2", exclude("ab", "yz"), Kind.TO_INCLUDE, "by", ("EX", "aby", "z"), "by", Asked(True, sources("a"))),
]


def named(rfc: int, chapter: str) -> list[str]:
    """The rows' names: RFC and section, old state, record."""
    return [
        f"rfc{rfc} {chapter}{section[1:]} {'EXCLUDE' if port.excluding else 'INCLUDE'} {kind.name}"
        for section, port, kind, *_ in ROWS
    ]


@pytest.mark.parametrize(
    ("newest", "section", "port", "kind", "names", "after", "renewed", "asked"),
    [(3, *row) for row in ROWS] + [(2, *row) for row in ROWS],
    ids=named(9776, "6") + named(9777, "7"),
)
def test_state_table(
    newest: int,
    section: str,
    port: PortFilter,
    kind: Kind,
    names: str,
    after: tuple[str, str, str],
    renewed: str,
    asked: Asked,
) -> None:
    """IGMPv3 has 3 versions, MLDv2 has 2: a report of the newest knows sources."""
    port = copy.deepcopy(port)
    assert port.hear(record(kind, names), newest, NOW, TIMING, newest) == asked
    assert state(port) == after
    for source, until in port.running.items():
        assert until == (UNTIL if source in sources(renewed) else OLD)
    if kind in (Kind.IS_EXCLUDE, Kind.TO_EXCLUDE):
        assert port.until == UNTIL
    elif port.excluding:
        assert port.until == OLD


def test_every_row_of_both_tables_is_there() -> None:
    assert {(port.excluding, kind) for _, port, kind, *_ in ROWS} == {
        (mode, kind) for mode in (True, False) for kind in Kind
    }


class TestTimers:
    def test_6_3_a_source_that_is_not_renewed_ends_and_with_the_last_one_the_group(self) -> None:
        port = include("ab")
        port.hear(record(Kind.ALLOW, "b"), 3, NOW, TIMING)
        assert port.next_deadline() == OLD
        assert not port.expire(OLD - 0.1)
        assert port.expire(OLD)
        assert state(port) == ("IN", "b", "")
        assert port.expire(UNTIL)
        assert port.empty
        assert port.next_deadline() is None

    def test_6_3_excluding_a_source_that_ends_is_blocked(self) -> None:
        port = exclude("a", "y")
        port.until = UNTIL
        assert port.wants(b"aaaa")
        assert port.expire(OLD)
        assert state(port) == ("EX", "", "ay")
        assert not port.wants(b"aaaa")

    def test_6_5_a_group_that_ends_keeps_the_sources_still_asked_for(self) -> None:
        port = exclude("a", "y")
        port.running[b"aaaa"] = UNTIL
        assert port.expire(OLD)
        assert state(port) == ("IN", "a", "")
        port = exclude("", "y")
        assert port.expire(OLD)
        assert port.empty

    def test_6_6_1_a_question_shortens_what_it_asks_for(self) -> None:
        port = exclude("ab", "y")
        port.asked(Asked(True), NOW, TIMING)
        assert port.until == NOW + TIMING.last_member
        port.asked(Asked(sources=sources("ay")), NOW, TIMING)
        assert port.running == {b"aaaa": NOW + TIMING.last_member, b"bbbb": OLD}
        port.asked(Asked(True, sources("b")), OLD - 1, TIMING)
        assert port.until == NOW + TIMING.last_member, "never longer than it would have been"


class TestOlderHosts:
    def test_7_3_2_a_v2_host_cannot_hear_of_sources(self) -> None:
        port = PortFilter()
        port.hear(record(Kind.IS_EXCLUDE), 2, NOW, TIMING)
        assert port.hear(record(Kind.BLOCK, "a"), 3, NOW, TIMING) == NOTHING
        assert port.hear(record(Kind.TO_EXCLUDE, "a"), 3, NOW, TIMING) == NOTHING
        assert state(port) == ("EX", "", "")
        assert port.hear(record(Kind.TO_INCLUDE), 2, NOW, TIMING) == Asked(True)

    def test_7_3_2_and_8_13_a_v1_host_does_not_say_when_it_leaves(self) -> None:
        port = PortFilter()
        port.hear(record(Kind.IS_EXCLUDE), 1, NOW, TIMING)
        assert port.hear(record(Kind.TO_INCLUDE), 2, NOW, TIMING) == NOTHING
        assert port.hear(record(Kind.TO_INCLUDE), 3, NOW, TIMING) == NOTHING
        gone = NOW + TIMING.older_host
        assert port.hear(record(Kind.TO_INCLUDE), 2, gone - 0.1, TIMING) == NOTHING
        assert port.hear(record(Kind.TO_INCLUDE), 2, gone, TIMING) == Asked(True)

    def test_8_3_2_mldv1_is_what_igmpv2_is(self) -> None:
        port = PortFilter()
        port.hear(record(Kind.IS_EXCLUDE), 1, NOW, TIMING, oldest=2)
        assert port.hear(record(Kind.BLOCK, "a"), 2, NOW, TIMING, oldest=2) == NOTHING
        assert port.hear(record(Kind.TO_INCLUDE), 1, NOW, TIMING, oldest=2) == Asked(True)


def test_too_many_sources_are_all_of_them() -> None:
    port = PortFilter()
    for number in range(MAX_SOURCES + 1):
        port.hear(GroupRecord(Kind.ALLOW, GROUP, (number.to_bytes(4, "big"),)), 3, NOW, TIMING)
    assert state(port) == ("EX", "", "")
    assert port.wants(b"any!")


@given(st.lists(st.tuples(st.sampled_from(Kind), st.text("abcd", max_size=3), st.integers(1, 3), st.integers(0, 300))))
def test_whatever_hosts_say_the_state_is_one_of_the_two(said: list[tuple[Kind, str, int, int]]) -> None:
    port, now = PortFilter(), 0.0
    for kind, names, version, wait in said:
        now += wait
        port.expire(now)
        asked = port.hear(record(kind, names), version, now, TIMING)
        port.asked(asked, now, TIMING)
        assert not port.running.keys() & port.blocked
        assert port.excluding or not port.blocked
        assert all(until > now for until in port.running.values())
    while (due := port.next_deadline()) is not None:
        assert port.expire(due)
    assert port.empty
