"""VLANs between sites, with the kernel's VLAN interfaces: trunk, access, native, and service tags passed through."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from caetun.errors import HostError
from caetun.lab import Host, Lab
from caetun.lab.traffic import stream
from tests.tunnel import vlan_interface
from tests.tunnel.campus import DEVICE, Campus, Plan, Site, campus
from tests.tunnel.ends import SOURCES, ping

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "ping")

TAG: Final = 0x8100
SERVICE_TAG: Final = 0x88A8


@pytest.fixture(scope="module")
def four() -> Iterator[Campus]:
    """Trunks at the attic (native 1) and the shed (all, native 9); the office is in VLAN 7, the hub in VLAN 8."""
    sites = [
        Site("attic", "tcp", words="trunk=7+8,native=1", bridged=False),
        Site("shed", words="trunk=all,native=9", bridged=False),
        Site("office", words="access=7", bridged=False),
        Site("barn", words="native=1", bridged=False),
    ]
    with Lab() as lab:
        made = campus(lab, Plan(sites, arguments=["--port", "access=8", "--address", "10.88.0.1/16"]))
        for place in made.sites[:2]:
            for vlan in (7, 8, 9):
                tag(place.host, DEVICE, vlan, f"10.{vlan}.{place.number}.1/16")
        made["office"].host.run(["ip", "address", "add", "10.7.3.1/16", "dev", DEVICE])
        made.hub.host.run(["ip", "address", "add", "10.8.0.1/16", "dev", DEVICE])
        yield made
        assert made.stop() == [0] * 5


def tag(host: Host, device: str, vlan: int, address: str, protocol: int = TAG) -> str:
    """Make a VLAN interface, the kernel's if it has any; returns its name."""
    name = f"{device}.{vlan}"
    kinds = {TAG: "802.1Q", SERVICE_TAG: "802.1ad"}
    kind = ["type", "vlan", "protocol", kinds[protocol], "id", str(vlan)]
    try:
        host.run(["ip", "link", "add", "link", device, "name", name, *kind])
    except HostError:
        program = [sys.executable, vlan_interface.__file__, device, str(vlan), f"{protocol:x}"]
        process = host.spawn(program, stdout=subprocess.PIPE, environment={"PYTHONPATH": SOURCES})
        assert process.stdout is not None
        with process.stdout as output:
            assert output.readline() == b"ready\n"
    host.run(["ip", "address", "add", address, "dev", name])
    host.run(["ip", "link", "set", name, "up"])
    return name


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("attic", "10.7.2.1"),  # from trunk to trunk
        ("attic", "10.8.2.1"),
        ("attic", "10.7.3.1"),  # from trunk to access
        ("shed", "10.7.3.1"),
        ("office", "10.7.1.1"),
        ("attic", "10.8.0.1"),  # to the device of the hub
        ("hub", "10.8.2.1"),
        ("barn", "10.88.1.1"),  # VLAN 1 without tags
    ],
)
def test_hosts_of_a_vlan_reach_each_other(four: Campus, here: str, there: str) -> None:
    assert ping(four[here].host, there) == 3


def test_what_is_of_another_vlan_is_not_reached(four: Campus) -> None:
    for here, there in (
        ("attic", "10.9.2.1"),  # VLAN 9 is not on the attic's trunk
        ("attic", "10.88.2.1"),  # without a tag the attic is in VLAN 1, the shed in VLAN 9
        ("office", "10.88.0.1"),  # 7 and 8
    ):
        assert ping(four[here].host, there, count=1, wait=0.3) == 0


def test_tcp_with_its_superframes_goes_from_trunk_to_access(four: Campus) -> None:
    assert stream(four["attic"].host, four["office"].host, "10.7.3.1", 0.3).octets >= 1 << 20
    assert stream(four["office"].host, four["shed"].host, "10.7.2.1", 0.3).octets >= 1 << 20


def test_service_tags_and_what_is_in_them_pass(four: Campus) -> None:
    """QinQ: the outer tag (IEEE 802.1ad) is payload of the native VLAN, here 1."""
    for place, number in ((four["attic"], 1), (four["barn"], 2)):
        outer = tag(place.host, DEVICE, 100, f"10.100.0.{number}/24", SERVICE_TAG)
        tag(place.host, outer, 7, f"10.107.0.{number}/24")
    assert ping(four["attic"].host, "10.100.0.2") == 3
    assert ping(four["attic"].host, "10.107.0.2") == 3, "the VLAN 7 in there is not the one of the trunk"
