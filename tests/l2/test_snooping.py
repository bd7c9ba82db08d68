"""RFC 4541, item by item, in virtual time. The names say which: section and item of the RFC."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.querier import LAST_MEMBER_INTERVAL, PROXY
from caetun.l2.snooping import ROUTER_SECONDS, Snooping, SnoopingSettings, To, Unregistered
from caetun.l2.vlan import UNAWARE
from caetun.types import DropReason, Drops
from caetun.wire.checksum import ones_sum
from caetun.wire.membership import GroupRecord, Kind, Query, encode_report, mld_checksum
from tests.l2.frames import ALL_ROUTERS6, data, ethernet, group_mac, ipv4, ipv6, mac, packet4, packet6, query, report

GROUP, SAME_MAC = bytes((239, 1, 2, 3)), bytes((239, 129, 2, 3))
GROUP6 = bytes.fromhex("ff0e0000000000000000000000000123")
MDNS6 = bytes.fromhex("ff0200000000000000000000000000fb")
NOBODY4, NOBODY6 = bytes(4), bytes(16)
JOIN, LEAVE = GroupRecord(Kind.TO_EXCLUDE, GROUP), GroupRecord(Kind.TO_INCLUDE, GROUP)
JOIN6 = GroupRecord(Kind.TO_EXCLUDE, GROUP6)
GENERAL = Query(2, ipv4(9), NOBODY4, 10.0)
GENERAL6 = Query(1, ipv6(9), NOBODY6, 10.0)


def snooping(drops: Drops | None = None, **settings: object) -> Snooping:
    made = Snooping(SnoopingSettings(**settings), Drops() if drops is None else drops)  # type: ignore[arg-type]
    made.add_vlan(1, 0.0)
    made.tick(0.0)
    return made


def mld(source: bytes, message: bytes, headers: bytes = b"\x3a\0\5\2\0\0\1\0", to: bytes = ALL_ROUTERS6) -> bytes:
    """An MLD message, without its checksum, behind extension headers."""
    body = headers + mld_checksum(source, to, message)
    packet = packet6(source, to, 0, body)
    return ethernet(group_mac(to), mac(1), 0x86DD, packet)


def where(bridge: Snooping, frame: bytes, port: int = 1, now: float = 1.0) -> frozenset[int] | To:
    return bridge.egress(1, port, frame, now)


class TestReports:
    def test_211_1_reports_go_to_router_ports_only(self) -> None:
        bridge = snooping()
        assert where(bridge, report(1, 3, JOIN)) == frozenset()
        where(bridge, query(9, GENERAL), port=4)
        assert where(bridge, report(1, 3, JOIN)) == {4}
        assert where(bridge, report(1, 2, LEAVE)) == {4}

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_212_3_joins_of_every_version_are_recognised(self, version: int) -> None:
        bridge = snooping()
        where(bridge, report(1, version, GroupRecord(Kind.IS_EXCLUDE, GROUP)), port=2)
        assert where(bridge, data(5, GROUP)) == {2}

    def test_211_1_while_nobody_asks_they_go_to_all_for_a_querier_may_be_there_that_looks_like_a_switch(self) -> None:
        bridge = snooping(querier=False)
        assert where(bridge, report(1, 3, JOIN)) is To.ALL
        where(bridge, query(9, GENERAL), port=4)
        assert where(bridge, report(1, 3, JOIN), now=12.0) == {4}

    def test_211_2_a_report_from_nobody_counts(self) -> None:
        bridge = snooping()
        frame = report(1, 2, GroupRecord(Kind.IS_EXCLUDE, GROUP))
        body = packet4(bytes(4), GROUP, 2, frame[14 + 24 :], b"\x94\x04\0\0")
        where(bridge, frame[:14] + body, port=2)
        assert where(bridge, data(5, GROUP)) == {2}


class TestRouterPorts:
    def test_211_1b_where_a_query_came_from(self) -> None:
        bridge = snooping()
        assert where(bridge, query(9, GENERAL), port=4) is To.ALL
        assert list(bridge.routers(1.0)) == [(1, 4, ROUTER_SECONDS)]
        bridge.tick(1.0 + ROUTER_SECONDS)
        assert list(bridge.routers(300.0)) == []

    def test_211_1b_but_not_a_query_from_nobody(self) -> None:
        bridge = snooping()
        where(bridge, query(9, GENERAL._replace(source=NOBODY4)), port=4)
        assert list(bridge.routers(1.0)) == []

    def test_211_1_but_it_hears_who_wants_what(self) -> None:
        """A switch like us asks from 0.0.0.0: it is no router, but prunes what nobody has reported to it."""
        bridge = snooping()
        where(bridge, query(9, GENERAL._replace(source=NOBODY4)), port=4)
        assert where(bridge, report(1, 3, JOIN)) == {4}
        assert where(bridge, data(5, SAME_MAC)) == frozenset()
        bridge.tick(1.0 + ROUTER_SECONDS)
        assert where(bridge, report(1, 3, JOIN), now=300.0) == frozenset()

    def test_211_1b_a_router_of_ipv4_is_none_of_ipv6(self) -> None:
        bridge = snooping()
        where(bridge, query(9, GENERAL), port=4)
        assert where(bridge, data(5, GROUP)) == {4}
        assert where(bridge, data(5, GROUP6)) == frozenset()
        where(bridge, query(9, GENERAL6), port=3)
        assert where(bridge, data(5, GROUP6)) == {3}
        assert [port for _, port, _ in bridge.routers(1.0)] == [3, 4]

    @pytest.mark.parametrize(("protocol", "message"), [(103, b"\x20\0\xdf\xff"), (2, b"\x30\x14\xcf\xe7\0\x02\0\x02")])
    def test_211_1a_where_a_router_says_hello(self, protocol: int, message: bytes) -> None:
        bridge = snooping()
        group = bytes((224, 0, 0, 13))
        frame = ethernet(group_mac(group), mac(9), 0x0800, packet4(ipv4(9), group, protocol, message))
        assert where(bridge, frame, port=4) is To.ALL
        assert [port for _, port, _ in bridge.routers(1.0)] == [4]

    def test_211_1c_by_hand(self) -> None:
        bridge = snooping(router_ports=frozenset({7}))
        assert where(bridge, report(1, 3, JOIN)) == {7}
        assert where(bridge, data(5, GROUP)) == {1, 7}


class TestOtherMessages:
    def test_211_3_igmp_of_an_unknown_type_is_flooded(self) -> None:
        frame = ethernet(group_mac(GROUP), mac(1), 0x0800, packet4(ipv4(1), GROUP, 2, b"\x13\0\xec\xff\0\0\0\0"))
        assert where(snooping(), frame) is To.ALL

    def test_211_3_reserved_fields_and_what_follows_are_ignored(self) -> None:
        bridge = snooping()
        records = encode_report(3, (JOIN,), 4)
        odd = b"\x22\xff\0\0\xff\xff" + records[6:] + b"more"
        odd = odd[:2] + (ones_sum(odd) ^ 0xFFFF).to_bytes(2, "big") + odd[4:]
        everybody = bytes((224, 0, 0, 22))
        packet = packet4(ipv4(1), everybody, 2, odd, b"\x94\x04\0\0")
        where(bridge, ethernet(group_mac(everybody), mac(1), 0x0800, packet), port=2)
        assert where(bridge, data(5, GROUP)) == {2}

    def test_211_4_queries_of_ours_are_never_of_an_older_version(self) -> None:
        asked = snooping().tick(40.0)
        assert {(len(wanted.query.group), wanted.query.version) for wanted in asked} == {(4, 3), (16, 2)}

    def test_211_5_wrong_checksums_are_counted_and_not_acted_upon(self) -> None:
        drops = Drops()
        bridge = snooping(drops)
        frame = report(1, 3, JOIN)
        for at in (24, len(frame) - 1):  # of the IPv4 header; of the IGMP message
            broken = frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 :]
            assert where(bridge, broken) is To.NOBODY
        assert drops == {DropReason.MULTICAST_CHECKSUM: 2}
        assert list(bridge.rows(1.0)) == []

    def test_211_4_a_port_that_comes_up_is_asked_twice(self) -> None:
        bridge = snooping()
        bridge.topology_changed(7, 5.0)
        assert bridge.next_deadline() == 5.0
        for now in (5.0, 6.0):
            asked = bridge.tick(now)
            assert {(wanted.vlan, wanted.only, len(wanted.query.group)) for wanted in asked} == {(1, 7, 4), (1, 7, 16)}
            assert {wanted.query.max_response for wanted in asked} == {1.0}
        assert bridge.tick(7.0) == []

    def test_211_4_one_that_comes_and_goes_is_asked_once_a_second(self) -> None:
        bridge = snooping()
        asked = []
        for step in range(100):
            now = 5.0 + step / 10
            bridge.topology_changed(7, now)
            asked += bridge.tick(now)
        assert len(asked) == 2 * 10

    def test_211_4_a_router_is_left_to_ask_for_itself(self) -> None:
        bridge = snooping()
        where(bridge, query(9, GENERAL), port=4)
        bridge.topology_changed(4, 5.0)
        assert {(wanted.only, len(wanted.query.group)) for wanted in bridge.tick(5.0)} == {(4, 16)}

    def test_211_6_without_a_leave_a_membership_ends_too(self) -> None:
        bridge = snooping(router_ports=frozenset({7}))
        where(bridge, report(1, 3, JOIN), port=2)
        bridge.tick(270.9)
        assert where(bridge, data(5, GROUP), now=270.9) == {2, 7}
        bridge.tick(271.0)
        assert where(bridge, data(5, GROUP), now=271.0) == {7}


class TestData:
    def test_212_1_to_members_and_always_to_routers(self) -> None:
        bridge = snooping()
        where(bridge, report(1, 3, JOIN), port=2)
        where(bridge, query(9, GENERAL), port=4)
        assert where(bridge, data(5, GROUP)) == {2, 4}

    @pytest.mark.parametrize("last", [1, 2, 5, 251])
    def test_212_2_the_local_block_goes_to_all(self, last: int) -> None:
        bridge = snooping()
        group = bytes((224, 0, 0, last))
        where(bridge, report(1, 2, GroupRecord(Kind.IS_EXCLUDE, group)), port=2)
        assert where(bridge, data(5, group)) is To.ALL

    @pytest.mark.parametrize(
        ("policy", "egress"),
        [(Unregistered.FLOOD, To.ALL), (Unregistered.ROUTERS, frozenset({4})), (Unregistered.DROP, To.NOBODY)],
    )
    def test_212_3_groups_nobody_has_joined(self, policy: Unregistered, egress: frozenset[int] | To) -> None:
        bridge = snooping(unregistered=policy)
        where(bridge, query(9, GENERAL), port=4)
        assert where(bridge, data(5, GROUP)) == egress

    @pytest.mark.parametrize(("policy", "counted"), list(zip(Unregistered, (0, 1, 1), strict=True)))
    def test_212_3_what_goes_nowhere_is_counted(self, policy: Unregistered, counted: int) -> None:
        drops = Drops()
        where(snooping(drops, unregistered=policy), data(5, GROUP))
        assert drops[DropReason.MULTICAST_UNWANTED] == counted

    def test_212_7_also_what_its_members_do_not_want_of_a_source(self) -> None:
        drops = Drops()
        bridge = snooping(drops)
        where(bridge, report(3, 3, GroupRecord(Kind.ALLOW, GROUP, (ipv4(6),))), port=3)
        assert where(bridge, data(6, GROUP)) == frozenset({3})
        assert drops == {}
        assert where(bridge, data(5, GROUP)) == frozenset()
        assert drops == {DropReason.MULTICAST_UNWANTED: 1}

    def test_212_4_what_is_not_ip_goes_to_all(self) -> None:
        assert where(snooping(), ethernet(b"\x09\0\x07\0\0\0", mac(1), 0x809B, bytes(46))) is To.ALL

    def test_212_5_groups_with_one_mac_are_two(self) -> None:
        bridge = snooping()
        where(bridge, report(1, 3, JOIN), port=2)
        assert group_mac(GROUP) == group_mac(SAME_MAC)
        assert where(bridge, data(5, SAME_MAC)) == frozenset()

    def test_212_6_data_with_a_wrong_header_checksum_is_discarded(self) -> None:
        drops = Drops()
        bridge = snooping(drops, router_ports=frozenset({7}))
        frame = data(5, GROUP)
        assert where(bridge, frame[:22] + b"\x09" + frame[23:]) is To.NOBODY
        assert drops == {DropReason.MULTICAST_CHECKSUM: 1}

    def test_of_a_superframe_the_beginning_is_enough(self) -> None:
        bridge = snooping(router_ports=frozenset({7}))
        assert where(bridge, data(5, GROUP, bytes(60_000))[:42]) == {7}
        assert where(bridge, data(5, GROUP6, bytes(60_000))[:62]) == {7}

    def test_headers_that_contradict_each_other_are_dropped(self) -> None:
        drops = Drops()
        bridge = snooping(drops)
        four, six = data(5, GROUP), data(5, GROUP6)
        longer = six[:18] + b"\0\4\0" + six[21:54] + b"\x11\0" + bytes(22)  # 4 bytes, of an extension header of 8
        for frame in (four[:12] + six[12:14] + four[14:], six[:12] + four[12:14] + six[14:], longer):
            assert where(bridge, frame) is To.NOBODY
        assert drops == {DropReason.MULTICAST_MALFORMED: 3}

    @pytest.mark.parametrize(
        ("vlan", "tag"),
        [(UNAWARE, "81000007"), (1, "8100000181000007"), (1, "88a80007"), (UNAWARE, "88a8000781000007")],
    )
    def test_what_is_behind_a_tag_of_somebody_else_is_payload(self, vlan: int, tag: str) -> None:
        bridge = snooping()

        def egress(frame: bytes) -> frozenset[int] | To:
            return bridge.egress(vlan, 1, frame[:12] + bytes.fromhex(tag) + frame[12:], 1.0)

        for frame in (report(1, 3, JOIN), query(9, GENERAL), data(5, GROUP)):
            assert egress(frame) is To.ALL
        assert list(bridge.rows(1.0)) == list(bridge.routers(1.0)) == []

    def test_what_is_behind_the_tag_of_the_vlan_is_not(self) -> None:
        bridge = snooping()
        frame = report(1, 3, JOIN)
        where(bridge, frame[:12] + b"\x81\0\0\1" + frame[12:], port=2)
        assert where(bridge, data(5, GROUP)) == {2}

    def test_212_7_the_union_of_sources(self) -> None:
        bridge = snooping()
        where(bridge, report(1, 3, GroupRecord(Kind.ALLOW, GROUP, (ipv4(5),))), port=2)
        where(bridge, report(2, 3, GroupRecord(Kind.TO_EXCLUDE, GROUP, (ipv4(5),))), port=3)
        assert where(bridge, data(5, GROUP)) == {2}
        assert where(bridge, data(6, GROUP)) == {3}

    def test_while_nobody_asks_all_is_flooded(self) -> None:
        bridge = snooping(querier=False)
        where(bridge, report(1, 3, JOIN), port=2)
        assert where(bridge, data(5, GROUP)) is To.ALL
        where(bridge, query(9, GENERAL), port=4)
        assert where(bridge, data(5, GROUP), now=10.9) is To.ALL, "hosts may take 10 s to answer: no stream stops"
        assert where(bridge, data(5, GROUP), now=11.0) == {2, 4}

    def test_switched_off_all_is_flooded(self) -> None:
        bridge = snooping(snooping=False)
        assert where(bridge, report(1, 3, JOIN)) is To.ALL
        assert where(bridge, data(5, GROUP)) is To.ALL
        assert bridge.tick(100.0) == []


class TestIpv6:
    @pytest.mark.parametrize("version", [1, 2])
    def test_3_joins_of_every_version(self, version: int) -> None:
        bridge = snooping()
        where(bridge, report(1, version, GroupRecord(Kind.IS_EXCLUDE, GROUP6)), port=2)
        assert where(bridge, data(5, GROUP6)) == {2}

    def test_3_a_report_from_nobody_counts(self) -> None:
        """Of a host whose address is not settled yet (RFC 9777, section 5.2.13)."""
        bridge = snooping()
        where(bridge, mld(NOBODY6, encode_report(2, (JOIN6,), 16)), port=2)
        assert where(bridge, data(5, GROUP6)) == {2}

    def test_3_wrong_checksums_are_counted_and_not_acted_upon(self) -> None:
        drops = Drops()
        bridge = snooping(drops)
        frame = report(1, 2, JOIN6)
        assert where(bridge, frame[:-1] + bytes((frame[-1] ^ 1,))) is To.NOBODY
        assert drops == {DropReason.MULTICAST_CHECKSUM: 1}
        assert list(bridge.rows(1.0)) == []

    def test_3_extension_headers_are_walked(self) -> None:
        """Router Alert behind other options, and destination options behind that."""
        bridge = snooping()
        hop_by_hop = b"\x3c\1" + b"\1\4\0\0\0\0" + b"\5\2\0\0" + b"\1\2\0\0"
        destination = b"\x3a\0\1\4\0\0\0\0"
        where(bridge, mld(ipv6(1), encode_report(2, (JOIN6,), 16), hop_by_hop + destination), port=2)
        assert where(bridge, data(5, GROUP6)) == {2}

    @pytest.mark.parametrize(("protocol", "message"), [(103, b"\x20\0\0\0"), (58, b"\x97\x14\0\0\0\2\0\2")])
    def test_3_where_a_router_says_hello(self, protocol: int, message: bytes) -> None:
        """PIM over IPv6 (RFC 7761), and Multicast Router Discovery (RFC 4286, section 4.1)."""
        bridge = snooping()
        group = bytes.fromhex("ff02000000000000000000000000006a")
        if protocol == 58:
            frame = mld(ipv6(9), message, to=group)
        else:
            frame = ethernet(group_mac(group), mac(9), 0x86DD, packet6(ipv6(9), group, protocol, message))
        assert where(bridge, frame, port=4) is To.ALL
        assert [port for _, port, _ in bridge.routers(1.0)] == [4]
        assert where(bridge, data(5, GROUP6)) == {4}

    def test_3_all_nodes_and_solicited_nodes_go_to_all(self) -> None:
        bridge = snooping()
        for group in ("ff020000000000000000000000000001", "ff0200000000000000000001ff000001"):
            assert where(bridge, data(5, bytes.fromhex(group))) is To.ALL

    def test_3_what_is_local_to_its_host_does_not_leave_it(self) -> None:
        drops = Drops()
        bridge = snooping(drops)
        for first in ("ff01", "ff00", "ff11"):
            assert where(bridge, data(5, bytes.fromhex(first) + bytes(13) + b"\x01")) is To.NOBODY
        assert drops == {DropReason.MULTICAST_SCOPE: 3}

    def test_3_link_scope_is_flooded_until_somebody_asks(self) -> None:
        bridge = snooping(querier=False)
        assert where(bridge, data(5, MDNS6)) is To.ALL
        where(bridge, query(9, GENERAL6), port=4)
        where(bridge, report(1, 2, GroupRecord(Kind.IS_EXCLUDE, MDNS6)), port=2)
        assert where(bridge, data(5, MDNS6), now=12.0) == {2, 4}

    def test_3_a_query_marks_a_router(self) -> None:
        bridge = snooping()
        where(bridge, query(9, GENERAL6), port=4)
        assert where(bridge, report(1, 2, JOIN6), port=2) == {4}

    @pytest.mark.parametrize("proxy", [NOBODY6, PROXY[16]])
    def test_3_a_proxys_query_marks_a_switch(self, proxy: bytes) -> None:
        bridge = snooping()
        assert where(bridge, query(9, GENERAL6._replace(source=proxy)), port=4) is To.ALL
        assert list(bridge.routers(1.0)) == []
        assert where(bridge, report(1, 2, JOIN6), port=2) == {4}
        assert where(bridge, data(5, MDNS6)) == frozenset()


class TestLeaving:
    def test_a_leave_is_asked_about_and_over_within_two_seconds(self) -> None:
        bridge = snooping(router_ports=frozenset({7}))
        where(bridge, report(1, 2, JOIN._replace(kind=Kind.IS_EXCLUDE)), port=2)
        where(bridge, report(1, 2, LEAVE), port=2, now=10.0)
        (wanted,) = bridge.tick(10.0)
        assert (wanted.query.group, wanted.query.max_response) == (GROUP, LAST_MEMBER_INTERVAL)
        assert where(bridge, data(5, GROUP), now=11.0) == {2, 7}
        bridge.tick(12.0)
        assert where(bridge, data(5, GROUP), now=12.0) == {7}

    def test_whoever_answers_stays(self) -> None:
        bridge = snooping()
        where(bridge, report(1, 3, JOIN), port=2)
        where(bridge, report(1, 3, LEAVE), port=2, now=10.0)
        where(bridge, report(3, 3, GroupRecord(Kind.IS_EXCLUDE, GROUP)), port=2, now=11.0)
        bridge.tick(30.0)
        assert where(bridge, data(5, GROUP), now=30.0) == {2}

    def test_fast_leave_is_at_once(self) -> None:
        bridge = snooping(fast_leave=frozenset({2}))
        where(bridge, report(1, 3, JOIN), port=2)
        where(bridge, report(1, 3, LEAVE), port=2)
        assert where(bridge, data(5, GROUP)) == frozenset()

    def test_a_question_of_the_real_querier_shortens_too(self) -> None:
        bridge = snooping()
        where(bridge, query(9, GENERAL), port=4)
        where(bridge, report(1, 3, JOIN), port=2)
        where(bridge, query(9, Query(2, ipv4(9), GROUP, 1.0)), port=4, now=20.0)
        bridge.tick(22.0)
        assert where(bridge, data(5, GROUP), now=22.0) == {4}

    @pytest.mark.parametrize("seconds", [0.5, 5.0])
    def test_which_says_how_long_an_answer_may_take(self, seconds: float) -> None:
        bridge = snooping()
        where(bridge, query(9, GENERAL), port=4)
        where(bridge, report(1, 2, JOIN._replace(kind=Kind.IS_EXCLUDE)), port=2)
        where(bridge, query(9, Query(2, ipv4(9), GROUP, seconds)), port=4, now=20.0)
        bridge.tick(20.0 + 2 * seconds - 0.1)
        assert where(bridge, data(5, GROUP), now=20.0 + 2 * seconds - 0.1) == {2, 4}
        bridge.tick(20.0 + 2 * seconds)
        assert where(bridge, data(5, GROUP), now=20.0 + 2 * seconds) == {4}

    def test_a_leave_at_one_port_shortens_nothing_at_another(self) -> None:
        bridge = snooping()
        for port in (2, 3):
            where(bridge, report(port, 3, JOIN), port=port)
        where(bridge, report(2, 3, LEAVE), port=2, now=10.0)
        bridge.tick(10.0)
        bridge.tick(30.0)
        assert where(bridge, data(5, GROUP), now=30.0) == {3}, "although nobody there has answered the question"

    def test_a_port_that_is_gone_has_no_members_and_no_router(self) -> None:
        bridge = snooping()
        where(bridge, report(1, 3, JOIN), port=2)
        where(bridge, query(9, GENERAL), port=2)
        bridge.port_down(2)
        assert where(bridge, data(5, GROUP)) == frozenset()


ITEMS = (
    {f"211_{item}" for item in ("1", "1a", "1b", "1c", "2", "3", "4", "5", "6")}
    | {f"212_{item}" for item in range(1, 8)}
    | {"3"}
)
"""Sections 2.1.1 and 2.1.2 item by item, and section 3, as the RFC has them."""


def test_every_item_of_the_rfc_has_a_test() -> None:
    classes = [each for each in globals().values() if isinstance(each, type) and each.__name__.startswith("Test")]
    found = [re.match(r"test_(21[12]_\d[abc]?|3)_", name) for each in classes for name in vars(each)]
    assert {each[1] for each in found if each} == ITEMS


@given(st.binary(min_size=14, max_size=200), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00"]))
def test_any_frame_goes_somewhere(rest: bytes, kind: bytes) -> None:
    bridge = snooping()
    verdict = where(bridge, b"\x01\0\x5e\0\0\1" + mac(1) + kind + rest)
    assert verdict in To or isinstance(verdict, frozenset)
    bridge.tick(1000.0)
