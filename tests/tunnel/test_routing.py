"""A hub that routes between peers, one of them with a network behind it: who reaches whom, and what they are told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import caetun
from caetun.lab import Host, Lab
from caetun.lab.traffic import stream
from caetun.session.identity import public_key
from tests.tunnel.ends import INNER4, INNER6, PATIENCE, End, await_ping, ping, start, tunnel_arguments, two_hosts, write

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

HUB, HUB6 = "10.88.0.1", "fd88::1"
ALICE, ALICE6 = "10.88.0.2", "fd88::2"
BOB, BOB6 = "10.88.0.3", "fd88::3"
PRINTER, PRINTER6 = "10.1.0.2", "fd01::2"
"""Behind Bob."""
SMALL: Final = 1400
"""Bytes: the MTU of Bob's device. All others are 1500."""


@dataclass
class Office:
    """A hub, Alice by UDP, and Bob by TCP with a network behind him."""

    hub: Host
    alice: Host
    bob: Host
    printer: Host
    hub_end: End
    ends: list[End]

    def drops(self, reason: str) -> int:
        """Of the hub."""
        return self.hub_end.drops().get(reason, 0)


def routes(hub: Host) -> dict[str, dict[str, Any]]:
    """What a hub shows, by prefix."""
    environment = {"PYTHONPATH": str(Path(caetun.__file__).parents[1]), "RUNTIME_DIRECTORY": "/run/caetun"}
    command = [sys.executable, "-m", "caetun", "show", "routes", "--json"]
    process = hub.spawn(command, stdout=subprocess.PIPE, environment=environment)
    rows = json.loads(process.communicate(timeout=PATIENCE)[0])
    return {row["prefix"]: row for row in rows}


def office(lab: Lab, *hub_arguments: str) -> Office:
    """Start all of it."""
    hub, alice, bob = (lab.host(name, private=["/run"]) for name in ("hub", "alice", "bob"))
    printer = lab.host("printer")
    lab.link(hub, alice, left=["10.99.0.1/24"], right=["10.99.0.2/24"])
    lab.link(hub, bob, left=["10.99.1.1/24"], right=["10.99.1.2/24"])
    lab.link(bob, printer, left=["10.1.0.1/24", "fd01::1/64"], right=[f"{PRINTER}/24", f"{PRINTER6}/64"])
    bob.set("net.ipv4.ip_forward", 1)
    bob.set("net.ipv6.conf.all.forwarding", 1)
    printer.run(["ip", "route", "add", "default", "via", "10.1.0.1"])
    printer.run(["ip", "route", "add", "default", "via", "fd01::1"])
    private = [os.urandom(32) for _ in range(3)]
    public = [base64.b64encode(public_key(key)).decode() for key in private]
    files = [
        write(host, "/run/key", base64.b64encode(key).decode() + "\n")
        for host, key in zip((hub, alice, bob), private, strict=True)
    ]
    peers = [
        *("--peer", f"{public[1]},name=alice,allowed={ALICE}+{ALICE6}"),
        *("--peer", f"{public[2]},name=bob,allowed={BOB}+10.1.0.0/24+{BOB6}+fd01::/64"),
    ]
    device = ["--mode", "tun", "--dev", "tun0"]
    listen = ["--listen", ":4500", "--transport", "udp,tcp"]
    addresses = ["--address", f"{HUB}/24", "--address", f"{HUB6}/64"]
    hub_end = End(hub, *device, *listen, *addresses, "--key", files[0], *peers, *hub_arguments)
    hub_end.wait_for("start")
    ends = []
    for number, (host, carrier, mtu) in enumerate(((alice, "udp", 1500), (bob, "tcp", SMALL))):
        where = ["--connect", f"{carrier}://10.99.{number}.1:4500", "--mtu", str(mtu)]
        own = ["--address", f"10.88.0.{number + 2}/24", "--address", f"fd88::{number + 2}/64"]
        ends.append(End(host, *device, *where, *own, "--key", files[number + 1], "--peer", public[0]))
    hub_end.wait_for("peer.up", 2)
    for end in ends:
        end.wait_for("peer.up")
    for host in (hub, alice):
        host.run(["ip", "route", "add", "10.1.0.0/24", "dev", "tun0"])
        host.run(["ip", "route", "add", "fd01::/64", "dev", "tun0"])
    made = Office(hub, alice, bob, printer, hub_end, ends)
    for address in (HUB, HUB6):
        await_ping(alice, address)
    return made


