"""Changes of a real host, a network namespace: made, made again, exchanged, undone, handed from tunnel to tunnel."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TypeVar

import pytest

from caetun.errors import HostError, NetworkError
from caetun.gateway import preflight, repair
from caetun.gateway.changes import Route, Rule, Ruleset, Sysctl
from caetun.gateway.executor import Executor
from caetun.gateway.journal import Journal
from caetun.gateway.plan import TABLE, Facts, Wish, plan
from caetun.gateway.steward import Steward
from caetun.lab import Host, Lab
from tests.tunnel.picture import Before, state

pytestmark = pytest.mark.needs("namespaces", "tun", "firewall")

_T = TypeVar("_T")
FORWARD = Sysctl("net/ipv4/ip_forward", "1", ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects"))
EVERYTHING = Wish("tun0", (ip_interface("10.8.0.1/24"), ip_interface("fd88::1/64")), gateway=True, masquerade=True)


@pytest.fixture
def host(lab: Lab) -> Host:
    """A host with a cable and a device called tun0."""
    host, other = lab.host("host", private=["/run"]), lab.host("other")
    lab.link(host, other, left=["10.1.1.1/24"], right=["10.1.1.2/24"])
    host.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tun"])
    host.run(["ip", "address", "add", "10.8.0.1/24", "dev", "tun0"])
    host.run(["ip", "link", "set", "tun0", "up"])
    return host


def journal(device: str = "tun0") -> Journal:
    """A claimed journal in the host's own /run."""
    found = Journal(Path("/run/caetun"), device)
    assert found.claim()
    return found


def executed(host: Host, work: Callable[[Executor], _T], device: str = "tun0") -> _T:
    """Call it in the host with an executor, as a process of its own would."""

    def inside() -> _T:
        claimed = journal(device)
        try:
            return work(Executor(claimed))
        finally:
            claimed.release()

    return host.inside(inside)


def test_all_of_it_comes_and_goes(host: Host) -> None:
    before = Before(host)
    changes = plan(EVERYTHING, Facts(routers_heard=("eth0",)))
    executed(host, lambda executor: executor.update(changes))
    there, now = Before(host), state(host)
    assert executed(host, lambda executor: executor.made()) == changes
    assert "lookup 51943" in now["ip rule"]
    assert "masquerade" in now["nft list ruleset"]
    assert now["/proc/sys/net/ipv6/conf/eth0/accept_ra"] == "2\n"
    # once more is no more
    executed(host, lambda executor: executor.update(changes))
    assert there.differences() == {}
    undone = executed(host, lambda executor: executor.undo())
    assert len(undone.lines) == len(changes)
    assert undone.problems == []
    assert before.differences() == {}
    assert executed(host, lambda executor: executor.undo()).lines == []


