"""The filtering database, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from caetun.l2.fdb import AGEING, FLAP_HOLD, FLAP_MOVES, FLAP_WINDOW, LIMIT, REFRESH, Fdb, Learned
from tests.l2.frames import mac

A, B, C = (bytes((2, 0, 0, 0, 0, number)) for number in range(3))


def learned(fdb: Fdb) -> dict[tuple[int, str], int]:
    return {(row.vlan, row.address): row.port for row in fdb.rows(0.0)}


class TestLearning:
    def test_a_source_is_found_at_its_port(self) -> None:
        fdb = Fdb()
        assert fdb.lookup(1, A, 0.0) is None
        assert fdb.learn(1, A, 5, 0.0) is Learned.NEW
        assert fdb.learn(1, memoryview(A), 5, 0.1) is Learned.KNOWN
        assert fdb.lookup(1, memoryview(A), 0.1) == 5

    def test_each_vlan_has_its_own_table(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        fdb.learn(2, A, 6, 0.0)
        assert (fdb.lookup(1, A, 0.0), fdb.lookup(2, A, 0.0), fdb.lookup(3, A, 0.0)) == (5, 6, None)

    def test_groups_and_zeros_are_nobody(self) -> None:
        fdb = Fdb()
        for address in (b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x33\x33\x00\x00\x00\x01", bytes(6)):
            assert fdb.learn(1, address, 5, 0.0) is Learned.NEVER
        assert len(fdb) == 0

    def test_a_host_that_moves_is_found_where_it_is(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        assert fdb.learn(1, A, 6, 1.0) is Learned.MOVED
        assert fdb.lookup(1, A, 1.0) == 6


class TestAgeing:
    def test_an_entry_is_gone_after_its_time(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        assert fdb.next_deadline() == AGEING
        assert fdb.lookup(1, A, AGEING - 0.1) == 5
        assert fdb.lookup(1, A, AGEING) is None
        assert fdb.expire(AGEING - 0.1) == 0
        assert fdb.expire(AGEING) == 1, "when its deadline has come there is something to do"
        assert (len(fdb), fdb.learned, fdb.next_deadline()) == (0, 0, None)

    def test_whoever_speaks_stays(self) -> None:
        fdb = Fdb()
        for second in range(0, 1000, 100):
            fdb.learn(1, A, 5, float(second))
            fdb.expire(float(second))
        assert fdb.lookup(1, A, 900.0 + AGEING - 0.1) == 5

    def test_a_move_after_its_time_is_news(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        assert fdb.learn(1, A, 6, AGEING + 1) is Learned.NEW

    def test_expiry_does_not_walk_what_is_young(self) -> None:
        fdb = Fdb()
        for number in range(10_000):
            fdb.learn(1, b"\x02" + number.to_bytes(5, "big"), 5, number / 100)
        assert fdb.expire(AGEING + 49.995) == 5000
        assert fdb.expire(AGEING + 49.995) == 0


class TestFlapping:
    def flap(self, fdb: Fdb, now: float) -> list[Learned]:
        return [fdb.learn(1, A, 5 + number % 2, now + number * 0.1) for number in range(1, FLAP_MOVES + 1)]

    def test_an_address_that_keeps_moving_is_held(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        assert self.flap(fdb, 0.0) == [Learned.MOVED] * (FLAP_MOVES - 1) + [Learned.FLAPPING]
        assert (fdb.lookup(1, A, 1.0), fdb.flapped) == (5, (5, 6))
        assert fdb.learn(1, A, 6, 2.0) is Learned.HELD
        assert fdb.lookup(1, A, 2.0) == 5
        assert fdb.learn(1, A, 6, 1.0 + FLAP_HOLD) is Learned.MOVED

    @pytest.mark.parametrize("takes", [range(1, 20, 2), [1, 2, 3, 5, 6, 7], [1, 2, 4, 5, 7, 8]])
    def test_it_is_held_at_home_however_the_other_one_times_it(self, takes: Sequence[int]) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        verdicts = [fdb.learn(1, A, 6 if number in takes else 5, number * 0.1) for number in range(1, 20)]
        assert Learned.FLAPPING in verdicts
        assert (fdb.lookup(1, A, 2.0), fdb.flapped) == (5, (5, 6))
        assert fdb.count(5) == 1

    def test_a_short_stay_elsewhere_makes_no_other_home(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        assert fdb.learn(1, A, 6, 10.0) is Learned.MOVED
        fdb.learn(1, A, 5, 100.0)
        self.flap(fdb, 100.0)
        assert fdb.lookup(1, A, 101.0) == 5

    def test_a_long_stay_does(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 4, 0.0)
        for now in (10.0, 200.0, 350.0):
            fdb.learn(1, A, 5, now)
        self.flap(fdb, 350.0)
        assert (fdb.lookup(1, A, 351.0), fdb.flapped) == (5, (5, 6))

    def test_a_port_that_is_gone_is_nobodys_home(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 4, 0.0)
        fdb.learn(1, A, 5, 10.0)
        fdb.flush(port=4)
        self.flap(fdb, 20.0)
        assert fdb.lookup(1, A, 21.0) == 5

    def test_a_home_where_others_have_taken_the_place_is_left(self) -> None:
        fdb = Fdb()
        fdb.limit_port(4, 1)
        fdb.learn(1, A, 4, 0.0)
        fdb.learn(1, A, 5, 10.0)
        fdb.learn(1, B, 4, 11.0)
        self.flap(fdb, 20.0)
        assert fdb.lookup(1, A, 21.0) in (5, 6)
        assert (fdb.count(4), len(fdb)) == (1, 2)

    def test_slow_roaming_is_no_flapping(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        step = FLAP_WINDOW / 2
        assert {fdb.learn(1, A, number % 2, number * step) for number in range(1, 50)} == {Learned.MOVED}


class TestStatic:
    def test_a_static_entry_neither_moves_nor_ages(self) -> None:
        fdb = Fdb()
        fdb.learn(1, A, 5, 0.0)
        fdb.set_static(1, A, 7, 0.0)
        assert fdb.learn(1, A, 5, 1.0) is Learned.PINNED
        assert fdb.lookup(1, A, 10 * AGEING) == 7
        assert fdb.expire(10 * AGEING) == 0
        assert fdb.flush() == 0
        assert (len(fdb), fdb.learned) == (1, 0)


class TestBounds:
    def test_a_full_table_keeps_what_it_has(self) -> None:
        fdb = Fdb(limit=10)
        verdicts = [fdb.learn(number % 3, b"\x02" + number.to_bytes(5, "big"), 5, 0.0) for number in range(100)]
        assert verdicts == [Learned.NEW] * 10 + [Learned.FULL] * 90
        assert len(fdb) == 10
        assert fdb.learn(1, C, 6, AGEING + 1) is Learned.NEW, "old ones give way"

    def test_a_port_has_its_own_limit(self) -> None:
        fdb = Fdb()
        fdb.limit_port(5, 2)
        assert [fdb.learn(1, each, 5, 0.0) for each in (A, B, C)] == [Learned.NEW, Learned.NEW, Learned.FULL]
        assert fdb.learn(1, C, 6, 0.0) is Learned.NEW
        assert fdb.learn(1, C, 5, 1.0) is Learned.FULL
        assert fdb.lookup(1, C, 1.0) == 6
        fdb.limit_port(5, None)
        assert fdb.learn(1, C, 5, 1.0) is Learned.MOVED

    def test_flushing_a_port_or_a_vlan(self) -> None:
        fdb = Fdb()
        for vlan in (1, 2):
            for number, address in enumerate((A, B, C)):
                fdb.learn(vlan, address, number, 0.0)
        assert fdb.flush(port=0) == 2
        assert fdb.flush(vlan=1) == 2
        assert fdb.flush(port=1, vlan=2) == 1
        assert learned(fdb) == {(2, C.hex(":")): 2}
        assert LIMIT > 10_000


ADDRESSES = st.sampled_from([b"\x02" + bytes((0, 0, 0, 0, number)) for number in range(8)])
VLANS, PORTS = st.integers(1, 2), st.integers(0, 3)


class Model(RuleBasedStateMachine):
    """Whatever happens, the counts fit what is there, and nobody is found where he was not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.fdb = Fdb(limit=6)
        self.fdb.limit_port(0, 2)
        self.now = 0.0
        self.seen: dict[tuple[int, bytes], set[int]] = {}

    @rule(
        vlan=VLANS, address=ADDRESSES, port=PORTS, wait=st.sampled_from([0.0, 0.1, REFRESH * 2, AGEING / 2, AGEING * 2])
    )
    def learn(self, vlan: int, address: bytes, port: int, wait: float) -> None:
        self.now += wait
        self.fdb.learn(vlan, address, port, self.now)
        self.seen.setdefault((vlan, address), set()).add(port)

    @rule(port=st.none() | PORTS, vlan=st.none() | VLANS)
    def flush(self, port: int | None, vlan: int | None) -> None:
        self.fdb.flush(port, vlan)

    @rule()
    def expire(self) -> None:
        self.fdb.expire(self.now)

    @invariant()
    def counts_fit(self) -> None:
        rows = list(self.fdb.rows(self.now))
        assert self.fdb.learned == len(self.fdb) == len(rows) <= 6
        for port in range(4):
            assert self.fdb.count(port) == sum(row.port == port for row in rows)
        assert self.fdb.count(0) <= 2

    @invariant()
    def found_where_seen(self) -> None:
        for (vlan, address), ports in self.seen.items():
            assert self.fdb.lookup(vlan, address, self.now) in {None, *ports}


TestModel = Model.TestCase


@given(ADDRESSES, PORTS)
def test_lookup_mirrors_learn(address: bytes, port: int) -> None:
    fdb = Fdb()
    fdb.learn(1, address, port, 0.0)
    assert fdb.lookup(1, address, 0.0) == port


def test_who_is_at_a_port_and_whether_that_has_changed() -> None:
    fdb = Fdb()
    versions = [fdb.version]

    def changed() -> bool:
        versions.append(fdb.version)
        return versions[-1] != versions[-2]

    fdb.learn(1, mac(1), 1, 0.0)
    assert changed()
    fdb.set_static(7, mac(2), 1, 0.0)
    assert changed()
    fdb.learn(1, mac(3), 2, 0.0)
    assert changed()
    assert list(fdb.at(1)) == [(1, mac(1)), (7, mac(2))]
    fdb.learn(1, mac(1), 1, 5.0)
    assert not changed()
    fdb.learn(1, mac(1), 2, 10.0)
    assert changed()
    assert list(fdb.at(1)) == [(7, mac(2))]
    fdb.flush(port=2)
    assert changed()
    assert list(fdb.at(2)) == []
