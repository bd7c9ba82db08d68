"""Batches through the switch: what goes one way stays together."""

from __future__ import annotations

from caetun.board import LOCAL, Parcel
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.queries import query_frame
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.switchboard import Switchboard
from caetun.l2.vlan import PortVlans, access, trunk
from caetun.types import Drops, Iovec
from caetun.wire.container import Batch
from caetun.wire.ip import outline
from caetun.wire.membership import Query, decode
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.l2.frames import ethernet, ipv6, mac

BROADCAST = b"\xff" * 6
OURS = mac(0xABCDEF)


def frame(source: int, destination: int | None, tag: bytes = b"") -> bytes:
    to = BROADCAST if destination is None else mac(destination)
    whole = ethernet(to, mac(source), 0x1234, bytes(46))
    return whole[:12] + tag + whole[12:]


def board(*vlans: PortVlans | None) -> Switchboard:
    bridge = Bridge(Drops(), LoopProbes(bytes(32), OURS), SnoopingSettings(address6=ipv6(1)))
    for number, each in enumerate(vlans or (None, None, None)):
        bridge.add_port(number, PortSettings(f"port{number}", vlans=each), 0.0)
    return Switchboard(bridge, OURS)


def batch(*frames: bytes) -> Batch:
    made = Batch()
    for each in frames:
        made.append(each)
    return made


def contents(parcels: list[Parcel]) -> list[tuple[tuple[int, ...], list[bytes]]]:
    return [(ports, [bytes(each) for each, _ in some.frames()]) for ports, some in parcels]


def iovecs(*frames: bytes) -> list[Iovec]:
    return [(NO_OFFLOAD, memoryview(each)) for each in frames]


class TestOutbound:
    def test_what_goes_one_way_is_the_devices_own_batch(self) -> None:
        switch = board()
        switch.inbound(2, iovecs(frame(2, None)), 0.0)
        mine = batch(*[frame(1, 2)] * 5)
        (parcel,) = switch.outbound(mine, 0.0)
        assert parcel.ports == (2,)
        assert parcel.batch is mine

    def test_what_goes_several_ways_is_sorted_in_order(self) -> None:
        switch = board()
        switch.inbound(1, iovecs(frame(11, None)), 0.0)
        switch.inbound(2, iovecs(frame(12, None)), 0.0)
        frames = [frame(1, 11), frame(1, 12), frame(1, None), frame(2, 11)]
        assert contents(switch.outbound(batch(*frames), 0.0)) == [
            ((1,), [frames[0], frames[3]]),
            ((2,), [frames[1]]),
            ((1, 2), [frames[2]]),
        ]

    def test_what_goes_nowhere_is_not_sent(self) -> None:
        switch = board()
        assert switch.outbound(batch(ethernet(bytes.fromhex("0180c2000000"), mac(1), 0x0026, bytes(46))), 0.0) == []
        assert switch.outbound(batch(), 0.0) == []

    def test_memory_is_used_again(self) -> None:
        switch = board()
        switch.inbound(1, iovecs(frame(11, None)), 0.0)
        for _ in range(100):
            switch.outbound(batch(frame(1, 11), frame(1, None)), 0.0)
        assert len(switch.batches) == 2


class TestInbound:
    def test_for_the_host_as_it_came(self) -> None:
        switch = board()
        switch.outbound(batch(frame(1, None)), 0.0)
        came = iovecs(frame(11, 1), frame(11, 1))
        local, parcels = switch.inbound(1, came, 0.0)
        assert all(mine is theirs for mine, theirs in zip(local, came, strict=True))
        assert parcels == []

    def test_to_another_peer_with_its_metadata_and_in_pieces(self) -> None:
        switch = board()
        switch.inbound(2, iovecs(frame(12, None)), 0.0)
        whole = frame(11, 12)
        header = bytes((1, 0, 0, 0, 0, 0, 34, 0, 16, 0))
        local, parcels = switch.inbound(1, [(header, memoryview(whole)[:30], memoryview(whole)[30:])], 0.0)
        assert local == []
        assert contents(parcels) == [((2,), [whole])]
        assert [bytes(each) for _, each in parcels[0].batch.frames()] == [header]

    def test_what_was_joined_has_its_headers_with_the_metadata(self) -> None:
        switch = board()
        switch.inbound(2, iovecs(frame(12, None)), 0.0)
        whole, header = frame(11, 12), bytes((1, 0, 0, 0, 0, 0, 34, 0, 16, 0))
        for joined in ((header + whole[:40], whole[40:]), (header + whole,)):
            local, parcels = switch.inbound(1, [joined], 0.0)
            assert [[(bytes(each), head) for each, head in parcel.batch.frames()] for parcel in parcels] == [
                [(whole, header)]
            ]
            assert local == []

    def test_a_flood_reaches_both(self) -> None:
        local, parcels = board().inbound(1, iovecs(frame(11, None)), 0.0)
        assert [bytes(each[1]) for each in local] == [frame(11, None)]
        assert contents(parcels) == [((2,), [frame(11, None)])]

    def test_more_than_a_batch_holds(self) -> None:
        switch = board()
        switch.inbound(2, iovecs(frame(12, None)), 0.0)
        big = frame(11, 12) + bytes(60_000)
        _, parcels = switch.inbound(1, iovecs(*[big] * 5), 0.0)
        assert sum(len(parcel.batch) for parcel in parcels) == 5
        assert {parcel.ports for parcel in parcels} == {(2,)}


def test_tags_come_and_go_by_port() -> None:
    switch = board(access(7), trunk(frozenset({7})), access(7))
    tagged = frame(11, None, b"\x81\0\0\x07")
    local, parcels = switch.inbound(1, iovecs(tagged), 0.0)
    assert [b"".join(each[1:]) for each in local] == [frame(11, None)]
    assert contents(parcels) == [((2,), [frame(11, None)])]
    assert contents(switch.outbound(batch(frame(1, None)), 0.0)) == [
        ((1,), [frame(1, None, b"\x81\0\0\x07")]),
        ((2,), [frame(1, None)]),
    ]


def test_queries_and_probes_go_out_by_themselves() -> None:
    local, parcels = board().tick(0.0)
    asked = [decode(each[1], 14, outline(each[1], 14)) for each in local if bytes(each[1][12:14]) != b"\x88\xb5"]
    assert [(query.source, query.version) for query in asked if isinstance(query, Query)] == [
        (bytes(4), 3),
        (ipv6(1), 2),
    ]
    assert {port for parcel in parcels for port in parcel.ports} | {LOCAL} == {0, 1, 2}


def test_a_query_is_one_a_host_accepts() -> None:
    group = bytes((239, 1, 2, 3))
    whole = query_frame(Query(3, bytes(4), group, 1.0, robustness=2, interval=125.0), OURS)
    assert len(whole) == 60
    assert whole[:12] == bytes.fromhex("01005e010203") + OURS
    assert decode(whole, 14, outline(whole, 14)) == Query(3, bytes(4), group, 1.0, False, 2, 125.0)
