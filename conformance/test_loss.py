"""TCP through the tunnel on a path that loses: nearly what the same TCP does there without a tunnel.

The path is 100 Mbit/s wide, so that it and not this machine's cores sets the speed: the relay, both daemons and both
ends of the stream share them.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final

import pytest

from caetun.lab import Cable, Lab
from tests.tunnel.ends import INNER4, OUTER4, start, tunnel_arguments, two_hosts
from tests.tunnel.iperf import iperf

pytestmark = pytest.mark.needs("namespaces", "tun", "iperf3", "offload")

# chosen by us
_CABLE: Final = Cable(delay=0.010, loss=0.01, rate=100_000_000)
_ROUNDS: Final = (3, 9)
"""Runs of each kind: so many at least, and at most as many until it is clear."""
_SECONDS: Final = 1.5
"""Of one run."""
_FLOWS: Final = {"bbr": 1, "cubic": 8}
"""Streams at a time: cubic makes 8 Mbit/s of this path, with chance in it that several streams even out."""
_KEEPS: Final = {"bbr": 0.8, "cubic": 0.6}
"""Share of the throughput without a tunnel.

Cubic sends two segments at a time here, and with an inner MTU of 1,500 on a path of 1,500 these take three datagrams:
half as much again is lost, and TCP's rate goes with one over the root of that (Mathis et al. 1997): 0.82.
"""


def available(control: str) -> bool:
    """Whether this kernel has a congestion control."""
    return control in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


@pytest.mark.parametrize("control", _FLOWS)
def test_loss_costs_the_tunnel_little_more_than_tcp_alone(lab: Lab, control: str) -> None:
    if not available(control):
        pytest.skip(f"this kernel has no {control}: modprobe tcp_{control}")
    hosts = two_hosts(lab, _CABLE)
    one, other = start(hosts, tunnel_arguments(hosts))
    rates: dict[str, list[float]] = {OUTER4[0]: [], INNER4[0]: []}
    alone, tunnelled = rates.values()
    options = ["--congestion", control, "--parallel", str(_FLOWS[control])]

    def kept() -> float:
        return statistics.median(tunnelled) / statistics.median(alone)

    while len(alone) < _ROUNDS[0] or (kept() < _KEEPS[control] and len(alone) < _ROUNDS[1]):
        for address, measured in rates.items():
            measured += [flow.rate for flow in iperf(hosts[1], hosts[0], address, _SECONDS, options)]
    print(
        f"\n{control}, {_FLOWS[control]} streams, 1 % loss, 20 ms, {len(alone)} runs: "
        f"{statistics.median(alone) / 1e6:.1f} Mbit/s alone, {statistics.median(tunnelled) / 1e6:.1f} in the tunnel, "
        f"{kept():.0%}"
    )
    assert kept() >= _KEEPS[control]
    for end in (one, other):
        assert not end.events("peer.down", "peer.moved")
    assert (one.stop(), other.stop()) == (0, 0)
