"""What stands between a client and its hub, and how long it takes to get through: from start to first ping."""

from __future__ import annotations

import time
from typing import Final

import pytest

from caetun.lab import Cable, Lab
from caetun.lab.firewalls import Nat, allow_only_tcp, block_icmp, drop_udp, drop_udp_flows, reset_idle_tcp
from caetun.lab.routers import routed
from caetun.lab.traffic import ping, stream
from tests.tunnel.ends import INNER4, endpoint
from tests.tunnel.ends import ping as ping_often
from tests.tunnel.street import AT_MOST, NGINX_PATH, PRIVATE, Street, arguments_of, call, listen, stop
from tests.tunnel.watch import until, way

pytestmark = [pytest.mark.needs("namespaces", "tun", "firewall", "ip", "ping"), pytest.mark.slow]

# chosen by us
BULK_SECONDS: Final = 2.0
"""Of TCP in each direction."""
BULK_RATE: Final = 5e6
"""Bits per second that TCP has at least where nothing is lost for good; one stall costs more."""


@pytest.fixture
def street(lab: Lab) -> Street:
    made = Street(lab)
    made.at_most = AT_MOST
    return made


def answered(street: Street, seconds: float) -> float:
    """Share of pings that are answered in so many seconds, ten a second; prints it."""
    count = int(seconds * 10)
    share = ping_often(street.client, INNER4[0], count=count, interval=0.1) / count
    print(f"{share:.0%} of pings answered")
    return share


# nothing, and filters


def test_nothing_in_the_way(street: Street) -> None:
    hub, client = street.listen(), street.call()
    assert way(client) == "udp"
    stop(client, hub)


def test_udp_is_dropped(street: Street) -> None:
    hub = street.listen()
    with drop_udp(street.door):
        client = street.call()
        assert way(client) == "tcp"
        stop(client, hub)


def test_all_but_tcp_443_is_dropped(street: Street) -> None:
    hub = street.listen()
    with allow_only_tcp(street.door, 443):
        client = street.call()
        assert way(client) == "tcp"
        stop(client, hub)


@pytest.mark.parametrize(("transport", "last"), [("quic,wss", "wss"), ("auto", "tcp")])
def test_udp_is_dropped_after_the_handshake(street: Street, transport: str, last: str) -> None:
    hub = street.listen("--listen", ":443", "--transport", transport)
    with drop_udp_flows(street.door, after=12):
        client = street.call(transport=transport)
        # the better carriers are tried again, but seldom
        assert answered(street, 20) >= 0.8
        assert way(client) == last
        moves = sum(event["message"].startswith("up via") for event in client.events("ladder"))
        print(f"{moves} moves")
        assert not client.events("peer.down")
        stop(client, hub)


# only through something


@pytest.mark.needs("tinyproxy")
def test_only_through_an_http_proxy_with_a_password(street: Street) -> None:
    hub = street.listen()
    client = street.call("--proxy", street.start_proxy("http"))
    assert way(client) == "tcp"
    stop(client, hub)


@pytest.mark.needs("microsocks")
def test_only_through_a_socks_proxy(street: Street) -> None:
    hub = street.listen()
    client = street.call("--proxy", street.start_proxy("socks5"))
    assert way(client) == "tcp"
    stop(client, hub)


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("auto", [False, True], ids=["its URL", "its URL behind auto"])
def test_nginx_in_front(street: Street, auto: bool) -> None:
    street.start_nginx()
    hub = street.listen("--listen", f"ws://127.0.0.1:8080{NGINX_PATH}")
    url = f"wss://{street.address}{NGINX_PATH}"
    with allow_only_tcp(street.door, 443):
        # all that "auto" finds at port 443 is a web server
        client = street.call("--connect", url) if auto else street.call_url(url)
        assert way(client) == "wss"
        stop(client, hub)


# boxes that remember


def forgotten(street: Street) -> bool:
    """Whether the door has forgotten all connections."""
    return street.door.get("net.netfilter.nf_conntrack_count") == "0"


@pytest.mark.parametrize("transport", ["tcp", "wss"])
def test_a_middlebox_that_resets_idle_tcp_finds_none(street: Street, transport: str) -> None:
    hub = street.listen("--listen", ":443", "--transport", transport)
    with reset_idle_tcp(street.door, 3):  # 30 s of the real ones, and the keepalive interval of 10 s, divided by ten
        client = street.call("--keepalive", "1", transport=transport)
        with pytest.raises(AssertionError):
            until(lambda: forgotten(street), "it forgets", 5)
        assert ping_often(street.client, INNER4[0]) == 3
        assert not client.events("link.lost", "peer.down", "peer.moved")
        stop(client, hub)


@pytest.mark.parametrize("transport", ["tcp", "wss"])
@pytest.mark.parametrize("speaks", ["client", "hub"])
def test_a_connection_that_a_middlebox_resets_comes_back(street: Street, transport: str, speaks: str) -> None:
    hub = street.listen("--listen", ":443", "--transport", transport, "--keepalive", "30")
    host, address = {"client": (street.client, INNER4[0]), "hub": (street.hub, INNER4[1])}[speaks]
    with reset_idle_tcp(street.door, 1):
        client = street.call("--keepalive", "30", transport=transport)
        until(lambda: forgotten(street), "the connection is forgotten")
        took = until(lambda: ping(host, address, timeout=0.05), "an answer")
        print(f"back {took:.2f} s after the {speaks} spoke")
        assert took <= AT_MOST
        assert not client.events("peer.down")
        stop(client, hub)


@pytest.mark.parametrize("transport", ["udp", "quic", "tcp"])
def test_a_nat_that_rebinds(street: Street, transport: str) -> None:
    hub = street.listen()
    with Nat(street.door, street.outside.device) as nat:
        client = street.call(transport=transport)
        nat.rebind_every(2, tcp=transport == "tcp")  # 20 s of the real ones, divided by ten
        assert answered(street, 12) >= 0.9
        assert way(client) == transport
        assert not client.events("peer.down")
        assert not hub.events("peer.down")
        stop(client, hub)


# a narrow link, and nobody says so


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("transport", ["udp", "quic", "tcp", "wss", "auto"])
def test_a_narrow_link_and_no_icmp(lab: Lab, transport: str, six: bool) -> None:
    client, near, far, hub = (lab.host(name, private=PRIVATE) for name in ("client", "near", "far", "hub"))
    ways = routed(lab, (client, near), (near, far, Cable(mtu=1280)), (far, hub))
    for host in (near, far):
        block_icmp(host)
    mine, its = arguments_of(client, hub)
    server = listen(hub, its, "--listen", ":443", "--transport", transport)
    where = endpoint(ways[2][1].addresses[six].partition("/")[0], 443)
    caller = call(client, mine, "--connect", where, "--transport", transport)
    for sender, receiver, address in ((client, hub, INNER4[0]), (hub, client, INNER4[1])):
        began = time.monotonic()
        got = stream(sender, receiver, address, BULK_SECONDS)
        print(f"{got.rate / 1e6:,.0f} Mbit/s from {sender.name} in {time.monotonic() - began:.1f} s, by {way(caller)}")
        assert got.rate >= BULK_RATE
    assert not caller.events("peer.down")
    stop(caller, server)
