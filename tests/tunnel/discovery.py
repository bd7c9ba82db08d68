"""How things in a LAN find each other: mDNS, SSDP, WS-Discovery, DHCP, router advertisements, between hosts of a Lab.

with Responders({"printer": printer, "camera": camera}):
    assert ask(laptop, MDNS4, {"printer", "camera"}) == {"printer", "camera"}
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from caetun.lab import Host
from tests.tunnel.campus import index
from tests.tunnel.ends import PATIENCE, write
from tests.tunnel.watch import until

# -- fixed by the specification --
_DNS_HEAD: Final = struct.Struct(">HHHHHH")
_QUESTION: Final = b"\x07_caetun\x04_tcp\x05local\0\0\x0c\0\x01"
"""PTR, IN (RFC 1035)."""
_ANSWER_FLAGS: Final = 0x8400
_IP_MULTICAST_ALL: Final = 49

# chosen by us
_ANSWER_SECONDS: Final = 5.0
"""Enough for a busy machine; whoever answers does so at once."""
_TTL: Final = 120


class Protocol(NamedTuple):
    """A way of asking all hosts who is there."""

    name: str
    group: str
    port: int
    question: bytes
    answer: Callable[[str], bytes]
    """By name of the one who answers."""
    name_of: Callable[[bytes], str]
    """Who has answered; "" if that is no answer."""
    multicast: bool = False
    """Whether answers go to the group, too."""


def _mdns_answer(name: str) -> bytes:
    instance = bytes((len(name),)) + name.encode() + b"\xc0\x0c"
    record = struct.pack(">IH", _TTL, len(instance)) + instance
    return _DNS_HEAD.pack(0, _ANSWER_FLAGS, 0, 1, 0, 0) + _QUESTION + record


def _mdns_name(message: bytes) -> str:
    at = _DNS_HEAD.size + len(_QUESTION) + 6
    if len(message) <= at or not message[2] & 0x80:
        return ""
    return message[at + 1 : at + 1 + message[at]].decode()


def _text_answer(first: str, head: str, tail: str) -> tuple[Callable[[str], bytes], Callable[[bytes], str]]:
    """Answers in words: what comes before the name, and behind it."""

    def answer(name: str) -> bytes:
        return f"{first}{head}{name}{tail}".encode()

    def name_of(message: bytes) -> str:
        text = message.decode(errors="replace")
        return text.partition(head)[2].partition(tail)[0] if text.startswith(first) else ""

    return answer, name_of


def _ssdp(name: str, group: str) -> Protocol:
    """UPnP Device Architecture 1.1, sections 1.3.2 and 1.3.3."""
    host = f"[{group}]" if ":" in group else group
    question = f'M-SEARCH * HTTP/1.1\r\nHOST: {host}:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n'
    answers = _text_answer("HTTP/1.1 200 OK\r\n", "USN: uuid:", "\r\n")
    return Protocol(name, group, 1900, question.encode(), *answers)


def _ws_discovery(name: str, group: str) -> Protocol:
    """WS-Discovery 1.1, sections 5.2 and 5.3, without the namespaces."""
    answers = _text_answer("<ProbeMatches>", "<Address>urn:uuid:", "</Address></ProbeMatches>")
    return Protocol(name, group, 3702, b"<Probe><Types>Device</Types></Probe>", *answers)


_MDNS: Final = (5353, _DNS_HEAD.pack(0, 0, 1, 0, 0, 0) + _QUESTION, _mdns_answer, _mdns_name, True)
PROTOCOLS: Final = (
    Protocol("mDNS", "224.0.0.251", *_MDNS),
    Protocol("mDNS, IPv6", "ff02::fb", *_MDNS),
    _ssdp("SSDP", "239.255.255.250"),
    _ssdp("SSDP, IPv6", "ff02::c"),
    _ws_discovery("WS-Discovery", "239.255.255.250"),
    _ws_discovery("WS-Discovery, IPv6", "ff02::c"),
)


def _socket(host: Host, protocol: Protocol, member: bool) -> socket.socket:
    """A socket that sends to the group by `eth0`, and is a member of it if that is wanted."""
    six = ":" in protocol.group
    family = socket.AF_INET6 if six else socket.AF_INET
    sock = host.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    number = index(host)
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@8xi", number))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
    if not member:
        return sock
    sock.bind(("", protocol.port))
    if six:
        request = socket.inet_pton(family, protocol.group) + struct.pack("@I", number)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        request = socket.inet_aton(protocol.group) + struct.pack("@4xi", number)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    return sock


class Responders:
    """Answer by every protocol, in every one of some hosts, and note who is announced there, until the `with` ends."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._selector = selectors.DefaultSelector()
        self._over = False
        self._sockets = {
            (name, protocol): _socket(host, protocol, member=True)
            for name, host in hosts.items()
            for protocol in PROTOCOLS
        }
        self.announced: dict[tuple[str, str], set[str]] = {}
        """(who has heard, protocol) -> who was announced."""
        for key, sock in self._sockets.items():
            self._selector.register(sock, selectors.EVENT_READ, key)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Responders:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over = True
        self._thread.join(PATIENCE)
        for sock in self._sockets.values():
            sock.close()
        self._selector.close()

    def announce(self) -> None:
        """Everybody says by every protocol that he is there, unasked."""
        for (name, protocol), sock in self._sockets.items():
            sock.sendto(protocol.answer(name), (protocol.group, protocol.port))

    def _work(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.2):
                name, protocol = key.data
                message, where = key.fileobj.recvfrom(2048)  # type: ignore[union-attr]
                if message == protocol.question:
                    target = (protocol.group, protocol.port) if protocol.multicast else where
                    key.fileobj.sendto(protocol.answer(name), target)  # type: ignore[union-attr]
                elif said := protocol.name_of(message):
                    self.announced.setdefault((name, protocol.name), set()).add(said)


