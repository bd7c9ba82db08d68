"""IGMP and MLD snooping: which ports a multicast frame leaves by (RFC 4541).

| frame                                                    | goes to                                                  |
|----------------------------------------------------------|----------------------------------------------------------|
| query; hello of a multicast router                       | all ports                                                |
| report, leave                                            | router ports; all ports while nobody asks                |
| IGMP, MLD or IPv4 header with a wrong checksum or shape  | nobody, counted                                          |
| 224.0.0.0/24; ff02::1; solicited-node; not IP            | all ports                                                |
| behind a tag that is not the VLAN's                      | all ports                                                |
| ff00::/15                                                | nobody: it must not leave its host                       |
| another group, while nobody asks for memberships         | all ports                                                |
| another group that somebody has joined                   | its members and router ports                             |
| another group that nobody has joined                     | by policy: router ports (default), all ports, nobody     |

ff02::/16 beyond the exceptions is flooded as long as no querier is live: many hosts do not report these groups.
What is behind a tag that means nothing here is payload: our queries have no such tag, so its members could not answer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.l2.filter import Asked
from caetun.l2.groups import GroupRow, GroupTable
from caetun.l2.querier import ROBUSTNESS, Querier, State, is_proxy
from caetun.l2.vlan import UNAWARE
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.checksum import ones_sum
from caetun.wire.ethernet import HEADER_SIZE, TAG_SIZE, TPID_8021AD, TYPE_AT, network_header
from caetun.wire.ip import IPV4, Packet, outline
from caetun.wire.membership import (
    PROTOCOL_ICMPV6,
    PROTOCOL_IGMP,
    PROTOCOL_PIM,
    Kind,
    Membership,
    Query,
    Report,
    RouterHello,
    decode,
)

# fixed by the specification
_TYPE_IPV4: Final = 0x0800
_TYPE_IPV6: Final = 0x86DD
_SPEAKERS: Final = frozenset((PROTOCOL_IGMP, PROTOCOL_PIM, PROTOCOL_ICMPV6))
"""What may be said about groups, or by routers; anything else is data, of which the beginning may be all we see."""
_ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
_SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")
ROUTER_SECONDS: Final = 255.0
"""Other Querier Present Interval (RFC 9776, section 8.5), for a port a router was heard at."""

# chosen by us
MAX_FOUND_VLANS: Final = 256
"""VLANs that nobody has named (`trunk=all`) and that are snooped: one port that sends in all of them must not make the
switch ask for groups in all of them. In those beyond, multicast is flooded."""
GREETING_SPACING: Final = 1.0
"""Seconds between two queries for one port at least: one that comes, goes and moves is no flood of them."""


class Unregistered(enum.StrEnum):
    """What becomes of a group nobody has joined while a querier is live."""

    FLOOD = "flood"
    ROUTERS = "routers"
    DROP = "drop"


class To(enum.Enum):
    """Where a frame goes that does not go to some ports only."""

    ALL = "all"
    NOBODY = "nobody"


@dataclass(slots=True)
class SnoopingSettings:
    """What the user says about multicast."""

    snooping: bool = True
    querier: bool = True
    address4: bytes = bytes(4)
    address6: bytes = bytes(16)
    """Ours, for queries; all zeros for none (`querier.PROXY`)."""
    unregistered: Unregistered = Unregistered.ROUTERS
    fast_leave: frozenset[int] = frozenset()
    """Ports with one host each."""
    router_ports: frozenset[int] = frozenset()
    """Where a multicast router is, whether it is heard or not."""
    interval: float | None = None
    """Seconds between general queries of ours; None: those of the RFC."""
    vlans: Mapping[int, VlanMulticast] = field(default_factory=dict)
    """Where a VLAN differs."""

    def of(self, vlan: int) -> VlanMulticast:
        """What holds in a VLAN."""
        found = self.vlans.get(vlan)
        return VlanMulticast(self.snooping, self.querier, self.address4, self.address6) if found is None else found


class VlanMulticast(NamedTuple):
    """What the user says about multicast in one VLAN, as in `SnoopingSettings`."""

    snooping: bool
    querier: bool
    address4: bytes
    address6: bytes


class Wanted(NamedTuple):
    """A query to be sent to all ports of a VLAN."""

    vlan: int
    query: Query
    only: int | None = None
    """At this port only; None: at all."""


class QuerierRow(NamedTuple):
    """Who asks in a VLAN, as people see it."""

    vlan: int
    ipv4: bool
    state: State
    address: bytes
    """Whose queries count: ours, or those of who is listened to; all zeros: nobody's."""
    interval: float
    """Seconds between two general queries."""
    robustness: int
    seconds: float | None
    """Until the next query of ours, or until who is listened to is missed."""


