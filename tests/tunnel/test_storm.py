"""A broadcast storm in one LAN: the others go on, and get no more of it than storm control lets through."""

from __future__ import annotations

import statistics
import sys

import pytest

from caetun.lab import Lab
from caetun.lab.traffic import ping
from tests.tunnel import storm
from tests.tunnel.campus import DEVICE, Plan, Site, campus

pytestmark = [pytest.mark.needs("namespaces", "tun", "ip"), pytest.mark.alone]

_SECONDS = 2
_PINGS = 50
_LET_THROUGH = 2000 + 500 * (_SECONDS + 1)
"""Frames: the burst and the rate of other broadcasts."""


def test_a_storm_in_one_lan_leaves_the_others_alone() -> None:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic"), Site("office", "tcp"), Site("shed")]))
        attic, office, shed = made.sites
        assert len(ping(office.lan[0], shed.address(), count=3)) == 3
        before = office.host.counters(DEVICE).received_packets
        raging = attic.lan[0].spawn([sys.executable, "-I", storm.__file__, "eth0", str(_SECONDS)], stdout=-1)
        times = ping(office.lan[0], shed.address(), count=_PINGS, interval=0.03)
        sent = int(raging.communicate()[0])
        assert len(times) >= 0.9 * _PINGS
        assert statistics.median(times) < 0.1, "on a machine that has other things to do; see conformance/test_storm.py"
        assert sent > 5 * _LET_THROUGH
        assert office.host.counters(DEVICE).received_packets - before < _LET_THROUGH + 4 * _PINGS
        assert made.hub.end.drops()["bridge.storm"] > 0
        assert made.stop() == [0] * 4
