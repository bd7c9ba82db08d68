"""Which UDP socket of a tunnel listens where, and calls whom."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from caetun.errors import ConfigurationError, NetworkError
from caetun.lab import Lab
from caetun.transports import udp_socket
from caetun.transports.base import Context, Options, Target
from caetun.transports.udp import UDP, UdpSockets, udp_sockets
from caetun.transports.udp_endpoint import UdpEndpoint
from caetun.transports.udp_link import UdpLink
from caetun.transports.udp_socket import GRO_SIZE, UDP_GRO, burst_size
from caetun.types import Drops
from tests.transports.recorder import Recorder


class Tunnel:
    """A tunnel's context, and what it hears."""

    def __init__(self) -> None:
        self.hears, self.drops = Recorder(), Drops()
        self.context = Context(
            asyncio.get_running_loop(), self.hears, {7}, self.drops, Options(), lambda *line: self.reports.append(line)
        )
        self.reports: list[tuple[str, str, str]] = []

    def listen(self, host: str, port: int = 0) -> UdpEndpoint:
        endpoint = UDP.listen(Target(host, port), self.context)
        assert isinstance(endpoint, UdpEndpoint)
        return endpoint

    def call(self, host: str, port: int = 9) -> UdpLink:
        (link,) = UDP.dial_now(Target(host, port), self.context) or []
        assert isinstance(link, UdpLink)
        return link


@pytest.fixture
async def tunnel() -> AsyncIterator[Tunnel]:
    made = Tunnel()
    yield made
    udp_sockets(made.context).close()


async def test_one_socket_serves_both_families(tunnel: Tunnel) -> None:
    endpoint = tunnel.listen("")
    assert endpoint.dual_stack
    links = [tunnel.call("127.0.0.1"), tunnel.call("::1")]
    assert [link.name for link in links] == ["udp 127.0.0.1:9", "udp [::1]:9"]
    assert all(link._endpoint is endpoint for link in links)


async def test_what_it_listens_on_calls_if_it_gets_there(tunnel: Tunnel) -> None:
    four, six = tunnel.listen("127.0.0.1"), tunnel.listen("::1")
    assert tunnel.call("127.0.0.2")._endpoint is four
    assert tunnel.call("::1")._endpoint is six
    away = tunnel.call("198.51.100.1")._endpoint
    assert away not in (four, six), "nothing gets away from the loopback interface"
    assert away.local == "0.0.0.0"
    assert tunnel.call("198.51.100.2")._endpoint is away


async def test_an_address_is_listened_on_once(tunnel: Tunnel) -> None:
    endpoint = tunnel.listen("127.0.0.1")
    assert tunnel.listen("127.0.0.1") is endpoint
    with pytest.raises(NetworkError, match="cannot be bound"):
        tunnel.listen("127.0.0.1", int(endpoint.where.rpartition(":")[2]))


async def test_names_are_for_far_ends_only(tunnel: Tunnel) -> None:
    with pytest.raises(ConfigurationError, match=r"'hub\.example' is a name"):
        tunnel.listen("hub.example")
    assert UDP.dial_now(Target("localhost", 9), tunnel.context) is None
    links = await UDP.dial(Target("localhost", 9), tunnel.context)
    assert {link.name for link in links} <= {"udp 127.0.0.1:9", "udp [::1]:9"}
    assert links


async def test_a_name_that_is_not_there_is_said_to_be_so(tunnel: Tunnel) -> None:
    with pytest.raises(NetworkError, match="name not found"):
        await UDP.dial(Target("name.invalid", 9), tunnel.context)


async def test_two_tunnels_hear_each_other(tunnel: Tunnel) -> None:
    other = Tunnel()
    port = int(other.listen("127.0.0.1").where.rpartition(":")[2])
    tunnel.call("127.0.0.1", port).send_messages([b"\x01hello"])
    await other.hears.until(lambda: other.hears.heard)
    other.hears.links[0].send_messages([b"\x02hello"])
    await tunnel.hears.until(lambda: tunnel.hears.heard)
    udp_sockets(other.context).close()


async def test_closing_gives_every_socket_back(tunnel: Tunnel) -> None:
    endpoints = [tunnel.listen("127.0.0.1"), tunnel.call("198.51.100.1")._endpoint]
    (sockets,) = tunnel.context.shared.values()
    assert isinstance(sockets, UdpSockets)
    sockets.close()
    sockets.close()
    assert [endpoint._sock.fileno() for endpoint in endpoints] == [-1, -1]


def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that lacks the address family (`ipv6.disable=1`)."""
    real = socket.socket

    def made(family: Any, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(udp_socket.socket, "socket", made)


async def test_a_host_without_ipv6_listens_on_ipv4(tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch)
    assert tunnel.listen("").local == "0.0.0.0"
    assert [event for _, event, _ in tunnel.reports] == ["listen.ipv4-only"]
    with pytest.raises(NetworkError, match=r"udp \[::\]:0: cannot be bound: .*: this host has no such address family"):
        tunnel.call("2001:db8::1")


@pytest.mark.needs("namespaces")
async def test_a_link_local_address_names_its_interface(lab: Lab, tunnel: Tunnel) -> None:
    one, other = lab.host("one"), lab.host("other")
    lab.link(one, other, left=["fe80::1/64"], right=["fe80::2/64"])
    endpoint = one.inside(lambda: tunnel.listen(""))
    link = one.inside(lambda: tunnel.call("fe80::2%eth0"))
    assert link._endpoint is endpoint
    assert link.address[3] != 0


@pytest.mark.parametrize(
    ("ancillary", "size"),
    [
        ([], 5000),
        ([(socket.IPPROTO_UDP, UDP_GRO, GRO_SIZE.pack(1200))], 1200),
        ([(socket.IPPROTO_IP, UDP_GRO, GRO_SIZE.pack(1200))], 5000),
        ([(socket.IPPROTO_UDP, UDP_GRO, b"\1")], 5000),
        ([(socket.IPPROTO_UDP, UDP_GRO, GRO_SIZE.pack(0))], 5000),
        ([(1, 2, b"else"), (socket.IPPROTO_UDP, UDP_GRO, GRO_SIZE.pack(70_000))], 70_000),
    ],
)
def test_the_kernel_says_how_a_burst_is_cut(ancillary: list[tuple[int, int, bytes]], size: int) -> None:
    assert burst_size(ancillary, 5000) == size
