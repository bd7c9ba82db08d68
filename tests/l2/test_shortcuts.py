"""Which way leads to a host, by what members say and by what is seen of it."""

from __future__ import annotations

import pytest

from caetun.l2 import shortcuts
from caetun.l2.shortcuts import DISBELIEF_SECONDS, Shortcuts
from caetun.types import DropReason, Drops
from tests.l2.frames import mac

HOST, OTHER = mac(1), mac(2)
ALICE, BOB = 2, 3


@pytest.fixture
def ways() -> Shortcuts:
    made = Shortcuts(Drops())
    made.said(ALICE, [HOST])
    made.up(ALICE)
    made.up(BOB)
    return made


def test_a_host_is_reached_directly_as_long_as_the_way_works() -> None:
    ways = Shortcuts(Drops())
    ways.said(ALICE, [HOST])
    assert (ways.ways, ways.any_up) == ({}, False)
    ways.up(ALICE)
    assert (ways.ways, ways.works(ALICE)) == ({HOST: ALICE}, True)
    ways.suspect(ALICE, True)
    assert (ways.ways, ways.works(ALICE), ways.any_up) == ({}, False, True)
    ways.suspect(ALICE, False)
    assert ways.ways == {HOST: ALICE}
    ways.suspect(ALICE, True)
    ways.down(ALICE)
    assert (ways.ways, ways.any_up) == ({}, False)
    ways.up(ALICE)
    assert ways.ways == {HOST: ALICE}, "what comes up anew is not suspect"


def test_who_says_so_last_has_the_host(ways: Shortcuts) -> None:
    ways.said(BOB, [HOST])
    assert ways.ways == {HOST: BOB}
    ways.said(ALICE, [], [HOST])
    ways.said(ALICE, [], [HOST, OTHER])
    assert ways.ways == {HOST: BOB}
    ways.said(ALICE, [HOST])
    assert ways.ways == {HOST: ALICE}
    ways.said(ALICE, [], [HOST])
    assert ways.ways == {HOST: BOB}, "it has gone back"
    ways.forget(BOB)
    ways.forget(BOB)
    assert (ways.ways, ways.count(BOB)) == ({}, 0)


def test_where_the_way_to_who_said_so_last_is_dead_the_hub_knows_better_than_who_said_so_before(
    ways: Shortcuts,
) -> None:
    ways.said(BOB, [HOST])
    ways.suspect(BOB, True)
    assert ways.ways == {}


def test_who_sends_by_the_hub_makes_the_way_doubtful_at_once_and_is_then_answered_there(ways: Shortcuts) -> None:
    ways.came_by_hub(HOST, 10.0)
    assert (ways.avoided(), ways.avoided(), ways.ways) == ([ALICE], [], {HOST: ALICE})
    ways.came_by_hub(HOST, 10.0 + DISBELIEF_SECONDS)
    assert ways.ways == {}
    ways.came_directly(BOB, HOST)
    assert ways.ways == {}, "that is another one's way"
    ways.came_directly(ALICE, HOST)
    assert (ways.ways, ways.doubts) == ({HOST: ALICE}, False)


def test_a_frame_that_came_directly_in_between_ends_the_doubt(ways: Shortcuts) -> None:
    ways.came_by_hub(HOST, 10.0)
    ways.came_directly(ALICE, HOST)
    ways.came_by_hub(HOST, 10.0 + DISBELIEF_SECONDS)
    assert ways.ways == {HOST: ALICE}


@pytest.mark.parametrize("news", ["said again", "the way is back"])
def test_what_is_news_is_believed(ways: Shortcuts, news: str) -> None:
    for now in (10.0, 10.0 + DISBELIEF_SECONDS):
        ways.came_by_hub(HOST, now)
    if news == "said again":
        ways.said(ALICE, [HOST])
    else:
        ways.down(ALICE)
        ways.up(ALICE)
    assert (ways.ways, ways.doubts) == ({HOST: ALICE}, False)


def test_a_way_that_is_tested_for_a_hint_does_not_end_the_doubt(ways: Shortcuts) -> None:
    for now in (10.0, 11.0, 12.0, 13.0):
        ways.came_by_hub(HOST, now)
        ways.suspect(ALICE, True)
        ways.suspect(ALICE, False)
    assert (ways.ways, DISBELIEF_SECONDS) == ({}, 3.0)


def test_what_was_long_ago_is_not_held_against_a_host(ways: Shortcuts) -> None:
    ways.came_by_hub(HOST, 10.0)
    ways.came_by_hub(HOST, 10.0 + 2 * DISBELIEF_SECONDS)
    assert ways.ways == {HOST: ALICE}


def test_that_a_way_known_to_be_dead_is_avoided_is_no_hint(ways: Shortcuts) -> None:
    ways.came_by_hub(HOST, 10.0)
    ways.suspect(ALICE, True)
    assert ways.avoided() == []


def test_a_member_has_so_many_hosts_at_most(ways: Shortcuts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "MAX_HOSTS", 2)
    ways.said(ALICE, [OTHER, mac(3)])
    assert (ways.count(ALICE), ways.ways) == (2, {HOST: ALICE, OTHER: ALICE})
    ways.said(ALICE, [HOST])
    assert ways._drops == {DropReason.MESH_FULL: 1}, "a known one may be said again"
