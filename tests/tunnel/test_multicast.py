"""Multicast between the LANs of three sites and the hub, with the kernel's own sockets: who asked gets it, nobody else.

Between the hosts and the hub there are Linux bridges that snoop, too, as they do in a real LAN.
`conformance/test_multicast.py` has more: older versions, other queriers, none.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from caetun.lab import Lab
from tests.tunnel.campus import Campus, Plan, Site, campus
from tests.tunnel.multicast import (
    LEFT_SECONDS,
    SECOND,
    Member,
    Sender,
    address,
    ebb,
    flows,
    keep_sending,
    meters,
    new_group,
    streamed,
)

pytestmark = pytest.mark.needs("namespaces", "tun", "ip")

versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def three() -> Iterator[Campus]:
    """Two hosts in the attic, one in the office (whose port is for one host), one in the shed and one at the hub."""
    sites = [Site("attic", hosts=2), Site("office", "tcp", words="fast-leave"), Site("shed")]
    with Lab() as lab:
        made = campus(lab, Plan(sites, hub=1))
        yield made
        assert made.stop() == [0] * 4


@versions
def test_a_stream_crosses_the_links_of_members_only(three: Campus, version: int) -> None:
    attic, office, shed = three.sites
    group = new_group(version)
    with (
        Member(shed.lan[0], group) as member,
        Sender(attic.lan[0], group) as sender,
        meters(office.host, shed.host) as (there, wanted),
    ):
        flows(sender, member)
        before = office.host.counters("eth0").received_bytes
        assert streamed(sender, there, wanted, member, count=SECOND) == [0, SECOND, SECOND]
        assert office.host.counters("eth0").received_bytes - before < SECOND * 50, "outside the tunnel, too"


def test_it_reaches_the_hub_and_several_sites_once_each(three: Campus) -> None:
    attic, office, shed = three.sites
    group = new_group(4)
    hosts = [attic.lan[0], attic.lan[1], shed.lan[0], three.hub.lan[0]]
    with Sender(office.lan[0], group) as sender, meters(attic.host, shed.host) as links:
        members = [Member(host, group) for host in hosts]
        flows(sender, *members)
        assert streamed(sender, *links, *members) == [200] * 6, "once to the attic, although there are two"
        for member in members:
            member.close()


def test_after_the_last_leave_it_stops_within_two_seconds(three: Campus) -> None:
    attic, _, shed = three.sites
    group = new_group(6)
    with Sender(shed.lan[0], group) as sender, meters(attic.host) as (link,):
        first, second = (Member(host, group) for host in attic.lan)
        flows(sender, first, second)
        first.close()
        keep_sending(sender, LEFT_SECONDS)
        assert streamed(sender, link, second) == [200, 200], "the one who has stayed goes on getting it"
        second.close()
        assert ebb(sender, link) < LEFT_SECONDS


@versions
def test_with_fast_leave_it_stops_at_once(three: Campus, version: int) -> None:
    attic, office, _ = three.sites
    group = new_group(version)
    with Sender(attic.lan[0], group) as sender, meters(office.host) as (link,):
        member = Member(office.lan[0], group)
        flows(sender, member)
        member.close()
        assert ebb(sender, link) < 1.0, "before any question could go unanswered"


@versions
def test_who_asks_for_a_source_gets_that_one_only(three: Campus, version: int) -> None:
    attic, office, shed = three.sites
    group, wanted, other = new_group(version), address(attic, version), address(office, version)
    with (
        Sender(attic.lan[0], group, wanted) as one,
        Sender(office.lan[0], group, other) as two,
        Member(shed.lan[0], group, [wanted]) as member,
        meters(shed.host) as (link,),
    ):
        flows(one, member)
        assert streamed(two, link, member) == [0, 0]
        assert streamed(one, link, member) == [200, 200]


def test_what_nobody_has_joined_stays_where_it_is(three: Campus) -> None:
    attic, office, shed = three.sites
    with Sender(attic.lan[0], new_group(6)) as sender, meters(office.host, shed.host) as links:
        assert streamed(sender, *links) == [0, 0]
