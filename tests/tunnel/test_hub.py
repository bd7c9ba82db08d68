"""A hub with several peers, each by another carrier: a switch that joins them, with multicast for those who want it."""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from caetun.lab import Host, Lab
from caetun.lab.traffic import stream
from caetun.session.identity import public_key
from tests.tunnel.ends import PATIENCE, End, ping, write

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

CARRIERS: Final = ("udp", "tcp", "quic")
GROUP: Final = "239.1.2.3"
GROUP6: Final = "ff0e::123"
_PORT: Final = 5004


@dataclass
class Star:
    """A hub and the sites around it; inside the tunnel 10.88.0.1 and .2, .3, ..."""

    hub: Host
    sites: list[Host]
    hub_end: End
    ends: list[End]

    def inner(self, number: int) -> str:
        return f"10.88.0.{number + 2}"


def star(lab: Lab, carriers: Sequence[str], *hub_arguments: str, words: Sequence[str] = ()) -> Star:
    """Start a hub and a site for each carrier; `words`: what the hub says of each peer's port."""
    hub = lab.host("hub", private=["/run"])
    sites = [lab.host(f"site{number}", private=["/run"]) for number in range(len(carriers))]
    for number, site in enumerate(sites):
        lab.link(hub, site, left=[f"10.99.{number}.1/24"], right=[f"10.99.{number}.2/24"])
    private = [os.urandom(32) for _ in range(len(sites) + 1)]
    public = [base64.b64encode(public_key(key)).decode() for key in private]
    files = [
        write(host, "/run/key", base64.b64encode(key).decode() + "\n")
        for host, key in zip([hub, *sites], private, strict=True)
    ]
    said = list(words) or [f"name=site{number}" for number in range(len(sites))]
    peers = [text for number, each in enumerate(said) for text in ("--peer", f"{public[number + 1]},{each}")]
    listen = ["--listen", ":4500", "--transport", ",".join(dict.fromkeys(carriers))]
    common = ["--mode", "tap", "--dev", "tap0"]
    addresses = ["--address", "10.88.0.1/24"]
    hub_end = End(hub, *common, *listen, "--key", files[0], *addresses, *peers, *hub_arguments)
    hub_end.wait_for("start")
    ends = []
    for number, (site, carrier) in enumerate(zip(sites, carriers, strict=True)):
        where = ["--connect", f"{carrier}://10.99.{number}.1:4500", "--address", f"10.88.0.{number + 2}/24"]
        ends.append(End(site, *common, *where, "--key", files[number + 1], "--peer", public[0]))
    hub_end.wait_for("peer.up", len(ends))
    for end in ends:
        end.wait_for("peer.up")
    return Star(hub, sites, hub_end, ends)


@pytest.fixture(scope="module")
def three() -> Iterator[Star]:
    with Lab() as lab:
        made = star(lab, CARRIERS)
        yield made
        assert [end.stop() for end in (*made.ends, made.hub_end)] == [0] * 4


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def test_peers_of_different_carriers_reach_each_other_and_the_hub(three: Star) -> None:
    for here, site in enumerate(three.sites):
        assert ping(site, "10.88.0.1") == 3
        for there in range(len(three.sites)):
            if there != here:
                assert ping(site, three.inner(there)) == 3


@pytest.mark.parametrize(("here", "there"), [(0, 1), (1, 2), (2, 0)])
def test_tcp_from_peer_to_peer_arrives_as_sent(three: Star, here: int, there: int) -> None:
    assert stream(three.sites[here], three.sites[there], three.inner(there), 0.3).octets > 1 << 20


class Listener:
    """A socket that has joined a group on the tunnel's device."""

    def __init__(self, host: Host, group: str, source: str = "") -> None:
        family = socket.AF_INET6 if ":" in group else socket.AF_INET
        self.socket = host.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((group, _PORT))
        index = host.inside(lambda: socket.if_nametoindex("tap0"))
        if family == socket.AF_INET6:
            request = socket.inet_pton(family, group) + struct.pack("@I", index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        elif source:
            # struct ip_mreq_source (ip(7), IP_ADD_SOURCE_MEMBERSHIP)
            request = socket.inet_aton(group) + host_address(host) + socket.inet_aton(source)
            self.socket.setsockopt(socket.IPPROTO_IP, 39, request)
        else:
            request = socket.inet_aton(group) + bytes(4) + struct.pack("@i", index)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)

    def count(self) -> int:
        """Datagrams since it was last asked."""
        found = 0
        while True:
            try:
                self.socket.recv(2048)
            except BlockingIOError:
                return found
            found += 1


