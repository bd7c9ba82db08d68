"""Whole LANs on the ports of a hub: Linux bridges that were there, and ones that are made and go again."""

from __future__ import annotations

import signal

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.campus import BRIDGE, DEVICE, Plan, Site, campus, enslave, hardware_address
from tests.tunnel.ends import End, ping, write
from tests.tunnel.watch import until

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "ping")

KEY = "QcIVuHmUJSX4+1Jgr6D5CZIJIFcdDnLpVVvcbmRbsnA="


def test_every_host_reaches_every_other_through_bridges_and_the_hub() -> None:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic", hosts=2), Site("office", "tcp")], hub=1))
        attic, office, hub = *made.sites, made.hub
        for host in (*attic.lan, *office.lan):
            for place in (attic, office, hub):
                for number in range(len(place.lan)):
                    assert ping(host, place.address(number), count=1) == 1
        behind = {row["address"]: row["port"] for row in made.show("fdb")}
        for place, port in ((attic, "attic"), (office, "office"), (hub, "local")):
            assert {behind[hardware_address(host)] for host in place.lan} == {port}
        assert made.stop() == [0] * 3
        for place in (attic, office, hub):
            assert links(place.host) & {BRIDGE, DEVICE} == set()


def links(host: Host) -> set[str]:
    return {line.split(": ")[1].split("@")[0] for line in host.run(["ip", "-o", "link"]).splitlines()}


def tunnel(host: Host, bridge: str) -> End:
    """One that waits for a far end."""
    key = write(host, "/run/key", KEY + "\n")
    end = End(host, "--mode", "tap", "--dev", DEVICE, "--listen", ":4500", "--secret-file", key, "--bridge", bridge)
    end.wait_for("start")
    return end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_bridge_that_was_made_goes_with_the_tunnel(lab: Lab, number: signal.Signals) -> None:
    host = lab.host("one", private=["/run"])
    before = links(host)
    end = tunnel(host, f"{BRIDGE}:create")
    assert links(host) == before | {BRIDGE, DEVICE}
    end.stop(number)
    until(lambda: links(host) == before, "nothing is left")


@pytest.mark.parametrize(("bridge", "number"), [(BRIDGE, signal.SIGTERM), (f"{BRIDGE}:create", signal.SIGKILL)])
def test_a_bridge_that_was_there_stays_with_its_ports(lab: Lab, bridge: str, number: signal.Signals) -> None:
    host, other = lab.host("one", private=["/run"]), lab.host("other")
    host.run(["ip", "link", "add", BRIDGE, "up", "type", "bridge"])
    _, port = lab.link(other, host)
    enslave(host, port.device)
    before = links(host)
    tunnel(host, bridge).stop(number)
    until(lambda: links(host) == before, "only the device has gone")
    assert f"master {BRIDGE}" in host.run(["ip", "link", "show", port.device])


def test_a_bridge_whose_maker_was_killed_with_all_his_is_taken_over(lab: Lab) -> None:
    host = lab.host("one", private=["/run"])
    before = links(host)
    host.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    host.run(["ip", "link", "set", BRIDGE, "alias", "made by caetun, process 4194305"])  # more than there can be
    end = tunnel(host, f"{BRIDGE}:create")
    assert end.stop() == 0
    assert links(host) == before
