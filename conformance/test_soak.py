"""TCP both ways for a long time, with new keys every five seconds: nothing breaks, nothing is lost, nothing grows.

Twenty seconds of it by default, ten minutes with `make soak`.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from caetun.lab import Host, Lab
from caetun.types import DropReason
from tests.tunnel.ends import INNER4, PATIENCE, End, start, tunnel_arguments, two_hosts
from tests.tunnel.iperf import iperf

pytestmark = [pytest.mark.needs("namespaces", "tun", "iperf3"), pytest.mark.alone]

# chosen by us
_REKEY: Final = "5"
"""Seconds: keys die after one and a half times that, so without a handshake in time the tunnel would go down."""
_GROWTH: Final = 2 << 20
"""Bytes that a process may grow once it is warm."""
_WARM: Final = 0.2
"""Share of the time after which it is warm."""
_SETTLE: Final = 0.3
"""Seconds until all that was under way has arrived."""
_NETWORK: Final = {DropReason.LINK_FULL, DropReason.RECORD_INCOMPLETE}
"""What may be dropped for the network's sake: it took no more, or it lost a piece of a record."""
_LEAST: Final = 50e6
"""Bits per second that each direction carries even on a busy machine."""


class Tally(NamedTuple):
    """What both ends and the network between them have counted."""

    counters: tuple[dict[str, Any], dict[str, Any]]
    lost: int
    """Datagrams that the kernel had no room for, on both sides."""


def tally(hosts: tuple[Host, Host], ends: tuple[End, End]) -> Tally:
    """Count when nothing is under way."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(_SETTLE)
        one, other, again = ends[0].counters(), ends[1].counters(), ends[0].counters()
        if all(one[key] == again[key] for key in ("records_out", "records_in")):
            return Tally((one, other), sum(udp_errors(host) for host in hosts))
    raise AssertionError("the tunnel is never idle")


def udp_errors(host: Host) -> int:
    """UDP datagrams that this host received or sent and lost for want of buffers (RFC 4113, udpInErrors)."""
    lines = host.inside(lambda: Path("/proc/thread-self/net/snmp").read_text()).splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    table = dict(zip(names, values, strict=True))
    return int(table["InErrors"]) + int(table["SndbufErrors"])


def check_losses(before: Tally, after: Tally) -> dict[str, int]:
    """Every record that left has arrived, or the network lost it. Returns how many did not arrive, by direction."""
    missing = {}
    for sender, receiver in ((0, 1), (1, 0)):
        sent = after.counters[sender]["records_out"] - before.counters[sender]["records_out"]
        received = after.counters[receiver]["records_in"] - before.counters[receiver]["records_in"]
        drops = Counter(after.counters[receiver]["drops"]) - Counter(before.counters[receiver]["drops"])
        assert drops.keys() <= _NETWORK, drops
        full = after.counters[sender]["drops"].get(DropReason.LINK_FULL, 0)
        missing[f"of {sent:,}"] = sent - received
        assert 0 <= sent - received <= after.lost - before.lost + full
    return missing


@pytest.mark.parametrize(
    "seconds", [pytest.param(20.0, id="20 seconds"), pytest.param(600.0, id="10 minutes", marks=pytest.mark.soak)]
)
def test_a_long_run_breaks_nothing_loses_nothing_and_does_not_grow(lab: Lab, seconds: float) -> None:
    hosts = two_hosts(lab)
    ends = start(hosts, [[*each, "--rekey-after", _REKEY] for each in tunnel_arguments(hosts)])
    before = tally(hosts, ends)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(iperf, hosts[1], hosts[0], INNER4[0], seconds, ["--bidir"])
        time.sleep(seconds * _WARM)
        warm = [end.memory() for end in ends]
        flows = run.result()
    grown = [end.memory() - then for end, then in zip(ends, warm, strict=True)]
    after = tally(hosts, ends)
    missing = check_losses(before, after)
    rates = " and ".join(f"{flow.rate / 1e6:,.0f}" for flow in flows)
    print(
        f"\n{seconds:g} s, {rates} Mbit/s, records missing {missing}, "
        f"lost by the kernel {after.lost - before.lost}, grown by {[f'{size >> 10} KiB' for size in grown]}"
    )
    assert len(flows) == 2
    assert min(flow.rate for flow in flows) > _LEAST
    assert max(grown) <= _GROWTH
    for end in ends:
        assert end.troubles() == []
        assert len(end.events("peer.up")) == 1
    assert [end.stop() for end in ends] == [0, 0]
