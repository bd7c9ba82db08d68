"""Peers that nobody named: how many may wait."""

from __future__ import annotations

from caetun.auth.guests import MAX_WAITING, MAX_WAITING_PER_HOST, Guests


def test_one_host_does_not_take_all_places() -> None:
    guests = Guests()
    came = [guests.come(bytes((number,)), "192.0.2.1") for number in range(MAX_WAITING_PER_HOST + 1)]
    assert came == [True] * MAX_WAITING_PER_HOST + [False]
    assert guests.come(b"other", "192.0.2.2")
    guests.passed(b"\0")
    assert guests.come(b"next", "192.0.2.1")


def test_places_are_bounded_and_given_back() -> None:
    guests = Guests()
    for number in range(MAX_WAITING):
        assert guests.come(bytes((number,)), str(number))
    assert not guests.may_come(b"one more")
    assert guests.may_come(b"\0")  # it is there already
    guests.gone(b"\0")
    assert guests.may_come(b"one more")
    assert b"\0" not in guests
    assert b"\1" in guests


def test_who_goes_twice_gives_back_one_place() -> None:
    guests = Guests()
    guests.come(b"a", "host")
    guests.passed(b"a")
    guests.gone(b"a")
    guests.gone(b"a")
    assert not guests._hosts
    assert not guests._waiting
    assert not guests._passed
