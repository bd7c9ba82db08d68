"""A hub with several peers, each by another carrier: a switch that joins them."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from caetun.lab import Host, Lab
from caetun.lab.traffic import stream
from caetun.session.identity import public_key
from tests.tunnel.ends import End, ping, write

pytestmark = pytest.mark.needs("namespaces", "tun", "ping")

CARRIERS: Final = ("udp", "tcp", "quic")


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


def test_peers_of_different_carriers_reach_each_other_and_the_hub(three: Star) -> None:
    for here, site in enumerate(three.sites):
        assert ping(site, "10.88.0.1") == 3
        for there in range(len(three.sites)):
            if there != here:
                assert ping(site, three.inner(there)) == 3


@pytest.mark.parametrize(("here", "there"), [(0, 1), (1, 2), (2, 0)])
def test_tcp_from_peer_to_peer_arrives_as_sent(three: Star, here: int, there: int) -> None:
    assert stream(three.sites[here], three.sites[there], three.inner(there), 0.3).octets >= 1 << 20


def test_isolated_ports_reach_the_hub_only() -> None:
    with Lab() as lab:
        made = star(lab, ("udp", "tcp"), words=["name=a,isolated", "name=b,isolated"])
        assert ping(made.sites[0], "10.88.0.1") == 3
        assert ping(made.sites[0], made.inner(1), count=1, wait=0.5) == 0
        assert made.hub_end.stop() == 0
