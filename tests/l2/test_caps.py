"""Floods of addresses, groups, VLANs and talk from one port: memory has an end, drops have names, others go on."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator

import pytest

from caetun.l2.bridge import MAX_KNOWN, MAX_NOTICES, MAX_WAITING, Bridge, PortSettings
from caetun.l2.fdb import LIMIT, MAX_PER_PORT
from caetun.l2.groups import MAX_GROUPS_PER_PORT
from caetun.l2.loop import LoopProbes
from caetun.l2.neighbours import MAX_PER_PORT as MAX_NEIGHBOURS
from caetun.l2.neighbours import Suppression
from caetun.l2.policy import LIMIT as MAX_ADDRESSES
from caetun.l2.policy import GuardSettings, Source
from caetun.l2.snooping import MAX_FOUND_VLANS
from caetun.l2.vlan import trunk
from caetun.types import DropReason, Drops
from caetun.wire.membership import GroupRecord, Kind
from tests.l2.frames import data, mac, report
from tests.l2.hosts import announces, sends

EVIL, ATTIC, OFFICE = 1, 2, 3
NEWCOMER = 50
FLOODS = [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)]
"""Addresses: three times the table shows the same as a million."""


class Place:
    """A switch with one evil port and two with a host each, who know each other."""

    def __init__(self, evil: PortSettings | None = None, **settings: object) -> None:
        self.drops = Drops()
        self.switch = Bridge(self.drops, LoopProbes(bytes(32), mac(99), enabled=False), **settings)  # type: ignore[arg-type]
        self.switch.add_port(EVIL, evil or PortSettings("evil"), 0.0)
        vlans = evil.vlans if evil is not None else None
        for number, name in ((ATTIC, "attic"), (OFFICE, "office")):
            self.switch.add_port(number, PortSettings(name, vlans=vlans), 0.0)
        self.now = 1.0
        self.tags = b"" if vlans is None else b"\x81\0\0\7"
        self.drops.clear()
        for number in (ATTIC, OFFICE):
            self.hears(number, announces(number))

    def hears(self, port: int, frame: bytes) -> tuple[int, ...]:
        self.now += 1e-4
        return self.switch.forward(port, memoryview(frame[:12] + self.tags + frame[12:]), self.now).ports

    def check_others(self) -> None:
        """Unicast between the others goes one way, and what is meant for all reaches all."""
        assert self.hears(ATTIC, sends(ATTIC, OFFICE)) == (OFFICE,)
        assert self.hears(OFFICE, sends(OFFICE, ATTIC)) == (ATTIC,)
        assert ATTIC in self.hears(OFFICE, announces(OFFICE))
        assert len(self.switch.notices) <= MAX_NOTICES
        assert len(self.switch._waiting) <= MAX_WAITING
        assert len(self.switch._known) <= MAX_KNOWN


def sources(count: int) -> Iterator[bytes]:
    chance = random.Random(7)
    return (b"\2" + chance.randbytes(5) for _ in range(count))


@pytest.mark.parametrize("count", FLOODS)
def test_addresses_fill_a_port_and_no_more(count: int) -> None:
    place = Place()
    for source in sources(count):
        place.hears(EVIL, mac(77) + source + b"\x88\xb6" + bytes(46))
    assert place.switch.fdb.count(EVIL) == MAX_PER_PORT < LIMIT
    assert place.drops[DropReason.BRIDGE_FDB_FULL] == count - MAX_PER_PORT
    assert place.drops[DropReason.BRIDGE_STORM] > count / 2, "what nobody is known for is not flooded at that rate"
    assert set(place.drops) == {DropReason.BRIDGE_FDB_FULL, DropReason.BRIDGE_STORM}
    place.check_others()
    place.hears(OFFICE, announces(NEWCOMER))
    assert place.hears(ATTIC, sends(ATTIC, NEWCOMER)) == (OFFICE,), "there is room for who comes elsewhere"


def test_addresses_of_all_ports_fill_the_table_and_no_more() -> None:
    place = Place()
    for number, source in enumerate(sources(2 * LIMIT)):
        place.hears((EVIL, OFFICE)[number % 2], mac(77) + source + b"\x88\xb6" + bytes(46))
    assert place.switch.fdb.learned == LIMIT
    place.check_others()


def test_addresses_of_a_port_with_a_limit_leave_the_table_to_others() -> None:
    place = Place(PortSettings("evil", mac_limit=10))
    for source in sources(5_000):
        place.hears(EVIL, mac(77) + source + b"\x88\xb6" + bytes(46))
    assert place.switch.fdb.count(EVIL) == 10
    assert place.switch.fdb.count(OFFICE) == 1
    place.check_others()


def test_a_flood_does_not_slow_down_what_others_have_settled() -> None:
    """Decisions that are kept outlive frames whose source finds no room."""
    place = Place(PortSettings("evil", mac_limit=1))
    for _ in range(2):
        place.hears(ATTIC, sends(ATTIC, OFFICE))
    place.hears(EVIL, announces(EVIL))
    place.hears(ATTIC, sends(ATTIC, OFFICE))
    kept = dict(place.switch._known)
    assert kept
    for source in sources(100):
        place.hears(EVIL, mac(77) + source + b"\x88\xb6" + bytes(46))
    assert place.switch._known == kept


def test_addresses_at_a_guarded_port() -> None:
    place = Place(PortSettings("evil", guard=GuardSettings(Source.LEARN)))
    for number in range(1_000, 6_000):
        place.hears(EVIL, sends(number, OFFICE))
    assert len(place.switch.guard.bindings) == MAX_ADDRESSES
    assert place.drops == {DropReason.GUARD_FULL: 5_000 - MAX_ADDRESSES}
    place.check_others()


@pytest.mark.parametrize("suppression", list(Suppression))
def test_neighbours(suppression: Suppression) -> None:
    place = Place(suppression=suppression)
    for number in range(1_000, 6_000):
        place.hears(EVIL, announces(number))
    assert len(place.switch.neighbours) <= MAX_NEIGHBOURS + 2
    place.check_others()


def test_groups() -> None:
    place = Place()
    place.switch.tick(1.0)
    for number in range(5_000):
        group = bytes((239, 1)) + number.to_bytes(2, "big")
        place.hears(EVIL, report(EVIL, 3, GroupRecord(Kind.TO_EXCLUDE, group)))
    assert len(place.switch.snooping.igmp) == MAX_GROUPS_PER_PORT
    assert place.drops[DropReason.MULTICAST_FULL] == 5_000 - MAX_GROUPS_PER_PORT
    wanted = bytes((239, 9, 9, 9))
    place.hears(OFFICE, report(OFFICE, 3, GroupRecord(Kind.TO_EXCLUDE, wanted)))
    assert place.hears(ATTIC, data(ATTIC, wanted)) == (OFFICE,)
    place.check_others()


def test_vlans() -> None:
    place = Place(PortSettings("evil", vlans=trunk(None)))
    frame = data(EVIL, bytes((239, 1, 2, 3)))
    for vlan in range(1, 4095):
        place.tags = b"\x81\0" + struct.pack(">H", vlan)
        place.hears(EVIL, frame)
    assert place.drops[DropReason.MULTICAST_VLANS] == 4094 - MAX_FOUND_VLANS
    _, wanted = place.switch.tick(place.now)
    assert len(wanted) <= 2 * MAX_FOUND_VLANS * 4, "general queries, and a greeting to each port"
    place.tags = b"\x81\0\0\7"
    place.check_others()


def test_talk_that_is_told_to_people() -> None:
    """Addresses of others, again and again: a line for some, then the port that takes them is muted."""
    place = Place()
    for source in sources(2_000):
        for turn in range(6):
            place.hears((ATTIC, EVIL)[turn % 2], mac(77) + source + b"\x88\xb6" + bytes(46))
            if place.switch.waiting or place.now > (place.switch.next_deadline() or place.now):
                place.switch.tick(place.now)
    assert [notice.event for notice in place.switch.notices] == ["bridge.flapping", "bridge.muted"]
    assert place.switch.muted == [EVIL]
    assert place.drops[DropReason.BRIDGE_MUTED] > 500
    assert sys.getsizeof(place.switch.notices) < 10_000
    place.check_others()
