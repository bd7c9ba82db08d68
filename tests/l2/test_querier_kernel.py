"""Linux as the host that is asked: which questions it answers decides from where the switch asks."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from caetun.errors import Malformed
from caetun.l2.querier import PROXY, Querier
from caetun.l2.queries import query_frame
from caetun.lab import Host, Lab
from caetun.wire.ethernet import network_header
from caetun.wire.ip import outline
from caetun.wire.membership import Membership, Query, Report, decode
from tests.l2.frames import mac

pytestmark = pytest.mark.needs("namespaces", "ip")

# fixed by the kernel's interface: linux/if_ether.h
ETH_P_ALL = 3

GROUPS = {4: bytes((239, 1, 2, 3)), 16: bytes.fromhex("ff0e0000000000000000000000000123")}
RESPONSE = 0.3
"""Seconds that we give it to answer."""
SILENCE = 4 * RESPONSE
PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""


class Cable:
    """A Linux host that has joined a group of each protocol, and we at the other end of its cable."""

    def __init__(self, lab: Lab) -> None:
        self.host, self.far = lab.host("linux"), lab.host("switch")
        lab.link(self.host, self.far, left=["10.0.0.1/16"])
        self.wire = self.far.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.far.inside(lambda: self.wire.bind(("eth0", ETH_P_ALL)))
        self.members = [self._join(self.host, group) for group in GROUPS.values()]
        while self.hears(SILENCE) is not None:
            pass  # it says of its own accord what it has joined, some times

    @staticmethod
    def _join(host: Host, group: bytes) -> socket.socket:
        index = host.inside(lambda: socket.if_nametoindex("eth0"))
        if len(group) == 4:
            member = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + struct.pack("@Ii", 0, index))
        else:
            member = host.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@i", index))
        return member

    def asks(self, source: bytes) -> None:
        """A general query from an address."""
        newest = 3 if len(source) == 4 else 2
        general = Query(newest, source, bytes(len(source)), RESPONSE, robustness=2, interval=125.0)
        self.wire.send(query_frame(general, mac(1)))

    def hears(self, seconds: float) -> Report | None:
        """The next report, if one comes in time."""
        until = time.monotonic() + seconds
        while select.select([self.wire], [], [], max(0.0, until - time.monotonic()))[0]:
            message = said(self.wire.recv(2048))
            if isinstance(message, Report):
                return message
        return None

    def answers(self, source: bytes) -> set[bytes]:
        """The groups it has reported before it has named the one of this protocol."""
        reported: set[bytes] = set()
        while GROUPS[len(source)] not in reported:
            report = self.hears(PATIENCE)
            assert report is not None, f"no answer to {ip_address(source)}: {reported}"
            reported |= {record.group for record in report.records}
        return reported


def said(frame: bytes) -> Membership | None:
    try:
        _, at = network_header(frame)
        return decode(frame, at, outline(frame, at))
    except Malformed:
        return None


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    with Lab() as lab:
        made = Cable(lab)
        yield made
        for sock in (made.wire, *made.members):
            sock.close()


@pytest.mark.parametrize("size", [4, 16], ids=["IGMP", "MLD"])
def test_linux_answers_a_switch_without_an_address(cable: Cable, size: int) -> None:
    (general,) = Querier(bytes(size), 3 if size == 4 else 2, True, 0.0).tick(0.0)
    assert general.source == PROXY[size]
    cable.asks(general.source)
    assert GROUPS[size] in cable.answers(general.source)


@pytest.mark.parametrize("source", ["::", "2001:db8::1"])
def test_rfc9777_5_1_14_linux_does_not_answer_mld_from_no_link_local_address(cable: Cable, source: str) -> None:
    """So a switch that asked from ::, as RFC 4541, section 3, has it, would forget all groups of IPv6."""
    cable.asks(ip_address(source).packed)
    assert cable.hears(SILENCE) is None
    cable.asks(PROXY[16])
    assert GROUPS[16] in cable.answers(PROXY[16]), "it was listening"
