"""A ping beside a bulk transfer on a narrow link: what is queued in front of it is ours to keep short."""

from __future__ import annotations

import statistics
import threading
from typing import Final

import pytest

from caetun.lab import Cable, Lab
from caetun.lab.traffic import ping, stream
from tests.tunnel.ends import INNER4, start, tunnel_arguments, two_hosts
from tests.tunnel.idle import Others

pytestmark = [pytest.mark.needs("namespaces", "tun", "ip"), pytest.mark.slow]

# chosen by us
_NARROW: Final = Cable(rate=100_000_000)
_SECONDS: Final = 6.0
"""Of bulk."""
_PINGS: Final = 40
_AT_MOST: Final = 0.020
"""Seconds, the median."""


@pytest.mark.parametrize("carrier", ["udp", "quic", "tcp", "wss"])
def test_a_ping_does_not_wait_behind_bulk(lab: Lab, carrier: str) -> None:
    hosts, others = two_hosts(lab, _NARROW), Others()
    ends = start(hosts, [[*arguments, "--transport", carrier] for arguments in tunnel_arguments(hosts)])
    others.look()
    rates: list[float] = []
    bulk = threading.Thread(target=lambda: rates.append(stream(hosts[1], hosts[0], INNER4[0], _SECONDS).rate))
    bulk.start()
    ping(hosts[1], INNER4[0], count=20, interval=0.05)  # while the stream finds its speed
    times = ping(hosts[1], INNER4[0], count=_PINGS, interval=0.05)
    bulk.join()
    assert [end.stop() for end in ends] == [0, 0]
    print(
        f"\n{carrier}: {statistics.median(times) * 1e3:.1f} ms in the median, {max(times) * 1e3:.1f} ms at most, "
        f"beside {rates[0] / 1e6:.0f} Mbit/s"
    )
    assert rates[0] > 0.7 * _NARROW.rate, "it is the link that is full"
    assert len(times) == _PINGS
    if others.disturb:
        pytest.skip(others.disturb)
    assert statistics.median(times) <= _AT_MOST
