"""A client, its hub, and a door between them at which firewalls stand; a proxy's host is behind the door too.

    client ---- door ---- hub
                  \\----- proxy

The hub listens at port 443 with `--transport auto`, the client calls it with the same, unless a test says otherwise.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from caetun.lab import Host, Lab
from caetun.lab.firewalls import allow_only_via
from caetun.lab.routers import routed
from caetun.lab.traffic import ping
from tests.transports.stream_ends import certificate
from tests.tunnel.ends import INNER4, PATIENCE, End, device_arguments, endpoint, secret_arguments, write
from tests.tunnel.watch import until, way

PRIVATE: Final = ("/run", "/var/lib")
"""Folders that each host has for itself: keys, configurations, certificates made on first use."""
AT_MOST: Final = 5.0
"""Chosen by us: seconds from the start of a client to the first ping, where any carrier gets through."""
PROXY_PORT: Final = 3128
LOGIN: Final = "me:s3cr3t@"
"""User and password of the proxies."""
NGINX_PATH: Final = "/2b1f/lan"
_GUIDE: Final = Path(__file__).parents[2] / "docs" / "nginx.md"
_TINYPROXY: Final = """
Port 3128
BasicAuth me s3cr3t
ConnectPort 443
MaxClients 20
LogLevel Critical
"""


class Street:
    """The hosts, and arguments for `caetun` at both ends."""

    def __init__(self, lab: Lab) -> None:
        self.client, self.door, self.hub, self.proxy = (
            lab.host(name, private=PRIVATE) for name in ("client", "door", "hub", "proxy")
        )
        ends = routed(lab, (self.client, self.door), (self.door, self.hub), (self.door, self.proxy))
        self.client_port, self.outside = ends[0][0], ends[1][0]
        self.hub_port, self.proxy_port = ends[1][1], ends[2][1]
        self.near, self.far = arguments_of(self.client, self.hub)
        self.address = self.hub_port.address
        self._proxy: subprocess.Popen[bytes] | None = None
        self._enclosed = False
        self.at_most = PATIENCE
        """Seconds that a client may take to its first ping; `AT_MOST` where that is what is to be shown."""

    def listen(self, *arguments: str) -> End:
        """Start the hub, and wait until it is there."""
        return listen(self.hub, self.far, *(arguments or ("--listen", ":443", "--transport", "auto")))

    def call(self, *arguments: str, transport: str = "auto", environment: Sequence[str] = ()) -> End:
        """Start the client, and print how long the first ping takes; fails if that is too long."""
        where = ["--connect", endpoint(self.address, 443), "--transport", transport]
        return call(self.client, self.near, *where, *arguments, environment=environment, at_most=self.at_most)

    def call_url(self, url: str, *arguments: str) -> End:
        """The same for a client that is told by a URL where to go."""
        return call(self.client, self.near, "--connect", url, *arguments, at_most=self.at_most)

    def start_proxy(self, scheme: str) -> str:
        """Start an HTTP or a SOCKS proxy; the client reaches nothing else from now on. Returns its URL."""
        if scheme == "http":
            command = ["tinyproxy", "-d", "-c", write(self.proxy, "/run/tinyproxy.conf", _TINYPROXY)]
        else:
            command = ["microsocks", "-i", "::", "-p", str(PROXY_PORT), "-u", "me", "-P", "s3cr3t"]
        self._proxy = self.proxy.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_port(self.client, self.proxy_port.address, PROXY_PORT)
        if not self._enclosed:
            self._enclosed = True
            allow_only_via(self.door, *(address.partition("/")[0] for address in self.proxy_port.addresses))
        return f"{scheme}://{LOGIN}{self.proxy_port.address}:{PROXY_PORT}"

    def stop_proxy(self) -> None:
        """Kill it, and the connections that it has."""
        assert self._proxy is not None
        self._proxy.kill()
        self._proxy.wait()

    def start_nginx(self) -> None:
        """Start nginx at the hub's host as docs/nginx.md shows it: port 443, and one path leads to port 8080."""
        found = re.search(r"```nginx\n(.*?)```", _GUIDE.read_text(), re.DOTALL)
        assert found
        block = found[1].replace("/var/www/html", "/nonexistent")
        for name, content, there in zip(("cert", "key"), certificate(), ("fullchain", "privkey"), strict=True):
            path = write(self.hub, f"/run/{name}.pem", content.decode())
            block = block.replace(f"/etc/letsencrypt/live/hub.example/{there}.pem", path)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path /run/{kind};" for kind in kinds)
        conf = f"daemon off; user root; pid /run/pid; events {{}} http {{ {temporary} access_log off; {block} }}"
        path = write(self.hub, "/run/nginx.conf", conf)
        self.hub.spawn(["nginx", "-p", "/run", "-c", path, "-e", "/run/error.log"])
        await_port(self.hub, "127.0.0.1", 443)


def arguments_of(client: Host, hub: Host) -> tuple[list[str], list[str]]:
    """What client and hub need besides where to go: device and keys."""
    keys = secret_arguments((hub, client))
    return [*device_arguments(1), *keys[1]], [*device_arguments(0), *keys[0]]


def listen(host: Host, common: Sequence[str], *arguments: str) -> End:
    """Start a hub, and wait until it is there."""
    hub = End(host, *common, *arguments)
    hub.wait_for("start")
    return hub


def start(host: Host, *arguments: str, environment: Sequence[str] = ()) -> End:
    """Start an end; `environment`: NAME=VALUE for it."""
    return End(host, *arguments, command=("env", *environment, sys.executable, "-m", "caetun"))


def call(
    host: Host,
    common: Sequence[str],
    *arguments: str,
    environment: Sequence[str] = (),
    at_most: float = AT_MOST,
) -> End:
    """Start a client, and print how long the first ping takes; fails if that is too long.

    `environment`: NAME=VALUE for it.
    """
    began = time.monotonic()
    client = start(host, *common, *arguments, environment=environment)
    while not ping(host, INNER4[0], timeout=0.05):
        assert client.process.poll() is None, client.said()
        assert time.monotonic() < began + PATIENCE, client.said()
    took = time.monotonic() - began
    print(f"\nfirst ping {took:.2f} s after the start, by {way(client)}")
    assert took <= at_most
    return client


def stop(*ends: End) -> None:
    """All end as they should."""
    assert [end.stop() for end in ends] == [0] * len(ends)


def await_port(host: Host, address: str, port: int) -> None:
    """Wait until something listens there."""

    def listens() -> bool:
        with host.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            return probe.connect_ex((address, port)) == 0

    until(listens, f"something listens at port {port}")