@pytest.mark.parametrize("after", range(6))
def test_wherever_it_was_killed_it_can_be_undone(host: Host, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """In the state file, but not on the host: that is what a kill in between leaves."""
    before = Before(host)
    changes = [plan(EVERYTHING, Facts())[at] for at in (0, 1, 2, 3, 4, -1)]
    executed(host, lambda executor: executor.update(changes[:after]))
    monkeypatch.setattr("caetun.gateway.executor._apply", lambda change: None)
    executed(host, lambda executor: executor.update(changes[: after + 1]))
    assert executed(host, lambda executor: executor.undo()).problems == []
    assert before.differences() == {}


def test_what_somebody_else_has_undone_is_no_problem(host: Host) -> None:
    executed(host, lambda executor: executor.update(plan(EVERYTHING, Facts())))
    host.run(["nft", "flush", "ruleset"])
    host.run(["ip", "link", "delete", "tun0"])
    host.run(["ip", "rule", "delete", "priority", "31903"])
    host.set("net.ipv4.ip_forward", 0)
    undone = executed(host, lambda executor: executor.undo())
    assert undone.problems == []
    assert not any("nftables" in line or "ip_forward" in line for line in undone.lines)


def test_what_somebody_else_has_changed_stays(host: Host) -> None:
    change = Sysctl("net/ipv4/conf/eth0/rp_filter", "2")
    executed(host, lambda executor: executor.update([change]))
    assert host.get("net.ipv4.conf.eth0.rp_filter") == "2"
    host.set("net.ipv4.conf.eth0.rp_filter", 1)
    assert executed(host, lambda executor: executor.undo()).lines == []
    assert host.get("net.ipv4.conf.eth0.rp_filter") == "1"


def test_interfaces_that_forwarded_before_still_do(host: Host) -> None:
    host.set("net.ipv4.conf.eth0.forwarding", 1)
    before = Before(host)
    executed(host, lambda executor: executor.update([FORWARD]))
    executed(host, lambda executor: executor.undo())
    assert before.differences() == {}


@pytest.mark.parametrize("first", ["tun0", "tun1"])
def test_two_tunnels_forward_and_the_last_one_switches_it_off(host: Host, first: str) -> None:
    before = Before(host)
    last = "tun1" if first == "tun0" else "tun0"
    for device in ("tun0", "tun1"):
        executed(host, lambda executor: executor.update([FORWARD]), device)
    executed(host, lambda executor: executor.undo(), first)
    assert host.get("net.ipv4.ip_forward") == "1"
    executed(host, lambda executor: executor.undo(), last)
    assert before.differences() == {}


def test_a_plan_is_exchanged_for_another(host: Host) -> None:
    before = Before(host)
    executed(host, lambda executor: executor.update(plan(EVERYTHING, Facts())))
    fewer = [Ruleset("inet caetun_tun0", " chain other { }\n"), Route("10.20.0.0/16", TABLE, "tun0")]
    executed(host, lambda executor: executor.update(fewer))
    assert set(executed(host, lambda executor: executor.made())) == set(fewer)
    assert host.run(["ip", "route", "show", "table", str(TABLE)]).split() == [
        *("10.20.0.0/16", "dev", "tun0", "proto", "static", "linkdown")
    ]
    assert "masquerade" not in host.run(["nft", "list", "ruleset"])
    executed(host, lambda executor: executor.undo())
    assert before.differences() == {}


def test_one_next_hop_for_another(host: Host) -> None:
    for hop in ("10.8.0.2", "10.8.0.3"):
        executed(host, lambda executor, hop=hop: executor.update([Route("0.0.0.0/0", TABLE, "tun0", hop)]))
        assert f"default via {hop}" in host.run(["ip", "route", "show", "table", str(TABLE)])
    assert len(executed(host, lambda executor: executor.undo()).lines) == 1


def test_what_was_done_before_a_refusal_is_undone(host: Host) -> None:
    before = Before(host)
    changes = [Rule(4, 31903, TABLE), Ruleset("inet caetun_tun0", " chain broken { this is no rule }\n")]
    with pytest.raises(NetworkError, match="nftables table inet caetun_tun0: nft refuses it: syntax error"):
        executed(host, lambda executor: executor.update(changes))
    assert executed(host, lambda executor: executor.undo()).problems == []
    assert before.differences() == {}


# run-time changes


def test_routes_and_name_servers_come_and_go_while_it_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a far end may tell: the interface for it."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/caetun")
    host.run(
        [
            "sh",
            "-c",
            "cp -a /etc /run/etc 2>/dev/null; mount --bind /run/etc /etc; echo nameserver 10.1.1.2 > /etc/resolv.conf",
        ]
    )
    before = Before(host)

    def work() -> None:
        steward = Steward(Wish("tun0", routes=(ip_network("10.20.0.0/16"),)))
        assert steward.mark
        steward.check()
        steward.start("tun0", [ip_interface("10.8.0.1/24")])
        assert leads("10.20.1.1") == "tun0"
        steward.change(
            routes=[ip_network("10.30.0.0/16")], servers=[ip_address("10.30.0.53")], domains=["corp.example"]
        )
        assert (leads("10.20.1.1"), leads("10.30.1.1")) == ("", "tun0")
        text = Path("/etc/resolv.conf").read_text()
        assert "nameserver 10.30.0.53\nsearch corp.example\n" in text
        steward.change(servers=[])
        assert Path("/etc/resolv.conf").read_text() == "nameserver 10.1.1.2\n"
        assert leads("10.30.1.1") == "tun0"
        steward.refresh()
        steward.close()
        steward.close()

    def leads(address: str) -> str:
        from caetun.gateway.kernel import leads_to

        return leads_to(address)

    host.inside(work)
    assert before.differences() == {}


# before anything is changed


def test_a_table_of_somebody_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/caetun")
    host.run(["ip", "route", "add", "10.77.0.0/16", "via", "10.1.1.2", "table", str(TABLE)])
    before = Before(host)

    def work() -> None:
        steward = Steward(Wish("tun0", gateway=True))
        steward.check()
        try:
            with pytest.raises(NetworkError, match="routing table 51943 has routes that are not ours"):
                steward.start("tun0", [ip_interface("10.8.0.1/24")])
        finally:
            steward.close()

    host.inside(work)
    assert before.differences() == {}


def test_without_nft(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caetun.gateway.kernel.find_nft", lambda: None)

    def work() -> None:
        with pytest.raises(HostError, match="the program `nft` is not installed: install the package nftables"):
            Steward(Wish("tun0", (ip_interface("10.8.0.1/24"),), masquerade=True)).check()

    host.inside(work)


def test_a_firewall_that_drops_is_named(host: Host) -> None:
    host.run(
        [
            "nft",
            "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
        ]
    )
    (line,) = host.inside(lambda: preflight.firewalls_in_the_way("tun0"))
    assert "chain ip filter FORWARD drops" in line
    for command in line.partition("let the tunnel through: ")[2].split("; "):
        host.run(["sh", "-c", command])


# left behind


def test_changes_of_another_network_are_not_undone_here(host: Host, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/caetun")
    executed(host, lambda executor: executor.update([FORWARD]))
    path = Path("/run/caetun/tun0.undo")
    text = host.inside(path.read_text)
    other = lab.host("other network", private=["/run"])

    def elsewhere() -> repair.Repaired:
        path.parent.mkdir()
        path.write_text(text)
        return repair.repair("tun0")

    repaired = other.inside(elsewhere)
    assert repaired.lines == []

    def start() -> None:
        with pytest.raises(NetworkError, match="holds changes of another network namespace"):
            Steward(Wish("tun0", masquerade=True)).start("tun0", [ip_interface("10.8.0.1/24")])

    other.inside(start)
    assert other.inside(path.read_text) == text
    assert "another network namespace" in repaired.problems[0]
