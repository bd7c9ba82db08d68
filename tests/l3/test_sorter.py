"""Packets of one batch that go several ways: together by way, in order, and the ones passed on with a hop less."""

from __future__ import annotations

from caetun.board import Batches, Parcel
from caetun.l3.sorter import Sorter
from caetun.types import Iovec
from caetun.wire.container import MAX_BATCH_FRAMES, VNET_SIZE
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.l3.packets import frames, packet, read

ALICE, BOB, CAROL = "10.0.0.1", "10.0.0.2", "10.0.0.3"
SIX, SEVEN = "fd00::6", "fd00::7"


def content(parcel: Parcel) -> list[bytes]:
    return [bytes(frame) for frame, _ in parcel.batch.frames()]


def sorter() -> Sorter:
    return Sorter(Batches())


def test_packets_for_one_peer_travel_together_and_in_order() -> None:
    sort = sorter()
    packets = [packet(ALICE, BOB, 100 + number) for number in range(4)]
    for port, frame in zip([1, 2, 1, 2], frames(*packets), strict=True):
        sort.add((port,), frame)
    assert [parcel.ports for parcel in sort.parcels] == [(1,), (2,)]
    assert [content(parcel) for parcel in sort.parcels] == [packets[::2], packets[1::2]]


def test_two_peers_are_another_way_than_either() -> None:
    sort = sorter()
    for ports, frame in zip([(1,), (1, 2), (2,)], frames(*[packet(ALICE, BOB)] * 3), strict=True):
        sort.add(ports, frame)
    assert [parcel.ports for parcel in sort.parcels] == [(1,), (1, 2), (2,)]


def test_what_is_forwarded_has_a_hop_less_and_right_checksums_and_the_senders_copy_stays() -> None:
    sort = sorter()
    four, six = packet(ALICE, BOB, hops=64), packet(SIX, SEVEN, hops=9)
    for frame in frames(four, six):
        sort.add((1,), frame, forwarded=True)
    sort.add((1,), frames(four)[0])
    first, second, third = content(sort.parcels[0])
    assert (read(first).ttl, read(second).hlim) == (63, 8)
    assert third == four
    assert (read(four).ttl, read(six).hlim) == (64, 9)


def test_the_hop_is_taken_from_the_packet_that_was_added_not_from_one_before_it() -> None:
    sort = sorter()
    for number, hops in enumerate([64, 32, 16]):
        sort.add((1,), frames(packet(ALICE, BOB, 60 + number, hops=hops))[0], forwarded=number == 1)
    assert [read(each).ttl for each in content(sort.parcels[0])] == [64, 31, 16]


def test_a_superframe_that_was_joined_keeps_its_header_and_all_its_parts() -> None:
    whole = packet(ALICE, BOB, 3000)
    header = bytes(range(VNET_SIZE))
    joined: Iovec = (header, memoryview(whole)[:40], memoryview(whole)[40:1400], memoryview(whole)[1400:])
    sort = sorter()
    sort.add((1,), joined, forwarded=True)
    ((frame, said),) = sort.parcels[0].batch.frames()
    assert said == header
    assert read(bytes(frame)).ttl == 63
    assert bytes(frame)[20:] == whole[20:]


def test_a_full_batch_is_followed_by_another_for_the_same_peer() -> None:
    sort = sorter()
    whole = packet(ALICE, CAROL, 60)
    for _ in range(MAX_BATCH_FRAMES + 1):
        sort.add((1,), (NO_OFFLOAD, memoryview(whole)))
    assert [parcel.ports for parcel in sort.parcels] == [(1,), (1,)]
    assert sum(len(content(parcel)) for parcel in sort.parcels) == MAX_BATCH_FRAMES + 1
    assert sort.parcels[0].batch.full
