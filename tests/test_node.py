"""The engine: session indices that name peers, several peers at one device, and garbage."""

from __future__ import annotations

import pytest

from caetun.node import IndexAllocator, Node
from caetun.peers import Output
from caetun.session.session import MAX_PREVIOUS, MAX_UNCONFIRMED
from caetun.types import DropReason, Drops
from caetun.wire.container import Batch
from caetun.wire.record import Record
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.bench import Bench, Crowd, ReadyMade
from tests.l2.hosts import announces, sends
from tests.simulator import Host, Setup, World, frame


def test_indices_are_neither_zero_nor_in_use() -> None:
    numbers = iter([0, 7, 7, 8])
    bench = Bench()
    indices = IndexAllocator(lambda size: next(numbers).to_bytes(size, "big"))
    assert indices() == 7
    indices.sessions[7] = bench.peer, None  # type: ignore[assignment]
    assert indices() == 8


@pytest.mark.parametrize("initiator", [True, False])
def test_ten_thousand_new_keys_leave_nothing_behind(initiator: bool) -> None:
    bench = Bench()
    most = 0
    for number in range(10_000):
        now = number * 120.0
        bench.shake(number, now, initiator=initiator)
        if not initiator and number % 3:  # the far end does not use all that it was offered
            pair = bench.peer.session.unconfirmed[-1]
            assert bench.node.sessions[pair.local_index] == (bench.peer, pair)
            bench.node._retire(bench.peer.session.confirm(pair, now))
        bench.node.tick(now, now, bench.out)
        most = max(most, len(bench.node.sessions))
        bench.out.clear()
    session = bench.peer.session
    kept = {pair.local_index for pair in (session.current, *session.previous, *session.unconfirmed) if pair is not None}
    assert bench.node.sessions.keys() == kept
    assert most <= 1 + MAX_PREVIOUS + MAX_UNCONFIRMED


def test_indices_of_a_session_that_is_over_are_unknown() -> None:
    bench = Bench()
    bench.shake(1, 0.0, initiator=True)
    pair = bench.peer.session.current
    assert pair is not None
    assert list(bench.node.sessions) == [pair.local_index]
    bench.node.tick(30.0, 0.0, bench.out)
    assert bench.node.sessions == {}
    bench.node.records_received(bench.link, [Record(pair.local_index, 0, bytes(16))], 30.0, bench.out)
    assert bench.drops == {DropReason.RECORD_UNKNOWN_SESSION: 1}


def test_replies_go_back_to_where_the_message_came_from() -> None:
    bench = Bench()
    bench.shake(1, 0.0, initiator=False)
    assert bench.out.messages == [(bench.link, [b"reply"])]
    assert not bench.peer.present


def test_a_stream_has_no_path_mtu() -> None:
    bench = Bench()
    bench.shake(1, 0.0, initiator=True)
    assert bench.peer.path is None
    bench.node.too_big(bench.link, 1500, 0.0, bench.out)
    bench.node.tick(1.0, 1.0, bench.out)
    assert bench.out.probes == []


def test_a_frame_without_peers_goes_nowhere() -> None:
    drops = Drops()
    node = Node(ReadyMade(drops), IndexAllocator(bytes), drops)
    batch, out = Batch(), Output()
    batch.append(frame(1))
    node.device_received(batch, 0.0, out)
    assert out == Output()
    assert node.next_deadline() is None


# hundreds of peers

PEERS = 300


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    """A hub with 300 peers; host 1000 is at the third, host 2000 at the seventh."""
    made = Crowd(PEERS)
    made.node.tick(0.0, 0.0, made.out)
    made.hears(3, announces(1000), 1.0)
    made.hears(7, announces(2000), 1.0)
    made.hears(7, sends(2000, 1000), 1.1)
    made.sealed()
    return made


