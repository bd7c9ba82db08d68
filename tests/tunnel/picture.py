"""A browser on one host, a web server on another, and the tunnel between: what tests of the gateway are written with.

    client 10.1.1.1 ---------- 10.1.1.2 server 1.1.1.2 ---------- 1.1.1.1 web
       tun 10.8.0.1  =========  10.8.0.2

The web server knows no way to 10.8.0.0/24, nor to 10.1.1.0/24; with IPv6 likewise. It also answers DNS. The client has
a default route outside of the tunnel: what leaks is seen on eth0.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from caetun.lab import Host, Lab, Port
from tests.tunnel.ends import PATIENCE, End, secret_arguments, write

CLIENT4, SERVER4 = "10.1.1.1", "10.1.1.2"
CLIENT6, SERVER6 = "2001:db8:1::1", "2001:db8:1::2"
WEB4, OUTSIDE4 = "1.1.1.1", "1.1.1.2"
WEB6, OUTSIDE6 = "2001:db8:2::1", "2001:db8:2::2"
INSIDE4: Final = ("10.8.0.1", "10.8.0.2")
INSIDE6: Final = ("fd88::1", "fd88::2")
NAME: Final = "page.example"
HUB: Final = "hub.example"
PAGE: Final = "<!doctype html><title>far</title><p id=said>You have come a long way.</p>"
SAID: Final = "You have come a long way."
PORT: Final = 443

# fixed by the specification: linux/if_ether.h, RFC 791, RFC 8200, RFC 4443, RFC 3810
_ETH_P_ALL: Final = 3
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_ICMP, _TCP, _UDP, _ICMPV6, _HOP_BY_HOP = 1, 6, 17, 58, 0
_UNREACHABLE: Final = 3
"""ICMP (RFC 792)."""
_OF_THE_LINK: Final = frozenset((*range(130, 137), 143))
"""ICMPv6 that finds neighbours, routers and groups."""
_SO_RCVBUFFORCE: Final = 33

# chosen by us
_BUFFER: Final = 16 << 20
"""Bytes of frames kept between two looks."""


class Picture(NamedTuple):
    """The three hosts."""

    client: Host
    server: Host
    web: Host
    cable: Port
    """The client's end of the cable."""
    secrets: tuple[list[str], list[str]]
    """Arguments for client and server."""

    def start_server(self, *more: str, transport: str = "udp") -> End:
        """The end that lets the other one out."""
        where = ["--listen", f"[::]:{PORT}", "--transport", transport, "--dev", "tun0"]
        return End(self.server, *where, "--masquerade", *more, *self.secrets[1])

    def start_client(self, *more: str, transport: str = "udp", to: str = SERVER4) -> End:
        """The end that sends everything through the tunnel."""
        host = f"[{to}]" if ":" in to else to
        where = ["--connect", f"{host}:{PORT}", "--transport", transport, "--dev", "tun0", "--gateway"]
        return End(self.client, *where, *more, *self.secrets[0])

    def curl(self, host: str = NAME, patience: float = 5.0) -> str:
        """What a page request of the client brings; "" if it fails, or takes longer than `patience` seconds."""
        url = f"http://{f'[{host}]' if ':' in host else host}/"
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", str(patience), url]
        process = self.client.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return process.communicate(timeout=PATIENCE)[0].decode()


def picture(lab: Lab) -> Picture:
    """Three hosts, the web server at work, no tunnel yet."""
    client, server, web = (lab.host(name, private=["/run"]) for name in ("client", "server", "web"))
    for host in (client, server):
        own_etc(host)
    cable, _ = lab.link(
        client, server, left=[f"{CLIENT4}/24", f"{CLIENT6}/64"], right=[f"{SERVER4}/24", f"{SERVER6}/64"]
    )
    lab.link(server, web, left=[f"{OUTSIDE4}/24", f"{OUTSIDE6}/64"], right=[f"{WEB4}/24", f"{WEB6}/64"])
    client.run(["ip", "route", "add", "default", "via", SERVER4])
    client.run(["ip", "-6", "route", "add", "default", "via", SERVER6])
    _serve(web)
    one, other = secret_arguments([client, server])
    return Picture(client, server, web, cable, (one, other))


def tunnel_addresses(number: int, versions: Sequence[int] = (4, 6)) -> list[str]:
    """`--address` arguments of client (0) or server (1)."""
    found = [f"{INSIDE4[number]}/24"] if 4 in versions else []
    found += [f"{INSIDE6[number]}/64"] if 6 in versions else []
    return [word for each in found for word in ("--address", each)]


