"""What follows from silence, and when."""

from __future__ import annotations

import pytest

from caetun.session.liveness import GREETING_SECONDS, REPORT_DUE, Liveness, Timing


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
