"""Packets between a host, Alice (port 1) and Bob (port 2), who has a network behind him."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.board import LOCAL, Parcel
from caetun.l3 import router as routers
from caetun.l3.answers import BURST, Answers
from caetun.l3.router import Between, Router
from caetun.l3.table import VACANT, Table
from caetun.types import DropReason, Drops, Iovec, Mode
from tests.l3.packets import batch, frames, packet, read, told
from tests.offload.superframes import Superframe

HUB, ALICE, BOB, PRINTER, NOBODY = "10.88.0.1", "10.88.0.2", "10.88.0.3", "10.1.0.9", "10.88.0.77"
HUB6, ALICE6, BOB6 = "fd88::1", "fd88::2", "fd88::3"
_ALICE, _BOB = 1, 2


def make(between: Between = Between.ON, *, patient: bool = False, up: tuple[int, ...] = (1, 2)) -> Router:
    drops = Drops()
    answers = Answers(Mode.TUN, drops, [bytes((10, 88, 0, 1)), ip_network(HUB6).network_address.packed])
    router = Router(Table(), answers, drops, between, patient=patient)
    router.name(_ALICE, "alice")
    for port, networks in {
        LOCAL: [HUB, HUB6],
        VACANT: ["10.88.0.0/24", "fd88::/64"],
        _ALICE: [ALICE, ALICE6],
        _BOB: [BOB, BOB6, "10.1.0.0/24"],
    }.items():
        router.add_routes(port, [ip_network(each) for each in networks])
    for port in up:
        router.add_port(port, None, 0.0)
    return router


def contents(parcels: list[Parcel]) -> list[tuple[tuple[int, ...], list[bytes]]]:
    return [(ports, [bytes(frame) for frame, _ in some.frames()]) for ports, some in parcels]


def answers(router: Router, now: float = 0.0) -> tuple[list[bytes], list[tuple[tuple[int, ...], list[bytes]]]]:
    """What it has to say by itself: to the host, and to peers."""
    local, parcels = router.tick(now)
    assert not router.waiting
    return [bytes(each[1]) for each in local], contents(parcels)


def drops(router: Router) -> Drops:
    return router._drops


SHORT = [bytes([0x45]) * 19, packet(HUB, BOB)[:19]]
"""Less than an IPv4 header: only the device may give such, a session drops what is shorter."""
GARBAGE = [b"\0" * 60, bytes([0x60]) * 39, b"\xf0" * 20]


@pytest.mark.parametrize("raw", [*SHORT, *GARBAGE])
def test_what_the_device_gives_that_is_no_packet_is_counted(raw: bytes) -> None:
    router = make()
    assert contents(router.outbound(batch(raw, packet(HUB, BOB)), 0.0)) == [((_BOB,), [packet(HUB, BOB)])]
    assert drops(router) == {DropReason.ROUTE_MALFORMED: 1}
    assert answers(router) == ([], []), "nobody is told"


@pytest.mark.parametrize("raw", GARBAGE)
def test_what_a_peer_sends_that_is_no_packet_is_counted(raw: bytes) -> None:
    router = make()
    assert router.inbound(_ALICE, frames(raw), 0.0) == ([], [])
    assert drops(router) == {DropReason.ROUTE_MALFORMED: 1}
    assert answers(router) == ([], []), "nobody is told"


class TestFromTheHost:
    def test_what_goes_to_one_peer_is_the_devices_own_batch(self) -> None:
        mine = batch(packet(HUB, BOB), packet(HUB, PRINTER))
        (parcel,) = make().outbound(mine, 0.0)
        assert parcel.ports == (_BOB,)
        assert parcel.batch is mine

    def test_what_goes_to_several_is_sorted_in_order(self) -> None:
        one, two, three = packet(HUB, BOB), packet(HUB6, ALICE6), packet(HUB, PRINTER)
        assert contents(make().outbound(batch(one, two, three), 0.0)) == [((_BOB,), [one, three]), ((_ALICE,), [two])]

    def test_its_hop_limit_is_the_hosts_business(self) -> None:
        last = packet(HUB, BOB, hops=1)
        assert contents(make().outbound(batch(last), 0.0)) == [((_BOB,), [last])]

    @pytest.mark.parametrize(
        ("address", "kind", "code"),
        [(NOBODY, 3, 1), ("192.0.2.1", 3, 0), ("fd88::77", 1, 3), ("2001:db8::1", 1, 0)],
    )
    def test_where_nobody_is_it_is_told_in_the_name_of_whom_it_asked_for(
        self, address: str, kind: int, code: int
    ) -> None:
        router, lost = make(), packet(HUB6 if ":" in address else HUB, address)
        assert router.outbound(batch(lost), 0.0) == []
        (answer,), _ = answers(router)
        assert told(answer)[:4] == (address, HUB6 if ":" in address else HUB, kind, code)
        assert told(answer)[5] == lost
        assert drops(router) == {DropReason.ROUTE_NONE: 1}

    def test_a_peer_that_is_not_there(self) -> None:
        router = make(up=(_ALICE,))
        assert router.outbound(batch(packet(HUB, BOB)), 0.0) == []
        assert told(answers(router)[0][0])[2:4] == (3, 1)
        router.add_port(_BOB, None, 0.0)
        assert len(router.outbound(batch(packet(HUB, BOB)), 0.0)) == 1
        router.remove_port(_BOB)
        assert router.outbound(batch(packet(HUB, BOB)), 0.0) == []
        assert drops(router) == {DropReason.ROUTE_DOWN: 2}

    def test_a_peer_that_we_call_may_be_waited_for(self) -> None:
        assert len(make(patient=True, up=()).outbound(batch(packet(HUB, BOB)), 0.0)) == 1

    @pytest.mark.parametrize("address", ["224.0.0.251", "239.1.2.3", "255.255.255.255", "ff02::2"])
    def test_what_is_for_many_is_dropped_in_silence(self, address: str) -> None:
        router = make()
        assert router.outbound(batch(packet(HUB6 if ":" in address else HUB, address)), 0.0) == []
        assert not router.waiting
        assert drops(router) == {DropReason.ROUTE_MULTICAST: 1}


class TestFromAPeer:
    def test_to_the_host_as_it_came(self) -> None:
        came = frames(packet(ALICE, HUB, hops=1), packet(ALICE6, HUB6), packet(ALICE, "192.0.2.1"))
        local, parcels = make().inbound(_ALICE, came, 0.0)
        assert all(mine is theirs for mine, theirs in zip(local, came, strict=True))
        assert parcels == []

    @pytest.mark.parametrize(("source", "destination"), [(ALICE, PRINTER), (ALICE6, BOB6)])
    def test_to_another_with_one_hop_less(self, source: str, destination: str) -> None:
        local, parcels = make().inbound(_ALICE, frames(packet(source, destination, hops=2)), 0.0)
        assert local == []
        assert contents(parcels) == [((_BOB,), [packet(source, destination, hops=1)])]

    @pytest.mark.parametrize("split", [None, 40, 28])
    def test_a_superframe_goes_on_as_one_with_its_metadata(self, split: int | None) -> None:
        whole = Superframe(mode=Mode.TUN)
        raw = bytearray(whole.frame)
        raw[12:16], raw[16:20] = bytes((10, 88, 0, 2)), bytes((10, 1, 0, 9))
        raw[10:12] = bytes(2)
        raw[10:12] = struct.pack(">H", _checksum(bytes(raw[:20])))
        shape: Iovec = (whole.header, memoryview(raw))
        if split is not None:  # as `offload/join.py` gives them
            shape = (whole.header + bytes(raw[:split]), memoryview(raw)[split:])
        _, (parcel,) = make().inbound(_ALICE, [shape], 0.0)
        ((frame, header),) = parcel.batch.frames()
        assert header == whole.header
        assert read(bytes(frame)).ttl == raw[8] - 1
        assert bytes(frame[12:]) == bytes(raw[12:])

    @pytest.mark.parametrize("source", [BOB, HUB, "10.1.0.9", "192.0.2.1", BOB6])
    def test_not_from_an_address_that_is_somebody_elses(self, source: str) -> None:
        router = make()
        spoofed = frames(packet(source, BOB6 if ":" in source else HUB))
        assert router.inbound(_ALICE, spoofed, 5.0) == ([], [])
        assert router.inbound(_ALICE, spoofed, 6.0) == ([], [])
        assert drops(router) == {DropReason.ROUTE_SOURCE: 2}
        ((level, event, text),) = router.notices()
        assert answers(router) == ([], []), "whoever has that address has not asked"
        assert (level, event) == ("warning", "route.source")
        assert text.startswith(f"alice sends from {source}")

    def test_link_local_chatter_of_its_kernel_is_no_spoofing(self) -> None:
        router = make()
        assert router.inbound(_ALICE, frames(packet("fe80::1", "ff02::2")), 0.0) == ([], [])
        assert drops(router) == {DropReason.ROUTE_LINK_LOCAL: 1}
        assert router.notices() == []

    @pytest.mark.parametrize(("destination", "who", "kind"), [(PRINTER, HUB, 11), (BOB6, HUB6, 3)])
    def test_whose_hops_are_used_up_is_told_by_the_hub(self, destination: str, who: str, kind: int) -> None:
        router = make()
        source = ALICE6 if ":" in destination else ALICE
        assert router.inbound(_ALICE, frames(packet(source, destination, hops=1)), 0.0) == ([], [])
        _, [(ports, [answer])] = answers(router)
        assert ports == (_ALICE,)
        assert told(answer)[:4] == (who, source, kind, 0)
        assert drops(router) == {DropReason.ROUTE_HOP_LIMIT: 1}

    def test_to_an_address_that_nobody_has(self) -> None:
        router = make()
        assert router.inbound(_ALICE, frames(packet(ALICE, NOBODY)), 0.0) == ([], [])
        assert told(answers(router)[1][0][1][0])[2:4] == (3, 1)
        router.inbound(_ALICE, frames(packet(ALICE, "10.88.0.255")), 0.0)
        assert not router.waiting, "nobody answers a broadcast"

    def test_not_back_to_where_it_came_from(self) -> None:
        router = make()
        assert router.inbound(_BOB, frames(packet(BOB, "10.1.0.77")), 0.0) == ([], [])
        assert drops(router) == {DropReason.ROUTE_SAME_PEER: 1}

    @pytest.mark.parametrize(("source", "destination", "kind", "code"), [(ALICE, BOB, 3, 13), (ALICE6, BOB6, 1, 1)])
    def test_between_peers_if_they_may_not(self, source: str, destination: str, kind: int, code: int) -> None:
        router = make(Between.OFF)
        assert router.inbound(_ALICE, frames(packet(source, destination)), 0.0) == ([], [])
        assert told(answers(router)[1][0][1][0])[2:4] == (kind, code)
        assert drops(router) == {DropReason.ROUTE_PROHIBITED: 1}

    def test_between_peers_if_the_host_is_asked(self) -> None:
        came = frames(packet(ALICE, BOB))
        assert make(Between.HOST).inbound(_ALICE, came, 0.0) == (came, [])

    @given(st.binary(min_size=20, max_size=80), st.integers(0, 0xFF))
    def test_whatever_comes_is_taken_or_dropped(self, noise: bytes, first: int) -> None:
        router = make()
        local, parcels = router.inbound(_ALICE, frames(bytes((first,)) + noise[1:]), 0.0)
        assert len(local) + sum(len(each.batch) for each in parcels) + sum(drops(router).values()) == 1
        router.tick(0.0)

    @given(st.integers(2, 255), st.binary(min_size=8, max_size=8), st.integers(0, 0xFFFF))
    def test_the_checksum_is_as_if_computed_anew(self, hops: int, noise: bytes, length: int) -> None:
        head = bytes((0x45,)) + noise[:1] + struct.pack(">H", length) + noise[2:6] + bytes((hops, 17))
        tail = bytes((10, 88, 0, 2, 10, 1, 0, 9))
        one = head + struct.pack(">H", _checksum(head + bytes(2) + tail)) + tail
        less = one[:8] + bytes((hops - 1,)) + one[9:10]
        ((_, [sent]),) = contents(make().inbound(_ALICE, frames(one), 0.0)[1])
        assert sent == less + struct.pack(">H", _checksum(less + bytes(2) + tail)) + tail


def _checksum(header: bytes) -> int:
    """RFC 1071 by the book."""
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_who_floods_gets_few_answers_and_others_theirs() -> None:
    router = make(Between.OFF)
    for _ in range(200):
        router.inbound(_ALICE, frames(packet(ALICE, BOB)), 0.0)
    router.inbound(_BOB, frames(packet(BOB, ALICE)), 0.0)
    sent = dict(answers(router)[1])
    assert (len(sent[_ALICE,]), len(sent[_BOB,])) == (BURST, 1)
    assert drops(router)[DropReason.ICMP_LIMIT] == 200 - BURST
    router.inbound(_ALICE, frames(packet(ALICE, BOB)), 0.01)
    assert len(answers(router, 0.01)[1]) == 1


def test_what_is_remembered_has_a_limit_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routers, "MAX_KNOWN", 8)
    router = make()
    for number in range(100):
        router.inbound(_ALICE, frames(*(packet(ALICE, f"10.1.0.{number % 50 + part}") for part in (1, 2, 3))), 0.0)
        router.outbound(batch(packet(HUB, f"10.1.0.{number}")), 0.0)
        assert router._known == len(router._outward) + sum(map(len, router._inward.values())) <= 8
    assert {str(row[0]): row[3] for row in router.rows()}["10.1.0.0/24"] == 400


def test_a_route_that_is_added_or_removed_counts_at_once() -> None:
    router = make()
    assert router.outbound(batch(packet(HUB, "10.2.0.1")), 0.0) == []
    router.add_routes(_BOB, [ip_network("10.2.0.0/16")])
    assert len(router.outbound(batch(packet(HUB, "10.2.0.1")), 0.0)) == 1
    router.remove_routes([ip_network("10.2.0.0/16")])
    assert router.outbound(batch(packet(HUB, "10.2.0.1")), 0.0) == []


def test_routes_for_people() -> None:
    router = make(up=(_ALICE,))
    router.outbound(batch(packet(HUB, ALICE)), 0.0)
    rows = {prefix: (peer, state, hits) for prefix, peer, state, hits in router.rows()}
    assert rows[f"{ALICE}/32"] == ("alice", "up", 1)
    assert rows["10.1.0.0/24"] == ("", "down", 0)
    assert rows[f"{HUB}/32"][1:] == ("this host", 0)
    assert rows["10.88.0.0/24"][1:] == ("nobody", 0)


class TestMember:
    """Of a mesh: the hub is port 1, another member, Carol, port 2."""

    CAROL = "10.88.0.4"

    def make(self) -> Router:
        router = Router(Table(), Answers(Mode.TUN, Drops()), Drops(), patient=True, hub=1)
        router.add_routes(LOCAL, [ip_network(ALICE)])
        router.add_routes(1, [ip_network("0.0.0.0/0")])
        router.add_port(1, None, 0.0)
        router.introduce(2, "carol", [ip_network(self.CAROL), ip_network("10.4.0.0/16")])
        return router

    def port(self, router: Router, address: str) -> int:
        ((ports, _),) = contents(router.outbound(batch(packet(ALICE, address)), 0.0))
        return ports[0]

    def test_what_is_for_carol_goes_by_the_hub_unless_there_is_a_direct_way_that_works(self) -> None:
        router = self.make()
        assert self.port(router, self.CAROL) == 1
        router.add_port(2, None, 0.0)
        assert [self.port(router, each) for each in (self.CAROL, "10.4.1.1", BOB)] == [2, 2, 1]
        router.suspect(2, True)
        assert self.port(router, self.CAROL) == 1
        assert {prefix: state for prefix, _, state, _ in router.rows()}[f"{self.CAROL}/32"] == "by the hub"
        router.suspect(2, False)
        assert self.port(router, self.CAROL) == 2
        router.suspect(2, True)
        router.remove_port(2)
        assert self.port(router, self.CAROL) == 1
        router.add_port(2, None, 0.0)
        assert self.port(router, self.CAROL) == 2, "what comes up anew is not suspect"

    def test_routes_that_change_take_nothing_from_the_hub_or_this_host(self) -> None:
        router = self.make()
        router.add_port(2, None, 0.0)
        router.introduce(2, "carol", [ip_network("0.0.0.0/0"), ip_network(ALICE), ip_network("10.5.0.0/16")])
        assert [self.port(router, each) for each in (self.CAROL, "10.5.1.1", "192.0.2.1")] == [1, 2, 1]
        assert router.table.find(bytes((10, 88, 0, 2))).port == LOCAL

    def test_a_prefix_that_another_member_has_now_leads_there_whoever_is_introduced_first(self) -> None:
        router = self.make()
        for port in (2, 3):
            router.add_port(port, None, 0.0)
        router.introduce(3, "dave", [ip_network(self.CAROL)])
        assert self.port(router, self.CAROL) == 3
        router.introduce(2, "carol", [ip_network("10.4.0.0/16")])
        assert [self.port(router, each) for each in (self.CAROL, "10.4.1.1")] == [3, 2]
        assert router.table.by_port() == {
            1: [ip_network("0.0.0.0/0")],
            2: [ip_network("10.4.0.0/16")],
            3: [ip_network(self.CAROL)],
        }

    def test_addresses_of_this_host_that_a_server_gives_are_its_own(self) -> None:
        router = self.make()
        mine = ip_network("10.88.0.77")
        router.grant(LOCAL, [mine])
        assert router.table.find(bytes((10, 88, 0, 77))).port == LOCAL
        assert router.inbound(1, frames(packet("10.88.0.77", ALICE)), 0.0) == ([], [])
        router.grant(LOCAL, [])
        assert router.table.find(bytes((10, 88, 0, 77))).port == 1

    def test_carols_packets_are_hers_directly_and_by_the_hub_and_nobody_elses(self) -> None:
        router = self.make()
        router.add_port(2, None, 0.0)
        hers, bobs = frames(packet(self.CAROL, ALICE)), frames(packet(BOB, ALICE))
        assert router.inbound(2, hers, 0.0) == (hers, [])
        assert router.inbound(1, hers, 0.0) == (hers, [])
        assert router.inbound(1, bobs, 0.0) == (bobs, [])
        assert router.inbound(2, bobs, 0.0) == ([], [])
        assert router.inbound(1, frames(packet(ALICE, ALICE)), 0.0) == ([], [])

    def test_nothing_is_passed_on(self) -> None:
        router = self.make()
        router.add_port(2, None, 0.0)
        for destination in (BOB, "10.1.0.9"):
            came = frames(packet(self.CAROL, destination))
            assert router.inbound(2, came, 0.0) == (came, [])

    def test_who_sends_by_the_hub_though_there_is_a_direct_way_is_noticed(self) -> None:
        router = self.make()
        hers = frames(packet(self.CAROL, ALICE))
        router.inbound(1, hers, 0.0)
        assert router.avoided() == []
        router.add_port(2, None, 0.0)
        router.inbound(2, hers, 0.0)
        assert router.avoided() == []
        router.inbound(1, hers, 0.0)
        assert (router.avoided(), router.avoided()) == ([2], [])
        router.suspect(2, True)
        router.inbound(1, hers, 0.0)
        assert router.avoided() == [], "that is known"
