"""What is set on an interface, and what is given back to one that was there before, in the Lab."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from caetun.daemon.hostnet import Interface, mtu_of
from caetun.errors import DeviceError
from caetun.lab import Host, Lab
from caetun.types import Mode

pytestmark = pytest.mark.needs("namespaces", "tun", "ip")

NAME = "keep0"
SUPERFRAME = 60 * 1024
OURS = ["10.1.1.1/24", "10.2.2.2/24", "fd00:1::1/64"]
THEIRS = ["10.1.1.5/24", "fd00:1::5/64"]


@pytest.fixture
def host(lab: Lab) -> Host:
    """One with a persistent TUN device that has addresses and an MTU of its own."""
    host = lab.host("one")
    host.run(["ip", "tuntap", "add", "dev", NAME, "mode", "tun"])
    host.run(["ip", "link", "set", NAME, "mtu", "1400"])
    for address in THEIRS:
        host.run(["ip", "address", "add", address, "dev", NAME, "nodad"])
    return host


def interface(host: Host, keep: bool = True, name: str = NAME) -> Interface:
    return host.inside(lambda: Interface(name, Mode.TUN, keep))


def set_up(host: Host, ours: Interface, mtu: int = 1300) -> None:
    host.inside(lambda: ours.set_up(mtu, OURS, SUPERFRAME))


def link(host: Host) -> str:
    """All of it but its queue, which it gets when it comes up first, and keeps."""
    return re.sub(r"qdisc \w+ ", "", host.run(["ip", "-details", "link", "show", "dev", NAME]))


def addresses(host: Host) -> set[str]:
    """Less those the kernel makes by itself."""
    lines = host.run(["ip", "-oneline", "address", "show", "dev", NAME]).splitlines()
    return {word for line in lines if "scope link" not in line for word in line.split() if "/" in word}


def refusal(function: Callable[[], object]) -> str:
    with pytest.raises(DeviceError) as error:
        function()
    return str(error.value)


@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
def test_an_interface_that_was_there_before_gets_back_what_it_had(host: Host, up: bool) -> None:
    if up:
        host.run(["ip", "link", "set", NAME, "up"])
    before = link(host), addresses(host)
    ours = interface(host)
    set_up(host, ours)
    assert "mtu 1300 " in link(host)
    assert f"gso_max_size {SUPERFRAME} " in link(host)
    assert ",UP" in link(host)
    assert addresses(host) == {*OURS, *THEIRS}
    assert host.inside(lambda: mtu_of(NAME)) == 1300
    for _ in range(2):
        host.inside(ours.undo)
        assert (link(host), addresses(host)) == before


def test_an_address_that_was_there_before_stays(host: Host) -> None:
    ours = interface(host)
    host.inside(lambda: ours.set_up(1400, THEIRS, SUPERFRAME))
    host.inside(ours.undo)
    assert addresses(host) == set(THEIRS)


def test_what_others_have_changed_since_stays(host: Host) -> None:
    ours = interface(host)
    set_up(host, ours)
    host.run(["ip", "link", "set", NAME, "mtu", "1350"])
    host.run(["ip", "address", "delete", OURS[0], "dev", NAME])
    # the kernel would take it away with the first address of its network, and the last one with the link
    for address in ("10.2.2.9/24", "fd00:2::9/64"):
        host.run(["ip", "address", "add", address, "dev", NAME])
    host.inside(ours.undo)
    assert "mtu 1350 " in link(host)
    assert addresses(host) == {*THEIRS, "10.2.2.9/24", "fd00:2::9/64"}


def test_an_interface_that_is_deleted_needs_nothing_back(host: Host) -> None:
    ours = interface(host)
    set_up(host, ours)
    host.run(["ip", "link", "delete", NAME])
    host.inside(ours.undo)


def test_one_that_goes_with_the_tunnel_needs_nothing_back(host: Host) -> None:
    ours = interface(host, keep=False)
    set_up(host, ours)
    host.inside(ours.undo)
    assert addresses(host) == {*OURS, *THEIRS}


def test_a_step_that_is_refused_is_told_and_those_before_are_undone(host: Host) -> None:
    before = link(host), addresses(host)
    host.set(f"net.ipv6.conf.{NAME}.disable_ipv6", 1)
    host.run(["ip", "address", "flush", "dev", NAME])
    ours = interface(host)
    assert refusal(lambda: set_up(host, ours)).startswith(f"{NAME}: cannot add the address {OURS[2]}: ")
    assert "10.1.1.1/24" in addresses(host)
    host.inside(ours.undo)
    assert (link(host), addresses(host)) == (before[0], set())


def test_a_name_that_only_another_namespace_knows_is_refused(lab: Lab, host: Host) -> None:
    other = lab.host("other")
    for look in (lambda: interface(other), lambda: other.inside(lambda: mtu_of(NAME))):
        assert refusal(look) == f"{NAME}: no such interface in this network namespace"
