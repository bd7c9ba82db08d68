"""Attempts that wait for answers: found by index, forgotten by peer, and never more than a few a peer."""

from __future__ import annotations

from caetun.session.identity import PeerId
from caetun.session.pending import MAX_ATTEMPTS, Pending

ALICE, BOB = PeerId(b"a" * 32), PeerId(b"b" * 32)


def test_an_attempt_is_found_by_its_index_and_the_newest_by_its_peer() -> None:
    pending = Pending[str]()
    assert pending.newest(ALICE) is None
    pending.begin(ALICE, 7, "first")
    pending.begin(BOB, 8, "to another")
    pending.begin(ALICE, 9, "second")
    assert (pending[7], pending[8], pending[9]) == ("first", "to another", "second")
    assert (pending.newest(ALICE), pending.newest(BOB)) == (9, 8)


def test_one_more_than_the_cap_takes_the_place_of_the_oldest_to_that_peer_only() -> None:
    pending = Pending[str]()
    pending.begin(BOB, 1000, "to another")
    for index in range(MAX_ATTEMPTS):
        pending.begin(ALICE, index, f"attempt {index}")
    assert len(pending) == MAX_ATTEMPTS + 1
    pending.begin(ALICE, 99, "one more")
    assert 0 not in pending
    assert set(pending) == {1000, 99, *range(1, MAX_ATTEMPTS)}


def test_one_that_failed_makes_room_and_the_one_before_is_the_newest_again() -> None:
    pending = Pending[str]()
    for index in range(MAX_ATTEMPTS):
        pending.begin(ALICE, index, "")
    pending.end(ALICE, MAX_ATTEMPTS - 1)
    assert pending.newest(ALICE) == MAX_ATTEMPTS - 2
    pending.begin(ALICE, 99, "")
    assert 0 in pending, "there was room"


def test_a_peer_is_forgotten_with_all_its_attempts_and_may_be_called_again() -> None:
    pending = Pending[str]()
    pending.begin(ALICE, 1, "")
    pending.begin(ALICE, 2, "")
    pending.begin(BOB, 3, "")
    pending.abandon(ALICE)
    pending.abandon(ALICE)
    assert (set(pending), pending.newest(ALICE)) == ({3}, None)
    for index in range(10, 10 + MAX_ATTEMPTS):
        pending.begin(ALICE, index, "")
    assert len(pending) == MAX_ATTEMPTS + 1, "those that were abandoned do not count"
