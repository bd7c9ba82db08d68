"""Loops outside, by every way that people make them: found within 5 s, named, cut, open again when gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Final

import pytest

from caetun.lab import Host, Lab
from caetun.lab.network import Port
from tests.tunnel.campus import DEVICE, Campus, Place, Plan, Site, campus, enslave, hardware_address
from tests.tunnel.ends import ping
from tests.tunnel.watch import until

pytestmark = [pytest.mark.slow, pytest.mark.needs("namespaces", "tun", "ip", "ping")]

_SECONDS: Final = 5.0
_MUTED_SECONDS: Final = 30.0
_BUSY_SECONDS: Final = 10.0


@pytest.fixture
def three() -> Iterator[tuple[Lab, Campus]]:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic"), Site("cellar", "tcp"), Site("office", "quic")], hub=1))
        yield lab, made
        assert made.stop() == [0] * 4


def plug(lab: Lab, one: Place, other: Place) -> tuple[Port, Port]:
    """A cable between the bridges of two places."""
    ports = lab.link(one.host, other.host)
    for place, port in zip((one, other), ports, strict=True):
        enslave(place.host, port.device)
    return ports


def shout(host: Host) -> None:
    """Broadcasts that go in circles, if anything does."""
    host.spawn(["ping", "-n", "-q", "-b", "-i", "0.05", "-c", "2000", "10.88.255.255"], stdout=-3, stderr=-3)


def test_a_second_cable_is_muted_until_it_is_pulled(three: tuple[Lab, Campus]) -> None:
    lab, made = three
    attic, cellar, office = made.sites
    for host in (attic.lan[0], office.lan[0]):
        shout(host)
    ends = plug(lab, attic, cellar)
    event = made.hub.end.wait_for("bridge.muted", seconds=_SECONDS)
    assert "attic and cellar" in event["message"] or "cellar and attic" in event["message"]
    everything_goes_on(made)
    time.sleep(_MUTED_SECONDS + 5)
    assert made.port("cellar")["state"] == "muted", "as long as the cable is there"
    assert len(made.hub.end.events("bridge.muted")) == 1
    ends[0].down()
    took = until(lambda: made.port("cellar")["state"] == "up", "it is open again", _MUTED_SECONDS + _BUSY_SECONDS)
    print(f"open {took:.1f} s after the cable was pulled")
    made.hub.end.wait_for("bridge.unmuted")
    everything_goes_on(made)


def everything_goes_on(made: Campus) -> None:
    for here in (made["office"], made.hub):
        for there in (*made.sites, made.hub):
            until(lambda: ping(here.lan[0], there.address()) == 3, f"{here.name} to {there.name}", _SECONDS)  # noqa: B023


def test_the_hubs_own_lan_and_a_site_are_one(three: tuple[Lab, Campus]) -> None:
    lab, made = three
    shout(made["office"].lan[0])
    plug(lab, made.hub, made["attic"])
    event = made.hub.end.wait_for("bridge.muted", seconds=_SECONDS)
    assert "local" in event["message"]
    assert "attic is muted" in event["message"]
    everything_goes_on(made)


def test_two_tunnels_end_in_one_switch() -> None:
    """Somebody plugs both ends into one switch: two tunnels of one site, both in its bridge."""
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic"), Site("again", beside="attic"), Site("office")], hub=1))
        shout(made["office"].lan[0])
        event = made.hub.end.wait_for("bridge.muted", seconds=_SECONDS)
        assert "again is muted" in event["message"]
        for there in (made["attic"], made.hub):
            until(lambda: ping(made["office"].lan[0], there.address()) == 3, there.name, _SECONDS)  # noqa: B023
        assert made.port("again")["state"] == "muted"
        assert made.stop() == [0] * 4


def test_without_probes_addresses_show_the_loop() -> None:
    """Probes are off, or something on the way eats them: hosts that seem to be at two ports mute one of these."""
    with Lab() as lab:
        sites = [Site("attic", hosts=2), Site("cellar", "tcp", hosts=2), Site("office", hosts=2)]
        made = campus(lab, Plan(sites, hub=2, arguments=["--no-loop-probes"]))
        for place in (*made.sites, made.hub):
            for host in place.lan:
                shout(host)
        plug(lab, made["attic"], made["cellar"])
        event = made.hub.end.wait_for("bridge.muted", seconds=_SECONDS)
        assert "4 addresses of" in event["message"]
        assert {made.port("attic")["state"], made.port("cellar")["state"]} == {"up", "muted"}
        everything_goes_on(made)
        assert made.stop() == [0] * 4


def test_who_forges_the_addresses_of_others_mutes_himself() -> None:
    with Lab() as lab:
        made = campus(lab, Plan([Site("forger"), Site("attic", hosts=5), Site("office")], hub=1))
        forger, attic, office = made.sites
        for host in attic.lan:
            assert ping(host, office.address()) == 3
        addresses = [bytes.fromhex(hardware_address(host).replace(":", "")) for host in attic.lan]
        with forger.host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            forger.host.inside(lambda: wire.bind((DEVICE, 0)))

            def muted() -> bool:
                for address, host in zip(addresses, attic.lan, strict=True):
                    wire.send(b"\xff" * 6 + address + b"\x88\xb6" + bytes(46))
                    ping(host, office.address(), count=1, wait=0.1)
                return bool(made.hub.end.events("bridge.muted"))

            until(muted, "a port is muted", _BUSY_SECONDS)
        (event,) = made.hub.end.events("bridge.muted")
        assert "4 addresses of attic keep coming by forger" in event["message"]
        for host in attic.lan:
            assert ping(host, office.address()) == 3
        assert made.stop() == [0] * 4
