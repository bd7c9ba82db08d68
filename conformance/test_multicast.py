"""Multicast across a hub, as in `tests/tunnel/test_multicast.py`, with hosts of older versions, and other queriers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from caetun.lab import Lab
from tests.tunnel.campus import Campus, Plan, Site, campus
from tests.tunnel.multicast import (
    LEFT_SECONDS,
    Member,
    Sender,
    address,
    ask,
    ebb,
    flows,
    keep_sending,
    meters,
    new_group,
    streamed,
)
from tests.tunnel.watch import until

pytestmark = [pytest.mark.slow, pytest.mark.needs("namespaces", "tun", "ip")]

versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module", params=["own querier", "real querier", "real querier comes late"])
def asked(request: pytest.FixtureRequest) -> Iterator[Campus]:
    """Two hosts in the attic, one in the office and one in the shed; who asks is the hub, or the bridge of the shed."""
    real = request.param.startswith("real")
    alone = request.param == "real querier"
    with Lab() as lab:
        made = campus(
            lab, Plan([Site("attic", hosts=2), Site("office"), Site("shed")], arguments=["--no-querier"] * alone)
        )
        if real:
            ask(made["shed"])
            until(lambda: made.port("shed")["router"], "it is heard")
            silent = {"off"} if alone else {"listening"}
            until(lambda: {row["state"] for row in made.show("querier")} == silent, "the hub does not ask")
        yield made
        assert made.stop() == [0] * 4


@versions
def test_it_goes_to_members_and_stops_after_the_last_leave(asked: Campus, version: int) -> None:
    attic, office, shed = asked.sites
    group = new_group(version)
    router = 200 if asked.port("shed")["router"] else 0
    with Sender(office.lan[0], group) as sender, meters(attic.host, shed.host) as (link, asking):
        first, second = (Member(host, group) for host in attic.lan)
        flows(sender, first, second)
        assert streamed(sender, link, asking) == [200, router]
        first.close()
        keep_sending(sender, LEFT_SECONDS)
        assert streamed(sender, link, second) == [200, 200], "the one who has stayed goes on getting it"
        second.close()
        assert ebb(sender, link) < LEFT_SECONDS


@versions
def test_a_leave_stops_it_within_two_seconds(asked: Campus, version: int) -> None:
    attic, office, _ = asked.sites
    took = []
    for group in (new_group(version) for _ in range(3)):
        with Sender(office.lan[0], group) as sender, meters(attic.host) as (link,):
            member = Member(attic.lan[0], group)
            flows(sender, member)
            member.close()
            took.append(ebb(sender, link))
    print(f"{asked.hub.name}, IPv{version}: stops after {', '.join(f'{each:.2f}' for each in took)} s")
    assert statistics.median(took) < 2.0


@pytest.mark.parametrize(
    ("version", "setting", "value"),
    [
        (4, "ipv4.conf.eth0.force_igmp_version", 1),
        (4, "ipv4.conf.eth0.force_igmp_version", 2),
        (6, "ipv6.conf.eth0.force_mld_version", 1),
    ],
    ids=["IGMPv1", "IGMPv2", "MLDv1"],
)
def test_a_host_of_an_older_version(asked: Campus, version: int, setting: str, value: int) -> None:
    attic, office, shed = asked.sites
    host, group = attic.lan[1], new_group(version)
    host.set(f"net.{setting}", value)
    try:
        with Sender(shed.lan[0], group) as sender, meters(attic.host, office.host) as (link, elsewhere):
            member = Member(host, group)
            flows(sender, member)
            assert streamed(sender, link, elsewhere) == [200, 0]
            member.close()
            if (version, value) != (4, 1):  # a host of IGMPv1 does not say that it leaves (RFC 1112, appendix I)
                assert ebb(sender, link) < LEFT_SECONDS
    finally:
        host.set(f"net.{setting}", 0)


@versions
def test_a_source_that_nobody_wants_any_more(asked: Campus, version: int) -> None:
    attic, office, _ = asked.sites
    group, kept, other = new_group(version), address(attic, version), address(office, version)
    with (
        Sender(attic.lan[0], group, kept) as one,
        Sender(office.lan[0], group, other) as two,
        Member(attic.lan[1], group, [kept, other]) as both,
        meters(attic.host) as (link,),
    ):
        flows(two, both)
        assert streamed(two, link, both) == [200, 200]
        both.leave_source(other)
        assert ebb(two, link) < LEFT_SECONDS
        assert streamed(one, both) == [200]


@versions
def test_without_a_querier_everybody_gets_everything(version: int) -> None:
    with Lab() as lab:
        made = campus(lab, Plan([Site("attic"), Site("office"), Site("shed")], arguments=["--no-querier"]))
        attic, office, shed = made.sites
        group = new_group(version)
        with (
            Member(shed.lan[0], group) as member,
            Sender(attic.lan[0], group) as sender,
            meters(office.host, shed.host) as links,
        ):
            flows(sender, member)
            assert streamed(sender, *links, member) == [200] * 3
        assert made.stop() == [0] * 4
