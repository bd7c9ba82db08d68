"""How often one may be wrong, in virtual time."""

from __future__ import annotations

from caetun.auth.limit import FAILURES, FIRST_PAUSE, FORGET_SECONDS, LONGEST_PAUSE, MAX_ENTRIES, Limiter


def test_five_are_free_then_pauses_double() -> None:
    limiter, now, pauses = Limiter(), 0.0, []
    for _ in range(FAILURES + 10):
        wait = limiter.wait("alice", now)
        pauses.append(wait)
        now += wait
        assert limiter.wait("alice", now) == 0
        limiter.failed("alice", now)
    assert pauses[:FAILURES] == [0.0] * FAILURES
    assert pauses[FAILURES : FAILURES + 3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_thousand_wrong_passwords_take_days() -> None:
    limiter, now = Limiter(), 0.0
    for _ in range(1000):
        now += limiter.wait("alice", now)
        limiter.failed("alice", now)
    assert now > 3 * 86_400


def test_a_right_answer_or_an_hour_forgets() -> None:
    limiter = Limiter()
    for _ in range(20):
        limiter.failed("alice", 0.0)
    assert limiter.wait("alice", 0.0) > 0
    assert limiter.wait("alice", FORGET_SECONDS) == 0
    limiter.failed("alice", FORGET_SECONDS)
    assert limiter.wait("alice", FORGET_SECONDS) == 0
    for _ in range(20):
        limiter.failed("alice", FORGET_SECONDS)
    limiter.passed("alice")
    assert limiter.wait("alice", FORGET_SECONDS) == 0
    assert limiter.wait("bob", 0.0) == 0


def test_it_remembers_no_more_than_its_cap() -> None:
    limiter = Limiter()
    for _ in range(FAILURES):
        limiter.failed("first", 0.0)
    for number in range(MAX_ENTRIES - 1):
        limiter.failed(str(number), 1.0)
    assert limiter.wait("first", 1.0) > 0
    limiter.failed("one more", 2.0)
    assert (len(limiter), limiter.wait("first", 1.0)) == (MAX_ENTRIES, 0.0)


def test_failures_without_end_do_not_overflow() -> None:
    limiter = Limiter()
    for _ in range(5000):
        limiter.failed("alice", 0.0)
    assert limiter.wait("alice", 0.0) == LONGEST_PAUSE