def host_address(host: Host) -> bytes:
    shown = host.run(["ip", "-4", "-o", "address", "show", "dev", "tap0"])
    return socket.inet_aton(shown.split(" inet ")[1].split("/")[0])


class Sender:
    """Sends to a group by the tunnel's device."""

    def __init__(self, host: Host, group: str) -> None:
        family = socket.AF_INET6 if ":" in group else socket.AF_INET
        self.group = group
        self.socket = host.socket(family, socket.SOCK_DGRAM)
        index = host.inside(lambda: socket.if_nametoindex("tap0"))
        if family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + struct.pack("@i", index))

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.socket.sendto(bytes(1000), (self.group, _PORT))


@pytest.mark.parametrize("group", [GROUP, GROUP6])
def test_multicast_reaches_those_who_asked_and_nobody_else(three: Star, group: str) -> None:
    listener, sender = Listener(three.sites[1], group), Sender(three.sites[0], group)

    def arrives() -> bool:
        sender.send()
        return listener.count() > 0

    until(arrives, "the first datagram")
    before = rx_packets(three.sites[2])
    sender.send(200)
    until(lambda: listener.count() > 0, "the stream")
    assert rx_packets(three.sites[2]) - before < 20, "no payload at the third site, only what asks for members"
    listener.socket.close()

    def over() -> bool:
        """Whether nothing comes to the site any more that has left."""
        seen = rx_packets(three.sites[1])
        sender.send(20)
        time.sleep(0.1)
        return rx_packets(three.sites[1]) - seen < 10

    until(over, "the leave", 4.0)


def rx_packets(host: Host) -> int:
    """Packets that a site's device was given."""
    text = host.inside(lambda: Path("/proc/thread-self/net/dev").read_text())
    line = next(line for line in text.splitlines() if line.strip().startswith("tap0:"))
    return int(line.split(":")[1].split()[1])


def test_a_source_is_asked_for_by_name(three: Star) -> None:
    listener = Listener(three.sites[1], "239.4.5.6", source=three.inner(0))
    wanted, other = Sender(three.sites[0], "239.4.5.6"), Sender(three.sites[2], "239.4.5.6")

    def arrives() -> bool:
        wanted.send()
        return listener.count() > 0

    until(arrives, "the source that was asked for")
    before = rx_packets(three.sites[1])
    other.send(100)
    wanted.send()
    until(lambda: listener.count() > 0, "another datagram of it")
    assert rx_packets(three.sites[1]) - before < 20


def test_vlans_of_ports() -> None:
    words = ["name=a,access=7", "name=b,access=7", "name=c,access=8"]
    with Lab() as lab:
        made = star(lab, ("udp",) * 3, "--port", "access=7", words=words)
        assert ping(made.sites[0], made.inner(1)) == 3
        assert ping(made.sites[0], "10.88.0.1") == 3
        assert ping(made.sites[2], made.inner(0), count=1, wait=0.5) == 0
        assert made.hub_end.stop() == 0


def test_isolated_ports_reach_the_hub_only() -> None:
    with Lab() as lab:
        made = star(lab, ("udp", "tcp"), words=["name=a,isolated", "name=b,isolated"])
        assert ping(made.sites[0], "10.88.0.1") == 3
        assert ping(made.sites[0], made.inner(1), count=1, wait=0.5) == 0
        assert made.hub_end.stop() == 0


def test_the_device_becomes_a_member_of_a_bridge_which_is_removed_in_the_end() -> None:
    with Lab() as lab:
        made = star(lab, ("udp", "tcp"), "--bridge", "br0:create")
        assert "master br0" in made.hub.run(["ip", "link", "show", "dev", "tap0"])
        assert ping(made.sites[0], made.inner(1)) == 3
        assert made.hub_end.stop() == 0
        assert "br0" not in made.hub.run(["ip", "link"])