@dataclass(slots=True)
class _Vlan:
    """One VLAN: its queriers and router ports, of IPv4 and of IPv6: a router may know one of them only."""

    igmp: Querier
    mld: Querier
    routers4: dict[int, float] = field(default_factory=dict)
    """Port -> until when a router is taken to be there."""
    routers6: dict[int, float] = field(default_factory=dict)
    switches4: dict[int, float] = field(default_factory=dict)
    """Ports where a switch without an address asks, as we may: it is no router, but must hear who wants what here."""
    switches6: dict[int, float] = field(default_factory=dict)
    snooping: bool = True

    @property
    def heard(self) -> tuple[dict[int, float], ...]:
        """All tables of ports with a time."""
        return self.routers4, self.routers6, self.switches4, self.switches6


class _Greeting(NamedTuple):
    """A port that is asked by itself."""

    at: float
    """When next."""
    left: int
    """How often still: one query may be lost."""
    last: float
    """When it was asked last."""


class Snooping:
    """The multicast state of one bridge."""

    def __init__(self, settings: SnoopingSettings, drops: Drops) -> None:
        self.settings = settings
        self._drops = drops
        self.igmp = GroupTable(3, drops)
        self.mld = GroupTable(2, drops)
        self._vlans: dict[int, _Vlan] = {}
        self._greetings: dict[int, _Greeting] = {}
        """Ports that have come up or moved of late."""

    def add_vlan(self, vlan: int, now: float) -> None:
        """A VLAN is in use: begin to ask there."""
        if vlan not in self._vlans:
            settings = self.settings.of(vlan)
            enabled = settings.querier and settings.snooping
            interval = self.settings.interval
            igmp = Querier(settings.address4, 3, enabled, now, interval)
            mld = Querier(settings.address6, 2, enabled, now, interval)
            self._vlans[vlan] = _Vlan(igmp, mld, snooping=settings.snooping)

    def _found(self, vlan: int, now: float) -> _Vlan | None:
        """The state of a VLAN in which something was sent; None if there is no room for one more."""
        if len(self._vlans) >= MAX_FOUND_VLANS:
            self._drops.count(DropReason.MULTICAST_VLANS)  # the frame goes on, to all ports
            return None
        self.add_vlan(vlan, now)
        return self._vlans[vlan]

    # the decision, once a multicast frame

    def egress(self, vlan: int, port: int, frame: Buffer, now: float) -> frozenset[int] | To:
        """The ports a frame to a group address goes to (the one it came by may be among them)."""
        state = self._vlans.get(vlan) or self._found(vlan, now)
        if state is None or not state.snooping:
            return To.ALL
        try:
            ethertype, at = network_header(frame)
            if ethertype not in (_TYPE_IPV4, _TYPE_IPV6) or (at > HEADER_SIZE and _payload_tag(vlan, frame, at)):
                return To.ALL
            packet = outline(frame, at)
            message = self._message(frame, at, packet, ethertype)
        except Malformed as bad:
            self._drops.count(bad.reason)
            return To.NOBODY
        if message is not None:
            return self._heard(vlan, state, port, message, now)
        return self._data(vlan, state, frame, at, packet, now)

    @staticmethod
    def _message(frame: Buffer, at: int, packet: Packet, ethertype: int) -> Membership | None:
        """What a packet says about groups; None if it is data. Raises Malformed."""
        ipv4 = packet.version == IPV4
        if ipv4 != (ethertype == _TYPE_IPV4):
            raise Malformed(DropReason.MULTICAST_MALFORMED, "EtherType and IP version contradict each other")
        if packet.transport > packet.end:
            raise Malformed(DropReason.MULTICAST_MALFORMED, "extension headers are longer than the packet")
        # RFC 4541, section 2.1.2, item 6
        if ipv4 and ones_sum(frame[at : packet.transport]) != 0xFFFF:
            raise Malformed(DropReason.MULTICAST_CHECKSUM, "IPv4 header")
        return decode(frame, at, packet) if packet.protocol in _SPEAKERS else None

    def _data(self, vlan: int, state: _Vlan, frame: Buffer, at: int, packet: Packet, now: float) -> frozenset[int] | To:
        if packet.version == IPV4:
            if packet.protocol == PROTOCOL_IGMP:
                return To.ALL  # of a type that is not known (2.1.1, item 3)
            source, group = bytes(frame[at + 12 : at + 16]), bytes(frame[at + 16 : at + 20])
            querier, table, routers = state.igmp, self.igmp, state.routers4
            if group[:3] == b"\xe0\0\0" or group[0] & 0xF0 != 0xE0:
                return To.ALL
        else:
            source, group = bytes(frame[at + 8 : at + 24]), bytes(frame[at + 24 : at + 40])
            querier, table, routers = state.mld, self.mld, state.routers6
            if group == _ALL_NODES or group.startswith(_SOLICITED_NODE) or group[0] != 0xFF:
                return To.ALL
            if group[1] & 0x0F <= 1:
                self._drops.count(DropReason.MULTICAST_SCOPE)
                return To.NOBODY
        if not querier.live(now):
            return To.ALL
        members = table.members(vlan, group, source)
        wanted = self._unregistered(routers) if members is None else members | self._routers(routers)
        if not wanted or wanted is To.NOBODY:
            self._drops.count(DropReason.MULTICAST_UNWANTED)
        return wanted

    def _unregistered(self, routers: dict[int, float]) -> frozenset[int] | To:
        match self.settings.unregistered:
            case Unregistered.FLOOD:
                return To.ALL
            case Unregistered.ROUTERS:
                return self._routers(routers)
            case Unregistered.DROP:
                return To.NOBODY

    def _routers(self, heard: dict[int, float]) -> frozenset[int]:
        return self.settings.router_ports.union(heard)

    # what is said

    def _heard(self, vlan: int, state: _Vlan, port: int, message: Membership, now: float) -> frozenset[int] | To:
        ipv4 = len(message.source) == 4
        querier, table = (state.igmp, self.igmp) if ipv4 else (state.mld, self.mld)
        routers, switches = (state.routers4, state.switches4) if ipv4 else (state.routers6, state.switches6)
        if isinstance(message, Report):
            self._report(vlan, querier, table, port, message, now)
            # While no querier is known, one may still be there that cannot be told from a switch (2.1.1, item 1b): it
            # asks as one, and must learn who wants what, or it keeps back what is sent behind it.
            return self._routers(routers).union(switches) if querier.live(now) else To.ALL
        (switches if is_proxy(message.source) else routers)[port] = now + ROUTER_SECONDS
        if isinstance(message, RouterHello):
            return To.ALL
        querier.heard(message, now)
        if any(message.group) and not message.suppress:
            asked = Asked(not message.sources, frozenset(message.sources))
            # Whoever asks says how long it takes to answer (RFC 2236, section 3; RFC 9776, section 8.8).
            timing = querier.timing._replace(last_member=querier.robustness * message.max_response)
            table.asked(vlan, message.group, asked, now, timing)
        return To.ALL

    def _report(self, vlan: int, querier: Querier, table: GroupTable, port: int, report: Report, now: float) -> None:
        ipv4 = len(report.source) == 4
        for record in report.records:
            if ipv4 and record.group[:3] == b"\xe0\0\0":
                continue  # flooded anyway (2.1.2, item 2)
            leaves = record.kind is Kind.TO_INCLUDE and not record.sources
            if leaves and port in self.settings.fast_leave:
                table.leave(vlan, port, record.group)
                continue
            querier.answered(record)
            asked = table.hear(vlan, port, record, report.version, now, querier.timing)
            if querier.ask_about(record.group, asked, now):
                # All ports hear the question, but nobody has left elsewhere: an answer lost there must not cost more.
                table.asked(vlan, record.group, asked, now, querier.timing, port)

    # ports

    def set_static(self, vlan: int, group: bytes, port: int) -> None:
        """A port gets a group whether somebody asks there or not."""
        table = self.igmp if len(group) == 4 else self.mld
        table.set_static(vlan, group, table.static(vlan, group) | {port})

    def port_down(self, port: int) -> None:
        """A port is gone, and with it whoever was behind it."""
        self.igmp.flush(port)
        self.mld.flush(port)
        for state in self._vlans.values():
            for heard in state.heard:
                heard.pop(port, None)

    def topology_changed(self, port: int, now: float) -> None:
        """A port has come up or moved: ask there at once, so that its groups form again within a second or so."""
        before = self._greetings.get(port)
        at = now if before is None else max(now, before.last + GREETING_SPACING)
        self._greetings[port] = _Greeting(at, ROBUSTNESS, -inf if before is None else before.last)

    def _greet(self, now: float) -> Iterator[Wanted]:
        for port, (at, left, _) in list(self._greetings.items()):
            if now >= at and not left:
                del self._greetings[port]
            elif now >= at:
                self._greetings[port] = _Greeting(now + GREETING_SPACING, left - 1, now)
                for vlan, state in self._vlans.items():
                    for querier, routers in ((state.igmp, state.routers4), (state.mld, state.routers6)):
                        query = querier.greeting(now)
                        if query is not None and not (querier.state is State.LISTENING and port in routers):
                            yield Wanted(vlan, query, port)

    # time

    def tick(self, now: float) -> list[Wanted]:
        """Let timers run out; returns the queries that are to be sent."""
        self.igmp.expire(now)
        self.mld.expire(now)
        wanted = list(self._greet(now))
        for vlan, state in self._vlans.items():
            for heard in state.heard:
                for port in [port for port, until in heard.items() if now >= until]:
                    del heard[port]
            wanted += [Wanted(vlan, query) for each in (state.igmp, state.mld) for query in each.tick(now)]
        return wanted

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [self.igmp.next_deadline(), self.mld.next_deadline()]
        due += [greeting.at for greeting in self._greetings.values()]
        for state in self._vlans.values():
            due += [state.igmp.next_deadline(), state.mld.next_deadline()]
            due += [until for heard in state.heard for until in heard.values()]
        return min((at for at in due if at is not None), default=None)

    # for people

    def rows(self, now: float) -> Iterator[GroupRow]:
        """Every group at every port."""
        yield from self.igmp.rows(now)
        yield from self.mld.rows(now)

    def queriers(self, now: float) -> Iterator[QuerierRow]:
        """Who asks, in each VLAN by each protocol."""
        for vlan, state in sorted(self._vlans.items()):
            for each in (state.igmp, state.mld) if state.snooping else ():
                due = each.next_deadline()
                seconds = None if due is None else due - now
                speaker = each.speaker(now)
                yield QuerierRow(vlan, each is state.igmp, each.state, speaker, each.interval, each.robustness, seconds)

    def routers(self, now: float) -> Iterator[tuple[int, int, float]]:
        """(VLAN, port, seconds left) of every router port that was heard; static ones are in the settings."""
        for vlan, state in sorted(self._vlans.items()):
            for port in sorted({*state.routers4, *state.routers6}):
                until = max(state.routers4.get(port, now), state.routers6.get(port, now))
                yield vlan, port, until - now


def _payload_tag(vlan: int, frame: Buffer, at: int) -> bool:
    """Whether the tags before the network header at `at` are more than the one that says the VLAN."""
    if vlan == UNAWARE or at > HEADER_SIZE + TAG_SIZE:
        return True
    return bytes(frame[TYPE_AT:HEADER_SIZE]) == TPID_8021AD.to_bytes(2, "big")
