"""TCP through the tunnel on a path that loses: nearly what the same TCP does there without a tunnel.

Cubic is held back by the loss itself. BBR is not, so its path is 100 Mbit/s wide: that, not this machine's cores, which
the relay, both daemons and both ends of the stream share, shall set the speed.
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
_CABLES: Final = {
    "bbr": Cable(delay=0.010, loss=0.01, rate=100_000_000),
    "cubic": Cable(delay=0.010, loss=0.01),
}
_ROUNDS: Final = (4, 12)
"""Runs of each kind: so many at least, and at most as many until it is clear."""
_SECONDS: Final = 2
"""Of one run."""
_KEEPS: Final = 0.8
"""Share of the throughput without a tunnel."""


def available(control: str) -> bool:
    """Whether this kernel has a congestion control."""
    return control in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


@pytest.mark.parametrize("control", _CABLES)
def test_loss_costs_the_tunnel_little_more_than_tcp_alone(lab: Lab, control: str) -> None:
    if not available(control):
        pytest.skip(f"this kernel has no {control}: modprobe tcp_{control}")
    hosts = two_hosts(lab, _CABLES[control])
    one, other = start(hosts, tunnel_arguments(hosts))
    rates: dict[str, list[float]] = {OUTER4[0]: [], INNER4[0]: []}
    alone, tunnelled = rates.values()
    options = ["--congestion", control]

    def kept() -> float:
        return statistics.mean(tunnelled) / statistics.mean(alone)

    while len(alone) < _ROUNDS[0] or (kept() < _KEEPS and len(alone) < _ROUNDS[1]):
        for address, measured in rates.items():
            measured += [flow.rate for flow in iperf(hosts[1], hosts[0], address, _SECONDS, options)]
    print(
        f"\n{control}, 1 % loss, 20 ms, {len(alone)} runs: "
        f"{statistics.mean(alone) / 1e6:.1f} Mbit/s alone, {statistics.mean(tunnelled) / 1e6:.1f} in the tunnel, "
        f"{kept():.0%}"
    )
    assert kept() >= _KEEPS
    for end in (one, other):
        assert not end.events("peer.down", "peer.moved")
    assert (one.stop(), other.stop()) == (0, 0)
