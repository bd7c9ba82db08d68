"""Four hosts: a hub, Carol beside it, and Alice and Bob behind a NAT each, find direct ways or do without."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from caetun.lab import Host, Lab
from caetun.lab.firewalls import Firewall, Nat
from caetun.session.identity import public_key
from tests.tunnel.ends import PATIENCE, End, await_ping, ping, write

pytestmark = [pytest.mark.needs("namespaces", "tun", "ping", "firewall"), pytest.mark.alone]

NAMES = ("alice", "bob", "carol")
INNER = {"hub": "10.88.0.1", "alice": "10.88.0.2", "bob": "10.88.0.3", "carol": "10.88.0.4"}
_ALIKE = """
    chain hide {{
        type nat hook postrouting priority 100;
        oifname "{device}" masquerade
    }}
    chain unasked {{
        type filter hook input priority 0;
        iifname "{device}" meta l4proto {{ tcp, udp }} drop
    }}
    chain unasked_through {{
        type filter hook forward priority 0;
        iifname "{device}" ct state new drop
    }}
"""
"""A NAT that keeps source ports, whoever it is that is called: with that, two hosts behind NATs can meet."""
_CUT = """
    chain cut {
        type filter hook forward priority -5;
        ip saddr { 203.0.2.2, 203.0.4.2 } ip daddr { 203.0.2.2, 203.0.4.2 } drop
    }
"""
"""Nothing passes between Carol and the NAT in front of Alice."""


@dataclass
class Place:
    """All hosts and tunnels by name; `street` joins them."""

    street: Host
    hosts: dict[str, Host]
    ends: dict[str, End]

    def knows(self, here: str, there: str) -> bool:
        """Whether there is a direct way."""
        return any(event.get("peer") == there for event in self.ends[here].events("peer.up"))


def town(lab: Lab, alike: tuple[str, ...] = ("alice", "bob")) -> Place:
    """Start it; `alike`: whose NAT keeps ports, while others' choose them by chance."""
    street = lab.host("street")
    street.set("net.ipv4.ip_forward", 1)
    hosts = {name: lab.host(name, private=["/run"]) for name in ("hub", *NAMES)}
    for number, name in enumerate(hosts, 1):
        outer = hosts[name]
        if name in ("alice", "bob"):
            outer = lab.host(f"{name}-nat")
            outer.set("net.ipv4.ip_forward", 1)
            lab.link(outer, hosts[name], left=["192.168.1.1/24"], right=["192.168.1.2/24"])
            hosts[name].run(["ip", "route", "add", "default", "via", "192.168.1.1"])
        port, _ = lab.link(outer, street, left=[f"203.0.{number}.2/24"], right=[f"203.0.{number}.1/24"])
        outer.run(["ip", "route", "add", "default", "via", f"203.0.{number}.1"])
        if outer is not hosts[name]:
            if name in alike:
                Firewall(outer, _ALIKE.format(device=port.device))
            else:
                Nat(outer, port.device)
    private = {name: os.urandom(32) for name in hosts}
    public = {name: base64.b64encode(public_key(key)).decode() for name, key in private.items()}
    common = {
        name: [
            *("--mode", "tun", "--dev", "tun0", "--mesh", "--address", f"{INNER[name]}/24"),
            *("--key", write(host, "/run/key", base64.b64encode(private[name]).decode() + "\n")),
        ]
        for name, host in hosts.items()
    }
    peers = [word for name in NAMES for word in ("--peer", f"{public[name]},name={name},allowed={INNER[name]}")]
    ends = {"hub": End(hosts["hub"], *common["hub"], "--listen", ":4500", *peers)}
    ends["hub"].wait_for("start")
    for name in NAMES:
        peer = f"{public['hub']},name=hub"
        ends[name] = End(hosts[name], *common[name], "--connect", "203.0.1.2:4500", "--peer", peer)
    ends["hub"].wait_for("peer.up", 3)
    return Place(street, hosts, ends)


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Lab() as lab:
        made = town(lab)
        yield made
        assert [end.stop() for end in made.ends.values()] == [0] * 4


PAIRS = [(here, there) for here in NAMES for there in NAMES if here < there]


def test_all_reach_each_other_at_once_and_soon_directly(place: Place) -> None:
    for here, there in PAIRS:
        await_ping(place.hosts[here], INNER[there])
    for here, there in PAIRS:
        until(lambda: place.knows(here, there) and place.knows(there, here), f"{here} and {there}")  # noqa: B023
    before = place.ends["hub"].counters()["records_in"]
    for here, there in PAIRS:
        assert ping(place.hosts[here], INNER[there], count=50) == 50
    assert place.ends["hub"].counters()["records_in"] - before < 50, "the hub has next to nothing to do"


def test_a_direct_way_that_dies_is_left_within_three_seconds(place: Place) -> None:
    here, there = place.hosts["alice"], INNER["carol"]
    until(lambda: place.knows("alice", "carol") and place.knows("carol", "alice"), "alice and carol")
    assert ping(here, there) == 3
    with Firewall(place.street, _CUT):
        begun = time.monotonic()
        until(lambda: ping(here, there, count=1, wait=0.2) == 1, "the hub takes over", 3.0)
        print(f"the hub took over after {time.monotonic() - begun:.2f} s")
        assert ping(here, there, count=20, interval=0.05) == 20
    records = place.ends["hub"].counters()["records_in"]

    def direct() -> bool:
        """Whether the hub has next to nothing to do any more."""
        nonlocal records
        before = records
        assert ping(here, there, count=20) == 20
        records = place.ends["hub"].counters()["records_in"]
        return bool(records - before < 20)

    until(direct, "back to the direct way", 60.0)


def test_where_no_direct_way_is_the_hub_relays() -> None:
    with Lab() as lab:
        made = town(lab, alike=())
        for here, there in PAIRS:
            await_ping(made.hosts[here], INNER[there])
        for name in ("alice", "bob"):
            until(lambda: made.knows(name, "carol"), f"{name} and carol")  # noqa: B023
        assert not made.knows("alice", "bob")
        for here, there in PAIRS:
            assert ping(made.hosts[here], INNER[there]) == 3
