"""A row of the table of links: its trial, and its grace."""

from __future__ import annotations

import pytest

from caetun.way import (
    LAST_PROBE_SECONDS,
    MAX_PROBES,
    NEVER,
    PROBE_SECONDS,
    ROUND_TRIP_SLACK,
    UNUSED_SECONDS,
    Trial,
    Way,
)
from tests.bench import Link


def test_probes_of_a_trial_are_spread_and_the_last_is_waited_for() -> None:
    trial, sent = Trial(10.0), []
    while not trial.over:
        sent.append(trial.due)
        trial.probed(len(sent), trial.due, 0.0)
    assert len(sent) == MAX_PROBES
    assert sent == pytest.approx([10.0 + PROBE_SECONDS * number for number in range(MAX_PROBES)])
    assert trial.due == pytest.approx(sent[-1] + LAST_PROBE_SECONDS)
    assert trial.sent == dict(enumerate(sent, 1))


@pytest.mark.parametrize(("round_trip", "pause"), [(0.1, PROBE_SECONDS), (0.5, 0.5 * ROUND_TRIP_SLACK)])
def test_on_a_long_path_an_answer_is_waited_for(round_trip: float, pause: float) -> None:
    trial = Trial(0.0)
    trial.probed(1, 0.0, round_trip)
    assert trial.due == pytest.approx(pause)


def test_a_probe_that_went_out_late_delays_the_next() -> None:
    trial = Trial(0.0)
    trial.probed(1, 3.0, 0.0)
    assert trial.due == 3.0 + PROBE_SECONDS


def test_grace_begins_when_it_was_left_and_again_when_the_far_end_still_uses_it() -> None:
    way = Way(Link(), 0, True, None)
    assert way.unused_at() is None
    way.left_at = 5.0
    assert way.unused_at() == 5.0 + UNUSED_SECONDS
    way.heard_at = 6.5
    assert way.unused_at() == 6.5 + UNUSED_SECONDS


def test_a_new_one_has_never_been_asked_or_heard() -> None:
    way = Way(Link(), 3, False, None)
    assert (way.asked, way.asked_at, way.heard_at, way.hold_until) == (0, NEVER, NEVER, NEVER)
    assert way.trial is way.path is way.fresh is way.waiting_since is None
