"""Routers, firewalls, impatient middleboxes and NAT: each does what it says, as seen by sockets on either side."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import Final

import pytest

from caetun.lab import Cable, Host, Lab, Port
from caetun.lab.firewalls import (
    Firewall,
    Nat,
    allow_only_tcp,
    allow_only_via,
    block_icmp,
    drop_udp,
    drop_udp_flows,
    reset_idle_tcp,
)
from caetun.lab.routers import routed
from caetun.lab.traffic import ping

pytestmark = pytest.mark.needs("namespaces", "firewall", "ip")

# fixed by the specification: linux/in.h, linux/in6.h
_MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_DO: Final = 2
"""IP_PMTUDISC_DO: send nothing in fragments, and believe what routers say."""

# chosen by us
PATIENCE: Final = 10.0
"""Seconds after which something that should have come has not; far more than it takes on an idle machine."""
SILENCE: Final = 0.2
"""Seconds after which something that should not come has not."""


class Street:
    """A client and a server with a router between them, on which a proxy's host lives too."""

    def __init__(self, lab: Lab) -> None:
        self.client, self.router, self.server, self.proxy = (
            lab.host(name) for name in ("client", "router", "server", "proxy")
        )
        ends = routed(lab, (self.client, self.router), (self.router, self.server), (self.router, self.proxy))
        self.client_port, self.outside = ends[0][0], ends[1][0]
        self.server_port, self.proxy_port = ends[1][1], ends[2][1]


@pytest.fixture
def street(lab: Lab) -> Street:
    return Street(lab)


def address_of(port: Port, family: int) -> str:
    """Its IPv4 or IPv6 address."""
    return port.addresses[family == socket.AF_INET6].partition("/")[0]


class Pair:
    """A datagram socket in each of two hosts; the first one calls the second."""

    def __init__(self, client: Host, server: Port, number: int, family: int = socket.AF_INET) -> None:
        self.server = server.host.socket(family, socket.SOCK_DGRAM)
        self.server.bind((address_of(server, family), number))
        self.client = client.socket(family, socket.SOCK_DGRAM)
        self.client.setsockopt(*_MTU_DISCOVER[socket.AddressFamily(family)], _DO)
        self.client.connect(self.server.getsockname())

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()

    def call(self, size: int = 100, wait: float = PATIENCE) -> tuple[str, int] | None:
        """Send to the server; returns from where it came, None if it did not."""
        self.client.send(bytes(size))
        self.server.settimeout(wait)
        try:
            data, where = self.server.recvfrom(1 << 16)
        except TimeoutError:
            return None
        assert data == bytes(size)
        return where[:2]

    def answer(self, where: tuple[str, int], wait: float = PATIENCE) -> bool:
        """Send back to there; returns whether the client gets it."""
        self.server.sendto(b"answer", where)
        self.client.settimeout(wait)
        try:
            return self.client.recv(100) == b"answer"
        except TimeoutError:
            return False


def udp_passes(client: Host, server: Port, number: int = 443, *, wait: float = PATIENCE) -> bool:
    """Whether a datagram gets through, and an answer back."""
    with Pair(client, server, number) as pair:
        where = pair.call(wait=wait)
        return where is not None and pair.answer(where, wait)


def connected(stack: ExitStack, client: Host, server: Port, number: int = 443) -> tuple[socket.socket, socket.socket]:
    """A TCP connection: the client's end and the server's."""
    with server.host.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.address, number))
        listener.listen()
        near = stack.enter_context(client.socket(socket.AF_INET, socket.SOCK_STREAM))
        near.settimeout(PATIENCE)
        near.connect((server.address, number))
        far = stack.enter_context(listener.accept()[0])
        far.settimeout(PATIENCE)
    return near, far


def tcp_passes(client: Host, server: Port, number: int = 443, *, wait: float = PATIENCE) -> bool:
    """Whether a connection can be made."""
    with server.host.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.address, number))
        listener.listen()
        with client.socket(socket.AF_INET, socket.SOCK_STREAM) as near:
            near.settimeout(wait)
            try:
                near.connect((server.address, number))
            except TimeoutError:
                return False
            return True


