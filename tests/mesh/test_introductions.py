"""A hub and its members, as a conversation."""

from __future__ import annotations

import itertools
from ipaddress import ip_address, ip_network

import pytest

from caetun.mesh import introductions
from caetun.mesh.introductions import Introductions
from caetun.types import DropReason, Drops
from caetun.wire.mesh import Gone, Introduce, Message, Place

A, B, C = (bytes((number,)) * 32 for number in (1, 2, 3))
NETWORK = (ip_network("10.88.0.3"),)


def place(text: str, port: int = 4500) -> Place:
    return Place(ip_address(text), port)


class Hub(Introductions):
    """Whose secrets can be told apart."""

    def __init__(self) -> None:
        self.drops = Drops()
        numbers = itertools.count(1)
        self.apart: set[bytes] = set()
        """Who may not meet anybody."""
        super().__init__(self.drops, lambda size: next(numbers).to_bytes(size, "big"), self._meet)

    def _meet(self, one: bytes, other: bytes) -> bool:
        return self.apart.isdisjoint((one, other))

    def told(self) -> list[tuple[bytes, Message]]:
        return list(self.poll())


def two(hub: Hub) -> None:
    hub.joined(A, "a", ())
    hub.joined(B, "b", ())
    hub.has(B, NETWORK)
    hub.seen(A, place("203.0.113.1"))
    hub.seen(B, place("198.51.100.1", 7))


def test_two_are_introduced_once_with_one_secret() -> None:
    hub = Hub()
    two(hub)
    one, other = hub.told()
    psk = (1).to_bytes(32, "big")
    assert one == (A, Introduce(B, psk, "b", (place("198.51.100.1", 7),), NETWORK))
    assert other == (B, Introduce(A, psk, "a", (place("203.0.113.1"),), ()))
    assert hub.told() == []


def test_each_pair_has_a_secret_of_its_own() -> None:
    hub = Hub()
    two(hub)
    hub.joined(C, "c", ())
    hub.seen(C, place("192.0.2.9"))
    psks = {frozenset((key, told.key)): told.psk for key, told in hub.told() if isinstance(told, Introduce)}
    assert len(psks) == len(set(psks.values())) == 3


def test_where_somebody_is_seen_now_is_told_to_the_others() -> None:
    hub = Hub()
    two(hub)
    hub.told()
    hub.seen(A, place("203.0.113.1", 9))
    ((key, told),) = hub.told()
    assert isinstance(told, Introduce)
    assert (key, told.key, told.places) == (B, A, (place("203.0.113.1", 9),))


def test_who_cannot_be_called_can_call() -> None:
    hub = Hub()
    two(hub)
    hub.seen(A, None)
    told = dict(hub.told())
    assert isinstance(told[B], Introduce)
    assert told[B].places == ()
    assert isinstance(told[A], Introduce)
    assert told[A].places != ()


def test_two_who_cannot_be_called_have_nothing_to_say() -> None:
    hub = Hub()
    two(hub)
    hub.seen(A, None)
    hub.seen(B, None)
    assert hub.told() == []


def test_who_is_gone_is_gone_for_all_and_a_stranger_when_it_comes_back() -> None:
    hub = Hub()
    two(hub)
    hub.told()
    hub.left(B)
    hub.left(B)
    assert hub.told() == [(A, Gone(B))]
    hub.joined(B, "b", ())
    hub.seen(B, place("198.51.100.1"))
    assert {told.psk for _, told in hub.told() if isinstance(told, Introduce)} == {(2).to_bytes(32, "big")}


def test_who_was_started_again_is_told_again() -> None:
    hub = Hub()
    two(hub)
    hub.told()
    hub.joined(A, "a", ())
    hub.seen(A, place("203.0.113.1"))
    assert [key for key, _ in hub.told()] == [A]


def test_behind_one_nat_private_addresses_are_told_too() -> None:
    hub = Hub()
    own = (place("192.168.1.2"), place("8.8.8.8"), place("fe80::1"))
    hub.joined(A, "a", own)
    hub.joined(B, "b", ())
    hub.seen(A, place("203.0.113.1", 1))
    hub.seen(B, place("203.0.113.1", 2))
    told = dict(hub.told())[B]
    assert isinstance(told, Introduce)
    assert told.places == (place("203.0.113.1", 1), place("192.168.1.2")), "nobody is sent to a stranger's address"
    hub.seen(B, place("198.51.100.1"))
    told = dict(hub.told())[B]
    assert isinstance(told, Introduce)
    assert told.places == (place("203.0.113.1", 1),)


def test_a_hub_has_so_many_members_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introductions, "MAX_MEMBERS", 2)
    hub = Hub()
    two(hub)
    hub.joined(C, "c", ())
    hub.seen(C, place("192.0.2.9"))
    assert len(hub) == 2
    assert hub.drops == {DropReason.MESH_FULL: 1}
    hub.joined(A, "a", ())
    assert hub.drops == {DropReason.MESH_FULL: 1}, "a former one may come back"


def test_what_leads_to_somebody_now_is_told_to_the_others() -> None:
    hub = Hub()
    two(hub)
    hub.told()
    other = (ip_network("10.88.0.9"),)
    hub.has(B, other)
    hub.has(C, other)
    ((key, told),) = hub.told()
    assert isinstance(told, Introduce)
    assert (key, told.key, told.prefixes) == (A, B, other)


def test_who_has_more_prefixes_than_can_be_told_is_introduced_to_nobody() -> None:
    hub = Hub()
    two(hub)
    hub.told()
    hub.has(B, tuple(ip_network((number << 8, 24)) for number in range(257)))
    assert sorted(hub.told()) == [(A, Gone(B)), (B, Gone(A))]
    hub.has(B, NETWORK)
    assert [key for key, told in hub.told() if isinstance(told, Introduce)] == [A, B]


def test_two_who_may_not_meet_are_not_introduced_and_are_parted_if_that_is_new() -> None:
    hub = Hub()
    two(hub)
    assert (hub.known_to(A), hub.known_to(B)) == (0, 0)
    hub.told()
    assert (hub.known_to(A), hub.known_to(B)) == (1, 1)
    hub.apart.add(A)
    assert sorted(hub.told()) == [(A, Gone(B)), (B, Gone(A))]
    assert (hub.told(), hub.known_to(A)) == ([], 0)
