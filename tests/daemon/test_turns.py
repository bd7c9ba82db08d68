"""Far ends of a hub take turns when one of them sends more than can be opened."""

from __future__ import annotations

from typing import Any

import pytest

from caetun.daemon.turns import (
    AT_ONCE,
    BURST_SECONDS,
    MAX_BYTES,
    MAX_LINKS,
    MAX_RECORDS,
    MAX_WASTED,
    SHARE,
    TOGETHER,
    WAIT_SECONDS,
    WASTE_SHARE,
    WASTE_WAIT_SECONDS,
    Turns,
)
from caetun.types import DropReason, Drops
from caetun.wire.record import Record

FLOOD: Any = "flood"
"""Links are keys here, and nothing else."""
OTHER: Any = "other"


def records(count: int, start: int = 0, size: int = 10) -> list[Record]:
    return [Record(1, start + number, memoryview(bytes(size))) for number in range(count)]


@pytest.fixture
def turns() -> Turns:
    return Turns(Drops())


def counters(turns: Turns, now: float) -> list[tuple[Any, int]]:
    """Everything that is opened from now on, in order."""
    found = []
    while (chosen := turns.next(now)) is not None:
        found += [(chosen[0], record.counter) for record in chosen[1]]
    return found


def exhausted(turns: Turns, link: Any, now: float, wasted: bool = False) -> None:
    """A link has had its share."""
    turns.charge(link, 2 * BURST_SECONDS, wasted, now)


def test_what_is_within_its_share_is_opened_at_once(turns: Turns) -> None:
    for number in range(100):
        now = number / 100
        assert len(turns.admit(FLOOD, records(1), now)) == 1
        turns.charge(FLOOD, SHARE / 200, False, now)
    assert not turns


def test_beyond_it_links_take_turns_and_keep_their_order(turns: Turns) -> None:
    for link in (FLOOD, OTHER):
        exhausted(turns, link, 1.0)
        assert turns.admit(link, records(TOGETHER + 2), 1.0) == ()
    assert turns
    first, second = range(TOGETHER), range(TOGETHER, TOGETHER + 2)
    rounds = [(FLOOD, first), (OTHER, first), (FLOOD, second), (OTHER, second)]
    assert counters(turns, 1.0) == [(link, number) for link, some in rounds for number in some]
    assert not turns


def test_one_who_floods_does_not_hold_up_another(turns: Turns) -> None:
    exhausted(turns, FLOOD, 1.0)
    turns.admit(FLOOD, records(100), 1.0)
    assert len(turns.admit(OTHER, records(2), 1.0)) == 2


def test_what_comes_while_something_waits_stays_behind_it(turns: Turns) -> None:
    exhausted(turns, FLOOD, 1.0)
    turns.admit(FLOOD, records(1), 1.0)
    assert turns.admit(FLOOD, records(1, start=1), 1.05) == (), "although it has something left again by now"
    assert counters(turns, 1.05) == [(FLOOD, 0), (FLOOD, 1)]
    assert len(turns.admit(FLOOD, records(1), 1.1)) == 1


def test_of_a_great_many_only_the_first_are_opened_unseen(turns: Turns) -> None:
    assert len(turns.admit(FLOOD, records(AT_ONCE + 5), 1.0)) == AT_ONCE
    assert counters(turns, 1.0) == [(FLOOD, AT_ONCE + number) for number in range(5)]


@pytest.mark.parametrize(("storm", "seconds"), [(False, WAIT_SECONDS), (True, WASTE_WAIT_SECONDS)])
def test_what_has_waited_too_long_is_dropped_and_counted(storm: bool, seconds: float) -> None:
    drops = Drops()
    turns = Turns(drops)
    exhausted(turns, FLOOD, 1.0, storm)
    turns.admit(FLOOD, records(3), 1.0)
    turns.admit(FLOOD, records(1, start=3), 1.0 + seconds)
    assert counters(turns, 1.001 + seconds) == [(FLOOD, 3)]
    assert drops == {DropReason.RECORD_LATE: 3}


@pytest.mark.parametrize(("storm", "most"), [(False, MAX_RECORDS), (True, MAX_WASTED)])
def test_the_memory_is_bounded(storm: bool, most: int) -> None:
    drops = Drops()
    turns = Turns(drops)
    exhausted(turns, FLOOD, 1.0, storm)
    assert not turns.crowded(FLOOD, 1.0)
    turns.admit(FLOOD, records(most + 7), 1.0)
    assert turns.crowded(FLOOD, 1.0)
    assert not turns.crowded(OTHER, 1.0)
    exhausted(turns, OTHER, 1.0)
    turns.admit(OTHER, records(100, size=MAX_BYTES // 98), 1.0)
    assert drops == {DropReason.RECORD_LATE: 7 + 2}
    for number in range(2 * MAX_LINKS):
        link: Any = number
        turns.admit(link, records(1), 1.0)
    assert len(turns._accounts) <= MAX_LINKS + 2


def test_a_storm_gets_no_more_than_its_share_although_nobody_else_wants_it(turns: Turns) -> None:
    exhausted(turns, FLOOD, 1.0, wasted=True)
    turns.admit(FLOOD, records(9), 1.0)
    assert turns.next(1.0) is None
    assert turns, "but it waits"
    later = 1.001 + BURST_SECONDS / WASTE_SHARE
    assert turns.next(later) == (FLOOD, records(1))


def test_what_waits_has_memory_of_its_own(turns: Turns) -> None:
    buffer = bytearray(b"sealed")
    exhausted(turns, FLOOD, 1.0)
    turns.admit(FLOOD, [Record(1, 0, memoryview(buffer))], 1.0)
    buffer[:] = b"reused"
    chosen = turns.next(1.0)
    assert chosen is not None
    assert chosen[1][0].body == b"sealed"


def test_a_link_that_is_gone_is_forgotten_once_nothing_of_it_waits(turns: Turns) -> None:
    exhausted(turns, FLOOD, 1.0)
    turns.admit(FLOOD, records(1), 1.0)
    turns.forget(FLOOD)
    assert counters(turns, 1.0) == [(FLOOD, 0)]
    turns.forget(FLOOD)
    assert len(turns.admit(FLOOD, records(1), 1.0)) == 1, "one of the same name begins anew"
