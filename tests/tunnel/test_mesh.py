"""Four hosts of one hub find direct ways or do without: Carol and Dave beside it, Alice and Bob behind a NAT each."""

from __future__ import annotations

import base64
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from caetun.lab import Host, Lab
from caetun.lab.firewalls import Firewall, Nat
from caetun.session.identity import public_key
from tests.tunnel.ends import PATIENCE, SOURCES, End, await_ping, ping, write
from tests.tunnel.show import show

pytestmark = [pytest.mark.needs("namespaces", "tun", "ping", "firewall"), pytest.mark.alone]

NAMES = ("alice", "bob", "carol", "dave")
PAIRS = list(itertools.combinations(NAMES, 2))
HUB = "10.88.0.1"
INNER = {"alice": "10.88.0.2", "bob": "10.88.0.3", "carol": "10.88.0.4", "dave": "10.88.0.5"}
FALLBACK = 3.0
"""Seconds."""
PINGS = 50
RETURN = 60.0
"""Seconds within which a direct way that works again is used again."""
_COMMAND = ["env", f"PYTHONPATH={SOURCES}", "RUNTIME_DIRECTORY=/run/caetun", sys.executable, "-m", "caetun"]
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
    inner: Mapping[str, str]
    mode: str

    def direct(self) -> set[tuple[str, str]]:
        """Pairs of which both say that they have a direct way."""
        found = {
            (here, row["member"])
            for here in NAMES
            for row in show(self.ends[here], "mesh", f"{self.mode}0")
            if row["way"] == "direct"
        }
        return {pair for pair in PAIRS if pair in found and pair[::-1] in found}

    def relayed(self) -> bool:
        """Whether pings from Alice to Carol go by the hub: a record for each question and each answer."""
        before = self.ends["hub"].counters()["records_in"]
        answered = ping(self.hosts["alice"], self.inner["carol"], count=PINGS)
        assert answered > 0.8 * PINGS, "on a busy machine ping does not wait for the last ones"
        return bool(self.ends["hub"].counters()["records_in"] - before > PINGS)


def town(lab: Lab, mode: str, alike: tuple[str, ...], pool: bool = False) -> Place:
    """Start it; `alike`: whose NAT keeps ports, not choosing them by chance; `pool`: the hub gives addresses."""
    street = lab.host("street")
    street.set("net.ipv4.ip_forward", 1)
    hosts = {name: lab.host(name, private=["/run"]) for name in ("hub", *NAMES)}
    for number, (name, host) in enumerate(hosts.items(), 1):
        outer = host
        if name in ("alice", "bob"):
            outer = lab.host(f"{name}-nat")
            outer.set("net.ipv4.ip_forward", 1)
            lab.link(outer, host, left=["192.168.1.1/24"], right=["192.168.1.2/24"])
            host.run(["ip", "route", "add", "default", "via", "192.168.1.1"])
        port, _ = lab.link(outer, street, left=[f"203.0.{number}.2/24"], right=[f"203.0.{number}.1/24"])
        outer.run(["ip", "route", "add", "default", "via", f"203.0.{number}.1"])
        if outer is not host and name in alike:
            Firewall(outer, _ALIKE.format(device=port.device))
        elif outer is not host:
            Nat(outer, port.device)
    ends = _tunnels(hosts, mode, pool)
    ends["hub"].wait_for("peer.up", len(NAMES))
    inner = {name: _assigned(end) for name, end in ends.items() if name != "hub"} if pool else INNER
    return Place(street, hosts, ends, inner, mode)


def _tunnels(hosts: dict[str, Host], mode: str, pool: bool) -> dict[str, End]:
    private = {name: os.urandom(32) for name in hosts}
    public = {name: base64.b64encode(public_key(key)).decode() for name, key in private.items()}

    def arguments(name: str) -> list[str]:
        key = write(hosts[name], "/run/key", base64.b64encode(private[name]).decode() + "\n")
        common = ["--mode", mode, "--dev", f"{mode}0", "--mesh", "--key", key]
        address = ["--address", f"{INNER.get(name, HUB)}/24"]
        return [*common, *(["--negotiation", "server"] if pool else address)]

    words = {name: f",name={name}" + (f",allowed={INNER[name]}" * (mode == "tun" and not pool)) for name in NAMES}
    peers = [word for name in NAMES for word in ("--peer", public[name] + words[name])]
    given = ["--pool-network", "10.88.0.0/24"] if pool else []
    ends = {"hub": End(hosts["hub"], *arguments("hub"), "--listen", ":4500", *peers, *given)}
    ends["hub"].wait_for("start")
    for name in NAMES:
        peer = f"{public['hub']},name=hub"
        ends[name] = End(hosts[name], *arguments(name), "--connect", "203.0.1.2:4500", "--peer", peer)
    return ends


