"""Hubs joined by a link: only joins travel between them, for who asks, and a stream only where it was joined."""

from __future__ import annotations

import pytest

from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.queries import query_frame
from caetun.l2.snooping import SnoopingSettings
from caetun.types import Drops
from caetun.wire.membership import GroupRecord, Kind
from tests.l2.frames import data, mac, report

GROUP4, GROUP6 = bytes((239, 1, 2, 3)), bytes.fromhex("ff0e0000000000000000000000000123")
OTHER = {GROUP4: bytes((239, 1, 2, 4)), GROUP6: GROUP6[:-1] + b"\x24"}
UPLINK = 9
"""The port of each hub that leads to the other one; hosts are at ports 1 and 2."""


class Hubs:
    """Hubs in a row, each joined to the next, in virtual time."""

    def __init__(self, count: int = 2, querier: bool = True) -> None:
        self.now = 0.0
        self.heard: dict[tuple[int, int], list[bytes]] = {}
        """(hub, port) -> frames that left by it."""
        self.hubs: list[Bridge] = []
        self.cables: dict[tuple[int, int], tuple[int, int]] = {}
        for number in range(count):
            settings = SnoopingSettings(querier=querier)
            hub = Bridge(Drops(), LoopProbes(bytes(32), mac(100 + number), enabled=False), settings)
            for port in (1, 2, UPLINK, UPLINK + 1):
                hub.add_port(port, PortSettings(f"{port}"), 0.0)
            self.hubs.append(hub)
            if number:
                self.cables[number - 1, UPLINK + 1] = number, UPLINK
                self.cables[number, UPLINK] = number - 1, UPLINK + 1

    def sends(self, hub: int, port: int, frame: bytes) -> None:
        """A host sends a frame."""
        for other in self.hubs[hub].forward(port, memoryview(frame), self.now).ports:
            self.leaves(hub, other, frame)

    def leaves(self, hub: int, port: int, frame: bytes) -> None:
        self.heard.setdefault((hub, port), []).append(frame)
        if (hub, port) in self.cables:
            self.sends(*self.cables[hub, port], frame)

    def run(self, seconds: float) -> None:
        """Let so much time pass, in steps."""
        end = self.now + seconds
        while self.now < end:
            for number, hub in enumerate(self.hubs):
                for wanted in hub.tick(self.now)[1]:
                    for port in hub.ports.members(0):
                        if wanted.only in (None, port):
                            self.leaves(number, port, query_frame(wanted.query, mac(100 + number)))
            self.now += 0.5
        self.heard.clear()

    def joins(self, hub: int, port: int, host: int, group: bytes) -> None:
        self.sends(hub, port, report(host, 3 if len(group) == 4 else 2, GroupRecord(Kind.TO_EXCLUDE, group)))

    def reached(self, hub: int, port: int, host: int, group: bytes) -> set[tuple[int, int]]:
        """Where something that a host sends to a group arrives."""
        self.heard.clear()
        frame = data(host, group)
        self.sends(hub, port, frame)
        return {place for place, frames in self.heard.items() if frame in frames}


@pytest.fixture(params=[GROUP4, GROUP6], ids=["IGMP", "MLD"])
def group(request: pytest.FixtureRequest) -> bytes:
    found: bytes = request.param
    return found


def test_a_member_behind_one_hub_is_reached_from_the_other(group: bytes) -> None:
    hubs = Hubs()
    hubs.run(5.0)
    hubs.joins(1, 1, 20, group)
    assert hubs.reached(0, 1, 10, group) == {(0, UPLINK + 1), (1, 1)}


def test_in_both_directions(group: bytes) -> None:
    hubs = Hubs()
    hubs.run(5.0)
    hubs.joins(0, 2, 10, group)
    assert (0, 2) in hubs.reached(1, 1, 20, group)


def test_over_a_hub_between_them(group: bytes) -> None:
    hubs = Hubs(count=3)
    hubs.run(5.0)
    hubs.joins(2, 1, 30, group)
    assert (2, 1) in hubs.reached(0, 1, 10, group)
    assert not {(1, 1), (1, 2), (2, 2)} & hubs.reached(0, 1, 10, group)


def test_between_hubs_only_joins_travel(group: bytes) -> None:
    hubs = Hubs()
    hubs.run(5.0)
    hubs.joins(0, 1, 10, group)
    assert hubs.reached(0, 2, 11, group) == {(0, 1)}, "a stream that is wanted here only stays here"
    assert hubs.reached(1, 2, 12, group) == {(1, UPLINK), (0, 1)}, "and no stream comes that nobody there has joined"
    assert hubs.reached(1, 2, 12, OTHER[group]) == set()
    hubs.heard.clear()
    hubs.joins(1, 1, 20, group)
    assert {port for hub, port in hubs.heard if hub == 1} == {UPLINK}, "to who asks, and to no host"
    assert not any(hub == 0 for hub, _ in hubs.heard), "where it is known now, it goes no further"


def test_without_queriers_nothing_is_held_back(group: bytes) -> None:
    hubs = Hubs(querier=False)
    hubs.run(5.0)
    hubs.joins(1, 1, 20, group)
    assert {(0, 2), (1, 1), (1, 2)} <= hubs.reached(0, 1, 10, group)


def test_split_horizon_holds_for_multicast_and_reports() -> None:
    hub = Bridge(Drops(), LoopProbes(bytes(32), mac(100)), SnoopingSettings(router_ports=frozenset({1, 2, 3})))
    for port, mesh in ((0, False), (1, True), (2, True), (3, False)):
        hub.add_port(port, PortSettings(f"{port}", mesh=mesh), 0.0)
    join = report(20, 3, GroupRecord(Kind.TO_EXCLUDE, GROUP4))
    assert set(hub.forward(1, memoryview(join), 1.0).ports) == {3}
    assert set(hub.forward(0, memoryview(data(10, GROUP4)), 1.0).ports) == {1, 2, 3}
    assert set(hub.forward(2, memoryview(data(30, GROUP4)), 1.0).ports) == {3}
    assert set(hub.forward(2, memoryview(data(30, bytes((224, 0, 0, 251)))), 1.0).ports) == {0, 3}
