"""lz4 on a link of 100 Mbit/s carries at least twice as much of what shrinks: with and without in turn, in one run."""

from __future__ import annotations

import statistics
from typing import Final

import pytest

from caetun.lab import Cable, Lab
from tests.tunnel.compression import carried, prose
from tests.tunnel.ends import start, tunnel_arguments, two_hosts
from tests.tunnel.show import show

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.needs("namespaces", "tun", "ping", "rate")]

# chosen by us
_LINK: Final = Cable(rate=100_000_000)
_ROUNDS: Final = 5
_SECONDS: Final = 2.0
_TIMES: Final = 2.0


def test_twice_as_much_with_lz4() -> None:
    with Lab() as with_it, Lab() as without:
        places = [two_hosts(lab, _LINK) for lab in (with_it, without)]
        both = [
            start(hosts, [[*each, *more] for each in tunnel_arguments(hosts, "tap")])
            for hosts, more in zip(places, (["--compress", "lz4"], []), strict=True)
        ]
        content = prose(1 << 20)
        rounds = [[carried(hosts, content, _SECONDS) for hosts in places] for _ in range(_ROUNDS)]
        lz4, plain = (statistics.median(column) for column in zip(*rounds, strict=True))
        times = statistics.median(one / other for one, other in rounds)
        print(f"{lz4 / 1e6:.0f} Mbit/s with lz4, {plain / 1e6:.0f} without: {times:.2f} times as much")
        assert show(both[0][1], "peers")[0]["compression"].startswith("lz4, ")
        assert show(both[1][1], "peers")[0]["compression"] == ""
        assert 0.7 * _LINK.rate < plain < _LINK.rate
        assert times >= _TIMES
