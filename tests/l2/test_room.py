"""How much of a table each port may fill."""

from __future__ import annotations

import pytest

from caetun.l2.room import SEARCH_SECONDS, Room

ATTIC, OFFICE = 1, 2


def filled(room: Room, port: int) -> int:
    """How many entries it takes until there is no room."""
    count = 0
    while room.left(port):
        room.take(port)
        count += 1
    return count


def test_one_port_leaves_room_for_the_others() -> None:
    room = Room(total=10, each=7)
    assert (filled(room, ATTIC), filled(room, OFFICE)) == (7, 3)
    assert (room.count(ATTIC), room.count(OFFICE), room.taken) == (7, 3, 10)
    assert room.full(ATTIC)
    assert not room.full(OFFICE), "it may have more, but all of it is taken"
    room.give(ATTIC)
    assert filled(room, OFFICE) == 1


def test_a_port_has_what_was_said_for_it() -> None:
    room = Room(total=10, each=0)
    assert filled(room, ATTIC) == 0
    room.limit(ATTIC, 4)
    assert filled(room, ATTIC) == 4
    room.limit(ATTIC, None)
    assert room.full(ATTIC)


def test_what_was_never_taken_cannot_be_given_back() -> None:
    with pytest.raises(KeyError):
        Room(total=10, each=7).give(ATTIC)


def test_a_flood_does_not_make_us_search_each_time() -> None:
    room = Room(total=10, each=7)
    assert [room.may_search(ATTIC, at) for at in (0.0, 0.1, SEARCH_SECONDS - 0.1)] == [True, False, False]
    assert room.may_search(OFFICE, 0.1)
    assert room.may_search(ATTIC, SEARCH_SECONDS)
