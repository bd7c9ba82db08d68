"""`caetun` as users start it, in two hosts: it carries everything, whatever the device, the outer IP and the keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import pytest

from caetun.lab import Host, Lab
from caetun.lab.traffic import burst, stream
from caetun.types import DropReason
from tests.tunnel.ends import (
    INNER4,
    INNER6,
    OUTER4,
    OUTER6,
    End,
    key_arguments,
    ping,
    secret_arguments,
    start,
    tunnel_arguments,
    two_hosts,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

# chosen by us
_SECONDS: Final = 0.2
"""Of TCP in each direction: hundreds of superframes."""
_BURST: Final = 100
"""Datagrams: below the 500 that the queue of a device holds."""
_BEFORE_KEYS: Final = {DropReason.NO_SESSION, DropReason.HANDSHAKE_UNEXPECTED}
"""What may be dropped while the ends look for each other; nothing may be dropped afterwards."""


class Case(NamedTuple):
    """One way to run a tunnel."""

    mode: str
    outer: tuple[str, str]
    keys: str = "secret"
    mtu: int = 1500
    transport: str = "udp"

    def __str__(self) -> str:
        outer = "ipv6" if ":" in self.outer[0] else "ipv4"
        return f"{self.mode}-{self.transport}-{outer}-{self.keys}-{self.mtu}"


MODES: Final = ("tun", "tap")
OUTERS: Final = (OUTER4, OUTER6)
CASES: Final = [
    *(Case(*some) for some in itertools.product(MODES, OUTERS, ("secret", "keys"))),
    Case("tun", OUTER6, "keys", 9000),
    Case("tap", OUTER4, "secret", 9000),
    *(
        Case(mode, outer, transport=transport)
        for transport, mode, outer in itertools.product(("tcp", "tls", "ws", "wss", "quic"), MODES, OUTERS)
    ),
]


@dataclass
class Tunnel:
    """A case that runs."""

    case: Case
    hosts: tuple[Host, Host]
    ends: tuple[End, End]


@pytest.fixture(scope="module", params=CASES, ids=str)
def tunnel(request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    case: Case = request.param
    with Lab() as lab:
        hosts = two_hosts(lab)
        keys = secret_arguments if case.keys == "secret" else key_arguments
        arguments = tunnel_arguments(hosts, case.mode, case.outer, keys)
        ends = start(hosts, [[*each, "--mtu", str(case.mtu), "--transport", case.transport] for each in arguments])
        yield Tunnel(case, hosts, ends)
        assert [end.stop() for end in ends] == [0, 0]


def test_the_device_is_as_asked(tunnel: Tunnel) -> None:
    for host, addresses in zip(tunnel.hosts, zip(INNER4, INNER6, strict=True), strict=True):
        name = f"{tunnel.case.mode}0"
        shown = host.run(["ip", "address", "show", "dev", name])
        assert f"mtu {tunnel.case.mtu} " in shown
        assert f"inet {addresses[0]}/24 " in shown
        assert f"inet6 {addresses[1]}/64 " in shown
        assert ("link/ether" in shown) == (tunnel.case.mode == "tap")


@pytest.mark.parametrize("size", [56, 8000], ids=["small", "fragmented"])
def test_pings_are_answered(tunnel: Tunnel, size: int) -> None:
    one, other = tunnel.hosts
    for address in (INNER4, INNER6):
        assert ping(one, address[1], size=size) == 3
        assert ping(other, address[0], size=size) == 3


def test_a_tcp_stream_arrives_as_sent_each_way(tunnel: Tunnel) -> None:
    one, other = tunnel.hosts
    # `stream` compares every byte
    assert stream(one, other, INNER4[1], _SECONDS).octets >= 1 << 20
    assert stream(other, one, INNER6[0], _SECONDS).octets >= 1 << 20


def test_udp_arrives_each_way(tunnel: Tunnel) -> None:
    one, other = tunnel.hosts
    with ThreadPoolExecutor() as pool:  # most of the time goes into waiting for more
        there = pool.submit(burst, one, other, INNER4[1], count=_BURST, size=64)
        back = pool.submit(burst, other, one, INNER6[0], count=_BURST, size=1400)
    assert (there.result(), back.result()) == (_BURST, _BURST)


def test_nothing_was_dropped_once_there_were_keys(tunnel: Tunnel) -> None:
    for end in tunnel.ends:
        assert end.drops().keys() <= {str(reason) for reason in _BEFORE_KEYS}
        assert not end.events("peer.down", "peer.moved")
