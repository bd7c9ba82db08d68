"""What is wished -> what to change on the host, in order. Pure: what has to be known of the host comes as `Facts`.

A gateway steers by rules and a table of its own, and leaves the host's routes as they are:

    31900  what the tunnel's own sockets send, by its mark        lookup main: as it always did
    31901  to the tunnel's networks and name servers              lookup 51943: the tunnel
    31902  to private networks, if the local ones stay reachable  lookup main, its default route does not count
    31903  all the rest, unless it has the mark                   lookup 51943

Single networks that would take the tunnel's own packets along have rules of their own, the longest prefix first:

    31600  what the tunnel's own sockets send                     lookup main
    31601  if that leads nowhere                                  lookup 51944: unreachable
    31602  to a network                                           lookup main, only routes that are more exact count
    31603  to it                                                  lookup 51943
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from typing import Final, TypeAlias

from caetun.gateway import ruleset
from caetun.gateway.changes import Change, ResolvConf, ResolvedLink, Route, Rule, Ruleset, Sysctl
from caetun.gateway.ruleset import Address, Network

Interface: TypeAlias = IPv4Interface | IPv6Interface

# fixed by the kernel's interface
MAIN_TABLE: Final = 254
LAST_METRIC: Final = 0xFFFF0000
"""A route's metric that others have come before."""
DEFAULT: Final = {4: "0.0.0.0/0", 6: "::/0"}

