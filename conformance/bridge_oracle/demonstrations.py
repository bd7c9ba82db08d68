"""Each deliberate difference by itself: a short trace that ends with a frame on which the two bridges do not agree."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from caetun.l2.bridge import BpduPolicy
from caetun.l2.fdb import FLAP_MOVES
from caetun.l2.groups import MAX_GROUPS_PER_PORT
from caetun.l2.querier import PROXY
from caetun.l2.storm import Rate, Storm
from caetun.wire.checksum import checksum
from caetun.wire.membership import GroupRecord, Kind, Query, encode_report, mld_checksum
from conformance.bridge_oracle.rigs import ASKED, OWN, PROBES, QUIET, Flavour
from conformance.bridge_oracle.traces import BROADCAST, NOBODY4, NOBODY6
from tests.l2.frames import data, ethernet, group_mac, ipv4, ipv6, mac, packet4, packet6, query, report

Frame = tuple[int, bytes]
"""The port it comes in by, and itself."""


class Demonstration(NamedTuple):
    """What shows a difference, with ports 0..4 and the real querier, if there is one, at port 4."""

    difference: str
    flavour: Flavour
    before: Sequence[Frame]
    last: Frame
    linux: set[int]
    """Where the last frame goes."""
    ours: set[int]
    waits: bool = False
    """Whether memberships end before the last frame, if somebody asked about them."""
    unready: bool = False
    """Whether it begins before the bridges have heard answers to their first questions."""


_GROUP, _OTHER = bytes((239, 1, 2, 3)), bytes((239, 1, 2, 4))
_GROUP6: Final = bytes.fromhex("ff0e0000000000000000000000000123")
_SOLICITED: Final = bytes.fromhex("ff0200000000000000000001ff001234")
_BPDU: Final = (0, ethernet(bytes.fromhex("0180c2000000"), mac(1), 0x26, b"\x42\x42\x03" + bytes(35)))
_ARP: Final = (0, ethernet(BROADCAST, mac(1), 0x0806, bytes(28)))
_ALL, _ASM, _ASM6 = {1, 2, 3, 4}, GroupRecord(Kind.IS_EXCLUDE, _GROUP), GroupRecord(Kind.IS_EXCLUDE, _GROUP6)
_LEAVE, _SOURCES = GroupRecord(Kind.TO_INCLUDE, _GROUP), GroupRecord(Kind.ALLOW, _GROUP, (ipv4(1),))
_MANY: Final = GroupRecord(Kind.ALLOW, _GROUP, tuple(ipv4(number) for number in range(40, 0, -1)))
_DATA, _DATA6 = (0, data(1, _GROUP)), (0, data(1, _GROUP6))
"""From host 1, always."""
_QUICK: Final = {"mcast_last_member_interval": 10}
_QUICK_ASKED: Final = Flavour(asked=True, options=_QUICK)
_QUICK_OWN: Final = Flavour(settings=OWN.settings, options={**OWN.options, **_QUICK}, addresses=OWN.addresses)
_SLOW_OWN: Final = Flavour(
    settings=OWN.settings, options={**OWN.options, "mcast_query_response_interval": 1000}, addresses=OWN.addresses
)
_FAST_LEAVE: Final = Flavour(asked=True, settings={"fast_leave": frozenset(range(5))}, slave="fastleave on")


def _igmp(message: bytes, to: bytes, flags: int = 0) -> bytes:
    """An IGMP message of host 1, whose checksum is put in."""
    message = message[:2] + checksum(message[:2] + b"\0\0" + message[4:]).to_bytes(2, "big") + message[4:]
    packet = packet4(ipv4(1), to, 2, message)
    head = packet[:6] + struct.pack(">H", flags) + packet[8:10] + b"\0\0" + packet[12:20]
    return ethernet(group_mac(to), mac(1), 0x0800, head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + message)


def _mld(source: bytes = ipv6(1), hop_limit: int = 1, header: bytes = b"\x3a\0\5\2\0\0\1\0") -> bytes:
    """A join of host 1."""
    message = mld_checksum(source, _GROUP6, encode_report(1, [_ASM6], 16))
    packet = packet6(source, _GROUP6, 0 if header else 58, header + message)
    return ethernet(group_mac(_GROUP6), mac(1), 0x86DD, packet[:7] + bytes((hop_limit,)) + packet[8:])


def _v6(next_header: int, payload: bytes, group: bytes = _GROUP6) -> Frame:
    return 0, ethernet(group_mac(group), mac(1), 0x86DD, packet6(ipv6(1), group, next_header, payload))


def _asks(host: int, *, group: bytes = NOBODY4, sources: tuple[bytes, ...] = (), source: bytes = b"") -> bytes:
    address = ipv4(host) if len(group) == 4 else ipv6(host)
    return query(host, Query(3 if len(group) == 4 else 2, source or address, group, 0.1, sources=sources))


_AUXILIARY: Final = b"\x22\0\0\0\0\0\0\2\2\1\0\0" + _OTHER + bytes(4) + b"\2\0\0\0" + _GROUP
_ALL_REPORTS: Final = bytes((224, 0, 0, 22))
_PIM6: Final = _v6(103, b"\x20\0\xdf\xff", bytes.fromhex("ff02000000000000000000000000000d"))[1]
_TAGGED: Final = (0, _DATA[1][:12] + b"\x81\0\0\7" + _DATA[1][12:])
_CLUSTER: Final = (0, ethernet(bytes.fromhex("03bf0a000001"), mac(1), 0x0800, packet4(ipv4(1), ipv4(2), 17, bytes(8))))
_QUERY_TO_GROUP: Final = (4, _igmp(b"\x11\1\0\0" + NOBODY4, _GROUP))
_V2_JOIN: Final = b"\x16\0\0\0" + _GROUP
_FULL: Final = [
    (1, report(2, 2, GroupRecord(Kind.IS_EXCLUDE, bytes((238, 0)) + number.to_bytes(2, "big"))))
    for number in range(MAX_GROUPS_PER_PORT)
]
_FLAPS: Final = [(1 + number % 2, ethernet(BROADCAST, mac(2), 0x0806, bytes(28))) for number in range(FLAP_MOVES + 2)]
_TO_STATIC: Final = (0, ethernet(mac(7), mac(1), 0x1234, bytes(46)))
_FROM_STATIC: Final = (2, ethernet(BROADCAST, mac(7), 0x1234, bytes(46)))
_STATIC: Final = Flavour(static=((mac(7), 1),))
_STORM: Final = Flavour(ports={"storm": {Storm.NEIGHBOURS: Rate(0.0, 2.0)}})

# fmt: off
DEMONSTRATIONS: Final = [
    Demonstration("reports of IGMPv3 and MLDv2, leaves", ASKED, [], (0, report(1, 3, _ASM)), _ALL, {4}),
    Demonstration("reports of IGMPv3 and MLDv2, leaves", ASKED, [], (0, report(1, 2, _LEAVE)), _ALL, {4}),
    Demonstration("multicast behind a tag", ASKED, [], _TAGGED, {4}, _ALL),
    Demonstration("solicited-node groups", ASKED, [], (0, data(1, _SOLICITED)), {4}, _ALL),
    Demonstration("ff00::/15", ASKED, [], (0, data(1, b"\xff\1" + _GROUP6[2:])), {4}, set()),
    Demonstration("unicast IP in a multicast frame", ASKED, [], _CLUSTER, {4}, _ALL),
    Demonstration("IGMP of an unknown type, to a group", ASKED, [], (0, _igmp(b"\x13" + bytes(7), _GROUP)), {4}, _ALL),
    Demonstration("IP packet cut short", ASKED, [], (0, _DATA[1][:-1]), set(), {4}),
    Demonstration("IPv6 extension headers cut short", ASKED, [], _v6(60, b"\x11\2" + bytes(6)), {4}, set()),
    Demonstration("IPv6 packet with nothing in it", ASKED, [], _v6(59, b""), set(), {4}),
    Demonstration("ICMPv6 with a wrong checksum", ASKED, [], _v6(0, b"\x3a\0\5\2\0\0\1\0\x80" + bytes(15)), set(), {4}),
    Demonstration("all sources for one port, single ones for others", ASKED,
                  [(1, report(2, 3, _SOURCES)), (2, report(3, 2, _ASM))], _DATA, {1, 4}, {1, 2, 4}),
    Demonstration("leave where hosts of IGMPv1 are", _QUICK_OWN,
                  [(1, report(2, 1, _ASM)), (1, report(3, 2, _LEAVE))], _DATA, set(), {1}, waits=True),
    Demonstration("BLOCK where old hosts are", _QUICK_OWN,
                  [(1, report(2, 2, _ASM)), (1, report(3, 3, _SOURCES._replace(kind=Kind.BLOCK)))],
                  _DATA, set(), {1}, waits=True),
    Demonstration("IGMP query from 0.0.0.0", QUIET, [(3, _asks(2, source=NOBODY4))], _DATA, {3}, _ALL, waits=True),
    Demonstration("MLD query from ::", QUIET, [], (0, _asks(1, group=NOBODY6, source=NOBODY6)), set(), _ALL),
    Demonstration("MLD query from fe80::ffff:ffff:ffff:fffe", QUIET, [(3, _asks(2, group=NOBODY6, source=PROXY[16]))],
                  _DATA6, {3}, _ALL, waits=True),
    Demonstration("query of one who lost the election", ASKED, [(3, _asks(50))], _DATA, {4}, {3, 4}),
    Demonstration("query for one group", ASKED, [(3, _asks(9, group=_GROUP))], _DATA, {4}, {3, 4}),
    Demonstration("PIM hello over IPv6", ASKED, [(2, _PIM6)], _DATA6, {4}, {2, 4}),
    Demonstration("leave while another one asks", _QUICK_ASKED,
                  [(1, report(2, 3, _ASM)), (1, report(2, 3, _LEAVE))], _DATA, {4}, {1, 4}, waits=True),
    Demonstration("query for sources, by another one", _QUICK_ASKED,
                  [(1, report(2, 3, _SOURCES)), (4, _asks(9, group=_GROUP, sources=(ipv4(1),)))],
                  _DATA, {1, 4}, {4}, waits=True),
    Demonstration("report of what is no group", ASKED,
                  [], (0, _igmp(b"\x16\0\0\0" + ipv4(2), _ALL_REPORTS)), {4}, set()),
    Demonstration("auxiliary data in a report", ASKED, [(1, _igmp(_AUXILIARY, _ALL_REPORTS))], _DATA, {4}, {1, 4}),
    Demonstration("MLD with another hop limit than 1", ASKED, [(1, _mld(hop_limit=2))], _DATA6, {1, 4}, {4}),
    Demonstration("MLD from a global address", ASKED,
                  [(1, _mld(bytes.fromhex("20010db8") + bytes(12)))], _DATA6, {1, 4}, {4}),
    Demonstration("MLD without a hop-by-hop header", ASKED, [(1, _mld(header=b""))], _DATA6, {4}, {1, 4}),
    Demonstration("general query to one group", ASKED, [], _QUERY_TO_GROUP, set(), {0, 1, 2, 3}),
    Demonstration("IGMP in fragments", ASKED, [(1, _igmp(_V2_JOIN, _GROUP, 0x2000))], _DATA, {1, 4}, {4}),
    Demonstration("more than 32 sources of a group", ASKED, [(1, report(2, 3, _MANY))], _DATA, {4}, {1, 4}),
    Demonstration("first seconds of a querier of its own", _SLOW_OWN, [], _DATA, _ALL, set(), unready=True),
    Demonstration("groups beyond the cap", Flavour(asked=True, options={"mcast_hash_max": MAX_GROUPS_PER_PORT}),
                  [*_FULL, (1, report(2, 2, _ASM))], _DATA, _ALL, {4}),
    Demonstration("fast leave", _FAST_LEAVE,
                  [(1, report(2, 3, _ASM)), (1, report(3, 3, _ASM)), (1, report(3, 3, _LEAVE))], _DATA, {1, 4}, {4}),
    Demonstration("static entry, seen elsewhere", _STATIC, [_FROM_STATIC], _TO_STATIC, {2}, {1}),
    Demonstration("static entry, seen elsewhere", _STATIC, [], _FROM_STATIC, {0, 1, 3, 4}, set()),
    Demonstration("spanning tree, by default", Flavour(ports={"bpdu": BpduPolicy.FILTER}), [], _BPDU, _ALL, set()),
    Demonstration("spanning tree, by default", Flavour(ports={"bpdu": BpduPolicy.BLOCK}), [_BPDU], _ARP, _ALL, set()),
    Demonstration("storm control", _STORM, [_ARP, _ARP], _ARP, _ALL, set()),
    Demonstration("flapping address", QUIET, _FLAPS, (0, ethernet(mac(2), mac(1), 0x1234, bytes(46))), {2}, {1}),
    Demonstration("loop probes", QUIET, [], (0, PROBES.make(3, 0, 999.9)), _ALL, set()),
    Demonstration("loop probes", QUIET, [(3, PROBES.make(0, 0, 999.9))], _ARP, _ALL, {1, 2, 4}),
]
# fmt: on
