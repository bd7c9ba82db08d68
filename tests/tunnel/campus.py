"""A hub, sites around it, and a LAN at each: `caetun` joins the Linux bridges that the hosts are plugged into.

    with Lab() as lab:
        made = campus(lab, Plan([Site("attic", hosts=2), Site("office", carrier="tcp")]))
        made["attic"].lan[0].run(["ping", "-c", "1", made["office"].address(0)])

Host m of site n is 10.88.n.m+1 and fd88::n:m+1 on its `eth0`; the hub is site 0, and has a LAN if `Plan.hub` says so.
Outside, the hub is 10.99.n.1 to site n, which is 10.99.n.2. A second hub has numbers from `Plan.first` on.
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
from tests.tunnel.ends import PATIENCE, RUNTIME, SOURCES, End, write

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
    beside: str = ""
    """An earlier site in whose host, and whose bridge, this one's tunnel ends; it has no hosts of its own."""


@dataclass
class Plan:
    """What the whole is to be."""

    sites: Sequence[Site]
    hub: int = 0
    """Hosts at the hub; with none, it is not bridged."""
    arguments: Sequence[str] = ()
    """More of the hub's."""
    name: str = "hub"
    first: int = 1
    """The number of the first site; the hub has the one before."""


@dataclass
class Place:
    """The hub or a site as it is."""

    name: str
    number: int
    host: Host
    end: End
    bridged: bool = True
    """Whether it has a LAN of its own."""
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
            environment={"PYTHONPATH": SOURCES, "RUNTIME_DIRECTORY": RUNTIME},
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
    machine = lab.host(plan.name, private=["/run"])
    peers = [
        text
        for site, key in zip(plan.sites, public[1:], strict=True)
        for text in ("--peer", ",".join(filter(None, [key, f"name={site.name}", site.words])))
    ]
    listen = ["--listen", ":4500", "--transport", ",".join(dict.fromkeys(site.carrier for site in plan.sites))]
    bridge = ["--bridge", f"{BRIDGE}:create"] if plan.hub else []
    arguments = [*listen, *peers, *bridge, *plan.arguments]
    hub = Place(plan.name, plan.first - 1, machine, _start(machine, DEVICE, private[0], arguments))
    made = Campus(hub, [])
    for site, key in zip(plan.sites, private[1:], strict=True):
        made.sites.append(_site(lab, made, site, key, public[0]))
    for place, hosts in zip([made.hub, *made.sites], [plan.hub, *(site.hosts for site in plan.sites)], strict=True):
        place.end.wait_for("start")
        for _ in range(hosts if place.bridged else 0):
            plug_in(lab, place)
    made.hub.end.wait_for("peer.up", len(made.sites))
    for place in made.sites:
        place.end.wait_for("peer.up")
    return made


def _site(lab: Lab, made: Campus, site: Site, private: bytes, hub: str) -> Place:
    """Start the tunnel of a site, in a host of its own or in that of another one."""
    number = made.hub.number + len(made.sites) + 1
    if site.beside:
        machine, device, inner = made[site.beside].host, f"tap{number}", ["--bridge", BRIDGE]
        made[site.beside].end.wait_for("start")
    else:
        machine, device, inner = lab.host(site.name, private=["/run"]), DEVICE, ["--bridge", f"{BRIDGE}:create"]
    if not site.bridged:
        inner = ["--address", f"10.88.{number}.1/16", "--address", f"fd88::{number}:1/64"]
    lab.link(made.hub.host, machine, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
    where = ["--connect", f"{site.carrier}://10.99.{number}.1:4500", "--peer", hub]
    bridged = site.bridged and not site.beside
    return Place(site.name, number, machine, _start(machine, device, private, [*where, *inner]), bridged)


def _start(machine: Host, device: str, private: bytes, arguments: Sequence[str]) -> End:
    key = write(machine, f"/run/{device}.key", base64.b64encode(private).decode() + "\n")
    return End(machine, "--mode", "tap", "--dev", device, "--key", key, *arguments)


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
