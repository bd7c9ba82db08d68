"""Healing: a port comes back, and its hosts are announced to the others, in virtual time."""

from __future__ import annotations

from collections import Counter

import pytest

from caetun.l2 import healing as module
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.healing import AGAIN_SECONDS, HOLD_SECONDS, MAX_HOSTS, REMEMBER_SECONDS, SPACING, Healing
from caetun.l2.loop import LoopProbes
from caetun.l2.neighbours import Host
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.vlan import access, trunk
from caetun.types import Drops
from caetun.wire import arp, nd
from tests.l2.frames import ipv4, ipv6, mac
from tests.l2.hosts import advertises, announces, sends, solicits

HUB, ATTIC, OFFICE = 0, 1, 2
SETTINGS = {HUB: PortSettings("hub"), ATTIC: PortSettings("attic"), OFFICE: PortSettings("office")}


class Place:
    """A switch of three ports, and what it announces."""

    def __init__(self, settings: dict[int, PortSettings] = SETTINGS) -> None:
        self.settings = settings
        self.switch = Bridge(Drops(), LoopProbes(bytes(32), mac(0xFFFFFF)), SnoopingSettings(querier=False))
        for number, each in settings.items():
            self.switch.add_port(number, each, 0.0)
        assert self.until(1.0) == []

    def hears(self, port: int, *frames: bytes, now: float = 1.0) -> None:
        for frame in frames:
            self.switch.forward(port, frame, now)

    def back(self, port: int, now: float, number: int | None = None) -> None:
        self.switch.remove_port(port)
        self.switch.add_port(port if number is None else number, self.settings[port], now)

    def until(self, end: float) -> list[tuple[int, int, bytes]]:
        """Announcements up to then, with nothing else to wake the switch but its own deadlines."""
        said: list[tuple[int, int, bytes]] = []
        while (now := self.switch.next_deadline()) is not None and now <= end:
            said += [tuple(each) for each in self.switch.tick(now)[0] if each.frame[12:14] != b"\x88\xb5"]
        return said


def test_hosts_of_a_port_that_comes_back_are_announced_twice() -> None:
    place = Place()
    place.hears(ATTIC, announces(1), announces(2))
    place.back(ATTIC, 10.0)
    frames = [arp.gratuitous(mac(2), ipv4(2)), arp.gratuitous(mac(1), ipv4(1))]
    once = [(port, 0, frame) for frame in frames for port in (HUB, OFFICE)]
    assert place.until(10.5) == once
    assert place.until(12.5) == once
    assert place.until(100.0) == []


def test_a_port_that_is_new_has_none() -> None:
    place = Place()
    place.switch.add_port(3, PortSettings("new"), 5.0)
    assert place.until(20.0) == []


def test_it_is_known_by_its_name() -> None:
    place = Place()
    place.hears(ATTIC, announces(1))
    place.back(ATTIC, 10.0, number=7)
    assert {port for port, _, _ in place.until(20.0)} == {HUB, OFFICE}


def test_a_port_that_moved_is_healed_too() -> None:
    place = Place()
    place.hears(ATTIC, announces(1))
    place.switch.port_moved(ATTIC, 10.0)
    assert [port for port, _, _ in place.until(20.0)] == [HUB, OFFICE] * 2


def test_ipv6_hosts_in_their_own_words() -> None:
    place = Place()
    place.hears(ATTIC, advertises(1, 9, router=True), solicits(2, 9))
    place.back(ATTIC, 10.0)
    frame = nd.unsolicited(mac(1), ipv6(1), router=True, override=False)
    assert {each[2] for each in place.until(20.0)} == {frame}, "of the other it is not known whether it routes"


def test_one_frame_a_host_is_enough() -> None:
    place = Place()
    place.hears(ATTIC, announces(1, ipv6(1)), announces(1), announces(1, ipv6(77)))
    place.back(ATTIC, 10.0)
    assert {each[2] for each in place.until(20.0)} == {arp.gratuitous(mac(1), ipv4(1))}


