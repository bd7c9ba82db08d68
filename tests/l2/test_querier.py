"""Who asks: start-up, election, questions after a leave; in virtual time."""

from __future__ import annotations

import pytest

from caetun.l2.filter import Asked
from caetun.l2.querier import (
    GREETING_RESPONSE,
    LAST_MEMBER_INTERVAL,
    MAX_QUESTIONS,
    PROXY,
    QUERY_INTERVAL,
    RESPONSE_INTERVAL,
    Querier,
    State,
)
from caetun.wire.membership import GroupRecord, Kind, Query

NOBODY, LOW, OURS, HIGH = (bytes((192, 0, 2, number)) if number else bytes(4) for number in (0, 1, 5, 9))
NOBODY6, LOW6, HIGH6 = bytes(16), b"\xfe\x80" + bytes(13) + b"\1", b"\xfe\x80" + bytes(6) + b"\xff" * 6 + bytes(2)
GROUP, SOURCE = bytes((239, 1, 2, 3)), bytes((198, 51, 100, 1))
GENERAL = Query(3, OURS, NOBODY, RESPONSE_INTERVAL, robustness=2, interval=QUERY_INTERVAL)


def heard(source: bytes) -> Query:
    return Query(3, source, NOBODY, 8.0, robustness=3, interval=60.0)


def asked_until(querier: Querier, end: float) -> list[tuple[float, Query]]:
    """Everything it asks up to a time, each when it is due."""
    asked: list[tuple[float, Query]] = []
    while (due := querier.next_deadline()) is not None and due <= end:
        asked += [(due, query) for query in querier.tick(due)]
    return asked


