"""What a tunnel tells of its switch: rows of plain values, the same whatever is asked twice, and never too many."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from caetun.cli.show import WHAT, table
from caetun.daemon.status import MAX_SOURCES, PAGE, VIEWS, Status
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.member import MemberSwitch
from caetun.l2.policy import Allowed, GuardSettings, Source
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.switchboard import Switchboard
from caetun.types import Drops
from caetun.wire.membership import GroupRecord, Kind, Query
from tests.l2.frames import ipv4, mac, query, report
from tests.l2.hosts import acknowledges, announces, sends

GROUP = bytes((239, 1, 2, 3))
LOCAL, ATTIC, OFFICE = 0, 1, 2


class HubNode:
    """A node whose switch has two peers, attic and office."""

    peers: ClassVar[dict[bytes, object]] = {}

    def __init__(self) -> None:
        settings = SnoopingSettings(address6=b"\xfe\x80" + bytes(13) + b"\1", router_ports=frozenset({LOCAL}))
        self.bridge = Bridge(Drops(), LoopProbes(bytes(32), mac(99)), settings)
        guard = GuardSettings(Source.LEARN, (Allowed(mac(9), ipv4(9)), Allowed(None, bytes((10, 9, 0, 0)), 16)))
        self.bridge.add_port(LOCAL, PortSettings("local"), 0.0)
        self.bridge.add_port(ATTIC, PortSettings("attic", guard=guard, macs=((mac(9), None),)), 0.0)
        self.bridge.add_port(OFFICE, PortSettings("office", groups=((GROUP, None),)), 0.0)
        self.board = Switchboard(self.bridge, mac(99))

    @staticmethod
    def port_names() -> dict[int, str]:
        return {ATTIC: "attic", OFFICE: "office", 3: "guests"}


class Place:
    """The hub, and what it says of itself."""

    def __init__(self) -> None:
        self.node = HubNode()
        self.bridge = self.node.bridge
        self.status = Status(cast(Any, self.node), Drops(), lambda: None)

    def hears(self, port: int, frame: bytes, now: float = 1.0) -> None:
        self.bridge.forward(port, memoryview(frame), now)

    def rows(self, what: str, now: float = 2.0) -> list[dict[str, Any]]:
        page = self.status.ask(what, now)
        assert page is not None
        assert json.loads(json.dumps(page.rows)) == page.rows, "plain values"
        return page.rows


def test_the_command_knows_every_view() -> None:
    assert sorted(WHAT) == sorted(VIEWS)


def test_ports_say_why_they_are_muted_and_for_how_long() -> None:
    place = Place()
    place.hears(ATTIC, announces(1))
    probe = next(each.frame for each in place.bridge.tick(1.0)[0] if each.port == ATTIC)
    place.hears(OFFICE, probe)
    assert place.rows("ports", 11.0) == [
        {"port": "local", "state": "up", "addresses": 0, "router": "yes", "for s": "", "why": ""},
        {"port": "attic", "state": "up", "addresses": 0, "router": "", "for s": "", "why": ""},
        {
            "port": "office",
            "state": "muted",
            "addresses": 0,
            "router": "",
            "for s": 20.0,
            "why": "loop: attic and office are also joined by another way",
        },
        {"port": "guests", "state": "down", "addresses": 0, "router": "", "for s": "", "why": ""},
    ]


def test_addresses_learned_and_static() -> None:
    place = Place()
    place.hears(OFFICE, announces(2))
    assert place.rows("fdb") == [
        {"vlan": 0, "address": mac(9).hex(":"), "port": "attic", "age s": "static"},
        {"vlan": 0, "address": mac(2).hex(":"), "port": "office", "age s": 1.0},
    ]


def test_groups_with_modes_sources_and_timers() -> None:
    place = Place()
    place.hears(ATTIC, report(1, 3, GroupRecord(Kind.IS_INCLUDE, GROUP, (ipv4(7), ipv4(8)))))
    place.hears(OFFICE, report(2, 3, GroupRecord(Kind.TO_EXCLUDE, GROUP, (ipv4(7),))))
    place.hears(LOCAL, report(3, 2, GroupRecord(Kind.IS_EXCLUDE, GROUP)))
    static, local, attic, office = place.rows("mdb")
    assert (static["port"], static["mode"], static["expires s"]) == ("office", "exclude", "static")
    assert (local["mode"], local["sources"], local["hosts"], local["expires s"]) == ("exclude", [], "v2", 269.0)
    assert (attic["mode"], attic["sources"], attic["all sources"]) == ("include", ["10.0.0.7", "10.0.0.8"], 2)
    assert attic["asked s"] == {"10.0.0.7": 269.0, "10.0.0.8": 269.0}
    assert (office["mode"], office["sources"], office["asked s"], office["hosts"]) == ("exclude", ["10.0.0.7"], {}, "")


def test_a_group_with_many_sources_is_a_short_row() -> None:
    place = Place()
    many = tuple(bytes((198, 51, 100, number)) for number in range(200))
    place.hears(ATTIC, report(1, 3, GroupRecord(Kind.IS_INCLUDE, GROUP, many)))
    row = place.rows("mdb")[1]
    assert (len(row["sources"]), len(row["asked s"]), row["all sources"]) == (MAX_SOURCES, MAX_SOURCES, 200)


def test_routers_and_who_asks() -> None:
    place = Place()
    place.hears(ATTIC, query(5, Query(3, ipv4(5), bytes(4), 10.0)))
    assert place.rows("routers", 6.0) == [
        {"vlan": "all", "port": "local", "expires s": "static"},
        {"vlan": 0, "port": "attic", "expires s": 250.0},
    ]
    igmp, mld = place.rows("querier")
    assert (igmp["protocol"], igmp["state"], igmp["address"]) == ("igmp", "listening", "10.0.0.5")
    assert (mld["protocol"], mld["state"], mld["address"], mld["every s"]) == ("mld", "asking", "fe80::1", 125.0)


def test_bindings_and_neighbours() -> None:
    place = Place()
    place.hears(ATTIC, announces(1))
    place.hears(ATTIC, sends(3, 4))
    place.hears(LOCAL, acknowledges(20, 3, bytes((10, 0, 0, 30)), 60))
    rows = place.rows("bindings")
    assert [(row["address"], row["mac"], row["by"]) for row in rows] == [
        ("10.0.0.9", mac(9).hex(":"), "static"),
        ("10.9.0.0/16", "any", "static"),
        ("10.0.0.1", mac(1).hex(":"), "learn"),
        ("10.0.0.3", mac(3).hex(":"), "learn"),
        ("10.0.0.30", mac(3).hex(":"), "dhcp"),
    ]
    assert rows[-1]["expires s"] == 59.0
    (neighbour,) = place.rows("neighbours")
    assert (neighbour["address"], neighbour["mac"], neighbour["port"]) == ("10.0.0.1", mac(1).hex(":"), "attic")


def test_a_large_table_comes_in_pages() -> None:
    place = Place()
    for number in range(1000, 3500):
        place.bridge.fdb.learn(0, mac(number), OFFICE, 1.0)
    seen: list[str] = []
    while True:
        page = place.status.ask("fdb", 2.0, len(seen))
        assert page is not None
        assert len(page.rows) <= PAGE
        seen += [row["address"] for row in page.rows]
        if not page.more:
            break
    assert len(seen) == len(set(seen)) == 2501
    assert place.status.ask("fdb", 2.0, 10**6) == ([], False)


def test_as_a_table_lists_are_words() -> None:
    rows = [{"group": "239.1.2.3", "sources": ["10.0.0.7", "10.0.0.8"], "asked s": {"10.0.0.7": 1.5}}]
    assert table(rows).splitlines()[1] == "239.1.2.3  10.0.0.7 10.0.0.8  10.0.0.7=1.5"


def test_direct_ways_of_a_mesh_are_no_ports_of_the_switch_but_members() -> None:
    place = Place()
    row = {"member": "office", "way": "direct", "link": "udp 192.0.2.1:4500", "hosts": 1}
    place.node.board = MemberSwitch(place.bridge, mac(99), Drops())
    place.status = Status(
        cast(Any, place.node), Drops(), lambda: None, mesh=cast(Any, SimpleNamespace(rows=lambda: iter([row])))
    )
    assert [row["port"] for row in place.rows("ports")] == ["local", "attic"]
    assert place.rows("mesh") == [row]
    assert Place().rows("mesh") == []
