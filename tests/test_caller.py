"""Initiations to one far end: by which link, when, and what else is done about silence."""

from __future__ import annotations

from dataclasses import dataclass, field

from caetun.caller import CALLED_AT_PROBE, PATIENT_ATTEMPTS, RESOLVE_ATTEMPTS, Caller
from caetun.output import Output
from caetun.session.attempts import Attempts
from caetun.session.handshake import Cipher, PeerId
from caetun.session.liveness import Liveness, Timing
from caetun.types import Drops
from caetun.way import MAX_PROBES, Way
from caetun.ways import Ways
from tests.bench import Link, ReadyMade
from tests.session.established import PEER


@dataclass
class Peer:
    """Who is called."""

    present: bool = False
    ident: PeerId = PEER
    name: str = "far"


@dataclass
class Phone:
    """A caller, and what it does."""

    peer: Peer = field(default_factory=Peer)
    life: Liveness = field(default_factory=lambda: Liveness(Timing()))
    out: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        self.ways = Ways(bytes)
        attempts = Attempts(tuple(Cipher), lambda size: b"\x80" * size)
        self.caller = Caller(self.peer, ReadyMade(Drops()), attempts, self.life, self.ways)

    def offer(self, name: str, rank: int = 0) -> Way:
        link = Link(name)
        self.ways.offer(link, rank, 0.0)
        way = self.ways.get(link)
        assert way is not None
        return way

    def tick(self, now: float, *probed: Way) -> list[str]:
        """Returns by which links it called."""
        self.caller.tick(list(probed), now, 0.0, self.out)
        called = [link.name for link, _ in self.out.messages]
        self.out.messages.clear()
        return called

    def tick_when_due(self) -> list[str]:
        assert self.caller.at is not None
        return self.tick(self.caller.at)

    def probed(self, way: Way, count: int) -> Way:
        """So many probes went to a link on trial."""
        self.ways.try_(way, 0.0)
        assert way.trial is not None
        while len(way.trial.sent) < count:
            way.trial.probed(self.ways.next_probe(), 0.0, 0.0)
        return way


# looking for a far end


def test_links_are_called_by_in_turn() -> None:
    phone = Phone()
    for rank, name in enumerate(("one", "two", "three")):
        phone.offer(name, rank)
    phone.caller.begin(0.0)
    called = [name for _ in range(7) for name in phone.tick_when_due()]
    assert called == ["one", "two", "three", "one", "two", "three", "one"]


def test_a_link_that_has_just_come_up_is_called_by_whatever_the_schedule_says() -> None:
    phone = Phone()
    phone.offer("one")
    phone.caller.begin(0.0)
    phone.tick(0.0)
    due = phone.caller.at
    phone.offer("two").fresh = 0.01
    assert phone.tick(0.01) == ["two"]
    assert phone.tick(0.02) == []
    assert phone.caller.at == due


def test_without_links_nobody_is_called() -> None:
    phone = Phone()
    phone.caller.begin(0.0)
    assert phone.tick(0.0) == []
    assert phone.caller.at is None


def test_silence_is_told_once_and_other_ways_are_looked_for_each_round() -> None:
    phone = Phone()
    phone.offer("one")
    phone.offer("two", 1)
    phone.caller.begin(0.0)
    sought = []
    for _ in range(2 * PATIENT_ATTEMPTS):
        phone.tick_when_due()
        sought.append(len(phone.out.seek))
    assert [event.event for event in phone.out.events] == ["peer.silent"]
    assert sought[: RESOLVE_ATTEMPTS - 1] == [0] * (RESOLVE_ATTEMPTS - 1)
    assert sought[-1] == (2 * PATIENT_ATTEMPTS - RESOLVE_ATTEMPTS) // 2 + 1, "once for both links"


def test_a_pause_is_kept() -> None:
    phone = Phone()
    phone.offer("one")
    phone.caller.pause(30.0)
    assert phone.caller.paused_until == 30.0
    assert phone.tick(29.9) == []
    assert phone.tick(30.0) == ["one"]


# new keys


def in_session() -> tuple[Phone, Way, Way]:
    """A session by one of two links."""
    phone = Phone(Peer(present=True))
    one, other = phone.offer("one"), phone.offer("other", 1)
    phone.ways.use(one.link, 0.0, leads=True)
    return phone, one, other


def test_new_keys_are_asked_for_by_the_link_in_use_and_silence_is_not_told() -> None:
    phone, _, _ = in_session()
    phone.caller.begin(1.0)
    called = [name for _ in range(PATIENT_ATTEMPTS + 1) for name in phone.tick_when_due()]
    assert set(called) == {"one"}
    assert phone.out.events == []
    assert phone.out.seek == []


def test_where_it_is_suspect_the_others_are_asked_too() -> None:
    phone, one, other = in_session()
    phone.ways.suspect = True
    assert phone.caller.askable(1.0) == [one, other]


def test_and_where_it_has_not_answered_for_long() -> None:
    phone, one, other = in_session()
    phone.life.sent(1.0)
    silent_at = phone.life.unanswered_at
    assert silent_at is not None
    assert phone.caller.askable(silent_at - 0.1) == [one]
    assert phone.caller.askable(silent_at) == [one, other]


# beside probes


def test_a_link_on_trial_in_need_is_called_by_with_one_of_its_probes() -> None:
    phone, _, other = in_session()
    phone.ways.suspect = True
    called = [phone.tick(1.0, phone.probed(other, count)) for count in range(1, MAX_PROBES + 1)]
    assert [count for count, names in enumerate(called, 1) if names] == [CALLED_AT_PROBE]
    assert called[CALLED_AT_PROBE - 1] == ["other"]


def test_one_that_is_just_better_is_not() -> None:
    phone, _, other = in_session()
    assert phone.tick(1.0, phone.probed(other, CALLED_AT_PROBE)) == []


def test_a_far_end_that_answers_no_probe_is_asked_whether_it_was_started_again() -> None:
    phone, one, _ = in_session()
    assert phone.tick(1.0, phone.probed(one, MAX_PROBES - 1)) == []
    assert phone.caller.at is None
    assert phone.tick(1.2, phone.probed(one, MAX_PROBES)) == ["one"]
    due = phone.caller.at
    assert due is not None
    phone.caller.end()
    assert phone.tick(due) == []
