"""Rules between a device and the tunnel, as two kernels see them: segment sizes, drops, NAT with TCP and ping."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.ends import INNER4, INNER6, PATIENCE, End, await_ping, ping, start, tunnel_arguments, two_hosts
from tests.tunnel.show import show

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

INSIDE: Final = ("192.168.5.1", "fd05::1")
OUTSIDE: Final = ("10.66.0.1", "fd66::1")
RULES: Final = (
    "out drop udp port 5353",
    "mss 1000",
    "nat 192.168.5.0/24 to 10.66.0.0/24",
    "nat fd05::/64 to fd66::/64",
    "out dscp ef from 10.66.0.0/24",
    "out dscp outer",
)
_PORT: Final = 5300
_DATA: Final = os.urandom(4 << 20)


@dataclass
class Tunnel:
    """Two hosts, the first of which has rules."""

    mode: str
    hosts: tuple[Host, Host]
    ends: tuple[End, End]

    def rows(self) -> dict[str, int]:
        """How often each rule has acted."""
        return {row["rule"]: row["frames"] for row in show(self.ends[0], "mangle", f"{self.mode}0")}


@pytest.fixture(scope="module", params=["tun", "tap"])
def tunnel(request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    mode = request.param
    with Lab() as lab:
        hosts = two_hosts(lab)
        one, other = tunnel_arguments(hosts, mode)
        one += ["--address", f"{INSIDE[0]}/24", "--address", f"{INSIDE[1]}/64"]
        one += [word for rule in RULES for word in ("--mangle", rule)]
        ends = start(hosts, [one, other])
        hosts[1].run(["ip", "route", "add", "10.66.0.0/24", "dev", f"{mode}0"])
        hosts[1].run(["ip", "-6", "route", "add", "fd66::/64", "dev", f"{mode}0"])
        for address in (INNER4[0], INNER6[0]):
            await_ping(hosts[1], address)
        yield Tunnel(mode, hosts, ends)
        assert [end.stop() for end in ends] == [0, 0]


def connected(tunnel: Tunnel, bound: str, called: str) -> tuple[socket.socket, socket.socket]:
    """A connection from the second host to the first: the first one's socket, and the second one's."""
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with tunnel.hosts[0].socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bound, _PORT))
        listener.listen(1)
        listener.settimeout(PATIENCE)
        caller = tunnel.hosts[1].socket(family, socket.SOCK_STREAM)
        caller.settimeout(PATIENCE)
        caller.connect((called, _PORT))
        answering, _ = listener.accept()
        answering.settimeout(PATIENCE)
        return answering, caller


@pytest.mark.parametrize(("bound", "called"), [(INNER4[0],) * 2, (INNER6[0],) * 2])
def test_both_ends_see_the_clamped_segment_size(tunnel: Tunnel, bound: str, called: str) -> None:
    for sock in connected(tunnel, bound, called):
        with sock:
            # 12 bytes of each segment are the timestamp option (RFC 7323).
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) in (988, 1000)


def test_what_a_rule_drops_is_counted(tunnel: Tunnel) -> None:
    before = tunnel.rows()[RULES[0]]
    with (
        tunnel.hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        tunnel.hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        tunnel.hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as forbidden,
    ):
        receiver.bind((INNER4[1], 5354))
        forbidden.bind((INNER4[1], 5353))
        receiver.settimeout(PATIENCE)
        for port in (5353, 5353, 5354):
            sender.sendto(b"content", (INNER4[1], port))
        assert receiver.recv(100) == b"content"
        with pytest.raises(BlockingIOError):
            forbidden.recv(100, socket.MSG_DONTWAIT)
    assert tunnel.rows()[RULES[0]] == before + 2
    assert tunnel.ends[0].drops()["mangle.filter"] >= 2


@pytest.mark.parametrize("version", [0, 1])
def test_nat_by_ping_and_tcp(tunnel: Tunnel, version: int) -> None:
    inside, outside = INSIDE[version], OUTSIDE[version]
    assert ping(tunnel.hosts[1], outside) == 3
    assert ping(tunnel.hosts[1], outside, size=5000) == 3
    answering, caller = connected(tunnel, inside, outside)
    with answering, caller:
        assert caller.getpeername()[0] == outside
        assert answering.getsockname()[0] == inside
        for sender, receiver in ((answering, caller), (caller, answering)):
            assert hashlib.sha256(carried(sender, receiver)).digest() == hashlib.sha256(_DATA).digest()
    assert tunnel.rows()[RULES[2 + version]] > 20


def carried(sender: socket.socket, receiver: socket.socket) -> bytes:
    thread = threading.Thread(target=sender.sendall, args=(_DATA,), daemon=True)
    thread.start()
    content = bytearray()
    while len(content) < len(_DATA):
        some = receiver.recv(1 << 20)
        assert some
        content += some
    thread.join(PATIENCE)
    return bytes(content)


def test_an_error_finds_its_way_back(tunnel: Tunnel) -> None:
    """A port that is closed: the far end's socket learns of it, by an ICMP error whose quote must be its own packet."""
    with tunnel.hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((OUTSIDE[0], 9))
        sender.settimeout(PATIENCE)
        sender.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            sender.recv(100)


def test_classes_are_seen_by_the_far_end(tunnel: Tunnel) -> None:
    with tunnel.hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((INNER4[1], 5400))
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        receiver.settimeout(PATIENCE)
        with tunnel.hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((INSIDE[0], 0))
            sender.sendto(b"voice", (INNER4[1], 5400))
        content, ancillary, _, source = receiver.recvmsg(100, 100)
        assert (content, source[0]) == (b"voice", OUTSIDE[0])
        assert ancillary[0][2][0] == 46 << 2


def test_the_tunnels_own_datagrams_get_the_class_of_what_they_carry(tunnel: Tunnel) -> None:
    def observed() -> int:
        """The type of service of the next long datagram between the hosts."""
        while True:
            packet = outside.recv(2000)
            if packet[9] == socket.IPPROTO_UDP and len(packet) > 800:
                return packet[1]

    with (
        tunnel.hosts[1].socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as outside,
        tunnel.hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        tunnel.hosts[1].inside(lambda: outside.bind(("eth0", 0x0800)))
        outside.settimeout(PATIENCE)
        sender.bind((INSIDE[0], 0))
        sender.sendto(bytes(800), (INNER4[1], 5401))
        assert observed() == 46 << 2
    with (
        tunnel.hosts[1].socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as outside,
        tunnel.hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        tunnel.hosts[1].inside(lambda: outside.bind(("eth0", 0x0800)))
        outside.settimeout(PATIENCE)
        sender.sendto(bytes(800), (INNER4[1], 5401))
        assert observed() == 0


def test_a_wrong_rule_is_one_line() -> None:
    with Lab() as lab:
        host = lab.host("one", private=["/run"])
        end = End(host, "--listen", ":4500", "--mangle", "out drop upd port 53")
        status, said = end.ended()
        assert status == 2
        assert said.startswith("caetun: --mangle: column 10: 'upd': give a condition: ip, ip6, arp, icmp")
        assert said.count("\n") == 1
