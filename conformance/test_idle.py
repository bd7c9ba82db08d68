"""A tunnel by each carrier stays what it is for a minute in which nobody says anything, and then answers at once."""

from __future__ import annotations

import itertools
import time
from typing import Final, NamedTuple

import pytest

from caetun.lab import Host, Lab
from caetun.lab.traffic import ping
from tests.tunnel.ends import INNER4, OUTER4, OUTER6, End, start, tunnel_arguments, two_hosts
from tests.tunnel.watch import descriptors, way

pytestmark = [pytest.mark.needs("namespaces", "tun", "ip"), pytest.mark.slow]

# chosen by us
CARRIERS: Final = ("udp", "quic", "tcp", "tls", "ws", "wss")
IDLE: Final = 60.0
"""Seconds: as long as nginx and other servers wait by default, longer than most firewalls remember UDP (30 s)."""
AT_ONCE: Final = 0.2
"""Seconds for an answer; a reconnect takes longer."""
RECONNECTED: Final = ("peer.down", "peer.moved", "link.lost", "link.silent")


class Tunnel(NamedTuple):
    """One that runs, between two hosts of its own."""

    name: str
    hosts: tuple[Host, Host]
    ends: tuple[End, End]

    def files(self) -> list[int]:
        """How many descriptors each end holds."""
        return [len(descriptors(end)) for end in self.ends]

    def sent(self) -> int:
        """Bytes that the client has sent outside."""
        return self.hosts[1].counters("eth0").sent_bytes


def begin(lab: Lab, mode: str, carrier: str, outer: tuple[str, str]) -> Tunnel:
    """Start both ends, and wait until each has heard from the other."""
    hosts = two_hosts(lab)
    more = ("--transport", carrier, "--log-level", "debug")
    ends = start(hosts, [[*each, *more] for each in tunnel_arguments(hosts, mode, outer)])
    assert way(ends[1]) == carrier
    return Tunnel(f"{mode} by {carrier} over IPv{6 if outer is OUTER6 else 4}", hosts, ends)


def test_a_minute_of_silence(lab: Lab) -> None:
    tunnels = [begin(lab, *case) for case in itertools.product(("tun", "tap"), CARRIERS, (OUTER4, OUTER6))]
    for tunnel in tunnels:
        assert len(ping(tunnel.hosts[1], INNER4[0], count=3)) == 3
    time.sleep(1.0)  # what a start leaves open is closed
    before = [tunnel.files() for tunnel in tunnels]
    sent = [tunnel.sent() for tunnel in tunnels]
    time.sleep(IDLE)  # nothing to wait for: that nothing happens is what is to be seen
    kept = [tunnel.sent() - then for tunnel, then in zip(tunnels, sent, strict=True)]
    for tunnel, octets, files in zip(tunnels, kept, before, strict=True):
        times = ping(tunnel.hosts[1], INNER4[0], count=3, timeout=AT_ONCE)
        answers = [round(seconds * 1e3, 1) for seconds in times]
        print(f"\n{tunnel.name}: after {IDLE:g} s answers in {answers} ms; {octets:,} bytes sent meanwhile")
        assert len(times) == 3
        for end in tunnel.ends:
            assert not end.events(*RECONNECTED)
            assert len(end.events("peer.up")) == 1
        assert tunnel.files() == files
        assert [end.stop() for end in tunnel.ends] == [0, 0]
