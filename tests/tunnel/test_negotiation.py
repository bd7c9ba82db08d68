"""Two ends that must be set alike, and a server that tells its clients: addresses, routes, changes, refusals."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import caetun
from caetun.lab import Host, Lab
from caetun.session.identity import public_key
from tests.tunnel.ends import End, await_ping, device_arguments, endpoint, ping, secret_arguments, two_hosts, write
from tests.tunnel.picture import SERVER4, own_etc

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

HUB = """
mode = "tap"
dev = "tap0"
listen = ":4500"
transport = "udp,tcp"
key = "key"
negotiation = "server"
{more}
[pool]
network = ["10.88.0.0/24", "fd88::/64"]
reserved = ["10.88.0.2-10.88.0.9", "bob=10.88.0.50"]
[push]
route = [{routes}]
dns = "10.88.0.1"
"""


@dataclass
class Network:
    """A hub and two clients, alice by UDP and bob by TCP."""

    lab: Lab
    hub: Host
    clients: dict[str, Host]
    private: dict[str, bytes]
    ends: dict[str, End] = field(default_factory=dict)

    def configure(self, routes: str = '"10.50.0.0/16"', more: str = "") -> None:
        """Write the hub's file."""
        peers = ", ".join(f'"{self.public(name)},name={name}"' for name in self.clients)
        write(self.hub, "/run/hub.toml", HUB.format(routes=routes, more=f"peer = [{peers}]\n{more}"))

    def public(self, name: str) -> str:
        return base64.b64encode(public_key(self.private[name])).decode()

    def start_hub(self) -> End:
        end = self.ends["hub"] = End(self.hub, "--config", "/run/hub.toml")
        end.wait_for("start")
        return end

    def start(self, name: str, *more: str) -> End:
        number, carrier = {"alice": (0, "udp"), "bob": (1, "tcp")}[name]
        where = ["--connect", f"{carrier}://10.99.{number}.1:4500", "--key", "/run/key", "--peer", self.public("hub")]
        end = End(self.clients[name], "--mode", "tap", "--dev", "tap0", "--negotiation", "server", *where, *more)
        self.ends[name] = end
        return end

    def stop(self) -> None:
        for end in self.ends.values():
            if end.process.poll() is None:
                assert end.stop() == 0, end.said()


