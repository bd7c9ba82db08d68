"""Guards: who may say what at a port, in virtual time, through the whole switch."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2 import guard as module
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.guard import TELL_SECONDS
from caetun.l2.loop import LoopProbes
from caetun.l2.policy import Allowed, GuardSettings, Source
from caetun.l2.vlan import access, trunk
from caetun.types import DropReason, Drops
from caetun.wire import arp, nd
from tests.l2.frames import data, ethernet, ipv4, ipv6, mac, packet4, packet6
from tests.l2.hosts import (
    ALL_NODES,
    BROADCAST,
    acknowledges,
    advertises,
    announces,
    answers,
    redirects,
    replies6,
    request,
    router_advertises,
    sends,
    solicits,
    udp,
)

OWN = mac(0xFFFFFF)
UPLINK, ATTIC, OFFICE = 0, 1, 2
LEARN, STRICT, BY_DHCP = (GuardSettings(source=each) for each in (Source.LEARN, Source.STATIC, Source.DHCP))


class Place:
    """A switch with an uplink, where everything is allowed, and two guarded ports."""

    def __init__(self, guard: GuardSettings, **uplink: object) -> None:
        self.drops = Drops()
        self.switch = Bridge(self.drops, LoopProbes(bytes(32), OWN))
        self.now = 1.0
        self.switch.add_port(UPLINK, PortSettings("uplink", **uplink), 0.0)  # type: ignore[arg-type]
        for number, name in ((ATTIC, "attic"), (OFFICE, "office")):
            self.switch.add_port(number, PortSettings(name, guard=guard), 0.0)

    def goes(self, port: int, frame: bytes, wait: float = 0.01) -> bool:
        """Whether a frame goes anywhere."""
        self.now += wait
        return bool(self.switch.forward(port, frame, self.now).ports)

    def why(self, port: int, frame: bytes, wait: float = 0.01) -> DropReason:
        """The reason for which a frame does not."""
        self.drops.clear()
        assert not self.goes(port, frame, wait)
        (reason,) = self.drops
        assert self.drops[reason] == 1
        return reason

    def asked(self) -> list[tuple[int, bytes]]:
        """What the switch asks, probes for loops aside."""
        assert self.switch.waiting == (self.switch.next_deadline() == 0.0)
        frames = [(port, frame) for port, _, frame in self.switch.tick(self.now)[0]]
        return [(port, frame) for port, frame in frames if frame[12:14] != b"\x88\xb5"]

    def told(self) -> list[str]:
        notices, self.switch.notices = self.switch.notices, []
        return [notice.text for notice in notices]


class TestLearning:
    def test_who_uses_an_address_first_has_it(self) -> None:
        place = Place(LEARN)
        assert place.goes(ATTIC, announces(1))
        assert place.goes(ATTIC, sends(1, 9))
        assert place.goes(OFFICE, sends(2, 9)), "RFC 6620, section 3.2: plain traffic will do"
        assert place.why(OFFICE, sends(2, 9, ipv4(1))) is DropReason.GUARD_CLAIMED
        assert place.why(OFFICE, announces(2, ipv4(1))) is DropReason.GUARD_CLAIMED
        assert place.why(OFFICE, answers(2, 9, ipv4(1))) is DropReason.GUARD_CLAIMED

    def test_the_owner_is_asked_and_answers(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, sends(1, 9))
        assert not place.goes(OFFICE, announces(2, ipv4(1)))
        ((port, frame),) = place.asked()
        assert (port, frame[:12]) == (ATTIC, mac(1) + OWN), "him alone"
        question = arp.decode(frame, 14)
        assert question is not None
        assert question.probe
        answer = arp.frame_of(arp.Arp(arp.Operation.REPLY, mac(1), ipv4(1), OWN, bytes(4)), OWN)
        before = place.drops.copy()
        assert not place.goes(ATTIC, answer), "it is for the switch"
        assert place.drops == before
        assert place.why(OFFICE, announces(2, ipv4(1)), 5.0) is DropReason.GUARD_CLAIMED
        assert place.told() == [
            "10.0.0.1 belongs to 02:00:00:00:00:01 at attic, who is there: not to 02:00:00:00:00:02 at office"
        ]

    def test_a_host_that_roams_is_let_in_within_two_seconds(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, sends(1, 9))
        place.goes(ATTIC, announces(1, ipv6(1)))
        assert not place.goes(OFFICE, request(1, 9), 100.0)
        assert len(place.asked()) == 1
        assert place.goes(OFFICE, request(1, 9), 1.0)
        assert place.goes(OFFICE, announces(1, ipv6(1)))
        assert place.told() == []

    def test_an_ipv6_owner_is_asked_by_detection(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, announces(1, ipv6(1)))
        assert not place.goes(OFFICE, announces(2, ipv6(1)))
        ((port, frame),) = place.asked()
        assert (port, frame[:12]) == (ATTIC, mac(1) + OWN)
        assert frame[14:][8:24] == bytes(16)
        assert place.goes(ATTIC, announces(1, ipv6(1))), "to all nodes, as RFC 4862, section 5.4.3, has it"

    def test_a_port_has_so_many_addresses(self) -> None:
        place = Place(GuardSettings(source=Source.LEARN, limit=2))
        assert place.goes(ATTIC, announces(1))
        assert place.goes(ATTIC, announces(2))
        assert place.why(ATTIC, announces(3)) is DropReason.GUARD_FULL
        assert place.goes(OFFICE, announces(3)), "the others are unharmed"
        assert place.told() == ["attic has 2 addresses already: 02:00:00:00:00:03 gets no more (see its limit)"]

    def test_nobody_takes_anothers_mac_address(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, sends(1, 9))
        assert place.why(OFFICE, ethernet(BROADCAST, mac(1), 0x1234, bytes(46))) is DropReason.GUARD_CLAIMED
        assert place.why(OFFICE, request(1, 9, bytes(4))) is DropReason.GUARD_CLAIMED
        assert place.switch.fdb.lookup(0, mac(1), place.now) == ATTIC, "nor is it learned there"

    def test_a_port_that_is_gone_has_no_addresses(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, sends(1, 9))
        place.switch.remove_port(ATTIC)
        assert place.goes(OFFICE, sends(1, 9))

    def test_vlans_are_networks_of_their_own(self) -> None:
        place = Place(LEARN, vlans=trunk(None))
        for number, vlan in ((ATTIC, 7), (OFFICE, 8)):
            place.switch.add_port(number, PortSettings(str(vlan), vlans=access(vlan), guard=LEARN), 0.0)
        assert place.goes(ATTIC, announces(1))
        assert place.goes(OFFICE, announces(1))


class TestInside:
    """What is said inside has to be what the frame says outside."""

    def test_arp(self) -> None:
        place = Place(LEARN)
        lie = arp.Arp(arp.Operation.REPLY, mac(1), ipv4(1), mac(9), ipv4(9))
        frame = mac(9) + mac(2) + arp.frame_of(lie, mac(9))[12:]
        assert place.why(ATTIC, frame) is DropReason.GUARD_SENDER
        assert place.told() == [
            "02:00:00:00:00:02 at attic speaks in another's name in ARP or neighbour discovery: refused"
        ]
        assert place.why(ATTIC, frame[:30]) is DropReason.ARP_MALFORMED

    def test_neighbour_discovery(self) -> None:
        place = Place(LEARN)
        for frame in (solicits(1, 9), advertises(1, 9)):
            assert place.why(ATTIC, frame[:6] + mac(2) + frame[12:]) is DropReason.GUARD_SENDER
            assert place.goes(ATTIC, frame)
            assert place.why(ATTIC, frame[:-1] + b"\x77") is DropReason.ND_CHECKSUM

    def test_an_advertisement_for_anothers_address(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, advertises(1, 9))
        lie = nd.frame_of(nd.Advertisement(ipv6(2), ALL_NODES, ipv6(1), mac(2)), mac(2), nd.group_mac(ALL_NODES))
        assert place.why(OFFICE, lie) is DropReason.GUARD_CLAIMED

    def test_behind_tags_it_is_the_same(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, sends(1, 9))
        frame = sends(2, 9, ipv4(1))
        for tags in (b"\x81\0\0\0", b"\x81\0\x20\0" * 3, b"\x88\xa8\0\7\x81\0\0\0"):
            assert place.why(OFFICE, frame[:12] + tags + frame[12:], 31.0) is DropReason.GUARD_CLAIMED
            place.goes(ATTIC, sends(1, 9))

    def test_vu855201_hiding_in_tags_or_snap(self) -> None:
        place = Place(GuardSettings(router=False))
        frame = router_advertises(1)
        snap = b"\xaa\xaa\x03\0\0\0" + frame[12:]
        hidden = [
            frame[:12] + b"\x81\0\0\0" * 9 + frame[12:],
            frame[:12] + struct.pack(">H", len(snap)) + snap,
            frame[:12] + b"\x81\0\0\0" + b"\0\0" + b"\xaa\xaa\x03\0\0\xf8" + frame[12:],
            frame[:12] + b"\x08\0" + frame[14:],
        ]
        for each in hidden:
            assert place.why(ATTIC, each) is DropReason.GUARD_HIDDEN
        assert place.goes(ATTIC, ethernet(BROADCAST, mac(1), 46, b"\x42\x42\x03" + bytes(43))), "LLC as such is carried"

    def test_probes_and_detection_claim_nothing(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, announces(1))
        place.goes(ATTIC, announces(1, ipv6(1)))
        assert place.goes(OFFICE, arp.probe(mac(2), ipv4(1)))
        assert place.goes(OFFICE, nd.probe(mac(2), ipv6(1)))
        assert len(place.switch.guard.bindings) == 2

    def test_from_nowhere_only_what_has_to_be(self) -> None:
        place = Place(LEARN)
        nowhere4, nowhere6 = bytes(4), bytes(16)
        assert place.goes(ATTIC, sends(1, 9, nowhere4, payload=udp(68, 67, b"\1")))
        assert place.why(ATTIC, sends(1, 9, nowhere4, protocol=6)) is DropReason.GUARD_SOURCE
        assert place.why(ATTIC, sends(1, 9, nowhere6)) is DropReason.GUARD_SOURCE

    def test_ip_that_cannot_be_read(self) -> None:
        place = Place(LEARN)
        assert place.why(ATTIC, ethernet(mac(9), mac(1), 0x0800, b"\x45" + bytes(8))) is DropReason.FRAME_SHORT


class TestStatic:
    GUARD = GuardSettings(
        source=Source.STATIC,
        allowed=(Allowed(mac(1), ipv4(1)), Allowed(mac(2)), Allowed(mac(3), bytes((192, 168, 4, 0)), 22)),
    )

    def test_only_who_is_allowed(self) -> None:
        place = Place(self.GUARD)
        assert place.goes(ATTIC, sends(1, 9))
        assert place.goes(ATTIC, sends(2, 9, ipv4(77)))
        assert place.goes(ATTIC, sends(3, 9, bytes((192, 168, 7, 255))))
        for frame in (
            sends(1, 9, ipv4(2)),
            sends(4, 9),
            sends(3, 9, bytes((192, 168, 8, 0))),
            sends(3, 9, ipv6(3)),
            request(1, 9, ipv4(3)),
        ):
            assert place.why(ATTIC, frame) is DropReason.GUARD_SOURCE

    def test_what_has_no_address_goes_by_the_mac_address(self) -> None:
        place = Place(self.GUARD)
        assert place.goes(ATTIC, ethernet(BROADCAST, mac(1), 0x1234, bytes(46)))
        assert place.why(ATTIC, ethernet(BROADCAST, mac(4), 0x1234, bytes(46))) is DropReason.GUARD_SOURCE
        anybody = Place(GuardSettings(source=Source.STATIC, allowed=(Allowed(address=ipv4(1)),)))
        assert anybody.goes(ATTIC, ethernet(BROADCAST, mac(4), 0x1234, bytes(46)))
        assert anybody.goes(ATTIC, sends(4, 9, ipv4(1)))

    def test_without_anything_nobody_is(self) -> None:
        assert Place(STRICT).why(ATTIC, sends(1, 9)) is DropReason.GUARD_SOURCE

    def test_nobody_else_learns_it(self) -> None:
        place = Place(LEARN)
        place.switch.add_port(ATTIC, PortSettings("attic", guard=self.GUARD), 0.0)
        assert place.why(OFFICE, sends(7, 9, ipv4(1))) is DropReason.GUARD_CLAIMED
        assert place.why(OFFICE, sends(1, 9, ipv4(7))) is DropReason.GUARD_CLAIMED
        assert place.why(OFFICE, ethernet(BROADCAST, mac(2), 0x1234, bytes(46))) is DropReason.GUARD_CLAIMED


class TestDhcp:
    def test_a_lease_is_an_address(self) -> None:
        place = Place(BY_DHCP)
        assert place.why(ATTIC, sends(1, 9)) is DropReason.GUARD_SOURCE
        assert place.goes(ATTIC, sends(1, 9, bytes(4), payload=udp(68, 67, b"\1")))
        assert place.goes(UPLINK, acknowledges(9, 1, ipv4(1), seconds=60))
        assert place.goes(ATTIC, sends(1, 9))
        assert place.why(OFFICE, sends(1, 9)) is DropReason.GUARD_CLAIMED
        assert place.why(ATTIC, sends(1, 9, ipv4(2))) is DropReason.GUARD_SOURCE
        assert place.goes(ATTIC, sends(1, 9), 59.0)
        assert place.why(ATTIC, sends(1, 9), 1.0) is DropReason.GUARD_SOURCE, "it has ended"

    def test_it_is_seen_between_hosts_that_talk_already(self) -> None:
        place = Place(BY_DHCP)
        place.goes(ATTIC, sends(1, 9, bytes(4), payload=udp(68, 67, b"\1")))
        for _ in range(3):
            place.goes(UPLINK, sends(9, 1))
        place.goes(UPLINK, acknowledges(9, 1, ipv4(1)))
        assert place.goes(ATTIC, sends(1, 9))

    def test_by_dhcpv6_too(self) -> None:
        place = Place(BY_DHCP)
        given = bytes.fromhex("20010db8" + "00" * 11 + "01")
        assert place.goes(ATTIC, solicits(1, 9)), "link-local addresses are nobody's to give"
        assert place.goes(ATTIC, sends(1, 9, bytes((169, 254, 1, 1))))
        assert place.why(ATTIC, sends(1, 9, given)) is DropReason.GUARD_SOURCE
        assert place.goes(UPLINK, replies6(9, 1, given))
        assert place.goes(ATTIC, sends(1, 9, given))

    def test_no_server_where_none_may_be(self) -> None:
        place = Place(GuardSettings(dhcp_server=False))
        assert place.why(ATTIC, acknowledges(1, 9, ipv4(9))) is DropReason.GUARD_DHCP
        assert place.why(ATTIC, replies6(1, 9, ipv6(9))) is DropReason.GUARD_DHCP
        assert place.told() == ["02:00:00:00:00:01 at attic plays the DHCP server: refused"]
        cut = ethernet(BROADCAST, mac(1), 0x0800, packet4(ipv4(1), b"\xff" * 4, 17, b"\0\x43"))
        assert place.why(ATTIC, cut) is DropReason.DHCP_MALFORMED
        assert place.goes(ATTIC, sends(1, 9, payload=udp(68, 67, b"\1"))), "clients may be anywhere"
        assert place.goes(ATTIC, sends(1, 9, ipv4(55))), "nor does it matter who sends"

    def test_what_such_a_server_says_gives_nothing(self) -> None:
        place = Place(GuardSettings(source=Source.DHCP, dhcp_server=False))
        place.goes(ATTIC, sends(1, 9, bytes(4), payload=udp(68, 67, b"\1")))
        assert place.why(OFFICE, acknowledges(2, 1, ipv4(1))) is DropReason.GUARD_DHCP
        assert place.why(ATTIC, sends(1, 9)) is DropReason.GUARD_SOURCE

    def test_a_lease_is_refused_where_there_is_no_room(self) -> None:
        place = Place(GuardSettings(source=Source.DHCP, limit=1))
        place.goes(ATTIC, sends(1, 9, bytes(4), payload=udp(68, 67, b"\1")))
        place.goes(UPLINK, acknowledges(9, 1, ipv4(1)))
        place.goes(UPLINK, acknowledges(9, 1, ipv4(2)))
        assert place.drops == {DropReason.GUARD_FULL: 1}


class TestRouters:
    def test_rfc6105_no_router_where_none_may_be(self) -> None:
        place = Place(GuardSettings(router=False))
        assert place.why(ATTIC, router_advertises(1)) is DropReason.GUARD_ROUTER
        assert place.why(ATTIC, redirects(1, 9)) is DropReason.GUARD_ROUTER
        assert place.told() == ["02:00:00:00:00:01 at attic plays the IPv6 router: refused"]
        assert place.goes(UPLINK, router_advertises(9))
        assert place.goes(ATTIC, solicits(1, 9))

    def test_rfc7113_2_1_not_behind_extension_headers_nor_in_fragments(self) -> None:
        place = Place(GuardSettings(router=False))
        whole = router_advertises(1)
        body = whole[54:]
        options, fragment = b"\x3a\0\1\4\0\0\0\0", b"\x3a\0\0\1\0\0\0\7"
        ways = [
            (60, options, DropReason.GUARD_ROUTER),
            (44, fragment, DropReason.ND_MALFORMED),
            (60, b"\x2c" + options[1:] + fragment, DropReason.ND_MALFORMED),
        ]
        for first, headers, reason in ways:
            frame = ethernet(whole[:6], mac(1), 0x86DD, packet6(ipv6(1), ALL_NODES, first, headers + body))
            assert place.why(ATTIC, frame[:21] + b"\xff" + frame[22:]) is reason

    def test_rfc7113_2_2_not_in_a_first_fragment_without_the_whole_chain(self) -> None:
        place = Place(GuardSettings(router=False))
        headers = b"\x3c\0\0\1\0\0\0\7" + b"\x3a\1\1\4\0\0\0\0"
        frame = ethernet(nd.group_mac(ALL_NODES), mac(1), 0x86DD, packet6(ipv6(1), ALL_NODES, 44, headers))
        assert place.why(ATTIC, frame) is DropReason.FRAME_SHORT
        bare = packet6(ipv6(1), ALL_NODES, 44, b"\x3a\0\0\1\0\0\0\7")
        assert place.why(ATTIC, ethernet(nd.group_mac(ALL_NODES), mac(1), 0x86DD, bare)) is DropReason.GUARD_HIDDEN


class TestCost:
    def test_ports_without_a_guard_ask_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place = Place(GuardSettings())
        monkeypatch.setattr(place.switch.guard, "admits", None)
        assert place.goes(ATTIC, sends(1, 9))
        assert place.goes(UPLINK, acknowledges(9, 1, ipv4(1)))

    def test_nor_does_the_uplink_unless_leases_matter(self) -> None:
        for guard, concerned in ((LEARN, True), (BY_DHCP, True), (STRICT, False), (GuardSettings(router=False), False)):
            assert Place(guard).switch.guard.concerns(UPLINK) is concerned

    def test_people_hear_of_a_flood_once_a_minute(self) -> None:
        place = Place(STRICT)
        for number in range(500):
            place.goes(ATTIC, sends(number, 9))
        assert len(place.told()) == 1
        place.goes(ATTIC, sends(1, 9), TELL_SECONDS)
        assert len(place.told()) == 1

    def test_a_flood_of_claims_is_one_question_and_bounded(self) -> None:
        place = Place(LEARN)
        place.goes(ATTIC, sends(1, 9))
        for number in range(100_000, 103_000):
            place.goes(OFFICE, sends(number, 9, ipv4(1)), 0.0001)
        assert len(place.asked()) == 1


def test_loop_probes_and_reserved_addresses_come_before_the_guard() -> None:
    place = Place(STRICT)
    probe = next(frame for port, _, frame in place.switch.tick(10.0)[0] if port == ATTIC)
    place.now = 10.0
    place.goes(OFFICE, probe)
    assert place.switch.muted == [OFFICE]
    assert place.why(ATTIC, ethernet(bytes.fromhex("0180c2000002"), mac(1), 0x8809, bytes(46))) is (
        DropReason.BRIDGE_RESERVED
    )


def test_groups_are_no_way_round() -> None:
    place = Place(STRICT)
    assert place.why(ATTIC, data(1, bytes((239, 1, 2, 3)))) is DropReason.GUARD_SOURCE


SETTINGS = st.builds(
    GuardSettings,
    st.sampled_from(Source),
    st.sampled_from([(), TestStatic.GUARD.allowed]),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
SAID = [
    request(1, 2),
    announces(2, ipv6(2)),
    sends(1, 2),
    acknowledges(2, 1, ipv4(1)),
    router_advertises(1),
    solicits(1, 2),
]


@given(
    SETTINGS,
    st.sampled_from(SAID),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
    st.integers(14, 400),
)
def test_any_frame_is_judged(settings: GuardSettings, frame: bytes, changes: list[tuple[int, int]], size: int) -> None:
    place = Place(settings)
    changed = bytearray(frame)
    for at, octet in changes:
        changed[at % len(changed)] = octet
    for port in (ATTIC, OFFICE, UPLINK, ATTIC):
        assert port not in place.switch.forward(port, bytes(changed[:size]), place.now).ports
        place.now += 0.7
        place.switch.tick(place.now)
    assert len(place.switch.guard.bindings) <= 2 * settings.limit


@given(SETTINGS, st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=14, max_size=90)), max_size=10))
def test_any_octets_are_judged(settings: GuardSettings, frames: list[tuple[int, bytes]]) -> None:
    place = Place(settings)
    for port, frame in frames:
        place.goes(port, frame)


PLAIN = [sends(1, 2), sends(1, 2, protocol=6, payload=bytes(20)), sends(1, 2, ipv6(1)), sends(3, 2, ipv4(1), 1), *SAID]


@given(
    SETTINGS,
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(PLAIN), st.integers(12, 60), st.integers(0, 255), st.integers(14, 80)
        ),
        max_size=12,
    ),
)
def test_looking_closely_at_each_frame_changes_nothing(
    settings: GuardSettings, steps: list[tuple[int, bytes, int, int, int]]
) -> None:
    def judged(place: Place) -> list[bool]:
        changed = [(port, frame[:at] + bytes((octet,)) + frame[at + 1 :]) for port, frame, at, octet, _ in steps]
        cut = [(port, frame[:size]) for port, frame, _, _, size in steps]
        whole = [(port, frame) for port, frame, *_ in steps]
        return [place.switch.guard.admits(port, 0, frame, 1.0) for port, frame in whole + changed + cut]

    quick = judged(Place(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_plain_sender", lambda frame: None)
        slow = judged(Place(settings))
    # What is too broken to be read is dropped by who looks closely, and else by its receiver.
    assert all(one or not other for one, other in zip(quick, slow, strict=True))
