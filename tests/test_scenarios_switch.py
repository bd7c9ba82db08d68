"""Stories of a hub and the hosts around it, in virtual time: who comes back or moves is found again within a second."""

from __future__ import annotations

import pytest

from caetun.l2.querier import GREETING_RESPONSE
from caetun.types import DropReason
from caetun.wire import arp
from caetun.wire.ip import outline
from caetun.wire.membership import GroupRecord, Kind, Query, decode
from tests.l2.frames import data, ipv4, report
from tests.l2.hosts import announces
from tests.simulator import Host, Setup, World

GROUP = bytes((239, 1, 2, 3))
JOIN = report(2, 3, GroupRecord(Kind.TO_EXCLUDE, GROUP))
STREAM = data(3, GROUP)


class Yard:
    """A hub, and two sites; host 2 is at b, host 3 at c."""

    def __init__(self) -> None:
        self.world = World()
        self.hub = self.world.host("hub", Setup({"b": [], "c": []}, switch=True))
        self.b = self.world.host("b", Setup({"hub": ["hub"]}))
        self.c = self.world.host("c", Setup({"hub": ["hub"]}))
        self.world.run(20.0)
        self.b.send(announces(2), JOIN)
        self.c.send(announces(3))
        self.world.run(1.0)
        for host in (self.hub, self.b, self.c):
            host.received.clear()

    def got(self, host: Host, content: bytes) -> bool:
        return any(frame == content for _, frame in host.received)

    def asked(self, host: Host) -> list[float]:
        """The times hosts may take to answer the general queries of IGMP a site has got."""
        said = [decode(frame, 14, outline(frame, 14)) for _, frame in host.received if frame[12:14] == b"\x08\0"]
        return [message.max_response for message in said if isinstance(message, Query) and not any(message.group)]


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_who_moves_is_asked_and_its_hosts_announced(yard: Yard) -> None:
    yard.b.outside = "elsewhere"
    yard.b.send(data(2, GROUP))
    took = yard.world.until(lambda: yard.got(yard.c, announces(2)) and bool(yard.asked(yard.b)), within=1.0)
    assert took < 0.2
    assert yard.asked(yard.b) == [GREETING_RESPONSE]
    assert yard.asked(yard.c) == [], "nothing has changed there"


def test_who_comes_back_has_its_groups_again_within_a_second(yard: Yard) -> None:
    yard.c.send(STREAM)
    yard.world.until(lambda: yard.got(yard.b, STREAM), within=1.0)
    yard.b.stop()
    yard.world.run(5.0)
    yard.b.start()
    yard.b.received.clear()
    yard.c.received.clear()
    yard.world.until(lambda: bool(yard.asked(yard.b)), within=1.0)
    yard.c.send(STREAM)
    yard.world.run(0.1)
    assert not yard.got(yard.b, STREAM), "the hub has forgotten it: only the answer brings it back"
    yard.b.send(report(2, 3, GroupRecord(Kind.IS_EXCLUDE, GROUP)))
    yard.world.run(0.1)
    yard.c.send(STREAM)
    yard.world.until(lambda: yard.got(yard.b, STREAM), within=0.1)
    assert yard.got(yard.c, announces(2)), "switches at c learn at once that host 2 is there again"


def test_frames_that_wait_when_a_port_comes_up_are_the_peers_own(yard: Yard) -> None:
    """What the switch says of its own meanwhile is not taken for something the peer has sent."""
    yard.b.stop()
    yard.world.run(1.0)
    before = yard.hub.drops[DropReason.BRIDGE_FLAPPING], yard.hub.drops[DropReason.BRIDGE_SOURCE]
    yard.b.start()
    yard.b.send(announces(2))
    yard.world.run(1.0)
    assert yard.got(yard.hub, announces(2))
    assert before == (yard.hub.drops[DropReason.BRIDGE_FLAPPING], yard.hub.drops[DropReason.BRIDGE_SOURCE])


def test_new_keys_are_no_move(yard: Yard) -> None:
    yard.world.run(600.0)
    yard.b.received.clear()
    yard.world.run(120.0)
    assert set(yard.asked(yard.b)) <= {10.0}, "only what is asked everywhere, every two minutes"
    assert not yard.got(yard.c, announces(2))


def test_one_that_hops_about_is_no_flood(yard: Yard) -> None:
    for number in range(100):
        yard.b.outside = f"place {number % 7}"
        yard.b.send(data(2, GROUP))
        yard.world.run(0.1)
    assert len(yard.asked(yard.b)) <= 12
    assert sum(frame == announces(2) for _, frame in yard.c.received) <= 4
    assert arp.decode(announces(2), 14).sender == ipv4(2)  # type: ignore[union-attr]
