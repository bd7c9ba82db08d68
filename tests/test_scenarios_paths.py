"""Hosts that move, and paths that carry less than they did or lose what they carry: stories, told in virtual time."""

from __future__ import annotations

import pytest

from caetun.session.pathmtu import PMTU_RAISE_TIMER
from caetun.session.span import MAX_DATAGRAMS
from caetun.types import DropReason
from caetun.wire.record import HEADER_SIZE, RECORD
from tests.simulator import ETHERNET, Host, World, frame
from tests.test_scenarios import client_and_server, talk

LARGE = 1400
"""Bytes of a frame that fills a datagram."""
RECOVERY = 5.0
"""Seconds within which a path that carries smaller datagrams only is in use again."""


def settled(seed: int = 0) -> tuple[World, Host, Host]:
    """Client and server who know what their path carries."""
    world, a, b = client_and_server(seed)
    world.run(1.0)
    assert a.peer.path is not None
    assert a.peer.path.size == ETHERNET
    return world, a, b


def link_of(host: Host) -> str | None:
    """The address that a host sends to."""
    return None if host.peer.link is None else host.peer.link.source


def size_of(host: Host) -> int:
    """Bytes of the datagrams that a host sends."""
    assert host.peer.link is not None
    return host.peer.link.datagram


# moving


def test_a_client_that_moves_is_followed_at_its_next_record() -> None:
    world, a, b = settled()
    to_b, to_a = world.flow(a, rate=20, seconds=10), world.flow(b, rate=20, seconds=10)
    world.run(5.0)
    a.outside = "a elsewhere"
    world.until(lambda: link_of(b) == "a elsewhere 4500", within=0.1)
    assert size_of(b) < ETHERNET  # what the other path carried says nothing about this one
    world.run(6.0)
    assert b.told("peer.moved") == ["moved from sim a to sim a elsewhere"]
    assert b.numbers == list(to_b)
    assert len(to_a) - len(a.numbers) <= 3  # what was on its way to the old place
    assert size_of(b) == ETHERNET
    assert a.told("peer.moved") == []


def test_a_server_that_moves_is_followed_too() -> None:
    world, a, b = settled()
    b.outside = "b elsewhere"
    world.flow(b, rate=1, seconds=1)
    world.run(0.1)
    assert link_of(a) == "b elsewhere 4500"
    talk(world, a, b)


def test_an_old_record_from_another_place_moves_nothing() -> None:
    world, a, b = settled()
    seen: list[bytes] = []

    def withhold_one(source: str, _target: str, datagram: bytes) -> bool:
        if source != "a" or datagram[0] != RECORD:
            return True
        seen.append(datagram)
        return len(seen) != 5

    world.tap = withhold_one
    world.flow(a, rate=10, seconds=1)
    world.run(2.0)
    before = len(b.received)
    for datagram in seen[:6]:
        world.inject("evil", "b", datagram)
    world.run(0.1)
    assert len(b.received) == before + 1  # the one that was withheld, for what it is worth
    assert b.drops == {DropReason.RECORD_REPLAYED: 5}
    assert link_of(b) == "a 4500"
    assert b.told("peer.moved") == []


def test_a_probe_that_went_the_former_way_says_nothing_about_this_one() -> None:
    world, a, b = settled()
    a.outside = "a elsewhere"
    world.path("b", "a").longest = 1300
    world.path("a", "b").delay = 0.5  # acknowledgements for the old path are still under way
    world.flow(a, rate=20, seconds=20)
    world.run(20.0)
    assert size_of(b) <= 1300


# smaller datagrams


@pytest.mark.parametrize("at_once", [1, 40])
@pytest.mark.parametrize("answers", [0, 10])
def test_traffic_gets_through_again_soon_after_a_path_has_become_narrower(at_once: int, answers: int) -> None:
    for seed in range(1 if at_once > 1 else 4):
        world, a, b = settled(seed)
        world.flow(a, rate=50, seconds=12, size=LARGE, at_once=at_once)
        if answers:
            world.flow(b, rate=answers, seconds=12)
        world.run(3.0)
        world.all_paths(longest=1300)
        world.run(RECOVERY)
        recent = [at for at, _ in b.received if at > world.now - 0.5]
        assert len(recent) >= 0.4 * 50 * at_once
        assert 1200 <= size_of(a) <= 1300
        world.run(3.0)
        assert 1268 < size_of(a) <= 1300


def test_small_packets_do_not_hide_that_large_ones_get_lost() -> None:
    world, a, b = settled()
    world.flow(a, rate=30, seconds=20, size=100)
    world.run(0.01)
    large = set(world.flow(a, rate=10, seconds=20, size=LARGE))
    world.run(3.0)
    world.all_paths(longest=1300)
    world.run(RECOVERY)
    arrived = len(large.intersection(b.numbers))
    world.run(1.0)
    assert len(large.intersection(b.numbers)) >= arrived + 9