class TestAsking:
    def test_8_4_to_8_7_soon_at_first_then_every_interval(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        asked = asked_until(querier, 300.0)
        assert [at for at, _ in asked] == [0.0, QUERY_INTERVAL / 4, QUERY_INTERVAL / 4 + QUERY_INTERVAL, 281.25]
        assert {query for _, query in asked} == {GENERAL}
        assert (querier.timing.membership, querier.timing.older_host) == (270.0, 260.0)

    def test_4541_211_6_how_long_a_membership_lasts_can_be_set(self) -> None:
        querier = Querier(OURS, 3, True, 0.0, interval=20.0)
        asked = asked_until(querier, 50.0)
        assert [at for at, _ in asked] == [0.0, 5.0, 25.0, 45.0]
        assert {query.interval for _, query in asked} == {20.0}
        assert querier.timing.membership == 60.0
        querier.heard(heard(LOW), 50.0)
        querier.tick(querier.next_deadline() or 0.0)
        assert querier.interval == 20.0, "when the other one is gone it is ours again"

    def test_switched_off_it_never_asks(self) -> None:
        querier = Querier(OURS, 3, False, 0.0)
        assert querier.next_deadline() is None
        assert querier.tick(1000.0) == []
        assert not querier.live(0.0)
        assert not querier.ask_about(GROUP, Asked(True), 0.0)

    def test_4541_211_4_a_port_that_comes_up_is_asked_to_answer_soon(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        assert querier.greeting(0.0) is None, "the general query is just due"
        querier.tick(0.0)
        assert querier.greeting(1.0) == GENERAL._replace(max_response=GREETING_RESPONSE)

    def test_4541_211_4_who_listens_asks_too_but_wins_no_election(self) -> None:
        link_local = b"\xfe\x80" + bytes(13) + b"\5"
        for own, version, proxy in ((OURS, 3, NOBODY), (link_local, 2, PROXY[16])):
            querier = Querier(own, version, True, 0.0)
            querier.heard(Query(version, own[:-1] + b"\1", bytes(len(own)), 10.0), 0.0)
            asked = querier.greeting(1.0)
            assert asked is not None
            assert asked.source == proxy
        assert Querier(OURS, 3, False, 0.0).greeting(1.0) is None


class TestElection:
    def test_6_6_2_a_lower_address_silences_us_until_it_is_gone(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.heard(heard(LOW), 10.0)
        assert (querier.state, querier.other) == (State.LISTENING, LOW)
        until = 10.0 + 3 * 60.0 + 8.0 / 2
        assert querier.next_deadline() == until
        assert querier.tick(until - 0.1) == []
        assert querier.tick(until) == [GENERAL]
        assert (querier.state, querier.other) == (State.ASKING, NOBODY)

    def test_6_6_2_a_higher_address_does_not(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.heard(heard(HIGH), 10.0)
        assert querier.state is State.ASKING

    def test_6_6_2_of_two_others_the_lower_one_counts(self) -> None:
        querier = Querier(HIGH, 3, True, 0.0)
        querier.heard(heard(LOW), 10.0)
        querier.heard(heard(OURS), 11.0)
        assert querier.other == LOW
        querier.heard(heard(OURS), 1000.0)
        assert querier.other == OURS

    @pytest.mark.parametrize(
        ("own", "version", "others"), [(NOBODY, 3, (LOW, HIGH)), (NOBODY6, 2, (LOW6, HIGH6))], ids=["IGMP", "MLD"]
    )
    def test_4541_211_4_and_3_a_proxy_yields_to_anybody_but_its_like(
        self, own: bytes, version: int, others: tuple[bytes, ...]
    ) -> None:
        for other in others:
            querier = Querier(own, version, True, 0.0)
            (asked,) = querier.tick(0.0)
            assert asked.source == querier.speaker(0.0) == PROXY[len(own)]
            for like in (own, asked.source):
                querier.heard(Query(version, like, own, 10.0), 10.0)
                assert querier.state is State.ASKING
            querier.heard(Query(version, other, own, 10.0), 11.0)
            assert querier.state is State.LISTENING
            assert querier.live(12.0)

    def test_4541_3_9777_5_1_14_a_proxy_of_mld_asks_from_the_highest_link_local_address(self) -> None:
        """From ::, as RFC 4541 has it, hosts would not answer: see `test_querier_kernel.py`."""
        assert PROXY[16][:8] == b"\xfe\x80" + bytes(6)
        for real in (HIGH6, LOW6):
            querier = Querier(real, 2, True, 0.0)
            querier.heard(Query(2, PROXY[16], NOBODY6, 10.0), 10.0)
            assert querier.state is State.ASKING, "whoever has an address goes on"

    def test_8_timers_are_those_of_whoever_asks(self) -> None:
        querier = Querier(HIGH, 3, True, 0.0)
        querier.heard(heard(LOW), 10.0)
        assert querier.timing.membership == 3 * 60.0 + 2 * 8.0

    def test_a_listener_that_is_off_knows_whether_somebody_asks(self) -> None:
        querier = Querier(NOBODY, 3, False, 0.0)
        querier.heard(heard(HIGH), 10.0)
        assert querier.state is State.OFF
        assert querier.live(100.0)
        assert not querier.live(1000.0)

    def test_a_question_about_one_group_tells_nothing_of_others(self) -> None:
        querier = Querier(NOBODY, 3, False, 0.0)
        querier.heard(heard(HIGH)._replace(group=GROUP), 10.0)
        assert not querier.live(10.0)

    def test_6_6_2_after_a_silence_hosts_have_time_to_answer_first(self) -> None:
        querier = Querier(NOBODY, 3, False, 0.0)
        querier.heard(heard(HIGH), 10.0)
        assert [querier.live(at) for at in (10.0, 17.9, 18.0)] == [False, False, True]
        querier.heard(heard(HIGH), 100.0)
        assert querier.live(100.0), "they have answered before"


class TestQuestions:
    def test_6_4_2_a_leave_is_asked_about_twice(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        asked_until(querier, 100.0)
        assert querier.ask_about(GROUP, Asked(True), 100.0)
        asked = asked_until(querier, 110.0)
        assert [at for at, _ in asked] == [100.0, 100.0 + LAST_MEMBER_INTERVAL]
        assert {(query.group, query.max_response) for _, query in asked} == {(GROUP, LAST_MEMBER_INTERVAL)}

    def test_6_6_3_2_sources_are_asked_about_by_name(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.tick(0.0)
        querier.ask_about(GROUP, Asked(sources=frozenset({SOURCE})), 1.0)
        (query,) = querier.tick(1.0)
        assert (query.group, query.sources) == (GROUP, (SOURCE,))

    def test_6_6_3_1_what_was_answered_is_asked_again_with_the_s_flag(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.tick(0.0)
        querier.ask_about(GROUP, Asked(True), 1.0)
        (first,) = querier.tick(1.0)
        querier.answered(GroupRecord(Kind.IS_EXCLUDE, GROUP))
        (second,) = querier.tick(2.0)
        assert (first.suppress, second.suppress) == (False, True)
        querier.ask_about(GROUP, Asked(True), 3.0)
        (anew,) = querier.tick(3.0)
        assert not anew.suppress

    def test_6_6_3_2_sources_that_were_answered_are_asked_for_apart(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.tick(0.0)
        other = SOURCE[:-1] + b"\2"
        querier.ask_about(GROUP, Asked(sources=frozenset({SOURCE, other})), 1.0)
        assert [(query.suppress, query.sources) for query in querier.tick(1.0)] == [(False, (SOURCE, other))]
        querier.answered(GroupRecord(Kind.IS_INCLUDE, GROUP, (other, OURS)))
        querier.answered(GroupRecord(Kind.BLOCK, GROUP, (SOURCE,)))
        assert [(query.suppress, query.sources) for query in querier.tick(2.0)] == [
            (False, (SOURCE,)),
            (True, (other,)),
        ]

    def test_6_6_3_2_beside_the_group_they_need_not_be_asked_for(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.tick(0.0)
        querier.ask_about(GROUP, Asked(True, frozenset({SOURCE})), 1.0)
        querier.answered(GroupRecord(Kind.TO_EXCLUDE, GROUP))
        assert [(query.suppress, query.sources) for query in querier.tick(1.0)] == [(True, ())]

    def test_an_old_querier_asks_for_groups_only(self) -> None:
        querier = Querier(OURS, 2, True, 0.0)
        querier.tick(0.0)
        querier.ask_about(GROUP, Asked(True, frozenset({SOURCE})), 1.0)
        querier.answered(GroupRecord(Kind.IS_EXCLUDE, GROUP))
        (query,) = querier.tick(1.0)
        assert (query.version, query.group, query.sources, query.robustness) == (2, GROUP, (), 0)
        assert not query.suppress

    def test_whoever_listens_leaves_it_to_the_querier(self) -> None:
        querier = Querier(HIGH, 3, True, 0.0)
        querier.heard(heard(LOW), 10.0)
        assert not querier.ask_about(GROUP, Asked(True), 11.0)

    def test_a_flood_of_leaves_is_no_flood_of_questions(self) -> None:
        querier = Querier(OURS, 3, True, 0.0)
        querier.tick(0.0)
        for number in range(10_000):
            querier.ask_about(b"\xef" + number.to_bytes(3, "big"), Asked(True), 1.0)
        assert len(querier.tick(1.0)) == MAX_QUESTIONS

    @pytest.mark.parametrize("asked", [Asked(), Asked(False, frozenset())])
    def test_nothing_is_no_question(self, asked: Asked) -> None:
        assert not Querier(OURS, 3, True, 0.0).ask_about(GROUP, asked, 1.0)