def _assigned(end: End) -> str:
    """The address that a server has given it."""
    text: str = end.wait_for("negotiation.configured")["message"]
    return text.partition("address ")[2].partition("/")[0]


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def all_ping(place: Place) -> None:
    for here, there in PAIRS:
        await_ping(place.hosts[here], place.inner[there])


@pytest.fixture(scope="module", params=["tun", "tap"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Bob's NAT chooses ports by chance, so he and Alice cannot meet. On Ethernet, addresses are from a pool."""
    with Lab() as lab:
        made = town(lab, request.param, alike=("alice",), pool=request.param == "tap")
        yield made
        assert [end.stop() for end in made.ends.values()] == [0] * 5


def test_direct_ways_form_where_they_can_and_the_hub_relays_the_rest(place: Place) -> None:
    all_ping(place)
    expected = set(PAIRS) - {("alice", "bob")}
    until(lambda: place.direct() == expected, "all but Alice and Bob")
    for here, there in PAIRS:
        assert ping(place.hosts[here], place.inner[there]) == 3
        assert ping(place.hosts[there], place.inner[here]) == 3
    until(lambda: not place.relayed(), "the hub has next to nothing to do")
    assert place.direct() == expected
    introduced = {row["member"]: row["introduced to"] for row in show(place.ends["hub"], "mesh", f"{place.mode}0")}
    assert introduced == dict.fromkeys(NAMES, 3)


def test_a_direct_way_that_dies_is_left_within_three_seconds_and_found_again(place: Place) -> None:
    here, there = place.hosts["alice"], place.inner["carol"]
    until(lambda: ("alice", "carol") in place.direct(), "alice and carol")
    until(lambda: not place.relayed(), "their hosts know it")
    with Firewall(place.street, _CUT):
        begun = time.monotonic()
        until(lambda: ping(here, there, count=1, wait=0.2) == 1, "the hub takes over", FALLBACK)
        print(f"{place.mode}: the hub took over after {time.monotonic() - begun:.2f} s")
        assert place.relayed()
        until(lambda: ("alice", "carol") not in place.direct(), "both know it")
    until(lambda: ("alice", "carol") in place.direct() and not place.relayed(), "back to the direct way", RETURN)


def test_a_broadcast_comes_once_to_everybody_on_ethernet_and_to_nobody_by_a_router(place: Place) -> None:
    heard = {name: place.hosts[name].socket(socket.AF_INET, socket.SOCK_DGRAM, 0) for name in NAMES[1:]}
    with place.hosts["alice"].socket(socket.AF_INET, socket.SOCK_DGRAM, 0) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for each in heard.values():
            each.bind(("10.88.0.255", 9999))
            each.settimeout(2.0)
        for number in range(20):
            sender.sendto(bytes((number,)), ("10.88.0.255", 9999))
    expected = list(range(20)) if place.mode == "tap" else []
    for name, each in heard.items():
        with each:
            assert [each.recv(9)[0] for _ in expected] == expected, name
            each.settimeout(0.3)
            with pytest.raises(TimeoutError):
                each.recv(9)


def test_members_with_addresses_from_a_pool_all_meet_where_nats_keep_ports() -> None:
    with Lab() as lab:
        made = town(lab, "tun", alike=("alice", "bob"), pool=True)
        all_ping(made)
        until(lambda: made.direct() == set(PAIRS), "all of them")
        until(lambda: not made.relayed(), "the hub has next to nothing to do")
        for here, there in PAIRS:
            assert ping(made.hosts[here], made.inner[there]) == 3
        assert all("route.source" not in end.drops() for end in made.ends.values())
        # who is sent away by the hub, has no direct ways either
        assert "1 session(s) ended" in made.hosts["hub"].run([*_COMMAND, "revoke", "carol"])
        until(lambda: not any("carol" in pair for pair in made.direct()), "nobody knows Carol any more")
        assert ping(made.hosts["dave"], made.inner["carol"], wait=0.5) == 0
        assert ping(made.hosts["dave"], made.inner["alice"]) == 3
        assert [end.stop() for end in made.ends.values()] == [0] * 5
