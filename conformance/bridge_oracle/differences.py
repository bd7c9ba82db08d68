"""Where our bridge does not do as the Linux bridge does, on purpose; also the table in docs/switch.md.

Each difference says when it applies to a frame of a random trace, and what both then do: anything else is a failure.
Those that leave other state behind do not occur in random traces; `demonstrations.py` shows each difference by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.l2.groups import GroupRow
from caetun.wire.ethernet import HEADER_SIZE, TYPE_IPV4, TYPE_IPV6, network_header
from caetun.wire.ip import HOP_BY_HOP, IPV4, IPV6, IPV6_HEADER_SIZE, NO_NEXT_HEADER, Packet, outline
from caetun.wire.membership import PROTOCOL_ICMPV6, PROTOCOL_IGMP, Membership, Report, decode

# fixed by the specification
_NEXT_HEADER_AT: Final = 6
_SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")


@dataclass(frozen=True)
class Case:
    """A frame that two bridges decided upon differently."""

    frame: bytes
    linux: set[int]
    ours: set[int]
    everybody: set[int]
    """Where it goes when it is flooded."""
    routers: set[int]
    """Ports with a router, of either protocol."""
    whole: set[int] = field(default_factory=set)
    """Ports that want the group from this sender as they have not said otherwise (EXCLUDE mode)."""

    @property
    def flooded(self) -> bool:
        """Whether ours goes everywhere."""
        return self.ours == self.everybody

    @cached_property
    def network(self) -> tuple[int, int]:
        """EtherType and position of what is behind all tags."""
        return network_header(self.frame)

    @cached_property
    def packet(self) -> Packet | None:
        """The IP packet; None if its headers are cut short."""
        try:
            return outline(self.frame, self.network[1])
        except Malformed:
            return None

    def is_of(self, version: int, protocol: int) -> bool:
        """Whether it is an IP packet of this version and protocol."""
        return self.packet is not None and (self.packet.version, self.packet.protocol) == (version, protocol)

    @cached_property
    def message(self) -> Membership | None:
        """What it says about groups, if anything."""
        try:
            return None if self.packet is None else decode(self.frame, self.network[1], self.packet)
        except Malformed:
            return None

    @cached_property
    def group(self) -> bytes:
        """The destination of an IP packet; nothing for other frames, or for those whose headers are cut short."""
        kind, at = self.network
        if self.packet is None or kind not in (TYPE_IPV4, TYPE_IPV6):
            return b""
        return self.frame[at + 16 : at + 20] if self.packet.version == IPV4 else self.frame[at + 24 : at + 40]

    @property
    def sender(self) -> bytes:
        """The source of an IP packet."""
        at = self.network[1]
        return self.frame[at + 12 : at + 16] if len(self.group) == 4 else self.frame[at + 8 : at + 24]

    def seen_by(self, rows: Iterable[GroupRow]) -> Case:
        """With `whole` from our bridge's table."""
        found = {
            row.port for row in rows if row.excluding and row.group == self.group and self.sender not in row.sources
        }
        return replace(self, whole=found)


class Difference(NamedTuple):
    """Something we do otherwise."""

    name: str
    linux: str
    ours: str
    reason: str
    explains: Callable[[Case], bool] | None = None
    """Whether it accounts for a case of a random trace; None: it does not occur there."""


def _reports(case: Case) -> bool:
    return isinstance(case.message, Report) and case.linux == case.everybody and case.ours <= case.routers


def _tagged(case: Case) -> bool:
    return case.flooded and case.network[1] > HEADER_SIZE


def _solicited(case: Case) -> bool:
    return case.flooded and case.group.startswith(_SOLICITED_NODE)


def _host_scope(case: Case) -> bool:
    return not case.ours and case.group[:1] == b"\xff" and case.group[1] & 0x0F <= 1


def _no_group(case: Case) -> bool:
    return case.flooded and bool(case.group) and not ip_address(case.group).is_multicast


def _unknown_igmp(case: Case) -> bool:
    return case.flooded and case.message is None and case.is_of(IPV4, PROTOCOL_IGMP)


def _cut_short(case: Case) -> bool:
    cut = case.packet is not None and case.packet.end > len(case.frame)
    return not case.linux and case.message is None and cut


def _extensions(case: Case) -> bool:
    return not case.ours and case.packet is None and case.network[0] == TYPE_IPV6


def _empty(case: Case) -> bool:
    packet, at = case.packet, case.network[1]
    if case.linux or packet is None or packet.version != IPV6:
        return False
    return packet.end == at + IPV6_HEADER_SIZE or packet.protocol == NO_NEXT_HEADER


def _icmpv6(case: Case) -> bool:
    hop_by_hop = case.frame[case.network[1] + _NEXT_HEADER_AT] == HOP_BY_HOP
    return not case.linux and case.message is None and hop_by_hop and case.is_of(IPV6, PROTOCOL_ICMPV6)


def _sources(case: Case) -> bool:
    return case.message is None and case.linux < case.ours and case.ours - case.linux <= case.whole


