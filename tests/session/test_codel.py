"""CoDel as a schedule: when it speaks up, how often, when it stops, and what it remembers (RFC 8289, section 5)."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.codel import INTERVAL, REMEMBERED, TARGET, Codel

FULL = 1500
"""Bytes of the largest frame."""
STEP = 0.001


def drops(
    codel: Codel, start: float, seconds: float, waited: float = 2 * TARGET, behind: int = 10 * FULL
) -> list[float]:
    """A frame leaves each millisecond, after waiting so long; returns when one was due to be dropped."""
    times = [start + step * STEP for step in range(round(seconds / STEP))]
    return [now for now in times if codel.due(waited, behind, FULL, now)]


def test_a_burst_is_left_alone() -> None:
    codel = Codel()
    assert drops(codel, 0.0, INTERVAL - STEP) == []
    assert drops(codel, INTERVAL - STEP, 0.01, waited=TARGET / 2) == []
    assert drops(codel, INTERVAL, INTERVAL - STEP) == []


def test_a_standing_queue_loses_one_frame_after_an_interval_and_then_more_often() -> None:
    codel = Codel()
    times = drops(codel, 0.0, 1.0)
    assert times[0] == pytest.approx(INTERVAL)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == pytest.approx([INTERVAL / sqrt(count) for count in range(1, len(times))], abs=1.1 * STEP)


def test_it_stops_as_soon_as_the_queue_is_short() -> None:
    codel = Codel()
    assert drops(codel, 0.0, 0.5)
    assert drops(codel, 0.5, STEP, waited=TARGET / 2) == []
    assert drops(codel, 0.5 + STEP, INTERVAL - STEP) == []


def test_it_goes_on_where_it_ended_if_that_was_a_moment_ago() -> None:
    quick, slow = Codel(), Codel()
    for codel, pause in ((quick, 0.05), (slow, 2 * REMEMBERED)):
        before = drops(codel, 0.0, 1.0)
        drops(codel, 1.0, STEP, waited=0.0)
        after = drops(codel, 1.0 + pause, 0.5)
        first_gap = after[1] - after[0]
        if codel is quick:
            assert first_gap < INTERVAL / 2 < before[1] - before[0]
        else:
            assert first_gap == pytest.approx(INTERVAL, abs=1.1 * STEP)


@pytest.mark.parametrize("behind", [0, FULL])
def test_one_frame_beside_the_one_that_leaves_is_no_queue(behind: int) -> None:
    assert drops(Codel(), 0.0, 2.0, waited=1.0, behind=behind) == []


def test_an_empty_queue_begins_anew() -> None:
    codel = Codel()
    assert codel.forgettable(0.0)
    drops(codel, 0.0, INTERVAL - STEP)
    codel.emptied()
    assert codel.forgettable(INTERVAL)
    assert drops(codel, INTERVAL, INTERVAL - STEP) == []
    drops(codel, 2 * INTERVAL - STEP, 0.5)
    codel.emptied()
    assert not codel.forgettable(1.0)
    assert codel.forgettable(1.0 + 2 * REMEMBERED)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.02), st.integers(0, 5 * FULL)), max_size=200))
def test_whatever_comes_it_spares_short_queues(history: list[tuple[float, float, int]]) -> None:
    codel, now = Codel(), 0.0
    for pause, waited, behind in history:
        now += pause
        due = codel.due(waited, behind, FULL, now)
        assert not due or (waited >= TARGET and behind > FULL)
