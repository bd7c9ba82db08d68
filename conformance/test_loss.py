"""TCP through the tunnel on a path that loses: nearly what the same TCP does there without a tunnel.

Cubic is held back by the loss itself. BBR is not, so its path is 100 Mbit/s wide: that, not this machine's cores, which
the relay, both daemons and both ends of the stream share, shall set the speed. The same holds for several cubic streams
together, for which there is no bar: their share is printed.

How many runs there are is fixed beforehand, and they are judged once: more runs until one likes the mean would let
chance pass the bar.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from caetun.lab import Cable, Lab
from caetun.lab.traffic import stream
from tests.tunnel.ends import INNER4, OUTER4, start, tunnel_arguments, two_hosts
from tests.tunnel.idle import Others
from tests.tunnel.iperf import iperf

pytestmark = [pytest.mark.needs("namespaces", "tun", "iperf3", "offload"), pytest.mark.slow]

# chosen by us
_LOSING: Final = Cable(delay=0.010, loss=0.01)
_NARROW: Final = Cable(delay=0.010, loss=0.01, rate=100_000_000)
_BAD: Final = Cable(delay=0.005, loss=0.05)
_LONG: Final = 10.0
"""Seconds of TCP in each direction through a carrier that must not break."""
_ROUNDS: Final = 8
"""Runs of each kind, outside and inside the tunnel in turn, so that a drift of the machine falls on both."""
_SECONDS: Final = 2
"""Of one run."""
_KEEPS: Final = 0.8
"""Share of the throughput without a tunnel."""
_STREAMS: Final = 8
"""Where there are several."""


def available(control: str) -> bool:
    """Whether this kernel has a congestion control."""
    return control in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


def share_kept(lab: Lab, cable: Cable, others: Others, options: Sequence[str]) -> float:
    """Mean throughput inside over outside a tunnel on such a cable, which is told; the tunnel has to stay up."""
    hosts = two_hosts(lab, cable)
    one, other = start(hosts, tunnel_arguments(hosts))
    rates: dict[str, list[float]] = {OUTER4[0]: [], INNER4[0]: []}
    for _ in range(_ROUNDS):
        others.look()
        for address, measured in rates.items():
            measured += [flow.rate for flow in iperf(hosts[1], hosts[0], address, _SECONDS, options)]
    for end in (one, other):
        assert not end.events("peer.down", "peer.moved")
    assert (one.stop(), other.stop()) == (0, 0)
    alone, tunnelled = rates.values()
    kept = statistics.mean(tunnelled) / statistics.mean(alone)
    print(
        f"\n{' '.join(options)}, 1 % loss, 20 ms, {_ROUNDS} runs each: "
        f"{spread(alone)} Mbit/s alone, {spread(tunnelled)} in the tunnel, {kept:.0%}"
    )
    return kept


def spread(rates: Sequence[float]) -> str:
    """Mean and standard deviation, in Mbit/s."""
    return f"{statistics.mean(rates) / 1e6:.1f} ± {statistics.stdev(rates) / 1e6:.1f}"


@pytest.mark.parametrize(("control", "cable"), [("bbr", _NARROW), ("cubic", _LOSING)], ids=["bbr", "cubic"])
def test_loss_costs_the_tunnel_little_more_than_tcp_alone(lab: Lab, control: str, cable: Cable) -> None:
    if not available(control):
        pytest.skip(f"this kernel has no {control}: modprobe tcp_{control}")
    others = Others()
    kept = share_kept(lab, cable, others, ["--congestion", control])
    if others.disturb:
        pytest.skip(others.disturb)
    assert kept >= _KEEPS


@pytest.mark.parametrize("carrier", ["udp", "quic", "tcp", "wss"])
def test_no_carrier_breaks_where_much_is_lost(lab: Lab, carrier: str) -> None:
    hosts = two_hosts(lab, _BAD)
    ends = start(hosts, [[*arguments, "--transport", carrier] for arguments in tunnel_arguments(hosts)])
    for sender, receiver, address in ((*hosts, INNER4[1]), (*hosts[::-1], INNER4[0])):
        got = stream(sender, receiver, address, _LONG)
        print(f"\n{carrier}, {_BAD.loss:.0%} loss: {got.rate / 1e6:.1f} Mbit/s from {sender.name}")
        assert got.octets > 1 << 20
    for end in ends:
        assert len(end.events("peer.up")) == 1
        assert not end.events("peer.down", "peer.moved", "link.lost")
    assert [end.stop() for end in ends] == [0, 0]


def test_what_several_streams_keep_is_told(lab: Lab) -> None:
    share_kept(lab, _NARROW, Others(), ["--congestion", "cubic", "--parallel", str(_STREAMS)])
