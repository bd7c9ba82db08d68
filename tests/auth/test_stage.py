"""A peer on its way in, in virtual time."""

from __future__ import annotations

import pytest

from caetun.auth.base import PASSWORD, USER, Denied
from caetun.auth.limit import FAILURES
from caetun.auth.stage import ANSWER_SECONDS, CHECK_SECONDS, FAREWELL_SECONDS, Stages, State
from caetun.wire.authentication import Accepted, Ask, Reply
from caetun.wire.authentication import Denied as DeniedMessage


class Hub:
    """Stages with nonces that can be told apart."""

    def __init__(self) -> None:
        self.count = 0
        self.stages: Stages[str] = Stages((USER, PASSWORD), self._entropy)

    def _entropy(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")

    def answer(self, peer: str, ask: Ask, now: float, user: str = "alice", host: str = "192.0.2.1") -> Denied | None:
        reply = Reply(ask.nonce, {"user": user, "password": "x"})
        return self.stages.answered(peer, reply, peer.encode(), host, now)


def test_the_way_in() -> None:
    hub = Hub()
    ask = hub.stages.begin("p", 0.0)
    assert (ask.fields, hub.stages.state("p")) == ((USER, PASSWORD), State.ASKED)
    assert hub.answer("p", ask, 1.0) is None
    assert (hub.stages.state("p"), hub.stages.checking("p", ask.nonce)) == (State.CHECKING, True)
    assert hub.stages.accept("p", b"p", "alice") == Accepted("alice")
    assert (hub.stages.state("p"), hub.stages.user("p"), hub.stages.next_deadline()) == (State.PASSED, "alice", None)


def test_who_does_not_answer() -> None:
    hub = Hub()
    hub.stages.begin("p", 0.0)
    assert hub.stages.next_deadline() == ANSWER_SECONDS
    assert hub.stages.late(ANSWER_SECONDS - 1) == []
    assert hub.stages.late(ANSWER_SECONDS) == [("p", State.ASKED, 0)]
    assert hub.stages.refuse("p", "late", ANSWER_SECONDS) == DeniedMessage("late")
    assert hub.stages.late(ANSWER_SECONDS + FAREWELL_SECONDS) == [("p", State.REFUSED, 0)]
    hub.stages.forget("p")
    assert hub.stages.late(1e9) == []


def test_a_verdict_that_does_not_come() -> None:
    hub = Hub()
    hub.answer("p", hub.stages.begin("p", 0.0), 10.0)
    assert hub.stages.late(10.0 + CHECK_SECONDS) == [("p", State.CHECKING, 0)]


def test_answers_that_answer_nothing() -> None:
    hub = Hub()
    with pytest.raises(KeyError):
        hub.answer("p", Ask(bytes(32), ()), 0.0)
    first, second = hub.stages.begin("p", 0.0), hub.stages.begin("p", 1.0)
    with pytest.raises(KeyError):
        hub.answer("p", first, 2.0)
    assert hub.answer("p", second, 2.0) is None
    with pytest.raises(KeyError):  # one answer a question
        hub.answer("p", second, 2.0)


def test_a_verdict_on_a_question_of_before_is_not_wanted() -> None:
    hub = Hub()
    first = hub.stages.begin("p", 0.0)
    hub.answer("p", first, 0.0)
    hub.stages.begin("p", 1.0)
    assert not hub.stages.checking("p", first.nonce)
    hub.stages.forget("p")
    assert not hub.stages.checking("p", first.nonce)


def test_wrong_answers_are_limited_by_user_and_by_address() -> None:
    hub = Hub()
    for number in range(FAILURES):
        assert hub.answer("p", hub.stages.begin("p", 0.0), 0.0, host=f"192.0.2.{number}") is None
        hub.stages.refuse("p", "", 0.0)
    denied = hub.answer("p", hub.stages.begin("p", 0.0), 0.0, host="192.0.2.99")
    assert denied is not None
    assert denied.why == "too many attempts: wait 2 s"
    assert hub.answer("q", hub.stages.begin("q", 0.0), 0.0, user="bob", host="192.0.2.0") is None
    for number in range(FAILURES):
        hub.answer("r", hub.stages.begin("r", 0.0), 0.0, user=f"user{number}", host="198.51.100.1")
    assert hub.answer("r", hub.stages.begin("r", 0.0), 0.0, user="carol", host="198.51.100.1") is not None


def test_many_answers_at_a_time_are_no_way_around_the_limit() -> None:
    hub = Hub()
    asks = [(f"p{number}", hub.stages.begin(f"p{number}", 0.0)) for number in range(20)]
    taken = [hub.answer(peer, ask, 0.0) is None for peer, ask in asks]
    assert taken.count(True) == FAILURES


def test_a_right_answer_makes_up_for_wrong_ones() -> None:
    hub = Hub()
    for _ in range(FAILURES - 1):
        hub.answer("p", hub.stages.begin("p", 0.0), 0.0)
    hub.answer("p", hub.stages.begin("p", 0.0), 0.0)
    hub.stages.accept("p", b"p", "alice")
    assert hub.answer("p", hub.stages.begin("p", 0.0), 0.0) is None


def test_a_thousand_wrong_passwords_are_checked_but_a_few_times() -> None:
    hub, checked = Hub(), 0
    for number in range(1000):
        if hub.answer("p", hub.stages.begin("p", number * 0.1), number * 0.1) is None:
            checked += 1
            hub.stages.refuse("p", "", number * 0.1)
    assert checked <= FAILURES + 6


def test_who_was_let_in_before_is_not_kept_out_by_those_who_guess_in_his_name_from_his_address() -> None:
    hub = Hub()
    hub.answer("alice", hub.stages.begin("alice", 0.0), 0.0)
    hub.stages.accept("alice", b"alice", "alice")
    for number in range(1000):
        hub.answer("p", hub.stages.begin("p", float(number)), float(number))
    assert hub.answer("alice", hub.stages.begin("alice", 1000.0), 1000.0) is None, "a client that was started again"
    denied = hub.answer("new", hub.stages.begin("new", 1000.0), 1000.0)
    assert denied is not None, "of a new key nobody knows whose it is"
    assert denied.why.startswith("too many attempts: wait ")
    assert hub.answer("alice", hub.stages.begin("alice", 1000.0), 1000.0, user="bob") is not None


def test_who_was_let_in_before_may_not_be_wrong_more_often_than_others() -> None:
    hub = Hub()
    hub.answer("alice", hub.stages.begin("alice", 0.0), 0.0)
    hub.stages.accept("alice", b"alice", "alice")
    taken = [
        hub.answer("alice", hub.stages.begin("alice", 0.0), 0.0, host=f"192.0.2.{number}") is None
        for number in range(20)
    ]
    assert taken.count(True) == FAILURES