# -- routers --


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_hosts_in_a_row_reach_each_other(lab: Lab, family: int) -> None:
    hosts = [lab.host(name) for name in "abcd"]
    ends = routed(lab, (hosts[0], hosts[1]), (hosts[1], hosts[2]), (hosts[2], hosts[3]))
    first, last = ends[0][0], ends[2][1]
    for here, there in ((first, last), (last, first)):
        with Pair(here.host, there, 5000, family) as pair:
            where = pair.call()
            assert where is not None
            assert where[0] == address_of(here, family)
            assert pair.answer(where)


def test_hosts_around_a_router_reach_each_other(street: Street) -> None:
    assert udp_passes(street.client, street.server_port)
    assert udp_passes(street.proxy, street.client_port)
    assert tcp_passes(street.client, street.proxy_port)
    assert tcp_passes(street.proxy, street.server_port)


# -- filters --


def test_udp_is_dropped_until_the_firewall_is_lifted(street: Street) -> None:
    with drop_udp(street.router):
        assert not udp_passes(street.client, street.server_port, wait=SILENCE)
        assert tcp_passes(street.client, street.server_port)
        assert len(ping(street.client, street.server_port.address)) == 1
    assert udp_passes(street.client, street.server_port)


def test_udp_is_dropped_from_the_moment_on(street: Street) -> None:
    with Pair(street.client, street.server_port, 443) as pair:
        where = pair.call()
        assert where is not None
        with drop_udp(street.router):
            assert pair.call(wait=SILENCE) is None
            assert not pair.answer(where, SILENCE)
        assert pair.call() == where


def test_only_tcp_to_one_port_passes(street: Street) -> None:
    with allow_only_tcp(street.router, 443):
        assert tcp_passes(street.client, street.server_port, 443)
        assert tcp_passes(street.server, street.client_port, 443)
        assert not tcp_passes(street.client, street.server_port, 80, wait=SILENCE)
        assert not udp_passes(street.client, street.server_port, 443, wait=SILENCE)
        assert ping(street.client, street.server_port.address, timeout=SILENCE) == []
    assert tcp_passes(street.client, street.server_port, 80)


def test_only_the_proxy_is_reached(street: Street) -> None:
    with allow_only_via(street.router, *(street.proxy_port.addresses[n].partition("/")[0] for n in (0, 1))):
        assert not tcp_passes(street.client, street.server_port, wait=SILENCE)
        assert not udp_passes(street.client, street.server_port, wait=SILENCE)
        assert tcp_passes(street.client, street.proxy_port, 3128)
        assert tcp_passes(street.proxy, street.server_port)
        with Pair(street.client, street.proxy_port, 5000, socket.AF_INET6) as pair:
            assert pair.call()
    assert tcp_passes(street.client, street.server_port)


def test_each_flow_may_have_so_many_packets(street: Street) -> None:
    with (
        drop_udp_flows(street.router, after=6),
        Pair(street.client, street.server_port, 443) as pair,
        Pair(street.client, street.server_port, 4500) as other,
    ):
        for _ in range(3):
            where = pair.call()
            assert where is not None
            assert pair.answer(where)
        assert pair.call(wait=SILENCE) is None
        assert not pair.answer(where, SILENCE)
        pair.client.close()
        assert udp_passes(street.client, street.proxy_port), "another flow has its own"
        assert all(other.call() for _ in range(10)), "another port is not counted"


def test_firewalls_stand_side_by_side(street: Street) -> None:
    udp, only = drop_udp(street.router), allow_only_tcp(street.router, 80)
    udp.lift()
    assert not udp_passes(street.client, street.server_port, wait=SILENCE)
    only.lift()
    assert udp_passes(street.client, street.server_port)


# -- a narrow link --


@pytest.mark.parametrize(("family", "heads"), [(socket.AF_INET, 28), (socket.AF_INET6, 48)])
def test_nobody_tells_that_a_packet_was_too_big(lab: Lab, family: int, heads: int) -> None:
    hosts = [lab.host(name) for name in ("client", "near", "far", "server")]
    ways = routed(lab, (hosts[0], hosts[1]), (hosts[1], hosts[2], Cable(mtu=1280)), (hosts[2], hosts[3]))
    server = ways[2][1]
    with block_icmp(hosts[1]), Pair(hosts[0], server, 443, family) as pair:
        assert pair.call(1280 - heads)
        assert pair.call(1281 - heads, SILENCE) is None
        assert pair.call(1281 - heads, SILENCE) is None, "the client has learned nothing"
    with Pair(hosts[0], server, 443, family) as pair:
        assert pair.call(1281 - heads, SILENCE) is None
        with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
            pair.call(1281 - heads, SILENCE)


