"""Linux as the host behind a port: it takes our answers, and answers our questions."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.neighbours import Suppression
from caetun.l2.policy import GuardSettings, Source
from caetun.lab import Lab
from caetun.types import DropReason, Drops
from tests.l2.frames import ipv4, ipv6, mac
from tests.l2.hosts import advertises, announces, sends
from tests.tunnel.watch import until

pytestmark = pytest.mark.needs("namespaces", "tun", "ip")

# fixed by the kernel's interface: linux/if_tun.h
TUNSETIFF, TAP_WITHOUT_HEADER = 0x400454CA, 0x1002

LINUX, OFFICE = 0, 1
PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""
BOTH = pytest.mark.parametrize("address_of", [ipv4, ipv6])


class Place:
    """A switch with a Linux host at one port, whose frames arrive as they come, and nobody at the other."""

    def __init__(self, lab: Lab, guard: GuardSettings, suppression: Suppression) -> None:
        self.drops, self.now = Drops(), 1.0
        self.switch = Bridge(self.drops, LoopProbes(bytes(32), mac(0xFFFFFF)), suppression=suppression)
        self.switch.add_port(LINUX, PortSettings("linux", guard=guard), 0.0)
        self.switch.add_port(OFFICE, PortSettings("office", guard=guard), 0.0)
        self.switch.tick(0.0)
        self.host = lab.host("linux")
        self.host.set("net.ipv6.conf.default.router_solicitations", 0)
        self.tap = self.host.inside(self._open)
        for line in (
            f"link set tap0 address {mac(1).hex(':')} addrgenmode none",
            "address add 10.0.0.1/16 dev tap0",
            "link set tap0 up",
            "address add fe80::1/64 dev tap0 nodad",
        ):
            self.host.run(["ip", *line.split()])
        until(self._receives, "Linux receives at its IPv6 address")

    def _receives(self) -> bool:
        """Whether the kernel has done with `address add` what it leaves to a worker, even without DAD.

        Until then it sends from the IPv6 address, but drops what is sent there, and what asks for its neighbour.
        """
        routes, groups = self.host.inside(
            lambda: [Path("/proc/thread-self/net", name).read_text() for name in ("ipv6_route", "igmp6")]
        )
        hosts = {(line[:32], *line.split()[1:2]) for line in routes.splitlines()}
        return (ipv6(1).hex(), "80") in hosts and IPv6Address("ff02::1:ff00:1").packed.hex() in groups

    @staticmethod
    def _open() -> int:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"tap0", TAP_WITHOUT_HEADER))
        return tap

    def talks(self, address: bytes) -> None:
        """Linux sends a datagram, for which it has to know the neighbour."""
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        scope = () if len(address) == 4 else (0, self.host.inside(lambda: socket.if_nametoindex("tap0")))
        with self.host.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (str(ip_address(address)), 9, *scope))

    def goes(self, port: int, frame: bytes) -> set[int]:
        self.now += 0.01
        ports = set(self.switch.forward(port, frame, self.now).ports)
        if LINUX in ports:
            os.write(self.tap, frame)
        return ports

    def emit(self) -> int:
        """Give Linux what the switch itself has for it, and say how much that was."""
        said = [each.frame for each in self.switch.tick(self.now)[0] if each.port == LINUX]
        said = [frame for frame in said if frame[12:14] != b"\x88\xb5"]
        for frame in said:
            os.write(self.tap, frame)
        return len(said)

    def hears(self) -> Iterator[tuple[bytes, set[int]]]:
        """What Linux sends, one frame after the other, and where it goes."""
        poll = select.poll()
        poll.register(self.tap, select.POLLIN)
        while poll.poll(PATIENCE * 1000):
            frame = os.read(self.tap, 2048)
            yield frame, self.goes(LINUX, frame)
        raise AssertionError("Linux says nothing")

    def neighbour(self, address: bytes) -> str:
        return self.host.run(["ip", "neighbour", "show", str(ip_address(address)), "dev", "tap0"])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@BOTH
def test_linux_takes_the_answer_for_its_neighbours(lab: Lab, address_of) -> None:  # type: ignore[no-untyped-def]
    place = Place(lab, GuardSettings(), Suppression.ANSWER)
    place.goes(OFFICE, announces(2) if address_of is ipv4 else advertises(2, 9))
    place.talks(address_of(2))
    for frame, ports in place.hears():
        if frame[:6] == mac(2):
            assert ports == {OFFICE}, "the datagram"
            break
        if place.emit():
            assert ports == set(), "the question"
    assert mac(2).hex(":") in place.neighbour(address_of(2))
    assert "REACHABLE" in place.neighbour(address_of(2))


@BOTH
def test_linux_says_that_its_address_is_in_use(lab: Lab, address_of) -> None:  # type: ignore[no-untyped-def]
    place = Place(lab, GuardSettings(source=Source.LEARN), Suppression.OFF)
    place.talks(address_of(9))
    next(iter(place.hears()))
    while not place.switch.guard.bindings.holds(LINUX, 0, mac(1), address_of(1), place.now):
        next(iter(place.hears()))
    assert not place.goes(OFFICE, announces(2, address_of(1)))
    assert place.emit() == 1
    asked_at = place.now
    owner = place.switch.guard.bindings.find(0, address_of(1))
    assert owner is not None
    for _ in place.hears():
        if owner.seen_at > asked_at:
            break
    place.now += 5
    assert not place.goes(OFFICE, sends(2, 9, address_of(1)))
    assert set(place.drops) <= {DropReason.GUARD_CLAIMED, DropReason.BRIDGE_SAME_PORT}
    assert [notice.event for notice in place.switch.notices] == ["guard.claimed"]


def test_linux_follows_an_announcement(lab: Lab) -> None:
    place = Place(lab, GuardSettings(), Suppression.OFF)
    place.host.run(f"ip neighbour add 10.0.0.2 lladdr {mac(7).hex(':')} dev tap0 nud stale".split())
    place.goes(OFFICE, announces(2))
    assert mac(2).hex(":") in place.neighbour(ipv4(2))