def test_a_stalled_tcp_connection_finds_out_by_its_retransmissions() -> None:
    world, a, b = settled()
    world.flow(a, rate=50, seconds=5, size=LARGE, at_once=40)
    world.run(7.0)
    assert a.peer.session.span.datagrams == MAX_DATAGRAMS
    world.all_paths(longest=1300)
    for after in (0.0, 0.01, 0.2, 0.6, 1.4, 3.0, 6.2):
        world.after(after, lambda: a.send(frame(10**6, LARGE)))
    world.run(6.3)
    assert b.numbers[-1] == 10**6


def test_a_path_that_is_wide_again_is_used_as_such_in_time() -> None:
    world, a, b = settled()
    world.all_paths(longest=1300)
    world.flow(a, rate=4, seconds=PMTU_RAISE_TIMER + 60, size=LARGE)
    world.run(20.0)
    assert size_of(a) <= 1300
    world.all_paths(longest=ETHERNET)
    world.run(PMTU_RAISE_TIMER + 10)
    assert size_of(a) == ETHERNET
    assert b.numbers[-1] >= 4 * PMTU_RAISE_TIMER


def test_a_local_interface_that_becomes_smaller_is_heeded_at_once() -> None:
    world, a, b = settled()
    world.flow(a, rate=20, seconds=5, size=LARGE)
    world.run(2.0)
    a.interface = 1300
    world.run(0.2)
    assert 1200 <= size_of(a) <= 1300
    world.run(4.0)
    assert len(b.numbers) >= 98


def test_a_sparse_flow_on_a_sound_path_is_not_suspected() -> None:
    world, a, _ = settled()
    for rate in (1, 3, 8, 50):
        world.flow(a, rate=rate, seconds=30, size=LARGE)
        probes = a.peer._ways.last_probe
        world.run(30.0)
        assert a.peer._ways.last_probe - probes <= 6
    assert size_of(a) == ETHERNET


# long records


def test_records_grow_long_on_a_clean_path_and_short_where_it_loses() -> None:
    world, a, b = settled()
    clean = world.flow(a, rate=50, seconds=5, size=LARGE, at_once=40)
    world.run(5.1)
    span = a.peer.session.span
    assert b.numbers == list(clean)
    assert span.datagrams == MAX_DATAGRAMS
    world.all_paths(loss=0.01)
    world.flow(a, rate=50, seconds=8, size=LARGE, at_once=40)
    world.run(2.0)
    short = 0
    for _ in range(60):
        world.run(0.1)
        short += span.datagrams == 1
    assert short >= 54
    b.received.clear()
    world.flow(a, rate=50, seconds=2, size=LARGE, at_once=40)
    world.run(2.1)
    assert len(b.received) >= 4000 * 0.97


def test_reports_are_few() -> None:
    for rate, most in ((1, 2), (10, 2.5), (1000, 52)):
        world, a, _ = settled()
        sent: list[bytes] = []

        def note(source: str, _target: str, datagram: bytes, sent: list[bytes] = sent) -> bool:
            if source == "b" and datagram[0] == RECORD:
                sent.append(datagram)
            return True

        world.flow(a, rate=rate, seconds=10)
        world.tap = note
        world.run(11.0)
        assert len(sent) <= 11 * most


def test_an_idle_tunnel_sends_keepalives_and_few_reports_of_them() -> None:
    world, _, _ = settled()
    world.run(10.0)
    carried = world.carried
    world.run(100.0)
    assert world.carried - carried <= 2 * (10 + 5)


def test_forged_pieces_shorten_records_and_win_nothing_else() -> None:
    world, a, b = settled()

    def forge(source: str, _target: str, datagram: bytes) -> bool:
        """A man on the side: he is faster with a second piece of his own for every record of several."""
        if source == "a" and datagram[:2] == bytes((RECORD, 1)):
            forged.append(datagram[:HEADER_SIZE] + bytes(len(datagram) - HEADER_SIZE))
            world.inject("a", "b", forged[-1])
        return True

    forged: list[bytes] = []
    world.flow(a, rate=50, seconds=4, size=LARGE, at_once=40)
    world.run(4.0)
    assert a.peer.session.span.datagrams == MAX_DATAGRAMS
    world.tap = forge
    world.flow(a, rate=50, seconds=12, size=LARGE, at_once=40)
    world.run(6.0)
    assert a.peer.session.span.datagrams == 1
    assert forged
    b.received.clear()
    world.run(6.1)
    assert len(b.received) >= 6 * 2000 * 0.75  # now and then it tries longer records again, ever more rarely
    assert b.drops[DropReason.RECORD_FORGED] > 0
    assert b.drops.keys() <= {
        *(DropReason.RECORD_FORGED, DropReason.RECORD_REPLAYED, DropReason.RECORD_INCOMPLETE),
        DropReason.RECORD_MALFORMED,
    }
    assert b.told("peer.down") == a.told("peer.down") == []