# chosen by us
MARK: Final = 0xCAE7
"""Of the tunnel's own packets. As other tools' marks (WireGuard's 0xca6c, Tailscale's 0x80000), one that nobody has."""
TABLE: Final = 0xCAE7
"""The routing table, 51943."""
DEAD_END: Final = TABLE + 1
"""The one for the tunnel's own packets where there is no way out."""
ROUTES_PRIORITY: Final = 31_600
"""Of the first rule about single networks: two for each length of a prefix come behind it, all before `PRIORITY`."""
PRIORITY: Final = 31_900
"""Of the first rule: after those of other tools, which know more exactly what they want, before the main table."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a tunnel shall do with its host."""

    device: str
    interfaces: tuple[Interface, ...] = ()
    """The device's addresses."""
    gateway: bool = False
    """All traffic goes through the tunnel."""
    lan: bool = True
    """The local networks stay reachable meanwhile."""
    kill_switch: bool = False
    """Nothing leaves otherwise, even while there is no tunnel."""
    via: tuple[Address, ...] = ()
    """Next hops in the tunnel, at most one an IP version; needed where the device carries Ethernet."""
    routes: tuple[Network, ...] = ()
    """Further networks that lie behind the tunnel."""
    dns: tuple[Address, ...] = ()
    domains: tuple[str, ...] = ()
    masquerade: bool = False
    """Let far ends out into the world by this host."""
    pulls: bool = False
    """The far end may wish more of it, and has yet to say what the device's addresses are."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those the device is in, each once."""
        return tuple(dict.fromkeys(each.network for each in self.interfaces))

    @property
    def versions(self) -> frozenset[int]:
        """Of IP, that the tunnel carries."""
        return frozenset(each.version for each in self.interfaces)

    @property
    def steers(self) -> bool:
        """Whether any traffic of this host is led into the tunnel by rules."""
        return self.gateway or bool(self.routes)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan has to know of the host."""

    ipv6: bool = True
    """Whether it has IPv6 at all."""
    routers_heard: tuple[str, ...] = ()
    """Interfaces that take their IPv6 routes from router advertisements (accept_ra = 1)."""
    resolved: bool = False
    """systemd-resolved runs here."""
    resolv_conf: bool = True
    """Programs ask the servers in /etc/resolv.conf themselves."""


def plan(wish: Wish, facts: Facts) -> list[Change]:
    """The changes, in the order in which they are to be made; undone in the opposite one.

    What shuts comes before what leads: at no moment does anything go astray that must not.
    """
    changes: list[Change] = []
    if wish.masquerade:
        changes += _forwarding(wish, facts)
    body = _table(wish)
    if body:
        changes.append(Ruleset(ruleset.table_name(wish.device), body))
    if wish.steers:
        # Reverse path filtering takes the mark into account (Documentation/networking/ip-sysctl.rst).
        changes.append(Sysctl("net/ipv4/conf/all/src_valid_mark", "1"))
        changes += _routes(wish, facts)
        changes += _rules(wish, facts)
    if wish.dns:
        changes += _names(wish, facts)
    return changes


def _forwarding(wish: Wish, facts: Facts) -> Iterator[Change]:
    if 4 in wish.versions:
        along = ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects")
        yield Sysctl("net/ipv4/ip_forward", "1", along)
    if 6 in wish.versions and facts.ipv6:
        # A router does not listen to routers, unless told so before; or this host would lose its own default route.
        for interface in facts.routers_heard:
            yield Sysctl(f"net/ipv6/conf/{interface}/accept_ra", "2")
        yield Sysctl("net/ipv6/conf/all/forwarding", "1", ("net/ipv6/conf/*/forwarding",))


def _table(wish: Wish) -> str:
    """The rules for nftables that the wish needs; "" for none."""
    parts = []
    if wish.steers:
        parts.append(ruleset.steering(wish.device, [each.ip for each in wish.interfaces], MARK))
    if wish.gateway and wish.dns:
        parts.append(ruleset.no_other_dns(wish.device, MARK))
    if wish.kill_switch:
        parts.append(ruleset.kill_switch(wish.device, MARK, wish.lan))
    if wish.masquerade:
        parts.append(ruleset.let_out(wish.device, wish.networks))
    return "".join(parts)


def _versions(facts: Facts) -> tuple[int, ...]:
    return (4, 6) if facts.ipv6 else (4,)


def _routes(wish: Wish, facts: Facts) -> Iterator[Change]:
    """Our table: into the tunnel, or nowhere."""
    via: dict[int, str] = {each.version: str(each) for each in wish.via}
    for version in _versions(facts):
        hop = via.get(version, "")
        if wish.gateway and version in wish.versions:
            yield Route(DEFAULT[version], TABLE, wish.device, hop)
        if wish.gateway and (wish.kill_switch or version not in wish.versions):
            # Left over when the device has gone, which takes its routes along.
            yield Route(DEFAULT[version], TABLE, metric=LAST_METRIC)
        if hop:
            yield from (Route(str(each), TABLE, wish.device) for each in wish.networks if each.version == version)
        for each in wish.routes:
            if each.version == version and version in wish.versions:
                yield Route(str(each), TABLE, wish.device, hop)


def _rules(wish: Wish, facts: Facts) -> Iterator[Change]:
    inside = [str(each) for each in wish.networks] + [str(ip_network(each)) for each in wish.dns]
    for version in _versions(facts):
        if not wish.gateway:
            yield from _rules_of_routes(wish, version)
            continue
        yield Rule(version, PRIORITY, MAIN_TABLE, mark=MARK)
        if version in wish.versions:
            for to in dict.fromkeys(inside):
                if ip_network(to).version == version:
                    yield Rule(version, PRIORITY + 1, TABLE, to=to)
        if wish.lan:
            for to in ruleset.PRIVATE:
                if ip_network(to).version == version:
                    yield Rule(version, PRIORITY + 2, MAIN_TABLE, to=to, ignore_default=True)
        yield Rule(version, PRIORITY + 3, TABLE, except_mark=MARK)


def _rules_of_routes(wish: Wish, version: int) -> Iterator[Change]:
    """As if the networks were in the main table, but not for the tunnel itself."""
    led = [each for each in wish.routes if each.version == version and version in wish.versions]
    if not led:
        return
    yield Route(DEFAULT[version], DEAD_END, metric=LAST_METRIC)
    yield Rule(version, ROUTES_PRIORITY, MAIN_TABLE, mark=MARK)
    yield Rule(version, ROUTES_PRIORITY + 1, DEAD_END, mark=MARK)
    for each in led:
        # by length, so that a network which comes later has its place, too
        priority = ROUTES_PRIORITY + 2 + 2 * (each.max_prefixlen - each.prefixlen)
        to = str(each)
        yield Rule(version, priority, MAIN_TABLE, to, ignore_default=True, ignore_to=each.prefixlen)
        yield Rule(version, priority + 1, TABLE, to)


def _names(wish: Wish, facts: Facts) -> Iterator[Change]:
    servers = tuple(str(each) for each in wish.dns)
    if facts.resolved:
        yield ResolvedLink(wish.device, servers, wish.domains, everything=wish.gateway or not wish.domains)
    if facts.resolv_conf:
        yield ResolvConf(wish.device, servers, wish.domains)
