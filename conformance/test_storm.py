"""What a broadcast storm at line rate on one port does to a ping between two others; judged on an idle machine."""

from __future__ import annotations

import statistics
import sys

import pytest

from caetun.lab import Lab
from caetun.lab.traffic import ping
from tests.tunnel import storm
from tests.tunnel.campus import Plan, Site, campus
from tests.tunnel.idle import Others

pytestmark = [pytest.mark.slow, pytest.mark.needs("namespaces", "tun", "ip")]

_SECONDS = 8
_PINGS = 150
_STORM = 10_000
"""Frames a second: twenty times what storm control lets through."""


@pytest.mark.parametrize("carrier", ["udp", "tcp", "quic"])
@pytest.mark.parametrize("size", [60, 1400])
def test_ping_between_two_others(carrier: str, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    others = Others()
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic", carrier), Site("office"), Site("shed")]))
        attic, office, shed = made.sites
        quiet = ping(office.lan[0], shed.address(), count=_PINGS, interval=0.02)
        others.look()
        command = [sys.executable, "-I", storm.__file__, "eth0", str(_SECONDS), str(size)]
        raging = attic.lan[0].spawn(command, stdout=-1)
        times = ping(office.lan[0], shed.address(), count=_PINGS, interval=0.02)
        sent = int(raging.communicate()[0]) / _SECONDS
        others.look()
        with capsys.disabled():
            print(f"\n{carrier}, {sent:,.0f} broadcasts of {size} bytes a second")
            print(f"quiet: {said(quiet)}; in the storm: {said(times)}")
            print(others.disturb or "judged: the median is to be within 10 ms")
        assert sent > _STORM
        assert made.hub.end.drops()["bridge.storm"] > 0
        assert len(times) >= 0.9 * _PINGS
        if not others.disturb:
            assert statistics.median(times) <= 0.010
        assert made.stop() == [0] * 4


def said(times: list[float]) -> str:
    ordered = sorted(times)
    return (
        f"{len(times)} answers, median {statistics.median(times) * 1000:.1f} ms, "
        f"95 % within {ordered[int(len(ordered) * 0.95)] * 1000:.1f} ms"
    )