# fmt: off
DIFFERENCES: Final = [
    Difference(
        "reports of IGMPv3 and MLDv2, leaves", "all ports (only joins of IGMPv1, IGMPv2 and MLDv1 are kept to routers)",
        "router ports while somebody asks", "RFC 4541, section 2.1.1, item 1", _reports),
    Difference(
        "multicast behind a tag", "snooped behind one tag", "flooded, unless the tag is that of a VLAN of the port",
        "no query has the tag, so members behind it cannot answer and would be forgotten", _tagged),
    Difference(
        "solicited-node groups", "pruned as any group", "flooded",
        "neighbour discovery must not depend on a report that got lost", _solicited),
    Difference("ff00::/15", "pruned as any group", "dropped, counted", "RFC 4541, section 3", _host_scope),
    Difference(
        "unicast IP in a multicast frame", "router ports", "flooded",
        "clusters of servers use it; nobody can join it", _no_group),
    Difference(
        "IGMP of an unknown type, to a group", "pruned as data", "flooded", "RFC 4541, section 2.1.1, item 3",
        _unknown_igmp),
    Difference(
        "IP packet cut short", "dropped", "IGMP and MLD are dropped, data is forwarded",
        "of a superframe in parts only the beginning is looked at", _cut_short),
    Difference(
        "IPv6 extension headers cut short", "forwarded as data", "dropped, counted",
        "nobody can say what it is (RFC 7113, section 3)", _extensions),
    Difference(
        "IPv6 packet with nothing in it", "dropped", "forwarded as data", "RFC 8200, section 4.7 allows it", _empty),
    Difference(
        "ICMPv6 with a wrong checksum", "dropped behind a hop-by-hop header", "forwarded as data, unless it is MLD",
        "what is not acted upon is for its receiver to judge", _icmpv6),
    Difference(
        "all sources for one port, single ones for others", "the first port may miss those sources",
        "it gets all sources", "RFC 9776, section 6.2: it is in EXCLUDE mode; a defect of Linux", _sources),
    Difference(
        "leave where hosts of IGMPv1 are", "asked about", "ignored while they may be there",
        "RFC 9776, section 7.3.2: they do not answer such questions in time"),
    Difference(
        "BLOCK where old hosts are", "asked about", "ignored while hosts of IGMPv2 or MLDv1 may be there",
        "RFC 9776, section 7.3.2: they want all sources"),
    Difference(
        "IGMP query from 0.0.0.0", "its sender is a querier, and its port a router port",
        "its sender is a switch, which gets reports but no data", "RFC 4541, section 2.1.1, item 1b"),
    Difference("MLD query from ::", "dropped", "flooded; its sender is a switch", "RFC 4541, section 3"),
    Difference(
        "MLD query from fe80::ffff:ffff:ffff:fffe", "its sender is a querier, and its port a router port",
        "its sender is a switch, which gets reports but no data", "from there asks a hub that has no address"),
    Difference(
        "query of one who lost the election", "its port is no router port", "its port is a router port",
        "RFC 4541, section 2.1.1, item 1b: a router is there, whoever asks"),
    Difference(
        "query for one group", "its port is no router port", "its port is a router port", "the same item: any query"),
    Difference("PIM hello over IPv6", "not looked at", "its port is a router port", "a router without MRD is one too"),
    Difference(
        "leave while another one asks", "IGMPv3, MLDv2: membership ends soon", "it ends soon if the querier asks",
        "RFC 9776, section 6.6.1: other hosts of the port must be asked first"),
    Difference(
        "query for sources, by another one", "ignored", "their time is shortened", "RFC 9776, section 6.6.1"),
    Difference(
        "report of what is no group", "taken in", "dropped, counted", "it would fill the table with what never comes"),
    Difference(
        "auxiliary data in a report", "read as if it were records", "passed over",
        "RFC 9776, section 4.2.6; a defect of Linux"),
    Difference(
        "MLD with another hop limit than 1", "taken in", "dropped, counted", "RFC 9777, section 6.2: of another link"),
    Difference("MLD from a global address", "taken in", "dropped, counted", "RFC 9777, section 5.2.13"),
    Difference(
        "MLD without a hop-by-hop header", "forwarded as data", "taken in",
        "some hosts leave Router Alert out; what they want is clear"),
    Difference(
        "general query to one group", "dropped", "flooded; counts as a query",
        "RFC 9776, section 4.1.12: hosts take it in"),
    Difference(
        "IGMP in fragments", "the first fragment is taken in", "forwarded as data",
        "its checksum covers what is not there"),
    Difference(
        "more than 32 sources of a group", "further ones are not taken in", "up to 256, then all sources",
        "whoever asks for a source gets it"),
    Difference(
        "first seconds of a querier of its own", "floods until hosts have had time to answer", "prunes at once",
        "nothing was flowing yet, and links are slower than a switch's"),
    Difference(
        "groups beyond the cap", "snooping is switched off for good", "further groups are nobody's, counted",
        "one host must not bring back flooding for all"),
    Difference(
        "fast leave", "at once if it was the last host that was heard", "at once", "it is for ports with one host"),
    Difference(
        "static entry, seen elsewhere", "moves to where it is seen", "stays; the frame is dropped, counted",
        "what was said by hand holds"),
    Difference(
        "spanning tree, by default", "forwarded, as the bridge has none", "stays on its link",
        "each site has a tree of its own"),
    Difference(
        "storm control", "none", "a budget for each port and class of flooded frames",
        "a storm at one site must not fill all links"),
    Difference(
        "flapping address", "moves whenever it is seen",
        "held at home after 4 moves in 5 s; four addresses mute the port", "a loop, or somebody's theft"),
    Difference(
        "loop probes", "none", "taken in; one that comes back mutes a port", "loops are found without a spanning tree"),
]
# fmt: on
SOURCES: Final = "all sources for one port, single ones for others"


def explanation(case: Case) -> Difference | None:
    """The difference that accounts for a case, if one does."""
    return next((each for each in DIFFERENCES if each.explains is not None and each.explains(case)), None)
