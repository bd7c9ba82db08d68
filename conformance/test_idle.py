"""A tunnel by each carrier stays what it is for a minute in which nobody says anything, and then answers at once."""

from __future__ import annotations

import time
from typing import Final

import pytest

from caetun.lab import Lab
from caetun.lab.traffic import ping
from tests.tunnel.ends import INNER4, End
from tests.tunnel.street import Street, stop
from tests.tunnel.watch import descriptors, way

pytestmark = [pytest.mark.needs("namespaces", "tun", "firewall", "ip"), pytest.mark.slow]

# chosen by us
CARRIERS: Final = ("udp", "quic", "tcp", "tls", "ws", "wss")
IDLE: Final = 60.0
"""Seconds: as long as nginx and other servers wait by default, longer than most firewalls remember UDP (30 s)."""
AT_ONCE: Final = 0.2
"""Seconds for an answer; a reconnect takes longer."""
RECONNECTED: Final = ("peer.down", "peer.moved", "link.lost", "link.silent")


def start(lab: Lab, carrier: str) -> tuple[Street, End, End]:
    """A client and a hub of their own."""
    street = Street(lab)
    hub = street.listen("--listen", ":443", "--transport", carrier, "--log-level", "debug")
    client = street.call("--log-level", "debug", transport=carrier)
    assert way(client) == carrier
    return street, client, hub


def test_a_minute_of_silence(lab: Lab) -> None:
    tunnels = {carrier: start(lab, carrier) for carrier in CARRIERS}
    before = {carrier: [len(descriptors(end)) for end in ends] for carrier, (_, *ends) in tunnels.items()}
    sent = {carrier: street.client_port.counters() for carrier, (street, *_) in tunnels.items()}
    time.sleep(IDLE)  # nothing to wait for: that nothing happens is what is to be seen
    for carrier, (street, client, hub) in tunnels.items():
        kept = street.client_port.counters().sent_bytes - sent[carrier].sent_bytes
        times = ping(street.client, INNER4[0], count=3, timeout=AT_ONCE)
        answers = [round(seconds * 1e3, 1) for seconds in times]
        print(f"\n{carrier}: after {IDLE:g} s answers in {answers} ms; {kept:,} bytes sent meanwhile")
        assert len(times) == 3
        for end in (client, hub):
            assert not end.events(*RECONNECTED)
            assert len(end.events("peer.up")) == 1
        assert [len(descriptors(end)) for end in (client, hub)] == before[carrier]
        stop(client, hub)
