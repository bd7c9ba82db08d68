"""A carrier dies under traffic: the session moves to another one and back, and TCP inside does not notice."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

import pytest

from caetun.lab import Lab
from caetun.lab.firewalls import drop_udp
from caetun.lab.traffic import ping
from caetun.transports.ladder import SHORT_LIFE
from tests.tunnel.ends import INNER4, End, endpoint
from tests.tunnel.flow import Flow
from tests.tunnel.street import Street, stop
from tests.tunnel.watch import descriptors, until, way

pytestmark = [pytest.mark.needs("namespaces", "tun", "firewall", "ip"), pytest.mark.alone]

ROUNDS: Final = int(os.environ.get("MIGRATIONS", "2"))
"""Times to leave UDP and come back; conformance/test_migrations.py does it twenty times."""
STANDSTILL: Final = 3.0
"""Seconds that traffic may take to go on by another carrier."""
ON_ITS_WAY: Final = 16 << 20
"""Bytes: more than buffers hold."""
RETURN: Final = 30.0
"""Seconds until the better carrier is in use again."""
ALL: Final = ("udp", "quic", "tcp", "tls", "ws", "wss")


@pytest.fixture
def street(lab: Lab) -> Street:
    return Street(lab)


# to another carrier and back


def goes_on(flow: Flow, after: float = 0.0) -> float:
    """More than what was on its way arrives; returns how long it stood still. `after`: what the move itself took."""
    octets = flow.octets
    until(lambda: flow.octets > octets + (1 << 20), "traffic goes on")
    gap = flow.gap()
    assert gap < STANDSTILL, f"moved after {after:.2f} s"
    return gap


def prove_itself() -> None:
    """Stay on a carrier for long enough to count as good again: one that dies soon after a return is trusted less."""
    returned = time.monotonic()
    until(lambda: time.monotonic() > returned + SHORT_LIFE, "it has proven itself")


def there_and_back(street: Street, client: End, flow: Flow, better: str, worse: str) -> None:
    """Drop UDP until the session has moved, then let it return."""
    flow.reset()
    with drop_udp(street.door):
        left = until(lambda: way(client) == worse, f"over {worse}")
        gap = goes_on(flow, left)
    flow.reset()
    back = until(lambda: way(client) == better, f"back on {better}", RETURN)
    print(f"{worse} after {left:.2f} s, standstill {gap:.2f} s; {better} after {back:.1f} s, {goes_on(flow):.2f} s")


def open_files(*ends: End) -> list[int]:
    """How many descriptors each end holds."""
    return [len(descriptors(end)) for end in ends]


def all_closed(before: list[int], *ends: End) -> None:
    """Wait until no end holds more than before; then something that had lost a race may still have been there."""

    def closed() -> bool:
        return all(now <= then for now, then in zip(open_files(*ends), before, strict=True))

    until(closed, f"what was opened is closed: {before} before, {[descriptors(end) for end in ends]}")


@pytest.mark.parametrize("outward", [True, False], ids=["client sends", "hub sends"])
@pytest.mark.parametrize(
    ("better", "worse"), [("udp", "wss"), ("udp", "tcp"), ("udp", "tls"), ("udp", "ws"), ("quic", "wss")]
)
def test_tcp_goes_on_by_another_carrier_and_back(street: Street, better: str, worse: str, outward: bool) -> None:
    hub = street.listen("--listen", ":443", "--transport", f"{better},{worse}")
    client = street.call(transport=f"{better},{worse}")
    until(lambda: way(client) == better, better)
    hosts = (street.client, street.hub, INNER4[0]) if outward else (street.hub, street.client, INNER4[1])
    with Flow(*hosts) as flow:
        before = open_files(client, hub)
        for number in range(ROUNDS if worse == "wss" else 1):
            if number:
                prove_itself()
            there_and_back(street, client, flow, better, worse)
            all_closed(before, client, hub)
        assert flow.error is None
    assert not client.events("peer.down")
    assert not hub.events("peer.down")
    stop(client, hub)


# what else happens to a path


@pytest.mark.parametrize("transport", ALL)
def test_a_hub_that_was_killed_and_started_again_is_found(street: Street, transport: str) -> None:
    hub = street.listen("--listen", ":443", "--transport", transport)
    client = street.call(transport=transport)
    hub.stop(signal.SIGKILL)
    again = street.listen("--listen", ":443", "--transport", transport)
    took = until(lambda: ping(street.client, INNER4[0], timeout=0.05), "an answer")
    print(f"back {took:.2f} s after it was there again")
    assert way(client) == transport
    stop(client, again)


@pytest.mark.parametrize("transport", ALL)
def test_a_client_whose_address_changes_goes_on(street: Street, transport: str) -> None:
    hub = street.listen("--listen", ":443", "--transport", transport)
    client = street.call(transport=transport)
    port = street.client_port
    with Flow(street.client, street.hub, INNER4[0]) as flow:
        goes_on(flow)
        flow.reset()
        # one after the other, so that routes that go by this network stay
        street.client.set("net.ipv4.conf.all.promote_secondaries", 1)
        street.client.run(["ip", "address", "add", "10.98.1.77/24", "dev", port.device])
        street.client.run(["ip", "address", "del", port.addresses[0], "dev", port.device])
        until(lambda: port.address not in street.client.run(["ip", "address", "show"]), "the old one is gone")
        octets = flow.octets
        until(lambda: flow.octets > octets + ON_ITS_WAY, "traffic goes on")
        print(f"standstill {flow.gap():.2f} s")
        assert flow.gap() < STANDSTILL
        assert flow.error is None
    assert way(client) == transport
    assert not client.events("peer.down")
    assert not hub.events("peer.down")
    stop(client, hub)


def test_a_listener_serves_all_carriers_at_one_port(street: Street) -> None:
    hub = street.listen("--listen", ":443", "--transport", ",".join(ALL))
    for carrier in ALL:
        client = street.call_url(f"{carrier}://{endpoint(street.address, 443)}")
        assert way(client) == carrier
        assert client.stop() == 0
    assert hub.stop() == 0
