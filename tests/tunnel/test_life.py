"""How a tunnel begins, what it is told while it runs, and what is left when it ends."""

from __future__ import annotations

import signal
import time
from typing import Final

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.ends import (
    INNER4,
    OUTER4,
    PATIENCE,
    PORT,
    End,
    await_ping,
    device_arguments,
    devices,
    endpoint,
    key_arguments,
    ping,
    secret_arguments,
    start,
    tunnel_arguments,
    two_hosts,
    write,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

# fixed by the specification: RFC 3849, RFC 6761
_NOBODY6: Final = "2001:db8:99::77"
_NAME: Final = "far.example"

# chosen by us
_NOBODY4: Final = "10.99.0.77"
_AT_ONCE: Final = 3.0
"""Seconds: more than a busy machine takes to end a process, less than a look-up lasts that nobody answers."""
_SOON: Final = "1"
"""Seconds of --keepalive where a test waits for a far end to be missed."""


# the beginning


@pytest.mark.parametrize("first", [0, 1], ids=["who listens", "who connects"])
def test_either_side_may_be_first(lab: Lab, first: int) -> None:
    hosts = two_hosts(lab)
    arguments = tunnel_arguments(hosts)
    early = End(hosts[first], *arguments[first])
    early.wait_for("start")
    late = End(hosts[1 - first], *arguments[1 - first])
    for end in (early, late):
        end.wait_for("peer.up")
    assert ping(hosts[0], INNER4[1]) == 3


def with_names(host: Host, names: str) -> None:
    """Let a host know some names, and no others."""
    write(host, "/run/hosts", names, mode=0o644)
    host.run(["mount", "--bind", "/run/hosts", "/etc/hosts"])


def test_a_name_is_looked_up_and_all_its_addresses_are_tried(lab: Lab) -> None:
    hosts = two_hosts(lab)
    # RFC 6724 prefers the IPv6 address, where nobody lives
    with_names(hosts[1], f"{_NOBODY6} {_NAME}\n{OUTER4[0]} {_NAME}\n")
    listening, connecting = tunnel_arguments(hosts)
    connecting[1] = f"{_NAME}:{PORT}"
    _, other = start(hosts, [listening, connecting])
    assert other.events("peer.up")[0]["link"] == f"udp {OUTER4[0]}:{PORT}"
    assert ping(hosts[1], INNER4[0]) == 3


def test_all_remotes_are_tried(lab: Lab) -> None:
    hosts = two_hosts(lab)
    listening, connecting = tunnel_arguments(hosts)
    _, other = start(hosts, [listening, ["--connect", endpoint(_NOBODY4), *connecting]])
    assert other.events("peer.up")[0]["link"] == f"udp {OUTER4[0]}:{PORT}"


def test_a_name_that_nobody_knows_is_told_and_looked_up_again(lab: Lab) -> None:
    hosts = two_hosts(lab)
    with_names(hosts[1], "")
    connecting = ["--connect", f"{_NAME}:{PORT}", *device_arguments(1), *secret_arguments(hosts)[1]]
    other = End(hosts[1], *connecting)
    assert f"{_NAME}:{PORT}: name not found" in other.wait_for("ladder")["message"]
    assert other.stop() == 0


# restarts


@pytest.mark.parametrize(
    ("which", "number"),
    [(0, signal.SIGTERM), (0, signal.SIGKILL), (1, signal.SIGTERM), (1, signal.SIGKILL)],
    ids=["who listens", "who listens, killed", "who connects", "who connects, killed"],
)
def test_an_end_that_was_restarted_is_found_again(lab: Lab, which: int, number: signal.Signals) -> None:
    hosts = two_hosts(lab)
    arguments = [[*each, "--keepalive", _SOON] for each in tunnel_arguments(hosts)]
    ends = start(hosts, arguments)
    assert ends[which].stop(number) == (0 if number is signal.SIGTERM else -number)
    again = End(hosts[which], *arguments[which])
    # what is sent and not answered is how the other end notices
    await_ping(hosts[1 - which], INNER4[which])
    again.wait_for("peer.up")
    assert ends[1 - which].process.poll() is None


# the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it_and_nothing_is_left(lab: Lab, number: signal.Signals) -> None:
    hosts = two_hosts(lab)
    arguments = tunnel_arguments(hosts, "tap")
    one, other = start(hosts, arguments)
    assert devices(hosts[0]) == {"tap0"}
    assert one.stop(number) == (-number if number is signal.SIGKILL else 0)
    assert devices(hosts[0]) == set()
    routes = hosts[0].run(["ip", "route", "show", "table", "all"])
    assert OUTER4[0] in routes
    assert INNER4[0] not in routes
    if number is not signal.SIGKILL:
        assert other.wait_for("peer.down")["message"] == "down: closed by the far end"
    # name and port are free again
    End(hosts[0], *arguments[0]).wait_for("start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("flags", "mtu"), [([], 1400), (["--mtu", "1300"], 1300)], ids=["as it is", "another MTU"])
def test_a_device_that_was_there_before_stays(lab: Lab, number: signal.Signals, flags: list[str], mtu: int) -> None:
    hosts = two_hosts(lab)
    hosts[0].run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tun"])
    hosts[0].run(["ip", "address", "add", f"{INNER4[0]}/24", "dev", "tun0"])
    hosts[0].run(["ip", "link", "set", "tun0", "mtu", "1400", "up"])
    keys = secret_arguments(hosts)
    listening = ["--listen", endpoint(OUTER4[0]), "--dev", "tun0", *keys[0], *flags]
    connecting = ["--connect", endpoint(OUTER4[0]), *device_arguments(1), *keys[1]]
    one, _ = start(hosts, [listening, connecting])
    assert ping(hosts[1], INNER4[0]) == 3
    assert f"MTU {mtu})" in one.events("start")[0]["message"]
    one.stop(number)
    shown = hosts[0].run(["ip", "address", "show", "dev", "tun0", "up"])
    assert f"inet {INNER4[0]}/24 " in shown
    assert f"mtu {mtu if number is signal.SIGKILL else 1400} " in shown


def test_a_signal_that_comes_at_once_is_not_lost(lab: Lab) -> None:
    hosts = two_hosts(lab)
    one = End(hosts[0], *tunnel_arguments(hosts)[0])
    one.wait_for("start")
    assert one.stop() == 0
    assert devices(hosts[0]) == set()


def test_a_dead_resolver_does_not_hold_up_the_end(lab: Lab) -> None:
    hosts = two_hosts(lab)
    # where nobody lives, as the neighbour that is named cannot know
    hosts[1].run(["ip", "neighbour", "replace", _NOBODY4, "lladdr", "02:00:00:00:00:77", "dev", "eth0"])
    for path, text in (("/etc/resolv.conf", f"nameserver {_NOBODY4}\n"), ("/etc/hosts", "")):
        write(hosts[1], f"/run/{path[5:]}", text, mode=0o644)
        hosts[1].run(["mount", "--bind", f"/run/{path[5:]}", path])
    connecting = ["--connect", f"{_NAME}:{PORT}", *device_arguments(1), *secret_arguments(hosts)[1]]
    other = End(hosts[1], *connecting)
    other.wait_for("start")
    began = time.monotonic()
    assert other.stop() == 0
    assert time.monotonic() - began < _AT_ONCE, "the C library asks for ten seconds"
    assert [event["event"] for event in other.events()] == ["start"], "it had no answer yet"


def test_the_device_vanishing_ends_it_with_a_reason(lab: Lab) -> None:
    hosts = two_hosts(lab)
    one, _ = start(hosts, tunnel_arguments(hosts))
    hosts[0].run(["ip", "link", "delete", "tun0"])
    status, said = one.ended()
    assert status == 4
    assert said.rstrip().rpartition("\n")[2].startswith("caetun: tun0: cannot be read any more: ")


# while it runs


def test_sigusr1_prints_counters_and_verbose_prints_them_at_the_end(lab: Lab) -> None:
    hosts = two_hosts(lab)
    listening, connecting = tunnel_arguments(hosts)
    one, other = start(hosts, [[*listening, "-v"], connecting])
    before = one.counters()
    assert ping(hosts[0], INNER4[1], count=5) == 5
    after = one.counters()
    for direction in ("out", "in"):
        assert after[f"frames_{direction}"] - before[f"frames_{direction}"] >= 5
        assert after[f"bytes_{direction}"] - before[f"bytes_{direction}"] >= 5 * 84
    assert (one.stop(), other.stop()) == (0, 0)
    assert one.events()[-1]["event"] == "counters", "-v"
    assert other.events("counters") == []


def test_sighup_reads_the_configuration_again(lab: Lab) -> None:
    hosts = two_hosts(lab)
    listening, connecting = tunnel_arguments(hosts)
    write(hosts[0], "/run/caetun.toml", 'log-level = "warning"\nspan = 4\n')
    one = End(hosts[0], *listening, "--config", "/run/caetun.toml")
    other = End(hosts[1], *connecting)
    other.wait_for("peer.up")
    assert one.events("start", "peer.up") == [], "less than a warning"
    write(hosts[0], "/run/caetun.toml", 'log-level = "info"\nspan = 16\n')
    one.process.send_signal(signal.SIGHUP)
    message = one.wait_for("reload")["message"]
    assert message == "configuration read again: changed log-level; needs a restart: span"
    write(hosts[0], "/run/caetun.toml", "log-level = 5\n")
    one.process.send_signal(signal.SIGHUP)
    assert "log-level" in one.wait_for("reload.failed")["message"]
    assert ping(hosts[0], INNER4[1]) == 3, "a bad file does no harm"
    other.process.send_signal(signal.SIGHUP)
    assert (
        other.wait_for("reload")["message"] == "no configuration file was given (--config): no settings to read again"
    )


def test_flags_win_over_the_file_and_the_file_over_defaults(lab: Lab) -> None:
    hosts = two_hosts(lab)
    secret = secret_arguments(hosts)[0][1]
    write(
        hosts[0],
        "/run/caetun.toml",
        f'listen = ":{PORT}"\nmode = "tap"\ndev = "file0"\nmtu = 1400\naddress = ["10.1.1.1/24"]\n'
        f'secret-file = "{secret.rpartition("/")[2]}"\n',
    )
    end = End(hosts[0], "--config", "/run/caetun.toml", "--mtu", "1300", "--address", "10.2.2.2/24")
    end.wait_for("start")
    shown = hosts[0].run(["ip", "address", "show", "dev", "file0"])
    assert "link/ether" in shown
    assert "mtu 1300 " in shown
    assert "10.2.2.2/24" in shown
    assert "10.1.1.1" not in shown


def test_keys_are_renewed_without_a_gap(lab: Lab) -> None:
    hosts = two_hosts(lab)
    one, other = start(hosts, [[*each, "--rekey-after", "1"] for each in tunnel_arguments(hosts)])
    began = time.monotonic()
    assert ping(hosts[1], INNER4[0], count=300, interval=0.01) == 300
    assert 3 < time.monotonic() - began < PATIENCE
    for end in (one, other):
        assert not end.events("peer.down")
        assert end.drops().keys() <= {"peer.no-session", "handshake.unexpected"}


def test_an_ethernet_device_keeps_its_address_over_restarts_if_there_is_a_key(lab: Lab) -> None:
    """Neighbours would go on sending to the former one."""
    hosts = two_hosts(lab)
    arguments = tunnel_arguments(hosts, "tap", keys=key_arguments)
    seen: list[list[str]] = []
    for _ in range(2):
        ends = start(hosts, arguments)
        await_ping(hosts[1], INNER4[0])
        seen.append([host.run(["cat", "/sys/class/net/tap0/address"]).strip() for host in hosts])
        for end in ends:
            assert end.stop() == 0
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]
    assert all(int(address[:2], 16) & 3 == 2 for address in seen[0]), "locally administered, of one host"
