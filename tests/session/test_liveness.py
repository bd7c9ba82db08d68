"""What follows from silence, and when."""

from __future__ import annotations

import pytest

from caetun.session.liveness import (
    ANSWER_SECONDS,
    CALM_SECONDS,
    FLOW_SECONDS,
    GREETING_SECONDS,
    QUIET_AFTER,
    QUIET_SECONDS,
    REPORT_DUE,
    Liveness,
    Timing,
)


def test_the_times_of_the_specification() -> None:
    timing = Timing()
    assert (timing.keepalive, timing.interval, timing.lifetime) == (10.0, 120.0, 180.0)
    assert (timing.unanswered_after, timing.dead_after) == (15.0, 30.0)


@pytest.mark.parametrize(
    ("asked", "interval", "lifetime"), [(1.0, 1.0, 1.5), (60.0, 60.0, 90.0), (180.0, 120.0, 180.0)]
)
def test_no_timing_keeps_keys_beyond_their_lifetime(asked: float, interval: float, lifetime: float) -> None:
    timing = Timing(rekey_after=asked)
    assert (timing.interval, timing.lifetime) == (interval, lifetime)


def test_data_waits_for_an_answer_from_the_first_on() -> None:
    life = Liveness(Timing())
    life.heard(100.0)
    assert life.unanswered_at is None
    life.sent(101.0)
    life.sent(102.0)
    assert life.unanswered_at == 116.0
    assert life.keepalive_at == 112.0
    assert life.dead_at == 130.0
    life.heard(103.0)
    assert life.unanswered_at is None
    assert life.dead_at == 133.0


def test_a_report_is_overdue_once_data_was_sent_that_must_have_caused_one() -> None:
    life = Liveness(Timing())
    life.sent(100.0)
    life.sent(100.0 + REPORT_DUE / 2)
    assert life.overdue_since is None
    life.sent(101.0)
    life.sent(102.0)
    assert life.overdue_since == 101.0
    life.reported()
    life.sent(103.0)
    assert life.overdue_since is None


def test_greetings_are_repeated_ever_more_rarely() -> None:
    life = Liveness(Timing())
    life.sent_at = 50.0
    times = []
    for _ in range(5):
        life.sent_at = life.greet_at(50.0)
        times.append(round((life.sent_at - 50.0) / GREETING_SECONDS))
    assert times == [1, 2, 4, 8, 16]


def test_silence_after_data_is_a_reason_to_doubt() -> None:
    life = Liveness(Timing())
    assert life.doubt_at is None
    life.sent(100.0)
    assert life.doubt_at == 100.0 + QUIET_SECONDS
    life.sent(100.1)
    life.sent(100.2)
    life.sent(100.3)
    assert life.doubt_at == max(100.0 + QUIET_SECONDS, 100.2 + QUIET_AFTER)  # from the third on, a report is due
    life.heard(100.5)
    assert life.doubt_at is None


def test_few_frames_without_an_answer_are_doubted_once_in_a_while() -> None:
    life = Liveness(Timing())
    life.sent(100.0)
    life.relieved(101.0)
    assert life.doubt_at is None
    life.sent(102.0)
    assert life.doubt_at == 101.0 + CALM_SECONDS
    life.sent(102.1)
    life.sent(102.2)
    assert life.doubt_at == pytest.approx(102.5)


def test_what_was_sent_by_another_link_says_nothing_about_this_one() -> None:
    life = Liveness(Timing())
    for now in (100.0, 101.0, 102.0):
        life.sent(now)
    life.moved()
    assert (life.doubt_at, life.overdue_since, life.unanswered_at) == (None, None, None)


def test_a_flow_that_stops_all_at_once_is_a_reason_to_doubt() -> None:
    life = Liveness(Timing())
    for now in (100.0, 101.5, 103.0):
        life.heard(now)
        life.reports(now)
    assert life.doubt_at is None  # little comes in
    for now in (103.02, 103.04, 103.06):
        life.heard(now)
        life.reports(now)
    assert life.doubt_at == 103.06 + QUIET_SECONDS
    life.heard(103.07)
    assert life.doubt_at == 103.07 + QUIET_SECONDS
    life.heard(103.06 + FLOW_SECONDS)
    assert life.doubt_at is None
    life.reports(104.52)
    life.reports(104.54)
    life.relieved(104.7)
    assert life.doubt_at is None


def test_a_flow_that_is_slow_or_held_up_is_one_too() -> None:
    life = Liveness(Timing())
    for now in (100.0, 100.6, 101.2):
        life.reports(now)  # the rarest that a flow has
        life.heard(now + 0.3)
    assert life.doubt_at == 101.5 + QUIET_SECONDS


def test_an_answer_is_waited_upon_soon_after_a_doubt() -> None:
    life = Liveness(Timing())
    life.heard(100.0)
    life.relieved(100.0)
    life.heard(101.0)
    life.delivered_at = 101.0
    life.sent(101.01)  # the acknowledgement of what came: more of it will follow, or the link is dead
    assert life.doubt_at == 101.01 + QUIET_SECONDS
    life.heard(102.0)
    life.sent(101.0 + ANSWER_SECONDS)
    assert life.doubt_at == 100.0 + CALM_SECONDS
