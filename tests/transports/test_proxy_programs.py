"""Streams through real proxies, from behind a firewall that lets nothing else through: tinyproxy and microsocks."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from caetun.errors import NetworkError
from caetun.lab import Host, Lab
from caetun.lab.firewalls import allow_only_via
from caetun.lab.routers import routed
from caetun.transports.proxy import connect
from tests.tunnel.ends import write

pytestmark = pytest.mark.needs("namespaces", "firewall", "ip", "tinyproxy", "microsocks")

PLAIN: Final = "s3cr3t"
"""A password without signs: tinyproxy's file takes no others."""
SIGNS: Final = "s3cr3t:/@"
ENCODED: Final = "s3cr3t%3A%2F%40"
"""The other one, as a URL has it."""
NAME: Final = "hub.example"
"""What only the proxy's host can look up."""
PATIENCE: Final = 10.0
"""Seconds after which something that should have happened has not."""
_PORT: Final = 3128

_TINYPROXY: Final = """
Port {port}
BasicAuth me {password}
ConnectPort 443
ConnectPort 444
MaxClients 20
LogLevel Critical
"""


class Kind(NamedTuple):
    """A program that is a proxy."""

    scheme: str
    login: str
    """As its URL has it."""
    command: Callable[[Host], list[str]]


def _tinyproxy(host: Host) -> list[str]:
    return ["tinyproxy", "-d", "-c", write(host, "/run/conf", _TINYPROXY.format(port=_PORT, password=PLAIN))]


def _microsocks(_: Host) -> list[str]:
    return ["microsocks", "-i", "::", "-p", str(_PORT), "-u", "me", "-P", SIGNS]


TINYPROXY: Final = Kind("http", f"me:{PLAIN}@", _tinyproxy)
MICROSOCKS: Final = Kind("socks5", f"me:{ENCODED}@", _microsocks)


class Office:
    """A client whose firewall lets it reach the proxy only, and a server outside."""

    def __init__(self, lab: Lab, kind: Kind) -> None:
        self.kind = kind
        self.client, door, server = lab.host("client"), lab.host("door"), lab.host("server")
        proxy = lab.host("proxy", private=["/run"])
        ends = routed(lab, (self.client, door), (door, proxy), (door, server))
        self.proxy, self.server = ends[1][1], ends[2][1]
        allow_only_via(door, *(address.partition("/")[0] for address in self.proxy.addresses))
        write(proxy, "/run/hosts", f"{self.server.address} {NAME}\n", mode=0o644)
        proxy.run(["mount", "--bind", "/run/hosts", "/etc/hosts"])
        proxy.spawn(kind.command(proxy), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._await_proxy()

    def _await_proxy(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.client.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                if probe.connect_ex((self.proxy.address, _PORT)) == 0:
                    return
            assert time.monotonic() < deadline, "the proxy does not start"
            time.sleep(0.01)

    def url(self, login: str | None = None) -> str:
        """The proxy's, with a login that it takes or another."""
        return f"{self.kind.scheme}://{self.kind.login if login is None else login}{self.proxy.address}:{_PORT}"

    def dial(self, proxy: str, host: str, port: int = 443) -> socket.socket:
        """Connect from the client's host through the proxy."""

        async def work() -> socket.socket:
            async with asyncio.timeout(PATIENCE):
                return await connect(proxy, host, port, asyncio.get_running_loop())

        return self.client.inside(lambda: asyncio.run(work()))

    def refusal(self, proxy: str, host: str, port: int = 443) -> str:
        """Why there is no stream, without the beginning that names the proxy."""
        with pytest.raises(NetworkError) as caught:
            self.dial(proxy, host, port)
        beginning = f"{self.kind.scheme} proxy {self.proxy.address}:{_PORT}: "
        assert str(caught.value).startswith(beginning)
        return str(caught.value).removeprefix(beginning)

    def listen(self, family: int = socket.AF_INET) -> socket.socket:
        """Wait at the server's port 443."""
        listener = self.server.host.socket(family, socket.SOCK_STREAM)
        listener.bind(("", 443))
        listener.listen()
        listener.settimeout(PATIENCE)
        return listener


both = pytest.mark.parametrize("kind", [TINYPROXY, MICROSOCKS], ids=["tinyproxy", "microsocks"])


@both
@pytest.mark.parametrize(
    ("family", "named"),
    [(socket.AF_INET, False), (socket.AF_INET6, False), (socket.AF_INET, True)],
    ids=["IPv4", "IPv6", "a name"],
)
def test_a_stream_goes_through(lab: Lab, kind: Kind, family: int, named: bool) -> None:
    office = Office(lab, kind)
    six = family == socket.AF_INET6
    address, proxy = (port.addresses[six].partition("/")[0] for port in (office.server, office.proxy))
    with office.listen(family) as listener, office.dial(office.url(), NAME if named else address) as near:
        far, where = listener.accept()
        with far:
            assert where[0] == proxy, "it comes from there"
            near.setblocking(True)
            for sender, receiver in ((far, near), (near, far)):
                receiver.settimeout(PATIENCE)
                sender.sendall(b"x" * 100_000)
                got = 0
                while got < 100_000:
                    got += len(receiver.recv(1 << 16))


@both
def test_nothing_goes_past_the_proxy(lab: Lab, kind: Kind) -> None:
    office = Office(lab, kind)
    with office.listen(), office.client.socket(socket.AF_INET, socket.SOCK_STREAM) as direct:
        direct.settimeout(0.2)
        with pytest.raises(TimeoutError):
            direct.connect((office.server.address, 443))


@pytest.mark.parametrize(
    ("kind", "login", "why"),
    [
        (TINYPROXY, "me:wrong@", "does not take the user name and password (401)"),
        (TINYPROXY, "", "wants a user name and a password (407): give http://USER:PASSWORD@HOST:PORT"),
        (MICROSOCKS, "me:wrong@", "does not take the user name and password"),
        (MICROSOCKS, "", "wants a user name and a password: give socks5://USER:PASSWORD@HOST:PORT"),
    ],
)
def test_a_wrong_password_is_told(lab: Lab, kind: Kind, login: str, why: str) -> None:
    office = Office(lab, kind)
    with office.listen():
        assert office.refusal(office.url(login), office.server.address) == why


@pytest.mark.parametrize(
    ("kind", "port", "why"),
    [
        (TINYPROXY, 80, "forbids connections to {where}:80 (403"),
        (TINYPROXY, 444, "refuses to connect to {where}:444 (500"),
        (MICROSOCKS, 444, "does not connect to {where}:444: connection refused"),
    ],
)
def test_a_target_that_cannot_be_had_is_told(lab: Lab, kind: Kind, port: int, why: str) -> None:
    office = Office(lab, kind)
    told = office.refusal(office.url(), office.server.address, port)
    assert why.format(where=office.server.address) in told


def test_the_wrong_kind_of_proxy_is_told(lab: Lab) -> None:
    office = Office(lab, MICROSOCKS)
    with pytest.raises(NetworkError, match=r"http proxy .*(does not answer as an HTTP proxy|closes the connection)"):
        office.dial(office.url().replace("socks5", "http", 1), office.server.address)
