"""Devices that were there before `caetun` was started: used as they are, and given back as they were."""

from __future__ import annotations

import re
import signal
import sys
from typing import Final

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.ends import (
    INNER4,
    INNER6,
    OUTER4,
    End,
    device_arguments,
    endpoint,
    ping,
    secret_arguments,
    start,
    tunnel_arguments,
    two_hosts,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "ip")

# fixed by the kernel's interface: linux/if_tun.h, linux/sched.h
_SCRIPT: Final = """
import ctypes, fcntl, os, struct, sys
elsewhere, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
if elsewhere == "elsewhere":
    assert libc.unshare(0x40000000) == 0                                    # CLONE_NEWNET
device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x5001))    # TUNSETIFF: IFF_TUN, NO_PI, VNET_HDR
assert libc.setns(home, 0) == 0
os.dup2(device, 9)
os.execv(sys.executable, [sys.executable, "-m", "caetun", *command])
"""
"""Makes a device here or in another network namespace, and becomes a `caetun` that is given it as descriptor 9."""


def given(host: Host, where: str, *arguments: str) -> End:
    """A `caetun` that was given a TUN device which is `here` or `elsewhere`."""
    return End(host, "--dev", "fd:9", *arguments, command=(sys.executable, "-c", _SCRIPT, where))


def persistent(host: Host, *addresses: str) -> str:
    """Make `tun0`, with these addresses and an MTU of 1400, down; returns what is to be seen of it."""
    host.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tun"])
    host.run(["ip", "link", "set", "tun0", "mtu", "1400"])
    for address in addresses:
        host.run(["ip", "address", "add", address, "dev", "tun0"])
    return shown(host)


def shown(host: Host) -> str:
    """Addresses, MTU and state of `tun0`; not its queue and its headers, which are as the last user has asked."""
    return re.sub(r"qdisc \w+|vnet_hdr \w+", "", host.run(["ip", "-details", "address", "show", "dev", "tun0"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_persistent_device_is_given_back_as_it_was(lab: Lab, number: signal.Signals) -> None:
    hosts = two_hosts(lab)
    before = persistent(hosts[0], "10.88.7.1/24")
    listening, connecting = tunnel_arguments(hosts)
    one, _ = start(hosts, [[*listening, "--mtu", "1300"], connecting])
    assert ping(hosts[1], INNER4[0]) == 3
    during = shown(hosts[0])
    for words in (f"inet {INNER4[0]}/24 ", f"inet6 {INNER6[0]}/64 ", "inet 10.88.7.1/24 ", "mtu 1300 ", ",UP"):
        assert words in during
    one.stop(number)
    if number is signal.SIGKILL:
        assert f"inet {INNER4[0]}/24 " in shown(hosts[0]), "nobody was there to take it away"
    else:
        assert shown(hosts[0]) == before


def test_what_was_done_before_a_step_that_is_refused_is_undone(lab: Lab) -> None:
    hosts = two_hosts(lab)
    before = persistent(hosts[0], "10.88.7.1/24")
    hosts[0].set("net.ipv6.conf.tun0.disable_ipv6", 1)
    status, said = End(hosts[0], *tunnel_arguments(hosts)[0]).ended()
    assert status == 4
    assert said.startswith(f"caetun: tun0: cannot add the address {INNER6[0]}/64: ")
    assert said.count("\n") == 1
    assert shown(hosts[0]) == before


def test_a_descriptor_of_this_namespace_is_set_up(lab: Lab) -> None:
    hosts = two_hosts(lab)
    keys = secret_arguments(hosts)
    addresses = ["--address", f"{INNER4[0]}/24", "--mtu", "1300"]
    one = given(hosts[0], "here", "--listen", endpoint(OUTER4[0]), *addresses, *keys[0])
    other = End(hosts[1], "--connect", endpoint(OUTER4[0]), *device_arguments(1), "--mtu", "1300", *keys[1])
    other.wait_for("peer.up")
    assert "tun0 (tun, MTU 1300)" in one.wait_for("start")["message"]
    assert ping(hosts[1], INNER4[0]) == 3
    assert (one.stop(), other.stop()) == (0, 0)


@pytest.mark.parametrize("option", [("--address", "10.1.1.1/24"), ("--mtu", "1400")], ids=["address", "mtu"])
def test_a_descriptor_of_another_namespace_is_not_taken_for_ours(lab: Lab, option: tuple[str, str]) -> None:
    hosts = two_hosts(lab)
    before = persistent(hosts[0])  # of the same name
    keys = secret_arguments(hosts)[0]
    status, said = given(hosts[0], "elsewhere", "--listen", endpoint(OUTER4[0]), *option, *keys).ended()
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("caetun: fd:9: tun0 is of another network namespace: ")
    assert shown(hosts[0]) == before


def test_a_descriptor_of_another_namespace_is_used(lab: Lab) -> None:
    hosts = two_hosts(lab)
    before = persistent(hosts[0])
    keys = secret_arguments(hosts)
    one = given(hosts[0], "elsewhere", "--listen", endpoint(OUTER4[0]), *keys[0])
    other = End(hosts[1], "--connect", endpoint(OUTER4[0]), *device_arguments(1), *keys[1])
    for end in (one, other):
        end.wait_for("peer.up")
    assert "MTU 1500)" in one.events("start")[0]["message"], "not that of the one here"
    assert (one.stop(), other.stop()) == (0, 0)
    assert shown(hosts[0]) == before


@pytest.mark.needs("ethtool")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_descriptor_is_used_without_offloads_if_so_asked(lab: Lab, where: str) -> None:
    hosts = two_hosts(lab)
    keys = secret_arguments(hosts)[0]
    one = given(hosts[0], where, "--listen", endpoint(OUTER4[0]), "--no-offload", *keys)
    one.wait_for("start")
    if where == "here":
        assert "tx-checksum-ip-generic: off" in hosts[0].run(["ethtool", "-k", "tun0"])
    assert one.stop() == 0


def test_a_descriptor_of_this_namespace_keeps_its_mtu(lab: Lab) -> None:
    hosts = two_hosts(lab)
    persistent(hosts[0])
    keys = secret_arguments(hosts)[0]
    one = given(hosts[0], "here", "--listen", endpoint(OUTER4[0]), *keys)
    assert "tun0 (tun, MTU 1400)" in one.wait_for("start")["message"]
    assert one.stop() == 0