@pytest.fixture(scope="module")
def place() -> Iterator[Office]:
    with Lab() as lab:
        made = office(lab)
        yield made
        assert [end.stop() for end in (*made.ends, made.hub_end)] == [0] * 3


def said(host: Host, *arguments: str) -> str:
    """What `ping` prints, whatever came of it."""
    process = host.spawn(["ping", "-n", "-W", "1", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return process.communicate(timeout=PATIENCE)[0].decode()


@pytest.mark.parametrize("address", [HUB, HUB6, BOB, BOB6, PRINTER, PRINTER6])
def test_alice_reaches_everybody(place: Office, address: str) -> None:
    assert ping(place.alice, address) == 3


def test_the_network_behind_bob_reaches_alice_and_the_hub(place: Office) -> None:
    for address in (ALICE, ALICE6, HUB, HUB6):
        assert ping(place.printer, address) == 3


@pytest.mark.parametrize(("sender", "address"), [("alice", PRINTER), ("printer", ALICE), ("alice", PRINTER6)])
def test_tcp_through_the_hub_arrives_as_sent_and_finds_its_size(place: Office, sender: str, address: str) -> None:
    hosts = {"alice": place.alice, "printer": place.printer}
    there = hosts["printer" if sender == "alice" else "alice"]
    assert stream(hosts[sender], there, address, 0.3).octets > 1 << 20
    if sender == "alice":
        assert f"mtu {SMALL}" in place.alice.run(["ip", "route", "get", address]), "it was told"


def test_a_packet_that_must_not_be_divided_is_refused_with_the_size(place: Office) -> None:
    for host in (place.alice, place.hub):
        host.run(["ip", "route", "flush", "cache"])
        assert f"mtu = {SMALL}" in said(host, "-M", "do", "-s", str(SMALL - 28 + 8), "-c", "1", PRINTER)
    assert ping(place.alice, PRINTER, size=SMALL - 28) == 3
    assert place.drops("packet.too-big") > 0


def test_a_packet_that_may_be_divided_is(place: Office) -> None:
    place.alice.run(["ip", "route", "flush", "cache"])
    assert " 1 received" in said(place.alice, "-M", "dont", "-s", "1472", "-c", "1", PRINTER)


def test_too_big_for_ipv6(place: Office) -> None:
    place.alice.run(["ip", "-6", "route", "flush", "cache"])
    assert f"mtu={SMALL}" in said(place.alice, "-M", "do", "-s", str(SMALL - 48 + 8), "-c", "1", PRINTER6)


@pytest.mark.parametrize(
    ("hops", "address", "who"),
    [("1", PRINTER, HUB), ("2", PRINTER, BOB), ("1", PRINTER6, HUB6), ("2", PRINTER6, BOB6)],
)
def test_a_packet_that_may_not_go_further_is_told_of_by_where_it_ended(
    place: Office, hops: str, address: str, who: str
) -> None:
    text = said(place.alice, "-t", hops, "-c", "1", address)
    assert f"From {who}" in text
    assert "exceeded" in text


def test_three_hops_are_enough_and_the_hub_itself_is_one(place: Office) -> None:
    assert " 1 received" in said(place.alice, "-t", "3", "-c", "1", PRINTER)
    assert " 1 received" in said(place.alice, "-t", "1", "-c", "1", HUB)
    assert " 1 received" in said(place.hub, "-t", "1", "-c", "1", BOB)


def test_an_address_that_is_not_alices_is_not_taken_from_her(place: Office) -> None:
    place.alice.run(["ip", "address", "add", "10.77.0.1/32", "dev", "lo"])
    before = place.drops("route.source")
    assert " 0 received" in said(place.alice, "-I", "10.77.0.1", "-c", "2", "-i", "0.1", BOB)
    assert place.drops("route.source") == before + 2
    (told,) = [event["message"] for event in place.hub_end.events("route.source")]
    assert told.startswith("alice sends from 10.77.0.1")


def test_an_address_that_nobody_has_is_unreachable(place: Office) -> None:
    assert "Destination Host Unreachable" in said(place.alice, "-c", "1", "10.88.0.77")
    assert "Destination Host Unreachable" in said(place.hub, "-c", "1", "10.88.0.77")
    assert "Address unreachable" in said(place.hub, "-c", "1", "fd88::77")
    place.hub.run(["ip", "route", "add", "10.5.0.0/24", "dev", "tun0"])
    assert "Destination Net Unreachable" in said(place.hub, "-c", "1", "10.5.0.1")


def test_routes_are_shown(place: Office) -> None:
    before = routes(place.hub)
    assert (before["10.1.0.0/24"]["peer"], before["10.1.0.0/24"]["state"]) == ("bob", "up")
    assert before["10.88.0.1/32"]["state"] == "this host"
    ping(place.alice, PRINTER)
    assert routes(place.hub)["10.1.0.0/24"]["hits"] == before["10.1.0.0/24"]["hits"] + 3


def test_peers_do_not_reach_each_other_if_they_shall_not() -> None:
    with Lab() as lab:
        made = office(lab, "--client-to-client", "off")
        assert ping(made.alice, HUB) == 3
        assert "Packet filtered" in said(made.alice, "-c", "1", BOB)
        assert "Administratively prohibited" in said(made.alice, "-c", "1", BOB6)
        assert made.drops("route.prohibited") == 2
        # Bob goes: the hub says so, instead of waiting for him.
        assert made.ends[1].stop() == 0
        made.hub_end.wait_for("peer.down")
        assert "Destination Host Unreachable" in said(made.hub, "-c", "1", PRINTER)


def test_the_host_decides_if_it_is_asked_to() -> None:
    with Lab() as lab:
        made = office(lab, "--client-to-client", "host")
        assert ping(made.alice, BOB, count=1, wait=0.5) == 0
        made.hub.set("net.ipv4.ip_forward", 1)
        assert ping(made.alice, BOB) == 3


@pytest.mark.parametrize("mode", ["tun", "tap"])
def test_between_two_ends_the_larger_one_learns_what_the_smaller_one_takes(mode: str) -> None:
    with Lab() as lab:
        hosts = two_hosts(lab)
        large, small = tunnel_arguments(hosts, mode)
        ends = start(hosts, [large, [*small, "--mtu", str(SMALL)]])
        assert ping(hosts[0], INNER4[1]) == 3
        assert f"mtu = {SMALL}" in said(hosts[0], "-M", "do", "-s", str(SMALL - 28 + 8), "-c", "1", INNER4[1])
        assert f"mtu={SMALL}" in said(hosts[0], "-M", "do", "-s", str(SMALL - 48 + 8), "-c", "1", INNER6[1])
        hosts[0].run(["ip", "route", "flush", "cache"])
        assert " 1 received" in said(hosts[0], "-M", "dont", "-s", "1472", "-c", "1", INNER4[1])
        assert [end.stop() for end in ends] == [0, 0]


def test_addresses_of_a_pool_are_routed_to_who_has_them() -> None:
    with Lab() as lab:
        hosts = [lab.host(name, private=["/run"]) for name in ("hub", "alice", "bob")]
        hub, *clients = hosts
        private = [os.urandom(32) for _ in hosts]
        public = [base64.b64encode(public_key(key)).decode() for key in private]
        for host, key in zip(hosts, private, strict=True):
            write(host, "/run/key", base64.b64encode(key).decode() + "\n")
        common = ["--mode", "tun", "--dev", "tun0", "--key", "/run/key", "--negotiation", "server"]
        pool = ["--pool-network", "10.88.0.0/24", "--pool-network", "fd88::/64"]
        peers = [*("--peer", f"{public[1]},name=alice,allowed=10.1.0.0/24"), *("--peer", f"{public[2]},name=bob")]
        hub_end = End(hub, *common, "--listen", ":4500", *pool, *peers)
        hub_end.wait_for("start")
        for number, client in enumerate(clients):
            lab.link(hub, client, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
            End(client, *common, "--connect", f"10.99.{number}.1:4500", "--peer", public[0])
        hub_end.wait_for("negotiation.applied", 2)
        found = routes(hub)
        given = {row["peer"]: prefix for prefix, row in found.items() if prefix.endswith("/32") and row["peer"]}
        for address in ("10.88.0.1", given["bob"].removesuffix("/32")):
            assert ping(clients[0], address) == 3
        assert found["10.1.0.0/24"]["peer"] == "alice"