def test_who_has_come_up_elsewhere_is_not_announced() -> None:
    place = Place()
    place.hears(ATTIC, announces(1), announces(2), announces(3), announces(4))
    place.switch.remove_port(ATTIC)
    place.hears(OFFICE, sends(1, 9), announces(7, ipv4(2)), now=5.0)
    place.switch.add_port(ATTIC, SETTINGS[ATTIC], 10.0)
    place.hears(OFFICE, announces(3), now=10.0)
    assert {each[2] for each in place.until(20.0)} == {arp.gratuitous(mac(4), ipv4(4))}


def test_after_long_they_are_forgotten() -> None:
    place = Place()
    place.hears(ATTIC, announces(1))
    place.back(ATTIC, 1.0 + REMEMBER_SECONDS + 1)
    assert place.until(2000.0) == []


def test_only_to_whom_the_port_may_speak() -> None:
    settings = {
        0: PortSettings("7", vlans=access(7)),
        1: PortSettings("8", vlans=access(8)),
        2: PortSettings("all", vlans=trunk(None)),
    }
    place = Place(settings)
    place.hears(0, announces(1))
    place.back(0, 10.0)
    assert {(port, vlan) for port, vlan, _ in place.until(20.0)} == {(2, 7)}


def test_a_port_that_comes_and_goes_is_healed_now_and_then() -> None:
    place = Place()
    place.hears(ATTIC, announces(1))
    said: list[tuple[int, int, bytes]] = []
    for second in range(2, 62):
        place.back(ATTIC, float(second))
        said += place.until(second + 0.9)
    said += place.until(100.0)
    assert 2 * 2 <= len(said) <= 2 * 2 * (60 / HOLD_SECONDS + 1)
    assert said[-1][2] == arp.gratuitous(mac(1), ipv4(1)), "and in the end, it is"


def hosts(count: int, now: float = 0.0) -> list[Host]:
    return [Host(0, mac(number), ipv4(number), None, now) for number in range(1, count + 1)]


class TestBounds:
    def test_a_steady_trickle(self) -> None:
        healing = Healing()
        healing.moved(ATTIC, "attic", hosts(100), 0.0)
        healing.moved(OFFICE, "office", hosts(100), 0.0)
        seconds = Counter(int(step * SPACING) for step in range(400) for _ in healing.tick(step * SPACING))
        assert sum(seconds.values()) == 400
        assert max(seconds.values()) <= 2 / SPACING + 2
        assert healing.next_deadline() is None

    def test_so_many_of_a_port(self) -> None:
        healing = Healing()
        healing.moved(ATTIC, "attic", hosts(1000), 0.0)
        assert len(healing.tick(1000.0)) == 2 * MAX_HOSTS

    def test_so_many_waiting_and_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_WAITING", 10)
        monkeypatch.setattr(module, "MAX_AWAY", 3)
        healing = Healing()
        healing.moved(ATTIC, "attic", hosts(100), 0.0)
        assert len(healing.tick(1000.0)) == 10
        for number in range(5):
            healing.left(number, str(number), hosts(1))
        for number in range(5):
            healing.returned(number, str(number), 2000.0 - number)  # too old all
        healing.left(0, "0", hosts(1, 2000.0))
        healing.returned(0, "0", 2000.0)
        assert [each.port for each in healing.tick(2000.0 + AGAIN_SECONDS)] == [0, 0]

    def test_what_was_not_finished_is_not_lost(self) -> None:
        healing = Healing()
        healing.moved(ATTIC, "attic", hosts(5), 0.0)
        assert len(healing.tick(0.0)) == 1
        healing.left(ATTIC, "attic", [])
        assert healing.tick(5.0) == []
        healing.returned(ATTIC, "attic", 6.0)
        assert healing.tick(HOLD_SECONDS - 0.1) == [], "but it waits its time"
        assert len({each.host for each in healing.tick(HOLD_SECONDS + 5)}) == 5

    def test_others_do_not_wait_for_it(self) -> None:
        healing = Healing()
        healing.moved(ATTIC, "attic", hosts(1), 0.0)
        healing.moved(ATTIC, "attic", hosts(1), 1.0)
        healing.moved(OFFICE, "office", hosts(1), 1.0)
        assert [each.port for each in healing.tick(1.0)] == [ATTIC, OFFICE]
