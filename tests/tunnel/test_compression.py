"""Compression between two hosts: agreed on by both, left out where one end has none, and worth it on a slow path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from caetun.lab import Cable, Host, Lab
from tests.tunnel.compression import carried, prose
from tests.tunnel.ends import INNER4, End, await_ping, ping, start, tunnel_arguments, two_hosts
from tests.tunnel.show import show

pytestmark = pytest.mark.needs("namespaces", "tun", "ping", "rate")

SLOW: Final = Cable(rate=20_000_000)


def ends(lab: Lab, *compress: Sequence[str], cable: Cable = SLOW) -> tuple[tuple[Host, Host], tuple[End, End]]:
    """Two ends with these arguments on top."""
    hosts = two_hosts(lab, cable)
    pairs = zip(tunnel_arguments(hosts, "tap"), compress, strict=True)
    return hosts, start(hosts, [[*arguments, *more] for arguments, more in pairs])


@pytest.mark.parametrize("method", ["lz4", pytest.param("zstd", marks=pytest.mark.slow)])
def test_more_gets_through_a_slow_path(method: str) -> None:
    with Lab() as lab:
        hosts, both = ends(lab, ["--compress", method], ["--compress", method])
        rate = carried(hosts, prose(1 << 20))
        assert rate > 1.6 * SLOW.rate, f"{rate / 1e6:.1f} Mbit/s"
        (row,) = show(both[1], "peers")
        assert row["compression"].startswith(f"{method}, ")
        assert not [name for end in both for name in end.drops() if name.startswith("compression")]


def test_one_end_without_is_sent_none() -> None:
    with Lab() as lab:
        hosts, both = ends(lab, ["--compress", "zstd,lz4"], [], cable=Cable())
        await_ping(hosts[0], INNER4[1])
        assert ping(hosts[0], INNER4[1], size=4000) == 3
        assert carried(hosts, prose(1 << 20)) > 0
        assert [show(end, "peers")[0]["compression"] for end in both] == ["", ""]
        assert not [name for end in both for name in end.drops() if name.startswith("compression")]
