"""What Linux itself sends when sockets join and leave, as it was captured (`fixtures/`): no decoder of ours made it.

`linux-memberships.pcap`: a host joins 239.9.9.9, ff0e::99, and 239.9.9.10 from 10.0.0.9; after 2.5 s it leaves the
first, after 3.7 s the others (IGMPv3 and MLDv2, each report repeated by the kernel).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import dpkt
import pytest

from caetun.l2.snooping import Snooping, SnoopingSettings, To
from caetun.types import DropReason, Drops
from tests.l2.frames import ethernet, group_mac, mac, packet4, packet6

CAPTURE = Path(__file__).parent / "fixtures" / "linux-memberships.pcap"
HOST, OTHER, VLAN = 1, 2, 1
UDP = 17
AGES = 10.0
"""Seconds after which whoever was asked and did not answer is forgotten."""


def captured() -> list[tuple[float, bytes]]:
    """(Seconds since the first, frame)."""
    with CAPTURE.open("rb") as file:
        return [(float(at), bytes(frame)) for at, frame in dpkt.pcap.Reader(file)]


def stream(group: str, source: str) -> bytes:
    """A datagram to a group."""
    to, by = ip_address(group).packed, ip_address(source).packed
    made = packet4(by, to, UDP, bytes(100)) if len(to) == 4 else packet6(by, to, UDP, bytes(100))
    return ethernet(group_mac(to), mac(9), 0x0800 if len(to) == 4 else 0x86DD, made)


STREAMS = {
    "any source": stream("239.9.9.9", "10.0.0.7"),
    "the source": stream("239.9.9.10", "10.0.0.9"),
    "another source": stream("239.9.9.10", "10.0.0.7"),
    "version 6": stream("ff0e::99", "fd00::7"),
}


class Switch:
    """Asks by itself; streams come in by one port, the captured host is at another."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.snooping = Snooping(SnoopingSettings(), self.drops)
        self.snooping.add_vlan(VLAN, 0.0)
        self.snooping.tick(0.0)

    def play(self, until: float) -> Iterator[int | None]:
        for at, frame in captured():
            if at <= until:
                self.snooping.tick(1.0 + at)
                self.snooping.egress(VLAN, HOST, frame, 1.0 + at)
                yield dpkt.ethernet.Ethernet(frame).type

    def reached(self, now: float) -> set[str]:
        """The streams that go to the host."""
        self.snooping.tick(now)
        found = {name: self.snooping.egress(VLAN, OTHER, frame, now) for name, frame in STREAMS.items()}
        assert To.ALL not in found.values(), "there is a querier: what nobody wants goes nowhere"
        return {name for name, ports in found.items() if not isinstance(ports, To) and HOST in ports}


@pytest.mark.parametrize(
    ("until", "reached"),
    [
        (1.0, {"any source", "the source", "version 6"}),
        (3.5, {"the source", "version 6"}),
        (5.0, set()),
    ],
)
def test_what_linux_asks_for_is_what_it_gets(until: float, reached: set[str]) -> None:
    switch = Switch()
    assert set(switch.play(until)) == {dpkt.ethernet.ETH_TYPE_IP, dpkt.ethernet.ETH_TYPE_IP6}
    assert switch.reached(1.0 + until + AGES) == reached
    assert switch.drops.keys() <= {DropReason.MULTICAST_UNWANTED}


def test_a_capture_with_one_wrong_bit_changes_nothing() -> None:
    switch = Switch()
    for at, frame in captured():
        damaged = frame[:-1] + bytes((frame[-1] ^ 0x40,))  # the last byte is in the group or the source
        switch.snooping.egress(VLAN, HOST, damaged, 1.0 + at)
    assert switch.reached(7.0) == set()
    assert switch.drops[DropReason.MULTICAST_CHECKSUM] == len(captured())
