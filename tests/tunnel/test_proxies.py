"""Through real proxies, from behind a firewall that lets nothing else through: tinyproxy and microsocks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from caetun.lab import Lab
from tests.tunnel.ends import INNER4, End, endpoint, ping
from tests.tunnel.street import LOGIN, Street, start, stop
from tests.tunnel.watch import until, way

pytestmark = pytest.mark.needs("namespaces", "tun", "firewall", "ip", "ping", "tinyproxy", "microsocks")


@pytest.fixture
def street(lab: Lab) -> Street:
    return Street(lab)


both = pytest.mark.parametrize("scheme", ["http", "socks5"])


@both
@pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"])
def test_every_stream_carrier_goes_through(street: Street, scheme: str, transport: str) -> None:
    proxy = street.start_proxy(scheme)
    hub = street.listen("--listen", ":443", "--transport", transport)
    client = street.call("--proxy", proxy, transport=transport)
    assert way(client) == transport
    assert street.proxy_port.address in hub.events("peer.up")[-1]["link"]
    assert ping(street.client, INNER4[0]) == 3
    stop(client, hub)


@pytest.mark.parametrize(
    ("scheme", "name"),
    [("http", "HTTPS_PROXY"), ("http", "https_proxy"), ("socks5", "ALL_PROXY"), ("http", "ALL_PROXY")],
)
def test_the_environment_names_the_proxy(street: Street, scheme: str, name: str) -> None:
    proxy = street.start_proxy(scheme)
    hub = street.listen()
    client = street.call(environment=[f"{name}={proxy}"])
    assert way(client) == "tcp"
    stop(client, hub)


def test_no_proxy_exempts(street: Street) -> None:
    hub = street.listen("--listen", ":443", "--transport", "tcp")
    dead = "HTTPS_PROXY=http://127.0.0.1:9"
    client = street.call(transport="tcp", environment=[dead, f"NO_PROXY={street.address}"])
    assert street.client_port.address in hub.events("peer.up")[-1]["link"], "called without the proxy that is not there"
    assert client.stop() == 0
    client = call_in_vain(street, environment=[dead])
    assert "proxy 127.0.0.1:9: cannot be reached" in until_told(client, "nobody answers")
    stop(client, hub)


@both
def test_an_option_wins_over_the_environment(street: Street, scheme: str) -> None:
    proxy = street.start_proxy(scheme)
    hub = street.listen()
    client = street.call("--proxy", proxy, environment=["HTTPS_PROXY=http://127.0.0.1:9"])
    assert way(client) == "tcp"
    stop(client, hub)


def call_in_vain(street: Street, *arguments: str, environment: Sequence[str] = ()) -> End:
    """Start a client that will not get through."""
    where = ["--connect", endpoint(street.address, 443), "--transport", "tcp"]
    return start(street.client, *street.near, *where, *arguments, environment=environment)


def until_told(client: End, beginning: str) -> str:
    """Wait for a line of the ladder; returns it."""

    def lines() -> list[str]:
        return [str(event["message"]) for event in client.events("ladder") if event["message"].startswith(beginning)]

    until(lines, beginning)
    return lines()[0]


@pytest.mark.parametrize(
    ("scheme", "login", "why"),
    [
        ("http", "me:wrong@", "does not take the user name and password (401)"),
        ("http", "", "wants a user name and a password (407): give http://USER:PASSWORD@HOST:PORT"),
        ("socks5", "me:wrong@", "does not take the user name and password"),
        ("socks5", "", "wants a user name and a password: give socks5://USER:PASSWORD@HOST:PORT"),
    ],
)
@pytest.mark.parametrize("by_option", [True, False], ids=["--proxy", "environment"])
def test_a_wrong_password_is_told(street: Street, scheme: str, login: str, why: str, by_option: bool) -> None:
    proxy = street.start_proxy(scheme).replace(LOGIN, login)
    street.listen()
    given = ["--proxy", proxy] if by_option else []
    client = call_in_vain(street, *given, environment=() if by_option else [f"ALL_PROXY={proxy}"])
    said = until_told(client, "nobody answers")
    print(said)
    assert why in said
    assert "wrong" not in client.said(), "passwords are not shown"
    assert client.stop() == 0


def test_a_proxy_that_comes_back_is_used_again(street: Street) -> None:
    proxy = street.start_proxy("socks5")
    hub = street.listen("--listen", ":443", "--transport", "tcp")
    client = street.call("--proxy", proxy, transport="tcp")
    street.stop_proxy()
    client.wait_for("link.lost")
    street.start_proxy("socks5")
    took = until(lambda: ping(street.client, INNER4[0], count=1, wait=0.2), "an answer")
    print(f"back {took:.2f} s after the proxy")
    stop(client, hub)
