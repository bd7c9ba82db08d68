"""The switch: what goes where, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.bridge import NOWHERE, BpduPolicy, Bridge, PortSettings
from caetun.l2.fdb import Fdb
from caetun.l2.flapping import MANY, MANY_SECONDS
from caetun.l2.loop import FRESH_SECONDS, LoopProbes
from caetun.l2.muting import MAX_PROBED, MUTE_SECONDS
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.storm import DEFAULTS, Rate, Storm
from caetun.l2.vlan import access, trunk
from caetun.types import DropReason, Drops
from caetun.wire.membership import GroupRecord, Kind
from tests.l2.frames import data, ethernet, mac, report

BROADCAST = b"\xff" * 6
GROUP = bytes((239, 1, 2, 3))
PROBES = LoopProbes(bytes(32), mac(0xFFFFFF))


def frame(source: int, destination: int | bytes, kind: int = 0x1234, tag: bytes = b"") -> bytes:
    to = destination if isinstance(destination, bytes) else mac(destination)
    whole = ethernet(to, mac(source), kind, bytes(46))
    return whole[:12] + tag + whole[12:]


def bridge(*ports: PortSettings, drops: Drops | None = None, **snooping: object) -> Bridge:
    made = Bridge(
        Drops() if drops is None else drops,
        PROBES,
        SnoopingSettings(**snooping),  # type: ignore[arg-type]
    )
    for number, settings in enumerate(ports or [PortSettings(name) for name in ("local", "attic", "office")]):
        made.add_port(number, settings, 0.0)
    return made


def goes(switch: Bridge, port: int, what: bytes, now: float = 1.0) -> set[int]:
    return set(switch.forward(port, what, now).ports)


class TestForwarding:
    def test_unknown_is_flooded_known_is_not(self) -> None:
        switch = bridge()
        assert goes(switch, 0, frame(1, 2)) == {1, 2}
        assert goes(switch, 2, frame(2, 1)) == {0}
        assert goes(switch, 0, frame(1, 2)) == {2}

    def test_broadcast_goes_everywhere_else(self) -> None:
        assert goes(bridge(), 1, frame(1, BROADCAST)) == {0, 2}

    def test_what_is_behind_the_same_port_stays_there(self) -> None:
        drops = Drops()
        switch = bridge(drops=drops)
        goes(switch, 1, frame(1, 9))
        assert goes(switch, 1, frame(2, 1)) == set()
        assert drops == {DropReason.BRIDGE_SAME_PORT: 1}

    def test_who_speaks_to_itself_is_known_from_then_on_and_nothing_is_counted(self) -> None:
        drops = Drops()
        switch = bridge(drops=drops)
        assert goes(switch, 1, frame(1, 1)) == set()
        assert goes(switch, 2, frame(2, 1)) == {1}
        assert drops == {}

    def test_a_frame_from_a_group_is_dropped(self) -> None:
        drops = Drops()
        assert goes(bridge(drops=drops), 1, ethernet(mac(2), b"\x01" + mac(1)[1:], 0x0800, bytes(46))) == set()
        assert drops == {DropReason.BRIDGE_SOURCE: 1}

    def test_llc_frames_are_carried(self) -> None:
        assert goes(bridge(), 0, frame(1, 2, kind=0x0030)) == {1, 2}

    def test_a_port_that_is_gone_is_no_destination(self) -> None:
        switch = bridge()
        goes(switch, 2, frame(2, 1))
        switch.remove_port(2)
        assert goes(switch, 0, frame(1, 2)) == {1}
        assert switch.forward(2, frame(2, 1), 1.0) == NOWHERE


class TestReserved:
    @pytest.mark.parametrize("last", range(16))
    def test_reserved_addresses_stay_on_their_link(self, last: int) -> None:
        drops = Drops()
        switch = bridge(drops=drops)
        assert goes(switch, 1, frame(1, bytes.fromhex("0180c20000") + bytes((last,)))) == set()
        assert drops == {DropReason.BRIDGE_PAUSE if last == 1 else DropReason.BRIDGE_RESERVED: 1}

    def test_beyond_them_is_ordinary_multicast(self) -> None:
        assert goes(bridge(), 1, frame(1, bytes.fromhex("0180c2000020"))) == {0, 2}

    def test_bpdus_by_policy(self) -> None:
        bpdu = frame(1, bytes.fromhex("0180c2000000"))
        ports = [PortSettings(str(policy), bpdu=policy) for policy in BpduPolicy]
        switch = bridge(*ports)
        assert goes(switch, 0, bpdu) == set()
        assert goes(switch, 1, bpdu) == {0, 2}
        assert goes(switch, 2, bpdu) == set()
        assert switch.muted == [2]
        assert "block sends spanning-tree frames" in switch.notices[0].text


class TestGroupsOfPorts:
    def test_isolated_ports_reach_the_others_only(self) -> None:
        drops = Drops()
        switch = bridge(
            PortSettings("a", isolated=True), PortSettings("b", isolated=True), PortSettings("c"), drops=drops
        )
        assert goes(switch, 0, frame(1, BROADCAST)) == {2}
        assert goes(switch, 2, frame(3, 1)) == {0}
        assert goes(switch, 1, frame(2, 1)) == set()
        assert drops == {DropReason.BRIDGE_ISOLATED: 1}

    def test_split_horizon_between_mesh_ports(self) -> None:
        switch = bridge(PortSettings("local"), PortSettings("a", mesh=True), PortSettings("b", mesh=True))
        assert goes(switch, 1, frame(1, BROADCAST)) == {0}
        assert goes(switch, 0, frame(2, BROADCAST)) == {1, 2}


class TestVlans:
    def switch(self, drops: Drops | None = None) -> Bridge:
        return bridge(
            PortSettings("seven", vlans=access(7)),
            PortSettings("eight", vlans=access(8)),
            PortSettings("trunk", vlans=trunk(frozenset({7, 8}))),
            PortSettings("plain"),
            drops=drops,
        )

    def test_each_is_a_network_of_its_own(self) -> None:
        switch = self.switch()
        assert switch.forward(0, frame(1, BROADCAST), 1.0) == (7, (2,))
        assert switch.forward(1, frame(1, BROADCAST), 1.0) == (8, (2,))
        assert switch.forward(2, frame(2, 1, tag=b"\x81\0\0\x07"), 1.0) == (7, (0,))
        assert switch.forward(2, frame(2, 1, tag=b"\x81\0\0\x08"), 1.0) == (8, (1,))
        assert switch.forward(3, frame(3, BROADCAST), 1.0) == (1, ())

    def test_what_does_not_belong_is_dropped(self) -> None:
        drops = Drops()
        switch = self.switch(drops)
        assert goes(switch, 2, frame(1, BROADCAST)) == set()
        assert goes(switch, 0, frame(1, BROADCAST, tag=b"\x81\0\0\x08")) == set()
        assert drops == {DropReason.BRIDGE_VLAN: 2}

    def test_without_any_setting_tags_are_payload(self) -> None:
        assert bridge().forward(0, frame(1, BROADCAST, tag=b"\x81\0\0\x08"), 1.0) == (0, (1, 2))


class TestMulticast:
    def test_members_only_and_never_back(self) -> None:
        switch = bridge()
        switch.tick(0.0)
        for port in (0, 1):
            goes(switch, port, report(port + 10, 3, GroupRecord(Kind.TO_EXCLUDE, GROUP)))
        assert goes(switch, 2, data(5, GROUP)) == {0, 1}
        assert goes(switch, 0, data(10, GROUP)) == {1}

    def test_211_4_a_port_that_comes_up_or_moves_is_asked(self) -> None:
        switch = bridge()
        for now in (0.0, 1.0, 2.0):
            switch.tick(now)
        assert switch.tick(3.0)[1] == []
        switch.add_port(3, PortSettings("new"), 10.0)
        assert switch.waiting, "at once"
        assert [(wanted.only, len(wanted.query.group)) for wanted in switch.tick(10.0)[1]] == [(3, 4), (3, 16)]
        assert not switch.waiting
        for now in (11.0, 12.0):
            switch.tick(now)
        switch.port_moved(1, 20.0)
        assert {wanted.only for wanted in switch.tick(20.0)[1]} == {1}

    def test_a_port_that_is_not_there_does_not_move(self) -> None:
        switch = bridge()
        switch.tick(0.0)
        switch.port_moved(9, 1.0)
        assert not switch.waiting


class TestStorms:
    def test_a_class_has_its_budget_and_others_theirs(self) -> None:
        drops = Drops()
        storm = {**DEFAULTS, Storm.BROADCAST: Rate(10, 5)}
        switch = bridge(PortSettings("a", storm=storm), PortSettings("b"), drops=drops)
        assert [goes(switch, 0, frame(1, BROADCAST)) for _ in range(7)] == [{1}] * 5 + [set()] * 2
        assert drops == {DropReason.BRIDGE_STORM: 2}
        assert goes(switch, 0, frame(1, BROADCAST, kind=0x0806)) == {1}
        assert goes(switch, 1, frame(2, BROADCAST)) == {0}

    def test_a_superframe_counts_as_what_it_stands_for(self) -> None:
        storm = {**DEFAULTS, Storm.BROADCAST: Rate(10, 50)}
        switch = bridge(PortSettings("a", storm=storm), PortSettings("b"))
        superframe = frame(1, BROADCAST) + bytes(60_000)
        assert [bool(goes(switch, 0, superframe)) for _ in range(3)] == [True, False, False]
        assert sum(bool(goes(switch, 0, frame(1, BROADCAST))) for _ in range(50)) == 50 - 38

    def test_what_is_known_has_no_limit(self) -> None:
        switch = bridge()
        goes(switch, 1, frame(2, 1))
        assert all(goes(switch, 0, frame(1, 2)) == {1} for _ in range(10_000))


class TestLoops:
    def probe(self, switch: Bridge, port: int, now: float) -> bytes:
        return next(emission.frame for emission in switch.tick(now)[0] if emission.port == port)

    def test_a_probe_that_comes_back_mutes_the_younger_port(self) -> None:
        switch = bridge()
        probe = self.probe(switch, 1, 10.0)
        assert goes(switch, 2, probe, 10.1) == set()
        assert switch.muted == [2]
        assert "attic and office are also joined by another way" in switch.notices[0].text
        assert goes(switch, 2, frame(2, BROADCAST), 10.2) == set()
        assert goes(switch, 0, frame(1, BROADCAST), 10.2) == {1}, "nor does anything leave by it"
        switch.tick(10.1 + MUTE_SECONDS)
        assert goes(switch, 2, frame(2, BROADCAST), 10.1 + MUTE_SECONDS) == {0, 1}
        assert [notice.event for notice in switch.notices] == ["bridge.muted", "bridge.unmuted"]

    def test_who_was_reached_the_other_way_is_looked_for_when_the_port_is_back(self) -> None:
        switch = bridge()
        for second in range(10):
            switch.tick(float(second))
        goes(switch, 2, self.probe(switch, 1, 10.0), 10.1)
        assert switch.tick(11.0)[1], "groups are asked for anew, too"
        assert goes(switch, 1, frame(7, BROADCAST), 11.0) == {0}
        assert goes(switch, 0, frame(8, 7), 11.1) == {1}
        wanted = switch.tick(10.1 + MUTE_SECONDS)[1]
        assert goes(switch, 0, frame(8, 7), 10.2 + MUTE_SECONDS) == {1, 2}
        assert wanted

    def test_a_loop_that_stays_keeps_the_port_muted(self) -> None:
        switch = bridge()
        goes(switch, 2, self.probe(switch, 1, 10.0), 10.1)
        for second in range(12, 100, 2):
            goes(switch, 2, self.probe(switch, 1, float(second)), second + 0.1)
            assert switch.muted == [2]

    def test_a_hub_without_a_tree_behind_one_port_mutes_that(self) -> None:
        switch = bridge()
        assert goes(switch, 1, self.probe(switch, 1, 10.0), 10.1) == set()
        assert switch.muted == [1]

    def test_nobody_else_can_mute_a_port(self) -> None:
        switch, now = bridge(), 10.0
        probe = self.probe(switch, 1, now)
        for other in (LoopProbes(b"\1" * 32, mac(9)).make(1, 0, now), probe[:15] + b"\0" + probe[16:], probe[:40]):
            goes(switch, 2, other, now)
        goes(switch, 2, probe, now + FRESH_SECONDS + 1)
        assert switch.muted == []

    def test_who_was_seen_where_he_is_not_is_found_again(self) -> None:
        switch = bridge()
        for number in range(10):  # local's frames come back by the other ports
            goes(switch, 0 if number == 0 else 1 + number % 2, frame(7, BROADCAST), 9.0 + number / 10)
        goes(switch, 2, self.probe(switch, 1, 10.0), 10.1)
        assert goes(switch, 0, frame(7, BROADCAST), 10.2) == {1}
        assert goes(switch, 1, frame(8, 7), 10.3) == {0}


class TestFlapping:
    """Host n is behind the attic; somebody sends with its address by another port, too."""

    def flap(self, switch: Bridge, host: int, port: int, now: float) -> None:
        for number in range(10):
            goes(switch, 1 if number % 2 == 0 else port, frame(host, BROADCAST), now + number / 10)

    def test_an_address_is_held_where_it_is_at_home_and_told(self) -> None:
        drops = Drops()
        switch = bridge(drops=drops)
        self.flap(switch, 7, 2, 1.0)
        assert drops[DropReason.BRIDGE_FLAPPING] > 0
        assert [notice.event for notice in switch.notices] == ["bridge.flapping"]
        assert "02:00:00:00:00:07 of attic keeps moving to office" in switch.notices[0].text
        assert goes(switch, 1, frame(7, BROADCAST), 3.0) == {0, 2}, "its own frames go on"
        assert goes(switch, 0, frame(8, 7), 3.0) == {1}
        assert switch.muted == []

    def test_the_frame_that_brings_it_home_goes_on(self) -> None:
        switch = bridge()
        egress = [goes(switch, port, frame(7, BROADCAST), 1.0 + turn / 10) for turn, port in enumerate((1, 2, 1, 2, 1))]
        assert egress == [{0, 2}, {0, 1}, {0, 2}, {0, 1}, {0, 2}]
        assert goes(switch, 2, frame(7, BROADCAST), 2.0) == set()

    def test_many_addresses_mute_the_port_they_came_to(self) -> None:
        switch = bridge(*(PortSettings(name) for name in ("local", "attic", "office", "shed")))
        for host in range(MANY):
            self.flap(switch, host, 2, 1.0 + host / 10)
        assert switch.muted == [], "a probe could come back"
        switch.tick(2.0 + MANY)
        assert switch.muted == [2]
        muted = [notice for notice in switch.notices if notice.event == "bridge.muted"]
        assert [notice.level for notice in muted] == ["error"]
        assert "4 addresses of attic keep coming by office: office is muted for 30 s" in muted[0].text
        assert goes(switch, 3, frame(99, BROADCAST), 6.0) == {0, 1}
        switch.tick(2.0 + MANY + MUTE_SECONDS)
        assert switch.muted == []
        assert goes(switch, 3, frame(99, BROADCAST), 40.0) == {0, 1, 2}

    def test_a_probe_is_sent_at_once_and_what_it_says_holds(self) -> None:
        switch = bridge()
        switch.tick(1.0)
        for host in range(MANY):
            self.flap(switch, host, 1, 1.0)  # no flapping, but everybody has a home
        for host in range(MANY):
            for port in (2, 1, 2, 1):
                goes(switch, port, frame(host, BROADCAST), 2.0)
        assert switch.waiting
        probe = next(emission.frame for emission in switch.tick(2.1)[0] if emission.port == 2)
        goes(switch, 1, probe, 2.2)
        assert switch.muted == [2]
        switch.tick(10.0)
        assert switch.muted == [2], "and no other one by addresses"
        assert "are also joined by another way" in switch.notices[-1].text

    def test_it_is_whoever_takes_addresses_of_others_also_if_his_port_is_older(self) -> None:
        switch = bridge()
        for host in range(MANY):
            for turn in range(10):
                goes(switch, 2 - turn % 2, frame(host, BROADCAST), 1.0 + host + turn / 10)
        switch.tick(10.0)
        assert switch.muted == [1]

    def test_a_few_now_and_then_mute_nothing(self) -> None:
        switch = bridge()
        for host in range(20):
            self.flap(switch, host, 2, 1.0 + host * MANY_SECONDS / (MANY - 1.5))
            switch.tick(3.0 + host * MANY_SECONDS / (MANY - 1.5))
        assert switch.muted == []

    def test_the_device_is_not_muted(self) -> None:
        switch = bridge()
        for host in range(4 * MANY):
            self.flap(switch, host, 0, 1.0 + host / 10)
        switch.tick(4.0)
        assert switch.muted == []
        assert goes(switch, 2, frame(99, BROADCAST), 5.0) == {0, 1}

    def test_without_the_guard_addresses_go_where_they_are_seen(self) -> None:
        switch = Bridge(Drops(), PROBES, fdb=Fdb(flap_guard=False))
        for number in range(3):
            switch.add_port(number, PortSettings(f"port{number}"), 0.0)
        for host in range(4 * MANY):
            self.flap(switch, host, 2, 1.0)
        switch.tick(4.0)
        assert (switch.muted, switch.notices) == ([], [])


class TestLoopsOfVlans:
    """Two trunks that carry VLANs 7 and 8 with tags, and a port in VLAN 7."""

    def switch(self) -> Bridge:
        seven_and_eight = trunk(frozenset({7, 8}))
        return bridge(
            PortSettings("attic", vlans=seven_and_eight),
            PortSettings("office", vlans=seven_and_eight),
            PortSettings("shed", vlans=access(7)),
            PortSettings("barn", vlans=access(8)),
        )

    def probes(self, switch: Bridge, port: int, now: float) -> dict[int, bytes]:
        return {emission.vlan: emission.frame for emission in switch.tick(now)[0] if emission.port == port}

    def tagged(self, probe: bytes, vlan: int) -> bytes:
        return probe[:12] + b"\x81\0" + vlan.to_bytes(2, "big") + probe[12:]

    def test_a_trunk_is_probed_where_somebody_is(self) -> None:
        switch = self.switch()
        assert self.probes(switch, 0, 10.0).keys() == set()
        assert self.probes(switch, 2, 12.0).keys() == {7}
        goes(switch, 1, frame(1, BROADCAST, tag=b"\x81\0\0\x08"), 13.0)
        assert self.probes(switch, 0, 14.0).keys() == {8}
        assert self.probes(switch, 2, 16.0).keys() == {7}

    def test_a_loop_of_one_vlan_is_found(self) -> None:
        switch = self.switch()
        goes(switch, 1, frame(1, BROADCAST, tag=b"\x81\0\0\x08"), 9.0)
        probe = self.probes(switch, 0, 10.0)[8]
        assert goes(switch, 1, self.tagged(probe, 8), 10.1) == set()
        assert switch.muted == [1]

    def test_it_may_come_back_without_its_tag(self) -> None:
        switch = self.switch()
        goes(switch, 1, frame(1, BROADCAST, tag=b"\x81\0\0\x07"), 9.0)
        probe = self.probes(switch, 0, 10.0)[7]
        goes(switch, 2, probe, 10.1)
        assert switch.muted == [2]

    def test_two_vlans_that_are_one_outside_are_no_loop(self) -> None:
        switch = self.switch()
        assert goes(switch, 3, self.probes(switch, 2, 10.0)[7], 10.1) == set()
        assert switch.muted == []

    def test_many_vlans_take_turns(self) -> None:
        every = trunk(None)
        switch = bridge(PortSettings("attic", vlans=every), PortSettings("office", vlans=every))
        for vlan in range(1, 101):
            goes(switch, 1, frame(1, BROADCAST, tag=b"\x81\0" + vlan.to_bytes(2, "big")), 1.0)
        seen: set[int] = set()
        for second in range(10, 20, 2):
            some = self.probes(switch, 0, float(second)).keys()
            assert len(some) == MAX_PROBED
            seen |= some
        assert len(seen) == 100


@given(st.lists(st.tuples(st.integers(0, 4), st.binary(min_size=14, max_size=90), st.floats(0, 10)), max_size=30))
def test_any_frames_never_come_back_by_their_own_port(frames: list[tuple[int, bytes, float]]) -> None:
    switch, now = bridge(), 0.0
    for port, what, wait in frames:
        now += wait
        assert port not in switch.forward(port, what, now).ports
        switch.tick(now)
