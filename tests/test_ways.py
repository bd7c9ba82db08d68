"""The table of links to one far end, step by step. Stories with two ends are in test_scenarios_carriers.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from caetun.way import LAST_PROBE_SECONDS, MAX_PROBES, PROBE_SECONDS, UNUSED_SECONDS, Way
from caetun.ways import (
    BEST,
    GREETING_SECONDS,
    GREETINGS,
    HOLD_SECONDS,
    INITIATION_SECONDS,
    MAX_LEFT,
    MAX_OFFERED,
    SUSPECT_SECONDS,
    SUSPECT_SECONDS_MOST,
    WORST,
    Turn,
    Ways,
)
from tests.bench import Link

NOTHING = Turn([], [], suspected=False, greet=False)
LATER = 0.001
"""Seconds: just behind a deadline, whatever a sum of floats makes of it."""


class Table:
    """Ways, and links by name."""

    def __init__(self, *offered: str, use: str = "") -> None:
        """`offered`: best first; `use`: which of them is in use."""
        self.ways = Ways(lambda size: b"\x80" * size)
        self.links: dict[str, Link] = {}
        for rank, name in enumerate(offered):
            assert self.ways.offer(self.link(name), rank, 0.0)
        if use:
            self.use(use, 0.0)

    def link(self, name: str) -> Link:
        """`udp...` is a path for datagrams, anything else a stream."""
        return self.links.setdefault(name, Link(name, ceiling=1472 if name.startswith("udp") else None))

    def way(self, name: str) -> Way:
        way = self.ways.get(self.link(name))
        assert way is not None
        return way

    def use(self, name: str, now: float, *, leads: bool = True) -> Way:
        return self.ways.use(self.link(name), now, leads=leads)

    def probe(self, now: float) -> list[str]:
        """Send what is due; returns to whom."""
        due = self.ways.due_probes(now)
        for way in due:
            assert way.trial is not None
            way.trial.probed(self.ways.next_probe(), now, way.round_trip)
        return [way.link.name for way in due]

    def answer(self, name: str, now: float) -> Way | None:
        """The newest probe is acknowledged by this link."""
        return self.ways.acknowledged(self.ways.last_probe, self.link(name), now)

    def run(self, start: float, stop: float) -> list[tuple[float, Turn, list[str]]]:
        """What becomes due between two times, with nobody answering."""
        happened = []
        now = start
        for _ in range(1000):
            due = self.ways.next_deadline()
            if due is None or due > stop:
                return happened
            now = max(now, due) + LATER
            happened.append((now, self.ways.poll(now), self.probe(now)))
        raise AssertionError("it does not come to rest")

    def names(self, links: Sequence[object]) -> list[str]:
        return [name for name, link in self.links.items() if link in links]


# which there are


def test_preferred_ones_come_first_whatever_the_order_of_offers() -> None:
    table = Table()
    for name, rank in (("ws", 4), ("udp", 0), ("tcp", 2)):
        assert table.ways.offer(table.link(name), rank, 0.0)
    assert [way.link.name for way in table.ways.offered] == ["udp", "tcp", "ws"]
    assert len(table.ways) == 3


def test_an_offer_again_is_no_news_and_makes_it_eligible() -> None:
    table = Table("tcp")
    way = table.way("tcp")
    way.told, way.left_at, way.waiting_since = True, 1.0, 1.0
    assert not table.ways.offer(way.link, 7, 2.0)
    assert (way.rank, way.told, way.left_at, way.waiting_since) == (7, False, None, None)


def test_a_link_that_the_far_end_brought_up_may_be_offered_later() -> None:
    table = Table(use="udp")
    assert table.way("udp").rank == WORST
    assert table.ways.offered == []
    assert table.ways.offer(table.link("udp"), 3, 1.0)
    assert (table.way("udp").rank, table.way("udp").origin) == (3, table.link("udp"))


@pytest.mark.parametrize(("leads", "rank"), [(True, WORST), (False, BEST)])
def test_of_two_ends_with_links_of_their_own_one_gives_way(leads: bool, rank: int) -> None:
    table = Table("tcp", use="tcp")
    assert table.use("its own", 1.0, leads=leads).rank == rank


def test_a_datagram_link_to_another_address_is_the_same_rung() -> None:
    table = Table("tcp", "udp one", use="udp one")
    other = table.use("udp other", 1.0)
    assert (other.rank, other.origin, other.offered) == (1, table.link("udp one"), False)
    assert table.use("udp third", 2.0).origin is table.link("udp one")


def test_more_offers_than_there_is_room_for_push_out_the_oldest_but_never_the_one_in_use() -> None:
    table = Table(*(f"udp {number}" for number in range(MAX_OFFERED + 1)), use="udp 0")
    assert table.ways.crowded() == []
    table.ways.offer(table.link("udp, one more"), 99, 1.0)
    assert table.names(table.ways.crowded()) == ["udp 1"]
    assert len(table.ways) == MAX_OFFERED + 1


def test_of_links_that_were_left_some_keep_their_grace() -> None:
    table = Table()
    gone: list[str] = []
    for number in range(MAX_LEFT + 3):
        table.use(f"stream {number}", float(number), leads=False)
        gone += table.names(table.ways.crowded())
    assert gone == ["stream 0", "stream 1"]
    assert len(table.ways) == 1 + MAX_LEFT


# moving


def test_what_was_left_has_its_grace_and_is_then_unused() -> None:
    table = Table("tcp", "wss", use="wss")
    table.use("tcp", 5.0)
    assert table.way("wss").left_at == 5.0
    ((at, turn, _),) = table.run(5.0, 60.0)
    assert at == pytest.approx(5.0 + UNUSED_SECONDS, abs=2 * LATER)
    assert turn == NOTHING._replace(unused=[table.link("wss")])
    assert table.ways.get(table.link("wss")) is not None, "it stays offered"


def test_grace_lasts_while_the_far_end_uses_it() -> None:
    table = Table("tcp", use="tcp")
    table.use("its own", 1.0)
    table.way("tcp").heard_at = 2.5
    assert table.ways.poll(1.1 + UNUSED_SECONDS) == NOTHING
    assert table.ways.poll(2.5 + UNUSED_SECONDS).unused == [table.link("tcp")]


def test_what_the_far_end_brought_up_is_forgotten_once_unused() -> None:
    table = Table("tcp", use="its own")
    table.use("tcp", 1.0)
    assert table.ways.poll(1.0 + UNUSED_SECONDS).unused == [table.link("its own")]
    assert table.ways.get(table.link("its own")) is None


def test_a_link_that_was_left_is_not_followed_back_to_at_once() -> None:
    table = Table("udp", "tcp", use="udp")
    table.use("tcp", 1.0)
    udp = table.link("udp")
    assert not table.ways.may_follow(udp, 1.0 + HOLD_SECONDS / 2)
    assert table.ways.may_follow(udp, 1.0 + HOLD_SECONDS)
    assert table.ways.may_follow(table.link("a stranger to us"), 1.0)


def test_in_need_any_link_is_followed() -> None:
    table = Table("udp", "tcp", use="udp")
    table.use("tcp", 1.0)
    table.ways.suspect = True
    assert table.ways.may_follow(table.link("udp"), 1.0)


def test_a_move_is_greeted_a_few_times() -> None:
    table = Table("udp", use="udp")
    table.ways.greet(1.0)
    greeted = [at for at, turn, _ in table.run(1.0, 60.0) if turn.greet]
    assert greeted == pytest.approx([1.0 + GREETING_SECONDS * number for number in range(1, GREETINGS)], abs=0.01)


def test_another_move_ends_the_greetings_of_the_last() -> None:
    table = Table("udp", "tcp", use="udp")
    table.ways.greet(1.0)
    table.use("tcp", 1.1)
    assert not [at for at, turn, _ in table.run(1.1, 60.0) if turn.greet]


# trials


def test_a_better_link_that_answers_is_wanted_and_a_worse_one_is_not() -> None:
    table = Table("udp", "tcp", "ws", use="tcp")
    table.ways.try_others(1.0)
    assert table.probe(1.0) == ["udp", "ws"]
    first = table.ways.last_probe - 1
    udp = table.ways.acknowledged(first, table.link("udp"), 1.05)
    assert udp is not None
    assert udp.round_trip == pytest.approx(0.05)
    assert udp.trial is None
    assert table.ways.wanted(udp)
    ws = table.answer("ws", 1.1)
    assert ws is not None
    assert not table.ways.wanted(ws)
    table.ways.suspect = True
    assert table.ways.wanted(ws), "any other will do"


def test_an_acknowledgement_by_another_link_or_of_another_probe_proves_nothing() -> None:
    table = Table("udp", "tcp", use="tcp")
    table.ways.try_better(1.0)
    assert table.probe(1.0) == ["udp"]
    assert table.answer("tcp", 1.1) is None
    assert table.ways.acknowledged(table.ways.last_probe + 1, table.link("udp"), 1.1) is None
    assert table.ways.acknowledged(table.ways.last_probe, table.link("unknown"), 1.1) is None
    assert table.ways.trying
    assert table.answer("udp", 1.2) is table.way("udp")
    assert table.answer("udp", 1.3) is None, "it has been acknowledged"


def test_a_trial_in_vain_is_told_once() -> None:
    table = Table("udp", "tcp", use="tcp")
    table.ways.try_better(1.0)
    table.ways.try_better(1.1)  # one is under way
    happened = table.run(1.0, 60.0)
    assert sum(names == ["udp"] for _, _, names in happened) == MAX_PROBES
    told = [at for at, turn, _ in happened if turn.unanswered]
    assert told == pytest.approx([1.0 + (MAX_PROBES - 1) * PROBE_SECONDS + LAST_PROBE_SECONDS], abs=0.02)
    assert table.way("udp").told
    assert table.ways.next_deadline() is None


def test_numbers_of_probes_wrap_around() -> None:
    ways = Table().ways
    ways.last_probe = 0xFFFFFFFF
    assert ways.next_probe() == 0


def test_a_stream_that_is_no_better_is_a_spare_for_a_moment_and_a_datagram_link_stays() -> None:
    table = Table("tcp", "wss", "udp", use="tcp")
    for name in ("wss", "udp"):
        table.ways.try_better_or_spare(table.way(name), 1.0)
    assert not table.ways.trying
    ((at, turn, _),) = table.run(1.0, 60.0)
    assert at == pytest.approx(UNUSED_SECONDS, abs=2 * LATER), "since `use`, when it was known to be of no use"
    assert turn.unused == [table.link("wss")]


# doubts


def doubted(round_trip: float = 0.0, deaf: bool = False) -> Table:
    """The link in use is doubted at 10.0; there is another."""
    table = Table("udp", "tcp", use="udp")
    table.way("udp").round_trip = round_trip
    table.ways.doubt(10.0, deaf=deaf)
    return table


@pytest.mark.parametrize(("round_trip", "patience"), [(0.0, SUSPECT_SECONDS), (0.6, 1.2), (3.0, SUSPECT_SECONDS_MOST)])
def test_a_link_that_does_not_answer_becomes_suspect_and_others_are_tried(round_trip: float, patience: float) -> None:
    table = doubted(round_trip)
    happened = table.run(10.0, 12.0)
    suspected = [(at, names) for at, turn, names in happened if turn.suspected]
    assert len(suspected) == 1
    at, names = suspected[0]
    assert at == pytest.approx(10.0 + patience, abs=2 * LATER)
    assert "tcp" in names
    assert table.ways.suspect
    assert table.ways.need


def test_its_answer_relieves_it_and_ends_the_trials_of_others() -> None:
    table = doubted()
    table.run(10.0, 11.0)
    assert table.answer("udp", 11.0) is None, "the newest probe went to the other link"
    assert table.ways.relieve(11.0)
    assert not table.ways.suspect
    assert table.ways.doubted_at is None
    assert not table.ways.trying
    assert not table.ways.relieve(11.1), "it was not suspect any more"


def test_a_doubt_about_what_we_send_stays_one() -> None:
    table = doubted(deaf=True)
    table.ways.doubt(10.1, deaf=False)
    assert table.ways.deaf
    assert table.ways.doubted_at == 10.0


def test_the_trial_of_a_link_in_use_ends_without_a_verdict() -> None:
    """Its doubt is its judge: it is told by `suspected`, not by `unanswered`."""
    table = Table("udp", use="udp")
    table.ways.doubt(10.0, deaf=False)
    happened = table.run(10.0, 60.0)
    assert sum(names == ["udp"] for _, _, names in happened) == MAX_PROBES
    assert not [at for at, turn, _ in happened if turn.unanswered]
    assert table.ways.next_deadline() is None


def test_who_moves_doubts_no_more() -> None:
    table = doubted()
    table.run(10.0, 11.0)
    table.use("tcp", 11.0)
    assert not table.ways.suspect
    assert table.ways.doubted_at is None


def test_without_a_link_there_is_nothing_to_doubt() -> None:
    table = Table("udp")
    table.ways.doubt(1.0, deaf=False)
    assert table.ways.doubted_at is None
    assert table.ways.need


# initiations


def test_an_initiation_that_nobody_answers_is_told_once() -> None:
    table = Table("udp", "tcp")
    table.ways.asked(table.way("udp"), 1.0)
    table.ways.asked(table.way("udp"), 1.5)
    ((at, turn, _),) = table.run(1.0, 60.0)
    assert at == pytest.approx(1.0 + INITIATION_SECONDS, abs=2 * LATER)
    assert turn.unanswered == [table.link("udp")]
    table.ways.asked(table.way("udp"), 5.0)
    assert table.run(5.0, 60.0) == []


def test_once_there_are_keys_nobody_is_waited_for() -> None:
    table = Table("udp", "tcp")
    table.way("tcp").fresh = 1.0
    assert table.ways.fresh() == [table.way("tcp")]
    assert table.ways.next_deadline() == 1.0
    table.ways.asked(table.way("udp"), 1.0)
    table.ways.answered()
    assert table.ways.fresh() == []
    assert table.ways.next_deadline() is None


def test_asking_begins_anew_with_those_who_were_asked_most() -> None:
    table = Table("udp")
    table.ways.asked(table.way("udp"), 1.0)
    assert table.way("udp").asked == 1
    table.ways.begin_asking()
    assert table.way("udp").asked == 0


# the end


def test_a_link_in_use_that_is_gone_leaves_need() -> None:
    table = Table("udp", "tcp", use="udp")
    table.ways.greet(1.0)
    assert table.ways.withdraw(table.link("udp"), 1.0)
    assert table.ways.need
    assert table.ways.current is None
    assert not [at for at, turn, _ in table.run(1.0, 60.0) if turn.greet]
    assert not table.ways.withdraw(table.link("udp"), 1.1)


def test_a_far_end_that_is_gone_leaves_what_was_offered_as_new() -> None:
    table = Table("udp", "tcp", use="udp")
    table.use("its own", 1.0)
    table.ways.doubt(1.5, deaf=False)
    table.run(1.5, 3.0)
    assert table.ways.lost(3.0) == [table.link("its own")]
    assert [way.link.name for way in table.ways.offered] == ["udp", "tcp"]
    assert table.ways.current is None
    for way in table.ways.offered:
        assert way.trial is way.left_at is way.waiting_since is None
        assert not way.told
    assert table.ways.next_deadline() is None
