"""Two hubs whose LANs are joined by a cable: joins travel between them, and a stream only where it was joined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from caetun.lab import Lab
from tests.tunnel.campus import Campus, Plan, Site, campus, enslave
from tests.tunnel.ends import ping
from tests.tunnel.multicast import LEFT_SECONDS, Member, Sender, ebb, flows, meters, new_group, streamed
from tests.tunnel.show import show
from tests.tunnel.watch import until

pytestmark = [pytest.mark.slow, pytest.mark.needs("namespaces", "tun", "ip", "ping")]

OFTEN: Final = ["--query-interval", "20"]
"""So that each hub soon hears of the other one."""
_SECONDS: Final = 30.0
versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Campus, Campus, str]]:
    """Both, and the device by which the second one's hub has the cable."""
    with Lab() as lab:
        here = campus(lab, Plan([Site("attic", hosts=2), Site("office")], hub=1, arguments=OFTEN))
        plan = Plan([Site("shed"), Site("cellar", "tcp")], hub=1, arguments=OFTEN, name="other", first=5)
        there = campus(lab, plan)
        cable = lab.link(here.hub.host, there.hub.host)
        for made, port in zip((here, there), cable, strict=True):
            enslave(made.hub.host, port.device)
        until(lambda: ping(here["attic"].lan[0], there["shed"].address()) == 3, "the cable is in use")
        for made in (here, there):
            until(lambda: heard_each_other(made), "the other hub is heard", _SECONDS)  # noqa: B023
        yield here, there, cable[1].device
        assert [*here.stop(), *there.stop()] == [0] * 6


def heard_each_other(made: Campus) -> bool:
    """Whether reports of the other hub's hosts have come, by its LAN, and it asks nevertheless."""
    asks = all(row["state"] == "asking" for row in show(made.hub.end, "querier"))
    return asks and any(row["port"] == "local" for row in show(made.hub.end, "mdb"))


@versions
def test_both_ask_and_a_stream_crosses_where_it_is_wanted(two: tuple[Campus, Campus, str], version: int) -> None:
    here, there, cable = two
    attic, office = here.sites
    shed, cellar = there.sites
    group = new_group(version)
    with (
        Sender(attic.lan[0], group) as sender,
        Member(office.lan[0], group) as near,
        meters(shed.host, cellar.host) as links,
        meters(there.hub.host, device=cable) as (across,),
    ):
        flows(sender, near)
        assert streamed(sender, near, across, *links) == [200, 0, 0, 0], "nobody over there has joined"
        far = Member(shed.lan[0], group)
        flows(sender, far)
        assert streamed(sender, near, far, across, *links) == [200, 200, 200, 200, 0]
        far.close()
        assert max(ebb(sender, meter) for meter in (links[0], across)) < LEFT_SECONDS
        assert streamed(sender, near, across, *links) == [200, 0, 0, 0]
