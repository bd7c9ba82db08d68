"""A hub, sites around it, and a LAN at each: `caetun` joins the Linux bridges that the hosts are plugged into.

    with Lab() as lab:
        made = campus(lab, Plan([Site("attic", hosts=2), Site("office", carrier="tcp")]))
        made["attic"].lan[0].run(["ping", "-c", "1", made["office"].address(0)])

Host m of site n is 10.88.n.m+1 and fd88::n:m+1 on its `eth0`; the hub is site 0, and has a LAN if `Plan.hub` says so.
Outside, the hub is 10.99.n.1 to site n, which is 10.99.n.2.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from caetun.lab import Host, Lab, Port
from caetun.session.identity import public_key
from tests.tunnel.ends import _RUNTIME, _SOURCES, PATIENCE, End, write

DEVICE: Final = "tap0"
BRIDGE: Final = "br0"


@dataclass
class Site:
    """What a site is to be."""

    name: str
    carrier: str = "udp"
    hosts: int = 1
    words: str = ""
    """What the hub says of its port, beside the name."""
    bridged: bool = True
    """Whether there is a Linux bridge; without, the device itself has the address of host 0."""


@dataclass
class Plan:
    """What the whole is to be."""

    sites: Sequence[Site]
    hub: int = 0
    """Hosts at the hub; with none, it is not bridged."""
    arguments: Sequence[str] = ()
    """More of the hub's."""


@dataclass
class Place:
    """The hub or a site as it is."""

    name: str
    number: int
    host: Host
    end: End
    lan: list[Host] = field(default_factory=list)
    plugs: list[Port] = field(default_factory=list)
    """Where the hosts of the LAN are plugged into the bridge."""

    def address(self, number: int = 0) -> str:
        return f"10.88.{self.number}.{number + 1}"

    def address6(self, number: int = 0) -> str:
        return f"fd88::{self.number}:{number + 1}"


class Campus:
    """The hub and its sites, by name."""

    def __init__(self, hub: Place, sites: Sequence[Place]) -> None:
        self.hub, self.sites = hub, list(sites)

    def __getitem__(self, name: str) -> Place:
        return next(place for place in [self.hub, *self.sites] if place.name == name)

    def show(self, what: str) -> list[dict[str, Any]]:
        """What `caetun show` says of the hub."""
        process = self.hub.host.spawn(
            [sys.executable, "-m", "caetun", "show", what, "--json"],
            stdout=-1,
            environment={"PYTHONPATH": _SOURCES, "RUNTIME_DIRECTORY": _RUNTIME},
        )
        rows: list[dict[str, Any]] = json.loads(process.communicate(timeout=PATIENCE)[0])
        return rows

    def port(self, name: str) -> dict[str, Any]:
        """What `caetun show ports` says of one port."""
        return next(row for row in self.show("ports") if row["port"] == name)

    def stop(self) -> list[int]:
        """End all; exit statuses."""
        return [place.end.stop() for place in [*self.sites, self.hub]]


def campus(lab: Lab, plan: Plan) -> Campus:
    """Build it and wait until all sites are up."""
    private = [os.urandom(32) for _ in range(len(plan.sites) + 1)]
    public = [base64.b64encode(public_key(key)).decode() for key in private]
    hosts = [lab.host(name, private=["/run"]) for name in ("hub", *(site.name for site in plan.sites))]
    for number, host in enumerate(hosts[1:], 1):
        lab.link(hosts[0], host, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
    keys = [write(host, "/run/key", base64.b64encode(key).decode() + "\n") for host, key in zip(hosts, private, strict=True)]
    peers = [
        text
        for site, key in zip(plan.sites, public[1:], strict=True)
        for text in ("--peer", ",".join(filter(None, [key, f"name={site.name}", site.words])))
    ]
    common = ["--mode", "tap", "--dev", DEVICE]
    listen = ["--listen", ":4500", "--transport", ",".join(dict.fromkeys(site.carrier for site in plan.sites))]
    bridge = ["--bridge", f"{BRIDGE}:create"]
    hub = Place("hub", 0, hosts[0], End(hosts[0], *common, *listen, "--key", keys[0], *peers, *(bridge if plan.hub else ()), *plan.arguments))
    sites = []
    for number, (site, host, key) in enumerate(zip(plan.sites, hosts[1:], keys[1:], strict=True), 1):
        inner = bridge if site.bridged else ["--address", f"10.88.{number}.1/16", "--address", f"fd88::{number}:1/64"]
        where = ["--connect", f"{site.carrier}://10.99.{number}.1:4500"]
        sites.append(Place(site.name, number, host, End(host, *common, *where, "--key", key, "--peer", public[0], *inner)))
    for place, count in [(hub, plan.hub), *((place, site.hosts if site.bridged else 0) for place, site in zip(sites, plan.sites, strict=True))]:
        place.end.wait_for("start")
        for _ in range(count):
            plug_in(lab, place)
    hub.end.wait_for("peer.up", len(sites))
    for place in sites:
        place.end.wait_for("peer.up")
    return Campus(hub, sites)


def plug_in(lab: Lab, place: Place, addressed: bool = True) -> Host:
    """One more host in a place's LAN."""
    number = len(place.lan)
    host = lab.host(f"{place.name}-{number}", private=["/run"])
    some = [f"{place.address(number)}/16", f"{place.address6(number)}/64"] if addressed else []
    _, plug = lab.link(host, place.host, left=some)
    enslave(place.host, plug.device)
    place.lan.append(host)
    place.plugs.append(plug)
    return host


def enslave(host: Host, device: str, bridge: str = BRIDGE) -> None:
    """Make a device, which is brought up, a port of a Linux bridge."""
    host.run(["ip", "link", "set", "dev", device, "master", bridge, "up"])


def hardware_address(host: Host, device: str = "eth0") -> str:
    """Its MAC address."""
    return host.inside(lambda: Path("/sys/class/net", device, "address").read_text()).strip()


def index(host: Host, device: str = "eth0") -> int:
    """Its number in its host."""
    return host.inside(lambda: socket.if_nametoindex(device))