# -- boxes that remember --


def test_an_idle_connection_is_reset_when_somebody_speaks(street: Street) -> None:
    with ExitStack() as stack, reset_idle_tcp(street.router, 1):
        near, far = connected(stack, street.client, street.server_port)
        near.send(b"before")
        assert far.recv(100) == b"before"
        near.settimeout(1.5)
        with pytest.raises(TimeoutError):
            near.recv(100)  # nobody is told that it was forgotten
        near.send(b"after")
        near.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            near.recv(100)
        far.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            far.recv(100)


def test_a_connection_that_is_not_idle_lives_on(street: Street) -> None:
    with ExitStack() as stack, reset_idle_tcp(street.router, 1):
        near, far = connected(stack, street.client, street.server_port)
        far.settimeout(0.4)
        for _ in range(4):
            near.send(b"still here")
            assert far.recv(100) == b"still here"
            with pytest.raises(TimeoutError):
                far.recv(100)


def test_an_idle_connection_lives_on_without_the_box(street: Street) -> None:
    with ExitStack() as stack:
        near, far = connected(stack, street.client, street.server_port)
        before = street.router.get("net.netfilter.nf_conntrack_tcp_timeout_established")
        box: Firewall = reset_idle_tcp(street.router, 1)
        assert street.router.get("net.netfilter.nf_conntrack_tcp_timeout_established") == "1"
        box.lift()
        assert street.router.get("net.netfilter.nf_conntrack_tcp_timeout_established") == before
        near.send(b"hello")
        assert far.recv(100) == b"hello"


# -- NAT --


def test_a_nat_hides_the_client_and_keeps_its_port(street: Street) -> None:
    with Nat(street.router, street.outside.device), Pair(street.client, street.server_port, 443) as pair:
        where = pair.call()
        assert where is not None
        assert where[0] == street.outside.address
        assert pair.answer(where)
        assert pair.call() == where
    with Pair(street.client, street.server_port, 443) as pair:
        assert (pair.call() or "")[0] == street.client_port.address


def test_a_nat_rebinds_when_it_is_told(street: Street) -> None:
    with (
        ExitStack() as stack,
        Nat(street.router, street.outside.device) as nat,
        Pair(street.client, street.server_port, 443) as pair,
    ):
        near, far = connected(stack, street.client, street.server_port)
        before = pair.call()
        assert before is not None
        nat.rebind()
        assert not pair.answer(before, SILENCE), "who answers to the old port is not heard"
        after = pair.call()
        assert after is not None
        assert after[0] == before[0]
        assert after[1] != before[1]
        assert pair.answer(after)
        near.send(b"hello")
        assert far.recv(100) == b"hello", "a TCP connection does not notice"


def test_a_nat_that_forgets_tcp_breaks_connections(street: Street) -> None:
    with ExitStack() as stack, Nat(street.router, street.outside.device) as nat:
        near, _ = connected(stack, street.client, street.server_port)
        nat.rebind(tcp=True)
        near.send(b"hello")
        with pytest.raises(ConnectionResetError):
            near.recv(100)


def test_a_nat_rebinds_by_itself(street: Street) -> None:
    with (
        Nat(street.router, street.outside.device) as nat,
        Pair(street.client, street.server_port, 443) as pair,
    ):
        nat.rebind_every(0.2)
        seen = set()
        pair.client.settimeout(SILENCE / 4)
        for _ in range(400):
            seen.add(pair.call())
            if len(seen) >= 3:
                return
            with pytest.raises(TimeoutError):
                pair.client.recv(100)
        raise AssertionError(f"it stays at {seen}")


def test_a_nat_lets_nobody_in(street: Street) -> None:
    with Nat(street.router, street.outside.device):
        assert not udp_passes(street.server, street.client_port, wait=SILENCE)
        assert not tcp_passes(street.server, street.client_port, wait=SILENCE)
        assert tcp_passes(street.client, street.server_port)
