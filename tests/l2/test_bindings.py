"""Whose an address is, in virtual time: told as claims."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2 import bindings as module
from caetun.l2.bindings import AGEING, ANSWER_SECONDS, ASK_AGAIN, Bindings, Claim
from tests.l2.frames import ipv4, ipv6, mac

ATTIC, OFFICE, VLAN = 1, 2, 7


def table(limit: int = 8) -> Bindings:
    made = Bindings()
    for port in (ATTIC, OFFICE):
        made.limit_port(port, limit)
    return made


def claim(made: Bindings, port: int, host: int, number: int, now: float, learn: bool = True) -> Claim:
    return made.claim((port, VLAN, mac(host)), ipv4(number), now, learn)


class TestFirstComeFirstServed:
    def test_who_uses_it_first_has_it(self) -> None:
        made = table()
        assert not made.holds(ATTIC, VLAN, mac(1), ipv4(1), 0.0)
        assert claim(made, ATTIC, 1, 1, 0.0) is Claim.NEW
        assert made.holds(ATTIC, VLAN, mac(1), ipv4(1), 1.0)
        assert not made.holds(OFFICE, VLAN, mac(1), ipv4(1), 1.0)
        assert not made.holds(ATTIC, VLAN, mac(2), ipv4(1), 1.0)
        assert not made.holds(ATTIC, VLAN + 1, mac(1), ipv4(1), 1.0)

    def test_rfc6620_an_owner_who_answers_keeps_it(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        assert claim(made, OFFICE, 2, 1, 10.0) is Claim.ASK
        assert claim(made, OFFICE, 2, 1, 10.1) is Claim.TAKEN, "he has a second to answer"
        made.holds(ATTIC, VLAN, mac(1), ipv4(1), 10.2)
        for now in (11.5, 20.0, 10.0 + ASK_AGAIN):
            assert claim(made, OFFICE, 2, 1, now) is Claim.TAKEN
        assert claim(made, OFFICE, 2, 1, 10.1 + ASK_AGAIN) is Claim.ASK

    def test_rfc6620_an_owner_who_is_silent_loses_it(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        assert claim(made, OFFICE, 2, 1, 10.0) is Claim.ASK
        assert claim(made, OFFICE, 2, 1, 10.0 + ANSWER_SECONDS) is Claim.MOVED
        assert made.holds(OFFICE, VLAN, mac(2), ipv4(1), 12.0)
        assert claim(made, ATTIC, 1, 1, 12.0) is Claim.ASK, "and would have to claim it himself"

    def test_after_a_long_silence_it_is_anybodys(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        assert claim(made, OFFICE, 2, 1, AGEING + 1) is Claim.NEW

    def test_behind_one_port_they_settle_it_themselves(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        assert claim(made, ATTIC, 2, 1, 1.0) is Claim.MOVED

    def test_nothing_new_where_nothing_is_learned(self) -> None:
        made = table()
        assert claim(made, ATTIC, 1, 1, 0.0, learn=False) is Claim.UNKNOWN
        claim(made, ATTIC, 1, 1, 0.0)
        assert claim(made, ATTIC, 2, 1, 0.0, learn=False) is Claim.UNKNOWN


class TestRoaming:
    def test_a_host_takes_all_its_addresses_along(self) -> None:
        made = table()
        for number in (1, 2):
            claim(made, ATTIC, 1, number, 0.0)
        made.lease((ATTIC, VLAN, mac(1)), ipv4(3), 500.0, 0.0)
        assert claim(made, OFFICE, 1, 1, 10.0, learn=False) is Claim.ASK
        assert claim(made, OFFICE, 1, 1, 11.5, learn=False) is Claim.MOVED
        assert all(made.holds(OFFICE, VLAN, mac(1), ipv4(number), 12.0) for number in (1, 2, 3))
        assert not made.holds(OFFICE, VLAN, mac(1), ipv4(3), 500.0), "the lease ends when it would have"

    def test_a_new_address_at_a_new_port_asks_for_the_host_too(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        assert claim(made, OFFICE, 1, 9, 10.0) is Claim.ASK
        made.holds(ATTIC, VLAN, mac(1), ipv4(1), 10.1)
        assert claim(made, OFFICE, 1, 9, 12.0) is Claim.TAKEN, "somebody plays the host"

    def test_a_mac_address_alone(self) -> None:
        made = table()
        who = (OFFICE, VLAN, mac(1))
        assert made.claim_mac(who, 0.0) is Claim.BOUND
        claim(made, ATTIC, 1, 1, 0.0)
        assert made.claim_mac((ATTIC, VLAN, mac(1)), 1.0) is Claim.BOUND
        assert [made.claim_mac(who, now) for now in (1.0, 1.5, 2.5)] == [Claim.ASK, Claim.TAKEN, Claim.MOVED]


class TestLeases:
    def test_what_a_server_gives_stands_above_use(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        assert made.lease((OFFICE, VLAN, mac(2)), ipv4(1), 100.0, 1.0)
        assert made.holds(OFFICE, VLAN, mac(2), ipv4(1), 99.0)
        assert not made.holds(OFFICE, VLAN, mac(2), ipv4(1), 100.0)
        assert claim(made, ATTIC, 1, 1, 101.0) is Claim.NEW

    def test_it_outlives_silence_and_can_be_taken_back(self) -> None:
        made = table()
        made.lease((ATTIC, VLAN, mac(1)), ipv4(1), inf, 0.0)
        assert claim(made, OFFICE, 2, 1, 10 * AGEING) is Claim.ASK
        made.lease((ATTIC, VLAN, mac(1)), ipv4(1), 0.0, 10 * AGEING)
        assert len(made) == 0


class TestCaps:
    def test_a_port_has_so_many_and_no_more(self) -> None:
        made = table(limit=3)
        assert [claim(made, ATTIC, number, number, 0.0) for number in range(5)] == [Claim.NEW] * 3 + [Claim.FULL] * 2
        assert claim(made, OFFICE, 9, 9, 0.0) is Claim.NEW
        assert not made.lease((ATTIC, VLAN, mac(8)), ipv4(8), 50.0, 0.0)
        assert claim(made, ATTIC, 7, 7, AGEING + 1) is Claim.NEW, "the old ones make room"

    def test_all_ports_have_so_many_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_BINDINGS", 4)
        made = table()
        assert [claim(made, ATTIC, number, number, 0.0) for number in range(5)] == [Claim.NEW] * 4 + [Claim.FULL]

    def test_a_port_that_is_gone_has_none(self) -> None:
        made = table()
        claim(made, ATTIC, 1, 1, 0.0)
        claim(made, OFFICE, 2, 2, 0.0)
        made.forget_port(ATTIC)
        assert [row.address for row in made.rows(1.0)] == [ipv4(2)]
        assert claim(made, ATTIC, 1, 1, 1.0) is Claim.FULL, "until it is back"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["claim", "lease", "holds", "gone", "mac"]),
            st.sampled_from([ATTIC, OFFICE]),
            st.integers(1, 4),
            st.integers(1, 6),
            st.sampled_from([0.0, 0.5, 2.0, 40.0, 400.0]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_a_host_is_at_one_port_and_caps_hold(steps: list[tuple[str, int, int, int, float]]) -> None:
    made, now = table(limit=3), 0.0
    for what, port, host, number, wait in steps:
        now += wait
        who, address = (port, VLAN, mac(host)), ipv6(number)
        match what:
            case "claim":
                claimed = made.claim(who, address, now, learn=True)
                good = claimed in (Claim.BOUND, Claim.NEW)
                assert not good or made.holds(*who, address, now)
            case "lease":
                made.lease(who, address, now + 100, now)
            case "holds":
                made.holds(*who, address, now)
            case "mac":
                made.claim_mac(who, now)
            case _:
                made.forget_port(port)
                made.limit_port(port, 3)
        rows = list(made.rows(-inf))
        assert len(rows) <= len(made) <= 6
        homes = {(row.mac, row.port) for row in rows}
        assert len(homes) == len({row.mac for row in rows})
        assert all(sum(row.port == each for row in rows) <= 3 for each in (ATTIC, OFFICE))
