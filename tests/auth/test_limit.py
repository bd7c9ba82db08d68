"""How often one may be wrong, in virtual time."""

from __future__ import annotations

from caetun.auth.limit import FAILURES, FIRST_PAUSE, FORGET_SECONDS, LONGEST_PAUSE, MAX_ENTRIES, MAX_KNOWN, Limiter


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
    limiter.passed(["alice"], "alice", b"key")
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


def test_whoever_was_let_in_is_counted_by_his_key() -> None:
    limiter = Limiter()
    assert limiter.keys("alice", b"key", "192.0.2.1") == ("address 192.0.2.1", "user alice")
    assert limiter.keys("", b"key", "192.0.2.1") == ("address 192.0.2.1",)
    limiter.passed((), "alice", b"key")
    assert limiter.keys("alice", b"key", "192.0.2.1") == ("key 6b6579 of alice",)
    for user, key in (("bob", b"key"), ("alice", b"yek"), ("", b"key")):
        assert limiter.keys(user, key, "192.0.2.1")[0] == "address 192.0.2.1"


def test_it_knows_no_more_than_its_cap() -> None:
    limiter = Limiter()
    for number in range(MAX_KNOWN + 1):
        limiter.passed((), "alice", number.to_bytes(4, "big"))
    assert limiter.keys("alice", bytes(4), "here")[0] == "address here", "it came the longest ago"
    assert len(limiter.keys("alice", (1).to_bytes(4, "big"), "here")) == 1
