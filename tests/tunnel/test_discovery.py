"""What finds things and gives addresses in a LAN works across the hub; `conformance/` shows it for 10 minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from caetun.lab import Host, Lab
from tests.tunnel.campus import Campus, Plan, Site, campus
from tests.tunnel.discovery import PROTOCOLS, Leases, Protocol, Responders, Tenant, ask, autoconfigured, duplicate
from tests.tunnel.ends import ping
from tests.tunnel.watch import until

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "ping", "dnsmasq", "udhcpc")


@pytest.fixture(scope="module")
def three() -> Iterator[Campus]:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic", hosts=2), Site("office", "tcp"), Site("shed")]))
        yield made
        assert made.stop() == [0] * 4


@pytest.fixture(scope="module")
def responders(three: Campus) -> Iterator[Responders]:
    with Responders(everybody(three)) as made:
        yield made


def everybody(made: Campus) -> dict[str, Host]:
    return {host.name: host for place in made.sites for host in place.lan}


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_hosts_of_all_sites_are_found(three: Campus, responders: Responders, protocol: Protocol) -> None:
    for name, host in everybody(three).items():
        others = everybody(three).keys() - {name}
        assert ask(host, protocol, others) - {name} == others


def test_who_says_that_he_is_there_is_heard_everywhere(three: Campus, responders: Responders) -> None:
    responders.announce()
    for name in everybody(three):
        for protocol in PROTOCOLS:
            key, others = (name, protocol.name), everybody(three).keys() - {name}
            until(lambda: responders.announced.get(key, set()) >= others, f"{protocol.name} in {name}")  # noqa: B023


def test_addresses_are_given_across_the_hub(three: Campus) -> None:
    attic, office, shed = three.sites
    Leases(office.lan[0])
    tenants = [Tenant(host) for host in (attic.lan[0], shed.lan[0])]
    for tenant in tenants:
        until(lambda: tenant.told("bound"), "a lease")  # noqa: B023
    given = [tenant.told("bound")[0] for tenant in tenants]
    assert len(set(given)) == 2
    assert ping(attic.lan[0], given[1]) == 3
    for host in (attic.lan[1], shed.lan[0]):
        until(lambda: autoconfigured(host), "an address of the announced network")  # noqa: B023


def test_neighbours_are_found_and_duplicates_refused(three: Campus) -> None:
    attic, office, shed = three.sites
    for address in (office.address6(), shed.address6()):
        assert ping(attic.lan[1], address) == 3
    assert duplicate(attic.lan[1], shed.address6())
    assert not duplicate(attic.lan[1], "fd88::3:77")