def test_from_peer_to_peer_it_is_one_look_up(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd.hears(3, sends(1000, 2000), 2.0)
    assert crowd.sealed() == ["link7"]

    def decide(*_: object) -> None:
        raise AssertionError("it was decided upon less than a second ago")

    monkeypatch.setattr(crowd.bridge, "_decide", decide)
    for _ in range(100):
        crowd.hears(3, sends(1000, 2000), 2.5)
        assert crowd.sealed() == ["link7"]


def test_what_is_for_all_is_sealed_once_for_each(crowd: Crowd) -> None:
    crowd.hears(3, announces(1000), 3.0)
    assert sorted(crowd.sealed()) == sorted(f"link{number}" for number in range(PEERS) if number != 3)
    crowd.sends(announces(5), 3.0)
    assert sorted(crowd.sealed()) == sorted(f"link{number}" for number in range(PEERS))


def test_a_flood_is_one_batch_whoever_gets_it(crowd: Crowd) -> None:
    """Its frames are copied once, not once a peer."""
    batch = Batch()
    for _ in range(10):
        batch.append(announces(5))
    board = crowd.node.board
    assert board is not None
    (parcel,) = board.outbound(batch, 4.0)
    assert (len(parcel.ports), parcel.batch) == (PEERS, batch)
    frames = [(NO_OFFLOAD, memoryview(announces(1000)))] * 10
    _, parcels = board.inbound(4, frames, 4.0)
    assert [len(parcel.ports) for parcel in parcels] == [PEERS - 1]
    assert len(parcels[0].batch) == 10


def test_idle_they_are_looked_at_seldom(crowd: Crowd) -> None:
    now, ticks = 5.0, 0
    while now < 15.0:
        due = crowd.node.next_deadline()
        assert due is not None
        now = max(now + 0.001, due)
        crowd.node.tick(now, now, crowd.out)
        crowd.sealed()
        ticks += 1
    assert ticks < 100


# with a network


def hub() -> tuple[World, Host, Host, Host]:
    """A hub that b and c connect to."""
    world = World()
    middle = world.host("hub", Setup({"b": [], "c": []}))
    return world, middle, world.host("b", Setup({"hub": ["hub"]})), world.host("c", Setup({"hub": ["hub"]}))


def test_two_peers_share_a_device_and_are_told_apart() -> None:
    world, middle, b, c = hub()
    world.run(1.0)
    middle.send(frame(1))
    b.send(frame(2))
    c.send(frame(3))
    world.run(1.0)
    assert (b.numbers, c.numbers, sorted(middle.numbers)) == ([1], [1], [2, 3])
    assert middle.peers["b"].link is not middle.peers["c"].link


def test_one_peer_that_goes_leaves_the_other_alone() -> None:
    world, middle, b, c = hub()
    world.run(1.0)
    b.stop()
    world.run(40.0)
    assert [middle.peers[name].present for name in "bc"] == [False, True]
    middle.send(frame(1))
    world.run(1.0)
    assert c.numbers == [1]
    middle.stop()
    world.run(0.1)
    assert not c.peer.present


def test_a_datagram_that_is_too_big_for_one_peer_is_not_for_the_other() -> None:
    world, middle, *_ = hub()
    world.run(1.0)
    b, c = middle.peers["b"], middle.peers["c"]
    assert b.link is not None
    assert c.link is not None
    middle.node.too_big(b.link, 1472, world.now, Output())
    assert b.path is not None
    assert c.path is not None
    assert b.path.size < c.path.size


def test_garbage_is_counted_and_changes_nothing() -> None:
    world, middle, *_ = hub()
    world.run(1.0)
    for datagram in (b"\x09", b"\x01" * 40, b"\x02" * 1200, b"\x03" * 64, b"\x04" * 40, bytes(1472)):
        world.inject("evil", "hub", datagram)
    world.run(1.0)
    assert sum(middle.drops.values()) == 6
    assert all(peer.present for peer in middle.peers.values())
