"""One session across its links: what is sent by which, what is told, and when."""

from __future__ import annotations

from typing import Any

import pytest

from caetun.journey import TOLD_SECONDS, Itinerary, Journey
from caetun.output import Output
from caetun.session.keypair import KeyPair
from caetun.session.liveness import Liveness, Timing
from caetun.session.pathmtu import BASE_SIZE
from caetun.session.session import Session
from caetun.types import Drops, Mode
from caetun.way import PROBE_SECONDS, UNUSED_SECONDS, Way
from caetun.ways import GREETING_SECONDS, SUSPECT_SECONDS, Ways
from caetun.wire import control
from caetun.wire.record import HEADER_SIZE
from tests.bench import Link
from tests.session.established import established

OWNER = object()


class Trip:
    """A journey with keys, and the far end's key pair to read what it sends."""

    def __init__(self, *, connects: bool = True) -> None:
        ours, theirs = established(1)
        self.out = Output()
        self.session = Session(Mode.TAP, Drops())
        self.session.install(ours, 0.0)
        self.life = Liveness(Timing())
        self.ways = Ways(lambda size: b"\x80" * size)
        self.journey = Journey(OWNER, "far", self.session, self.life, self.ways)
        self.journey.connects = connects
        self._far = KeyPair(theirs, 0.0)

    def offer(self, name: str, rank: int, now: float, *, ceiling: int | None = None) -> Link:
        """A link comes up."""
        link = Link(name, ceiling)
        self.ways.offer(link, rank, now)
        way = self.ways.get(link)
        assert way is not None
        self.journey.offered(way, True, now, self.out)
        return link

    def start(self, name: str = "udp", rank: int = 1, *, ceiling: int | None = None) -> Link:
        """The far end was found by a link that was offered."""
        link = Link(name, ceiling)
        self.ways.offer(link, rank, 0.0)
        self.journey.found(link, 0.0, self.out)
        self.out.clear()
        return link

    def said(self) -> list[tuple[str, bytes]]:
        """Link and contents of what was sent since the last look, probes behind records."""
        sent = [(link, record) for link, records in self.out.records for record in records] + self.out.probes
        self.out.records, self.out.probes = [], []
        return [(link.name, self._far.open(record.counter, record.body)) for link, record in sent]

    def answer(self, link: Link, now: float, size: int = 0) -> bool:
        """The newest probe is acknowledged by this link."""
        message = control.ProbeAcknowledgement(self.ways.last_probe, size)
        return self.journey.acknowledged(message, link, now, self.out)

    def told(self) -> list[str]:
        texts = [event.text for event in self.out.events]
        self.out.events.clear()
        return texts

    def tick(self, now: float) -> list[Way]:
        return self.journey.tick(now, self.out)


def is_probe(content: bytes) -> bool:
    return content[:1] == control.encode(control.Probe(0, 0))[:1]


# what a person is told


def test_a_hop_back_and_forth_is_told_where_it_ends() -> None:
    one, other = Link("one"), Link("other")
    told = Itinerary()
    told.begin(one)
    assert told.due(0.0) is None
    told.moved(other)
    assert told.due(1.0) == ("one", "other")
    told.moved(one)
    assert told.due(1.1) is None
    assert told.next_deadline() == 1.0 + TOLD_SECONDS
    told.moved(other)
    assert told.due(1.0 + TOLD_SECONDS) is None, "it is where it was"
    assert told.next_deadline() is None
    told.moved(one)
    assert told.due(5.0) == ("other", "one")


def test_moves_that_come_too_fast_are_told_at_the_next_tick() -> None:
    trip = Trip()
    trip.start("one")
    for name, at in (("two", 1.0), ("three", 1.2), ("four", 1.3)):
        trip.journey.use(Link(name), at, trip.out)
    assert len(trip.told()) == 1
    trip.tick(1.5)
    assert trip.told() == []
    due = trip.journey.next_deadline()
    assert due is not None
    assert due <= 2.0
    trip.tick(2.0)
    (text,) = trip.told()
    assert "two" in text
    assert "four" in text
    assert "three" not in text


# moving


def test_a_better_link_is_probed_at_once_and_used_once_it_has_answered() -> None:
    trip = Trip()
    udp = trip.start("udp", rank=1)
    tcp = trip.offer("tcp", 0, 5.0)
    ((name, content),) = trip.said()
    assert (name, is_probe(content)) == ("tcp", True)
    assert trip.journey.link is udp, "make before break"
    assert trip.answer(tcp, 5.1)
    assert trip.journey.link is tcp
    assert trip.said() == [("tcp", b"")]
    assert trip.out.settled == [OWNER]
    trip.tick(5.1 + GREETING_SECONDS)
    assert trip.said() == [("tcp", b"")], "greeted again: the first may be lost"
    trip.tick(5.1 + UNUSED_SECONDS)
    assert trip.out.unused == [udp]


def test_who_only_answers_settles_nothing_with_its_shell() -> None:
    trip = Trip(connects=False)
    trip.start()
    trip.journey.use(Link("elsewhere"), 1.0, trip.out)
    assert trip.out.settled == []
    assert trip.out.moved == [OWNER], "but what has waited can go"


