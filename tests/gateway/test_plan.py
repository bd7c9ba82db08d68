"""What is wished in, what to change out."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from caetun.gateway.changes import Change, ResolvConf, ResolvedLink, Route, Rule, Ruleset, Sysctl
from caetun.gateway.plan import DEAD_END, LAST_METRIC, MAIN_TABLE, MARK, TABLE, Facts, Wish, plan

HERE4 = ip_interface("10.8.0.1/24")
HERE6 = ip_interface("fd88::1/64")


def changes_of(kind: type[Change], wish: Wish, facts: Facts = Facts()) -> list[Change]:  # noqa: B008 - frozen
    return [change for change in plan(wish, facts) if isinstance(change, kind)]


def test_who_wishes_nothing_changes_nothing() -> None:
    assert plan(Wish("tun0", (HERE4,)), Facts()) == []


def test_a_gateway_leads_both_versions_into_the_tunnel() -> None:
    assert changes_of(Route, Wish("tun0", (HERE4, HERE6), gateway=True)) == [
        Route("0.0.0.0/0", TABLE, "tun0"),
        Route("::/0", TABLE, "tun0"),
    ]


@pytest.mark.parametrize(("here", "blocked"), [(HERE4, "::/0"), (HERE6, "0.0.0.0/0")], ids=["IPv4 only", "IPv6 only"])
def test_what_the_tunnel_does_not_carry_leads_nowhere(here: object, blocked: str) -> None:
    routes = changes_of(Route, Wish("tun0", (here,), gateway=True))  # type: ignore[arg-type]
    assert Route(blocked, TABLE, metric=LAST_METRIC) in routes


def test_a_host_without_ipv6_is_not_bothered_with_it() -> None:
    changes = plan(Wish("tun0", (HERE4, HERE6), gateway=True, masquerade=True), Facts(ipv6=False))
    routes = [change for change in changes if isinstance(change, Route)]
    assert all(ip_network(route.network).version == 4 for route in routes)
    assert all(change.version == 4 for change in changes if isinstance(change, Rule))
    assert all("ipv6" not in change.name for change in changes if isinstance(change, Sysctl))


def test_the_tunnels_own_packets_go_their_old_way_and_all_others_through_it() -> None:
    rules = changes_of(Rule, Wish("tun0", (HERE4,), gateway=True, lan=False), Facts(ipv6=False))
    assert rules == [
        Rule(4, 31900, MAIN_TABLE, mark=MARK),
        Rule(4, 31901, TABLE, to="10.8.0.0/24"),
        Rule(4, 31903, TABLE, except_mark=MARK),
    ]


def test_only_private_networks_count_as_local() -> None:
    wish = Wish("tun0", (HERE4, HERE6), gateway=True)
    local = [rule.to for rule in changes_of(Rule, wish) if isinstance(rule, Rule) and rule.ignore_default]
    assert local == ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"]


def test_name_servers_are_asked_through_the_tunnel_wherever_they_are() -> None:
    wish = Wish("tun0", (HERE4,), gateway=True, dns=(ip_address("192.168.1.53"),))
    assert Rule(4, 31901, TABLE, to="192.168.1.53/32") in changes_of(Rule, wish)


def test_what_shuts_comes_before_what_leads() -> None:
    kinds = [type(change) for change in plan(Wish("tun0", (HERE4,), gateway=True, kill_switch=True), Facts())]
    assert kinds.index(Ruleset) < kinds.index(Route) < kinds.index(Rule)


def test_a_kill_switch_leaves_a_dead_end_where_the_device_was() -> None:
    routes = changes_of(Route, Wish("tun0", (HERE4, HERE6), gateway=True, kill_switch=True))
    assert {Route("0.0.0.0/0", TABLE, metric=LAST_METRIC), Route("::/0", TABLE, metric=LAST_METRIC)} <= set(routes)


def test_on_ethernet_there_is_a_next_hop_and_a_network_around_it() -> None:
    wish = Wish("tap0", (HERE4,), gateway=True, via=(ip_address("10.8.0.2"),))
    assert changes_of(Route, wish, Facts(ipv6=False)) == [
        Route("0.0.0.0/0", TABLE, "tap0", "10.8.0.2"),
        Route("10.8.0.0/24", TABLE, "tap0"),
    ]


def test_some_networks_alone_may_lie_behind_the_tunnel() -> None:
    wish = Wish("tun0", (HERE4,), routes=(ip_network("10.20.0.0/16"),))
    assert changes_of(Route, wish) == [
        Route("10.20.0.0/16", TABLE, "tun0"),
        Route("0.0.0.0/0", DEAD_END, metric=LAST_METRIC),
    ]
    assert changes_of(Rule, wish) == [
        Rule(4, 31600, MAIN_TABLE, mark=MARK),
        Rule(4, 31601, DEAD_END, mark=MARK),
        Rule(4, 31634, MAIN_TABLE, to="10.20.0.0/16", ignore_default=True, ignore_to=16),
        Rule(4, 31635, TABLE, to="10.20.0.0/16"),
    ]


def test_of_networks_the_more_exact_one_is_asked_first() -> None:
    wish = Wish("tun0", (HERE4, HERE6), routes=tuple(map(ip_network, ("0.0.0.0/1", "::/1", "10.1.1.0/25"))))
    rules = sorted((rule for rule in changes_of(Rule, wish) if isinstance(rule, Rule)), key=lambda rule: rule.priority)
    assert [rule.to for rule in rules if rule.version == 4 and rule.to] == ["10.1.1.0/25"] * 2 + ["0.0.0.0/1"] * 2
    assert max(rule.priority for rule in rules) < 31900


def test_a_router_still_hears_other_routers() -> None:
    wish = Wish("tun0", (HERE4, HERE6), masquerade=True)
    changes = plan(wish, Facts(routers_heard=("eth0",)))
    names = [change.name for change in changes if isinstance(change, Sysctl)]
    # once it forwards, the kernel throws away what it has heard from routers
    assert names.index("net/ipv6/conf/eth0/accept_ra") < names.index("net/ipv6/conf/all/forwarding")
    assert "net/ipv4/ip_forward" in names


def test_only_what_the_tunnel_carries_is_forwarded() -> None:
    changes = plan(Wish("tun0", (HERE4,), masquerade=True), Facts(routers_heard=("eth0",)))
    assert [change.name for change in changes if isinstance(change, Sysctl)] == ["net/ipv4/ip_forward"]


@pytest.mark.parametrize(
    ("facts", "kinds"),
    [
        (Facts(resolved=False, resolv_conf=True), [ResolvConf]),
        (Facts(resolved=True, resolv_conf=False), [ResolvedLink]),
        (Facts(resolved=True, resolv_conf=True), [ResolvedLink, ResolvConf]),
    ],
)
def test_name_servers_are_told_to_whoever_asks_them(facts: Facts, kinds: list[type]) -> None:
    wish = Wish("tun0", (HERE4,), dns=(ip_address("10.8.0.2"),))
    assert [type(change) for change in plan(wish, facts)] == kinds


@pytest.mark.parametrize(
    ("gateway", "domains", "everything"),
    [(True, (), True), (True, ("corp.example",), True), (False, (), True), (False, ("corp.example",), False)],
)
def test_domains_without_a_gateway_are_all_that_is_asked_there(
    gateway: bool, domains: tuple[str, ...], everything: bool
) -> None:
    wish = Wish("tun0", (HERE4,), gateway=gateway, dns=(ip_address("10.8.0.2"),), domains=domains)
    assert changes_of(ResolvedLink, wish, Facts(resolved=True)) == [
        ResolvedLink("tun0", ("10.8.0.2",), domains, everything)
    ]
