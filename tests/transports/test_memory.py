"""The network in memory: chance that repeats, conditions that hold, time that jumps."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from caetun.transports.base import Link
from caetun.transports.memory import FLOOR, MAX_DATAGRAM, Conditions, MemoryEndpoint, MemoryNetwork
from caetun.transports.pieces import MAX_RECORD
from caetun.types import DropReason, Drops
from caetun.wire.record import HEADER_SIZE, Record
from tests.transports.recorder import Recorder

SESSION = 7
UNIT = FLOOR - HEADER_SIZE


class Two:
    """Endpoints `one` and `other` on a network, and the link from the one to the other."""

    def __init__(self, conditions: Conditions | None = None, seed: int = 0) -> None:
        self.network = MemoryNetwork(conditions, seed)
        self.drops = Drops()
        self.one, self.one_hears = self._join("one")
        self.other, self.other_hears = self._join("other")
        self.link = self.one.link("other")

    def _join(self, address: str) -> tuple[MemoryEndpoint, Recorder]:
        endpoint, hears = self.network.endpoint(address, self.drops), Recorder()
        endpoint.start(None, hears, {SESSION})
        return endpoint, hears

    def arrive(self, records: Sequence[Record], now: float = 0.0) -> list[int]:
        """The counters of what arrives when these are sent."""
        self.link.send(records)
        self.network.deliver(now)
        return [record.counter for record in self.other_hears.got]


def records(count: int, size: int = 100) -> list[Record]:
    return [Record(SESSION, number, random.Random(number).randbytes(size)) for number in range(count)]


def test_nothing_happens_by_itself() -> None:
    two = Two()
    two.link.send(records(3))
    assert (two.other_hears.got, len(two.network)) == ([], 3)
    assert two.network.deliver() == 3
    assert (two.other_hears.got, len(two.network), two.other_hears.ends) == (records(3), 0, 1)
    assert two.network.deliver() == 0
    assert two.other_hears.ends == 1


def test_the_same_seed_has_the_same_outcome() -> None:
    conditions = Conditions(loss=0.1, duplication=0.1, reordering=0.3)
    first, again, another = (Two(conditions, seed).arrive(records(200)) for seed in (1, 1, 2))
    assert first == again
    assert first != another


def test_one_condition_leaves_the_fate_of_the_rest_as_it_was() -> None:
    lossy = Two(Conditions(loss=0.1), seed=5).arrive(records(300))
    both = Two(Conditions(loss=0.1, reordering=0.5, duplication=0.2), seed=5).arrive(records(300))
    assert set(both) == set(lossy)


def test_about_the_share_asked_for_is_lost() -> None:
    assert 750 < len(Two(Conditions(loss=0.2)).arrive(records(1000))) < 850
    assert Two(Conditions(loss=1.0)).arrive(records(10)) == []


def test_about_the_share_asked_for_arrives_twice() -> None:
    counters = Two(Conditions(duplication=0.2)).arrive(records(1000))
    assert 1150 < len(counters) < 1250
    assert set(counters) == set(range(1000))


def test_late_ones_are_overtaken_but_not_for_ever() -> None:
    counters = Two(Conditions(reordering=0.2)).arrive(records(1000))
    assert counters != sorted(counters)
    assert sorted(counters) == list(range(1000))
    assert max(at - counter for at, counter in enumerate(counters)) <= 16


def test_a_record_with_a_lost_piece_is_lost_as_a_whole() -> None:
    two = Two(Conditions(loss=0.1), seed=1)
    long = records(40, size=4 * UNIT)
    arrived = two.arrive(long)
    assert 5 < len(arrived) < 40
    assert all(record in long for record in two.other_hears.got)


def test_pieces_meet_however_they_are_reordered() -> None:
    two = Two(Conditions(reordering=0.5, duplication=0.1), seed=1)
    two.arrive(records(40, size=4 * UNIT - 50))
    assert set(two.other_hears.got) == set(records(40, size=4 * UNIT - 50))


def test_what_the_path_does_not_carry_vanishes_without_a_word() -> None:
    two = Two(Conditions(path=1400))
    two.link.probe(Record(SESSION, 1, bytes(1400 - HEADER_SIZE)))
    two.link.probe(Record(SESSION, 2, bytes(1401 - HEADER_SIZE)))
    assert two.arrive([]) == [1]
    assert not two.drops


def test_what_the_interface_does_not_take_is_refused_aloud() -> None:
    two = Two(Conditions(ceiling=1400))
    assert two.link.datagram_ceiling == 1400
    two.link.probe(Record(SESSION, 1, bytes(1401 - HEADER_SIZE)))
    two.link.resize(1500)
    two.link.send([Record(SESSION, 2, bytes(3000))])
    assert two.arrive([]) == []
    assert two.one_hears.refused == [(two.link, 1401), (two.link, 1500)]
    assert two.drops == {DropReason.LINK_OVERSIZE: 2}


def test_capacity_is_given_back_by_delivery() -> None:
    two = Two(Conditions(capacity=3))
    two.link.send(records(5))
    assert two.link.full
    assert not two.other.link("one").full
    assert two.drops == {DropReason.LINK_FULL: 2}
    two.network.deliver()
    assert (two.link.full, two.one_hears.drains, two.other_hears.drains) == (False, 1, 0)
    assert [record.counter for record in two.other_hears.got] == [0, 1, 2]


def test_time_is_what_deliver_says() -> None:
    two = Two()
    for now in (10.0, 10.5, 12.0):
        two.link.send([Record(SESSION, int(now * 2), bytes(2 * UNIT))])
        two.network._under_way.pop()  # the last piece
        two.network.deliver(now)
    assert two.drops == {DropReason.RECORD_INCOMPLETE: 2}


def test_a_piece_that_is_too_late_completes_nothing() -> None:
    two = Two()
    two.link.send([Record(SESSION, 1, bytes(2 * UNIT))])
    late = two.network._under_way.pop()
    two.network.deliver(10.0)
    two.network.put([late])
    two.network.deliver(12.0)
    assert two.other_hears.got == []
    assert two.drops == {DropReason.RECORD_INCOMPLETE: 1}


def test_answers_are_under_way_after_the_delivery_that_caused_them() -> None:
    two = Two()

    class Echo(Recorder):
        def records(self, link: Link, records: list[Record]) -> None:
            super().records(link, records)
            link.send(records)

    two.other.start(None, Echo(), {SESSION})
    two.link.send(records(2))
    assert two.network.deliver() == 2
    assert (two.one_hears.got, len(two.network)) == ([], 2)
    two.network.settle()
    assert two.one_hears.got == records(2)

    two.one.start(None, Echo(), {SESSION})
    two.link.send(records(1))
    with pytest.raises(AssertionError, match="still not at rest"):
        two.network.settle()


def test_what_nobody_receives_goes_nowhere() -> None:
    two = Two()
    two.one.link("nobody").send(records(1))
    two.other.close()
    assert two.arrive(records(1)) == []
    assert not two.drops
    assert two.one.under_way == 0


def test_an_endpoint_may_be_replaced_by_one_of_the_same_address() -> None:
    two = Two(Conditions(capacity=3))
    two.link.send(records(3))
    hears = Recorder()
    again = two.network.endpoint("one", two.drops)
    again.start(None, hears, {SESSION})
    two.other.link("one").send(records(1))
    two.network.deliver()
    assert (hears.got, two.one_hears.got) == (records(1), [])
    assert (again.under_way, two.one.under_way) == (0, 0)


def test_sizes_stay_within_what_is_put_together() -> None:
    link = Two().link
    for datagram in (1200, 1500, 9000, MAX_DATAGRAM):
        link.resize(datagram)
        assert link.unit <= link.max_record <= MAX_RECORD