@pytest.fixture
def network() -> Iterator[Network]:
    with Lab() as lab:
        hub = lab.host("hub", private=["/run"])
        clients = {name: lab.host(name, private=["/run"]) for name in ("alice", "bob")}
        private = {name: os.urandom(32) for name in ("hub", *clients)}
        for number, (name, host) in enumerate(clients.items()):
            lab.link(hub, host, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
            own_etc(host)
            write(host, "/run/key", base64.b64encode(private[name]).decode() + "\n")
        write(hub, "/run/key", base64.b64encode(private["hub"]).decode() + "\n")
        made = Network(lab, hub, clients, private)
        made.configure()
        yield made
        made.stop()


def addresses(host: Host) -> set[str]:
    """Of tap0, but link-local ones."""
    shown = json.loads(host.run(["ip", "-j", "address", "show", "dev", "tap0"]))
    return {
        f"{each['local']}/{each['prefixlen']}" for each in shown[0]["addr_info"] if not each["local"].startswith("fe80")
    }


def routes(host: Host) -> set[str]:
    """Of ours by tap0."""
    return {each["dst"] for each in json.loads(host.run(["ip", "-j", "route", "show", "dev", "tap0", "proto", "16"]))}


def show(host: Host, what: str) -> list[dict[str, Any]]:
    """What `caetun show WHAT --json` tells."""
    process = host.spawn(
        [sys.executable, "-m", "caetun", "show", what, "--json"],
        stdout=subprocess.PIPE,
        environment={"PYTHONPATH": str(Path(caetun.__file__).parents[1]), "RUNTIME_DIRECTORY": "/run/caetun"},
    )
    rows: list[dict[str, Any]] = json.loads(process.communicate(timeout=20)[0])
    return rows


# a server and its clients


def test_clients_by_different_carriers_are_told_and_changes_reach_them_without_a_reconnect(network: Network) -> None:
    network.configure(more='compress = "zstd,lz4"')
    hub = network.start_hub()
    alice = network.start("alice")
    alice.wait_for("negotiation.configured")
    bob = network.start("bob", "--pull-filter", "ignore route 10.5", "--compress", "none")
    bob.wait_for("negotiation.configured")
    assert addresses(network.hub) == {"10.88.0.1/24", "fd88::1/64"}, "the server takes the first address itself"
    assert addresses(network.clients["alice"]) == {"10.88.0.10/24", "fd88::2/64"}
    assert "10.88.0.50/24" in addresses(network.clients["bob"]), "reserved for bob"
    assert (routes(network.clients["alice"]), routes(network.clients["bob"])) == ({"10.50.0.0/16"}, set())
    hub.wait_for("negotiation.applied", 2)
    assert any(
        "bob is configured" in event["message"] and "left out: route 10.50" in event["message"]
        for event in hub.events("negotiation.applied")
    )
    for inner in ("10.88.0.1", "10.88.0.50", "fd88::1"):
        await_ping(network.clients["alice"], inner)
    # alice was set to no compression by nobody, bob by himself
    network.clients["alice"].run(["ping", "-q", "-c", "2", "-i", "0.01", "-s", "1400", "10.88.0.1"])
    for host in (network.hub, network.clients["alice"]):
        assert show(host, "peers")[0]["compression"].startswith("zstd, ")
    assert ", compression zstd,lz4" in bob.events("negotiation.configured")[0]["message"]
    assert show(network.clients["bob"], "peers")[0]["compression"] == ""
    leases = {row["address"]: row["peer"] for row in show(network.hub, "leases")}
    assert leases["10.88.0.10"] == "alice"
    assert leases["10.88.0.50"] == "bob"
    told = {row["setting"]: row["value"] for row in show(network.clients["alice"], "config") if row["from"] == "pushed"}
    assert (told["dns"], told["keepalive"]) == ("10.88.0.1", "10")
    for row in show(network.hub, "config"):
        assert "PeerRef" not in row["value"]

    network.configure('"10.51.0.0/16", "10.52.0.0/16"', "mtu = 1400\nkeepalive = 5")
    hub.process.send_signal(signal.SIGHUP)
    for end in (alice, bob):
        end.wait_for("negotiation.configured", 2)
    (pushed,) = hub.events("negotiation.pushed")
    changed = alice.events("negotiation.configured")[-1]["message"]
    assert changed == (
        "changed by peer: + route 10.51.0.0/16, + route 10.52.0.0/16, mtu 1500 -> 1400, keepalive 10 -> 5, "
        "- route 10.50.0.0/16"
    )
    assert pushed["message"] == changed.replace("changed by peer", "pushed to 2 clients")
    assert routes(network.clients["alice"]) == {"10.51.0.0/16", "10.52.0.0/16"}
    for host in (network.hub, *network.clients.values()):
        assert "mtu 1400 " in host.run(["ip", "link", "show", "dev", "tap0"])
    assert ping(network.clients["bob"], "10.88.0.10", size=1300) == 3
    assert alice.stop() == 0
    assert SERVER4 in network.clients["alice"].run(["cat", "/etc/resolv.conf"]), "as before"
    for end in (hub, bob):
        assert len(end.events("peer.up")) == (2 if end is hub else 1), "nobody has connected again"
    assert not bob.events("peer.down")


def test_a_hub_that_was_killed_gives_the_same_addresses_again(network: Network) -> None:
    hub = network.start_hub()
    bob = network.start("bob")
    bob.wait_for("negotiation.configured")
    alice = network.start("alice")
    alice.wait_for("negotiation.configured")
    before = {name: addresses(host) for name, host in network.clients.items()}
    alice.stop()
    hub.stop(signal.SIGKILL)
    hub = network.start_hub()
    alice = network.start("alice")
    alice.wait_for("negotiation.configured")
    hub.wait_for("negotiation.applied", 2, seconds=60)
    assert {name: addresses(host) for name, host in network.clients.items()} == before
    await_ping(network.clients["alice"], "10.88.0.50")
    assert len(bob.events("negotiation.configured")) == 1, "nothing has changed for it"


def test_a_client_whose_filter_rejects_what_is_assigned_says_so_and_stops(network: Network) -> None:
    hub = network.start_hub()
    alice = network.start("alice", "--pull-filter", "accept route 10.50.", "--pull-filter", "reject dns")
    status, said = alice.ended()
    assert status == 3
    words = "caetun: --pull-filter: rejects what peer assigns (dns 10.88.0.1): ask there, or change it"
    assert said.splitlines()[-1] == words
    told = hub.wait_for("negotiation.refused")["message"]
    assert told == "alice refuses: its pull filter rejects dns 10.88.0.1"


def test_an_exhausted_pool_is_named_to_both_and_asked_again_until_there_is_an_address(network: Network) -> None:
    text = network.hub.run(["cat", "/run/hub.toml"]).replace('"10.88.0.0/24"', '"10.88.0.0/29"')
    full = text.replace('"10.88.0.2-10.88.0.9", "bob=10.88.0.50"', '"10.88.0.3-10.88.0.6"')
    write(network.hub, "/run/hub.toml", full)
    hub = network.start_hub()
    network.start("bob").wait_for("negotiation.configured")
    alice = network.start("alice")
    why = (
        "the address pool 10.88.0.0/29 is exhausted: 1 leases, none unused for long enough: enlarge pool-network, or "
        "shorten pool-lease"
    )
    told = alice.wait_for("negotiation.refused")["message"]
    assert told == f"peer assigns nothing: {why}: asking again in 2 s"
    assert hub.wait_for("pool.failed")["message"] == f"no address for alice: {why}"
    write(network.hub, "/run/hub.toml", full.replace("10.88.0.3-", "10.88.0.4-"))
    hub.process.send_signal(signal.SIGHUP)
    alice.wait_for("negotiation.configured")
    assert "10.88.0.3/29" in addresses(network.clients["alice"])


def test_a_client_waits_until_its_hub_is_set_right(network: Network) -> None:
    """An administrator's slip does not end clients that nobody sits at."""
    text = network.hub.run(["cat", "/run/hub.toml"])
    pool = text.index("[pool]")
    wrong = text[:pool].replace('negotiation = "server"', 'address = "10.88.0.1/24"')
    write(network.hub, "/run/hub.toml", wrong)
    hub = network.start_hub()
    alice = network.start("alice", "--keepalive", "1")
    told = alice.wait_for("negotiation.waiting")["message"]
    assert told == "peer assigns nothing as it is set now: waiting until it is started again with other settings"
    assert [each["message"].split() for each in alice.events("negotiation.differs")][1] == [
        *("negotiation", "server", "off")
    ]
    assert hub.stop() == 0
    write(network.hub, "/run/hub.toml", text)
    network.start_hub()
    alice.wait_for("negotiation.configured")
    await_ping(network.clients["alice"], "10.88.0.1")


def test_two_clients_with_one_key_are_told_of_at_the_hub_and_at_home(network: Network) -> None:
    """Bob was set up as a copy of alice."""
    hub = network.start_hub()
    network.private["bob"] = network.private["alice"]
    write(network.clients["bob"], "/run/key", network.clients["alice"].run(["cat", "/run/key"]))
    ends: list[End] = []
    for name in ("alice", "bob"):
        ends.append(network.start(name, "--keepalive", "1"))
        ends[-1].wait_for("negotiation.configured")
    told = hub.wait_for("peer.doubled", seconds=60)
    assert (told["peer"], told["level"]) == ("alice", "warning")
    assert told["message"] == (
        "two far ends use one key, by turns, and neither gets far: give each a key of its own (caetun genkey)"
    )
    for end in ends:
        told = end.wait_for("peer.doubled", seconds=60)
        assert told["message"] == (
            "another host uses the key of this one, by turns, and neither gets far: "
            "give each a key of its own (caetun genkey)"
        )


def test_what_a_client_has_set_itself_wins_and_nothing_is_left_on_a_device_that_stays(network: Network) -> None:
    network.configure(more="mtu = 1400")
    network.start_hub()
    host = network.clients["alice"]
    host.run(["ip", "tuntap", "add", "dev", "tap0", "mode", "tap"])
    before = host.run(["ip", "-o", "address", "show", "dev", "tap0"])
    alice = network.start("alice", "--mtu", "1300")
    told = alice.wait_for("negotiation.configured")["message"]
    assert "left out: mtu 1400" in told
    assert "mtu 1300 " in host.run(["ip", "link", "show", "dev", "tap0"])
    assert routes(host) == {"10.50.0.0/16"}
    alice.stop(signal.SIGKILL)
    assert "10.88.0.10/24" in addresses(host), "SIGKILL leaves it"
    again = network.start("alice")
    assert "10.88.0.10/24" in again.wait_for("device.repaired")["message"]
    again.wait_for("negotiation.configured")
    assert again.stop() == 0
    assert routes(host) == set()
    assert addresses(host) == set()
    assert "10.88" not in before


# two ends alike


def symmetric(hosts: tuple[Host, Host], *more: tuple[str, ...]) -> list[End]:
    keys = secret_arguments(hosts)
    where = [["--listen", endpoint("10.99.0.1")], ["--connect", endpoint("10.99.0.1")]]
    return [
        End(host, *where[number], *device_arguments(number), *keys[number], *more[number])
        for number, host in enumerate(hosts)
    ]


def test_two_ends_that_are_set_alike_work() -> None:
    with Lab() as lab:
        hosts = two_hosts(lab)
        ends = symmetric(hosts, *[("--negotiation", "symmetric", "--mtu", "1400")] * 2)
        for end in ends:
            end.wait_for("negotiation.agreed")
        await_ping(hosts[0], "10.88.0.2")
        assert [end.stop() for end in ends] == [0, 0]


def test_two_ends_that_are_not_both_say_what_differs_side_by_side_and_stop() -> None:
    with Lab() as lab:
        hosts = two_hosts(lab)
        base = ("--negotiation", "symmetric")
        ends = symmetric(hosts, (*base, "--mtu", "1400", "--compress", "zstd"), (*base, "--no-offload"))
        for end, (here, packed), (there, bare) in zip(
            ends, (("1400", "zstd"), ("1500", "none")), (("1500", "none"), ("1400", "zstd")), strict=True
        ):
            status, said = end.ended()
            assert status == 3, said
            lines = [json.loads(line)["message"] for line in said.splitlines() if '"negotiation.differs"' in line]
            assert lines[0].split() == ["setting", "here", "there"]
            assert lines[1].split() == ["mtu", here, there]
            assert lines[2].split() == ["compression", packed, bare]
            assert lines[3].startswith("features")
            offers = ("offload post-quantum", "post-quantum")
            mine, theirs = offers if packed == "zstd" else offers[::-1]
            assert said.splitlines()[-1] == (
                f"caetun: --negotiation: the two ends are not set alike: mtu {here} here, {there} there; "
                f"compression {packed} here, {bare} there; features {mine} here, {theirs} there: change one of them"
            )


@pytest.mark.parametrize(
    ("mine", "theirs", "what"),
    [
        (("--mode", "tun"), ("--mode", "tap", "--dev", "tap0", "--negotiation", "symmetric"), "mode"),
        ((), ("--negotiation", "off"), "negotiation"),
        ((), ("--negotiation", "server"), "negotiation"),
    ],
)
def test_other_ways_not_to_be_alike(mine: tuple[str, ...], theirs: tuple[str, ...], what: str) -> None:
    with Lab() as lab:
        hosts = two_hosts(lab)
        one, other = symmetric(hosts, ("--negotiation", "symmetric", *mine), theirs)
        status, said = one.ended()
        assert status == 3, said
        assert f"the two ends are not set alike: {what} " in said
        if "symmetric" in theirs:
            assert other.ended()[0] == 3
        else:
            assert other.stop() == 0


def test_a_tunnel_that_negotiates_nothing_is_left_alone() -> None:
    with Lab() as lab:
        hosts = two_hosts(lab)
        ends = symmetric(hosts, (), ())
        await_ping(hosts[0], "10.88.0.2")
        for end in ends:
            assert end.troubles() == []
            assert not {reason for reason in end.drops() if reason.startswith("channel.")}
        assert [end.stop() for end in ends] == [0, 0]
