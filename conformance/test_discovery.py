"""What finds things and gives addresses in a LAN goes on working across the hub, longer than a membership lasts.

Nobody joins again or is started anew meanwhile: what is pruned by mistake after 270 s (RFC 9776, section 8.4) is
missed. The groups of discovery, a stream to a member, leases that are renewed, neighbours that are looked up afresh,
addresses that somebody else has, advertised networks.
"""

from __future__ import annotations

import itertools
import time
from typing import Final

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.campus import Campus, Place, Plan, Site, campus
from tests.tunnel.discovery import PROTOCOLS, Leases, Responders, Tenant, ask, autoconfigured, duplicate
from tests.tunnel.ends import ping
from tests.tunnel.multicast import Member, Sender, flows, meters, streamed
from tests.tunnel.watch import until

pytestmark = [pytest.mark.soak, pytest.mark.needs("namespaces", "tun", "ip", "ping", "dnsmasq", "udhcpc")]

SECONDS: Final = 620.0
_ROUND_SECONDS: Final = 10.0
_RENEWALS: Final = 8
"""Of leases for two minutes, which are renewed after one."""


def everybody(made: Campus) -> dict[str, Host]:
    return {host.name: host for place in made.sites for host in place.lan}


@pytest.mark.parametrize("arguments", [[], ["--no-querier"]], ids=["with a querier", "without"])
def test_ten_minutes(arguments: list[str]) -> None:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic", hosts=3), Site("office", "tcp"), Site("shed")], arguments=arguments))
        attic, office, shed = made.sites
        Leases(office.lan[0])
        tenants = [Tenant(attic.lan[0]), Tenant(shed.lan[0])]
        newcomer = attic.lan.pop()
        groups = ["239.5.5.5", "ff0e::5:5"]
        members = [Member(shed.lan[0], group) for group in groups]
        senders = [Sender(attic.lan[0], group) for group in groups]
        for sender, member in zip(senders, members, strict=True):
            flows(sender, member)
        with Responders(everybody(made)) as responders, meters(office.host) as (elsewhere,):
            time.sleep(1.0)
            elsewhere.take()
            end = time.monotonic() + SECONDS
            for number in itertools.count():
                if time.monotonic() > end:
                    break
                began = time.monotonic()
                look_for_each_other(made, responders)
                for sender, member in zip(senders, members, strict=True):
                    assert streamed(sender, member, count=100) == [100]
                if not number % 6:
                    addresses(attic, office, shed)
                    solicited(newcomer)
                time.sleep(max(0.0, began + _ROUND_SECONDS - time.monotonic()))
            crossed = elsewhere.take()
        assert number > 30
        assert (crossed > 0) == bool(arguments), "with a querier, to members only"
        for tenant in tenants:
            assert len(tenant.told("renew")) >= _RENEWALS
            assert len(tenant.told("bound")) == 1
        assert made.stop() == [0] * 4


def look_for_each_other(made: Campus, responders: Responders) -> None:
    """Everybody finds all others, by every protocol, and hears them announce themselves."""
    for name, host in everybody(made).items():
        others = everybody(made).keys() - {name}
        for protocol in PROTOCOLS:
            assert ask(host, protocol, others) - {name} == others, f"{protocol.name} from {name}"
    responders.announced.clear()
    responders.announce()
    for name in everybody(made):
        for protocol in PROTOCOLS:
            key, others = (name, protocol.name), everybody(made).keys() - {name}
            until(lambda: responders.announced.get(key, set()) >= others, f"{protocol.name} in {name}")  # noqa: B023


def addresses(attic: Place, office: Place, shed: Place) -> None:
    """Neighbours are asked for anew, an address that somebody has is refused, and networks are announced."""
    for here, there in ((attic, shed), (office, attic), (shed, office)):
        here.lan[0].run(["ip", "neigh", "flush", "dev", "eth0"])
        assert ping(here.lan[0], there.address6()) == 3
        assert ping(here.lan[0], there.address()) == 3
    assert duplicate(attic.lan[1], shed.address6())
    assert not duplicate(attic.lan[1], "fd88::3:77")


def solicited(host: Host) -> None:
    """A host that comes anew gets an address of the announced network."""
    host.run(["ip", "-6", "address", "flush", "dev", "eth0", "scope", "global", "dynamic"])
    assert not autoconfigured(host)
    host.run(["ip", "link", "set", "eth0", "down"])
    host.run(["ip", "link", "set", "eth0", "up"])
    until(lambda: autoconfigured(host), "an address of the announced network")