def ask(host: Host, protocol: Protocol, expected: set[str]) -> set[str]:
    """Who answers a question of a host; waits until all that are expected have."""
    found: set[str] = set()
    with _socket(host, protocol, member=protocol.multicast) as sock:
        sock.sendto(protocol.question, (protocol.group, protocol.port))
        end = time.monotonic() + _ANSWER_SECONDS
        while not expected <= found and (left := end - time.monotonic()) > 0:
            if select.select([sock], [], [], left)[0]:
                found.add(protocol.name_of(sock.recv(2048)))
    return found - {""}


# addresses

_SCRIPT: Final = Path(__file__).with_name("tenant.sh")


class Leases:
    """dnsmasq in one host: DHCP, and announcing itself as a router of fd77::/64. The lease time is two minutes."""

    def __init__(self, host: Host) -> None:
        host.run(["ip", "address", "add", "fd77::1/64", "dev", "eth0"])
        log = write(host, "/run/dnsmasq.log", "")
        ranges = ["--dhcp-range=10.88.200.1,10.88.200.250,2m", "--dhcp-range=::,constructor:eth0,ra-only"]
        files = ["--conf-file=/dev/null", "--dhcp-leasefile=/run/leases", "--pid-file=", "--user=root"]
        # It is not looked whether anybody has an address already: that takes it three seconds.
        words = [
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--enable-ra",
            "--dhcp-authoritative",
            "--no-ping",
        ]
        command = ["dnsmasq", "--keep-in-foreground", f"--log-facility={log}", *words, *ranges, *files]
        self.process = host.spawn(command)
        until(lambda: "started" in host.run(["cat", log]), "dnsmasq runs")


class Tenant:
    """udhcpc in one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        log = "/run/udhcpc.log"
        write(host, log, "")
        options = ["-f", "-i", "eth0", "-s", str(_SCRIPT), "-t", "20", "-T", "1"]
        self.process = host.spawn(["sh", "-c", f"exec udhcpc {' '.join(options)} >>{log} 2>&1"])

    def told(self, event: str) -> list[str]:
        """The addresses that it was given (`bound`) or has renewed (`renew`)."""
        text = self._host.run(["cat", "/run/udhcpc.log"])
        return [line.split()[1] for line in text.splitlines() if line.startswith(event + " ")]

    def stop(self) -> None:
        """Do without."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)


def autoconfigured(host: Host) -> bool:
    """Whether a host has made itself an address of the announced network."""
    return " fd77:" in host.run(["ip", "-6", "address", "show", "dev", "eth0", "scope", "global", "-tentative"])


def duplicate(host: Host, address: str) -> bool:
    """Whether a host that wants an address is told that somebody has it (RFC 4862, section 5.4)."""
    for word, value in (("accept_dad", 1), ("dad_transmits", 1)):
        host.set(f"net.ipv6.conf.eth0.{word}", value)
    host.run(["ip", "address", "add", f"{address}/64", "dev", "eth0"])

    def state() -> str:
        shown = host.run(["ip", "-6", "address", "show", "dev", "eth0", "to", address])
        return "failed" if "dadfailed" in shown else "" if "tentative" in shown else "fine"

    try:
        until(state, "duplicate address detection")
        return state() == "failed"
    finally:
        host.run(["ip", "address", "del", f"{address}/64", "dev", "eth0"])