def name_server(host: Host, *answers: str, listen: Sequence[str]) -> None:
    """Let dnsmasq answer on a host: `answers` as `/NAME/ADDRESS`."""
    command = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root"]
    command += ["--pid-file=", "--bind-interfaces", "--log-queries", "--log-facility=/run/dnsmasq.log"]
    command += [f"--listen-address={each}" for each in listen] + [f"--address={each}" for each in answers]
    host.spawn(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while "started" not in queries(host):
        assert time.monotonic() < deadline, "dnsmasq does not start"
        time.sleep(0.02)


def queries(host: Host) -> str:
    """What a host's dnsmasq has been asked so far."""
    path = Path("/run/dnsmasq.log")
    return host.inside(lambda: path.read_text() if path.exists() else "")


def _serve(web: Host) -> None:
    web.inside(lambda: Path("/run/www").mkdir())
    write(web, "/run/www/index.html", PAGE, mode=0o644)
    command = [sys.executable, "-m", "http.server", "80", "--bind", "::", "--directory", "/run/www"]
    web.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    name_server(web, f"/{NAME}/{WEB4}", f"/{NAME}/{WEB6}", listen=[WEB4, WEB6])
    deadline = time.monotonic() + PATIENCE
    while ":80" not in web.run(["ss", "-ltn"]):
        assert time.monotonic() < deadline, "the web server does not start"
        time.sleep(0.02)


def own_etc(host: Host) -> None:
    """A copy of /etc that may be written to."""
    host.run(["sh", "-c", "cp -a /etc /run/etc 2>/dev/null; rm -f /run/etc/resolv.conf; mount --bind /run/etc /etc"])
    write(host, "/etc/resolv.conf", f"nameserver {SERVER4}\n", mode=0o644)


# what is there before, and has to be there after


def state(host: Host) -> dict[str, str]:
    """Everything that a gateway may change of a host, in words."""
    found = {
        " ".join(command): host.run(command)
        for command in (
            ["ip", "rule"],
            ["ip", "-6", "rule"],
            ["ip", "route", "show", "table", "all"],
            ["ip", "-6", "route", "show", "table", "all"],
            ["ip", "-br", "link"],
            ["nft", "list", "ruleset"],
            ["stat", "--format", "%i %N %A %h %u %g %s", "/etc/resolv.conf"],  # not when: that has minutes
            ["sh", "-c", "ls /etc | grep -i resolv; ls -A /run/caetun 2>/dev/null || true"],
            ["cat", "/etc/resolv.conf"],
        )
    }
    found |= host.inside(_sysctls)
    return found


def _sysctls() -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in ("ipv4/ip_forward", "ipv4/conf/*/*", "ipv6/conf/*/*", "ipv4/tcp_*"):
        for path in Path("/proc/sys/net").glob(pattern):
            try:
                found[str(path)] = path.read_text()
            except OSError:
                continue
    return found


class Before:
    """Hosts as they are now."""

    def __init__(self, *hosts: Host) -> None:
        self._states = {host: state(host) for host in hosts}

    def differences(self) -> dict[str, tuple[str | None, str | None]]:
        """What is not as it was on any of them."""
        found: dict[str, tuple[str | None, str | None]] = {}
        for host, before in self._states.items():
            after = state(host)
            for name in {*before, *after}:
                if before.get(name) != after.get(name):
                    found[f"{host.name}: {name}"] = before.get(name), after.get(name)
        return found


# what crosses the cable


class Frames:
    """Every frame on a device of a host from now on, in both directions (packet(7))."""

    def __init__(self, host: Host, device: str) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setblocking(False)
        host.inside(lambda: self._socket.bind((device, _ETH_P_ALL)))
        self.tunnel = 0
        """Frames of the tunnel that were among those taken."""

    def close(self) -> None:
        """No more."""
        self._socket.close()

    def strange(self) -> list[str]:
        """What has crossed since the last time that is neither the tunnel nor what finds a neighbour."""
        found: list[str] = []
        while True:
            try:
                frame = self._socket.recv(1 << 17)
            except BlockingIOError:
                return found
            what = _kind(frame)
            if what == "tunnel":
                self.tunnel += 1
            elif what:
                found.append(what)


@contextmanager
def frames(picture: Picture) -> Iterator[Frames]:
    """Those on the client's cable."""
    capture = Frames(picture.client, picture.cable.device)
    try:
        yield capture
    finally:
        capture.close()


def _kind(frame: bytes) -> str:
    """`tunnel`, "" for what belongs to the link, or what it is in words."""
    (kind,) = struct.unpack_from(">H", frame, 12)
    packet = frame[14:]
    if kind == _ARP:
        return ""
    if kind == _IPV4:
        header, protocol = (packet[0] & 0x0F) * 4, packet[9]
        source, target = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        ends = {CLIENT4, SERVER4}
    elif kind == _IPV6:
        header, protocol = 40, packet[6]
        source, target = (socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24))
        ends = {CLIENT6, SERVER6}
        if protocol == _HOP_BY_HOP:
            protocol, header = packet[40], 40 + (packet[41] + 1) * 8
        if protocol == _ICMPV6 and packet[header] in _OF_THE_LINK:
            return ""
    else:
        return f"ethertype {kind:#06x}"
    if protocol == _ICMP and packet[header] == _UNREACHABLE:
        return _kind(frame[:14] + packet[header + 8 :])  # about a frame of the tunnel to an end that is not there
    ports = struct.unpack_from(">HH", packet, header) if protocol in (_TCP, _UDP) else ()
    if {source, target} == ends and PORT in ports:
        return "tunnel"
    return f"{source} > {target} protocol {protocol} ports {ports}"


def caetun(host: Host, *arguments: str) -> str:
    """Run a `caetun` command in a host; returns what it prints, both streams."""
    sources = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": sources, "RUNTIME_DIRECTORY": "/run/caetun", "STATE_DIRECTORY": "/run/caetun-state"}
    command = ["env", *(f"{name}={value}" for name, value in environment.items())]
    return host.run([*command, sys.executable, "-m", "caetun", *arguments])