def test_the_far_end_moves_and_is_followed() -> None:
    trip = Trip(connects=False)
    one = trip.start("one")
    other = Link("other")
    assert trip.journey.follow(other, 1.0, trip.out)
    assert trip.journey.link is other
    assert not trip.journey.follow(one, 1.1, trip.out), "not back and forth with each record"
    way = trip.ways.get(one)
    assert way is not None
    assert way.heard_at == 1.1
    assert trip.journey.follow(one, 2.5, trip.out)


def test_a_link_that_nobody_needs_is_not_probed() -> None:
    trip = Trip()
    trip.start("udp", rank=0)
    trip.offer("tcp", 1, 5.0)
    assert trip.said() == []


@pytest.mark.parametrize(("needed", "size"), [(False, BASE_SIZE), (True, 0)])
def test_a_better_datagram_link_must_carry_full_datagrams_unless_any_will_do(needed: bool, size: int) -> None:
    trip = Trip()
    trip.start("tcp", rank=1)
    if needed:
        trip.journey.leave()
        trip.ways.suspect = True
    link = Link("udp", 1472)
    trip.ways.offer(link, 0, 5.0)
    way = trip.ways.get(link)
    assert way is not None
    trip.journey.offered(way, False, 5.0, trip.out)
    ((_, record),) = trip.out.probes
    assert (HEADER_SIZE + len(record.body) == BASE_SIZE) is (size == BASE_SIZE)
    assert HEADER_SIZE + len(record.body) <= BASE_SIZE


def test_a_new_link_in_need_is_first_called_and_then_probed() -> None:
    """A far end that was started again takes a probe for a stranger's message."""
    trip = Trip()
    trip.start("udp", rank=0)
    trip.ways.suspect = True
    link = trip.offer("tcp", 1, 5.0)
    way = trip.ways.get(link)
    assert way is not None
    assert way.fresh == 5.0
    assert trip.said() == []
    assert [way.link.name for way in trip.tick(5.0 + PROBE_SECONDS)] == ["tcp"]


# doubts


def test_silence_is_told_with_the_way_out_and_an_answer_settles_it() -> None:
    trip = Trip()
    udp = trip.start()
    trip.ways.doubt(5.0, deaf=False)
    trip.tick(5.0)
    assert [name for name, _ in trip.said()] == ["udp"]
    trip.tick(5.0 + SUSPECT_SECONDS + 0.01)
    assert trip.out.seek == [OWNER]
    (text,) = trip.told()
    assert "udp" in text
    assert not trip.answer(udp, 5.8), "no move"
    assert trip.out.settled == [OWNER]
    assert not trip.ways.suspect


# what can be sent


def test_without_a_link_or_with_old_keys_nothing_is_sent() -> None:
    trip = Trip()
    trip.journey.send(b"", 1.0, trip.out)
    assert trip.out.records == []
    trip.start()
    old = trip.life.lifetime
    assert trip.journey.can_seal(old - 0.1)
    assert not trip.journey.can_seal(old)
    trip.journey.send(b"", old, trip.out)
    trip.ways.doubt(old, deaf=False)
    assert trip.journey.test(old, trip.out) == []
    assert (trip.out.records, trip.out.probes) == ([], [])


def test_an_answer_by_another_link_is_no_sign_of_life_to_the_one_in_use() -> None:
    trip = Trip()
    trip.start()
    trip.journey.send(b"", 3.0, trip.out)
    assert trip.life.sent_at == 3.0
    other = Link("other")
    trip.journey.send(b"", 4.0, trip.out, other)
    assert trip.life.sent_at == 3.0
    assert [name for name, _ in trip.said()] == ["udp", "other"]


# sizes


def path_of(trip: Trip) -> Any:
    assert trip.journey.path is not None
    return trip.journey.path


def test_what_was_learned_about_a_path_is_kept_while_another_link_is_used() -> None:
    trip = Trip()
    udp = trip.start(ceiling=1472)
    path = path_of(trip)
    trip.journey.probe_path(0.0, trip.out)
    ((link, _),) = trip.out.probes
    assert link is udp
    size = path.size
    trip.answer(udp, 0.1, 1472)
    assert path.size > size
    trip.journey.probe_path(0.2, trip.out)
    assert udp.datagram == path.size
    tcp = Link("tcp")
    trip.journey.use(tcp, 1.0, trip.out)
    assert trip.journey.path is None
    trip.journey.use(udp, 2.0, trip.out)
    assert trip.journey.path is path


def test_another_ceiling_is_another_path() -> None:
    trip = Trip()
    udp = trip.start(ceiling=1472)
    path = path_of(trip)
    trip.journey.use(Link("tcp"), 1.0, trip.out)
    udp.datagram_ceiling = 9000
    trip.journey.use(udp, 2.0, trip.out)
    assert trip.journey.path is not path
    assert path_of(trip).ceiling == 9000


def test_a_late_acknowledgement_of_a_trial_says_nothing_about_sizes() -> None:
    """Probes from before path discovery began on this link carried other sizes."""
    trip = Trip()
    trip.ways.last_probe = 7
    udp = trip.start(ceiling=1472)
    size = path_of(trip).size
    trip.journey.acknowledged(control.ProbeAcknowledgement(7, 1472), udp, 0.1, trip.out)
    assert path_of(trip).size == size
