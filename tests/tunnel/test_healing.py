"""A site comes back: its groups flow again, and switches elsewhere learn where its hosts are, within a second or so."""

from __future__ import annotations

import base64
import socket
import time

import pytest

from caetun.lab import Host, Lab
from caetun.session.identity import public_key
from caetun.wire import arp
from tests.tunnel.ends import End, ping
from tests.tunnel.multicast import Member, Sender, new_group
from tests.tunnel.test_hub import star
from tests.tunnel.watch import until

pytestmark = [pytest.mark.needs("namespaces", "tun", "ping", "ip"), pytest.mark.alone]

_ALL_PROTOCOLS = 3


def call(site: Host, hub: Host) -> End:
    """Start the tunnel of the first site, with the device that is there."""
    private = base64.b64decode(hub.run(["cat", "/run/key"]))
    peer = base64.b64encode(public_key(private)).decode()
    where = ["--mode", "tap", "--dev", "tap0", "--connect", "udp://10.99.0.1:4500"]
    return End(site, *where, "--key", "/run/key", "--peer", peer)


def heard(sniffer: socket.socket) -> list[bytes]:
    """Frames since it was last asked."""
    frames = []
    while True:
        try:
            frames.append(sniffer.recv(2048))
        except BlockingIOError:
            return frames


def test_groups_and_hosts_of_a_site_that_comes_back(lab: Lab) -> None:
    made = star(lab, ("udp", "udp"))
    site, other = made.sites
    assert made.ends[0].stop() == 0
    # A device that outlives the tunnel: its memberships stay, and nobody reports them unless he is asked.
    for words in ("tuntap add tap0 mode tap", "address add 10.88.0.2/24 dev tap0", "link set tap0 up"):
        site.run(["ip", *words.split()])
    group = new_group(4)
    member, sender = Member(site, group, device="tap0"), Sender(other, group, device="tap0")

    def arrives() -> bool:
        sender.send()
        return member.take() > 0

    end = call(site, made.hub)
    until(arrives, "the stream")
    assert ping(site, "10.88.0.3") == 3
    mac = bytes.fromhex(site.run(["cat", "/sys/class/net/tap0/address"]).strip().replace(":", ""))
    assert end.stop() == 0
    made.hub_end.wait_for("peer.down", 2)
    sniffer = other.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    sniffer.bind(("tap0", _ALL_PROTOCOLS))
    sniffer.setblocking(False)
    member.take()
    end = call(site, made.hub)
    end.wait_for("peer.up")
    up = time.monotonic()
    announcement = arp.gratuitous(mac, bytes((10, 88, 0, 2)))
    frames: list[bytes] = []

    def announced() -> bool:
        frames.extend(heard(sniffer))
        return any(frame[: len(announcement)] == announcement for frame in frames)

    until(arrives, "the stream again", 5.0)
    again = time.monotonic() - up
    until(announced, "its host is announced", 5.0)
    print(f"stream again after {again:.2f} s")
    assert again < 3.0
    sniffer.close()
    assert [each.stop() for each in (end, made.ends[1], made.hub_end)] == [0] * 3
