"""What a running tunnel tells about itself: rows of plain values, for `caetun show` and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from caetun.ports import LOCAL, LOCAL_NAME

if TYPE_CHECKING:
    from caetun.daemon.dialer import Dialer
    from caetun.daemon.mesh import Mesh
    from caetun.daemon.negotiations import Negotiations
    from caetun.l2.bridge import Bridge
    from caetun.mangle.pipeline import Pipeline
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.types import Drops

# chosen by us
PAGE: Final = 1000
"""Rows of one answer: the tunnel stands still for some milliseconds while it is made."""
MAX_SOURCES: Final = 16
"""Sources of one group at one port that are named; `all sources` says how many there are."""

Rows: TypeAlias = Iterator[dict[str, Any]]


class Page(NamedTuple):
    """Some rows of a view."""

    rows: list[dict[str, Any]]
    more: bool
    """Whether there are further ones."""


class Status:
    """Answers questions about one tunnel."""

    def __init__(
        self,
        node: Node,
        drops: Drops,
        dialer: Callable[[], Dialer | None],
        negotiations: Negotiations | None = None,
        pipeline: Pipeline | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        self._negotiations = negotiations
        self._node = node
        self._drops = drops
        self._dialer = dialer
        self._pipeline = pipeline
        self._mesh = mesh

    def ask(self, what: str, now: float, start: int = 0) -> Page | None:
        """A page of the rows of a view, from number `start` on; None if there is no view of that name."""
        view = VIEWS.get(what)
        if view is None:
            return None
        rows = list(islice(view(self, now), start, start + PAGE + 1))
        return Page(rows[:PAGE], len(rows) > PAGE)

    def peers(self, now: float) -> Rows:
        """Every far end and the link to it."""
        for peer in self._node.peers.values():
            yield {
                "peer": peer.name,
                "state": "up" if peer.present else "down",
                "link": peer.link.name if peer.link is not None else "",
                "record bytes": peer.link.max_record if peer.link is not None else 0,
                "compression": _compression(peer),
            }

    def links(self, now: float) -> Rows:
        """Every carrier to a far end that this side calls, best first, and why it is not used."""
        dialer = self._dialer()
        statuses = [] if dialer is None else dialer.describe()
        for status in statuses:
            yield {
                "carrier": status.rung.text,
                "state": str(status.phase),
                "for s": round(now - status.since, 1) if status.since else "",
                "why": status.why,
            }

    def ports(self, now: float) -> Rows:
        """Every port of the switch."""
        bridge = self._bridge
        if bridge is None:
            return
        routers = {port for _, port, _ in bridge.snooping.routers(now)} | bridge.snooping.settings.router_ports
        for number, name in self._names().items():
            if not self._switches(number):
                continue
            port = bridge.ports.table.get(number)
            muted = port is not None and port.muted
            yield {
                "port": name,
                "state": "down" if port is None else "muted" if muted else "up",
                "addresses": bridge.fdb.count(number),
                "router": "yes" if number in routers else "",
                "for s": round(max(0.0, port.muted_until - now), 1) if port is not None and muted else "",
                "why": port.muted_why if port is not None and muted else "",
            }

    def fdb(self, now: float) -> Rows:
        """Which address is behind which port."""
        bridge, name = self._bridge, self._name()
        for row in () if bridge is None else bridge.fdb.rows(now):
            yield {
                "vlan": row.vlan,
                "address": row.address,
                "port": name(row.port),
                "age s": "static" if row.static else round(row.age, 1),
            }

    def mdb(self, now: float) -> Rows:
        """Which multicast group is wanted by which port, of which sources, and until when."""
        bridge, name = self._bridge, self._name()
        for row in () if bridge is None else bridge.snooping.rows(now):
            static = row.expires < 0
            yield {
                "vlan": row.vlan,
                "group": str(ip_address(row.group)),
                "port": name(row.port),
                "mode": "exclude" if row.excluding else "include",
                "sources": [str(ip_address(each)) for each in row.sources[:MAX_SOURCES]],
                "asked s": {str(ip_address(each)): round(left, 1) for each, left in row.timers[:MAX_SOURCES]},
                "all sources": len(row.sources) + (len(row.timers) if row.excluding else 0),
                "hosts": f"v{row.oldest}" if row.oldest else "",
                "expires s": "static" if static else round(row.expires, 1),
            }

    def routers(self, now: float) -> Rows:
        """At which port a multicast router is."""
        bridge, name = self._bridge, self._name()
        if bridge is None:
            return
        for port in sorted(bridge.snooping.settings.router_ports):
            yield {"vlan": "all", "port": name(port), "expires s": "static"}
        for vlan, port, left in bridge.snooping.routers(now):
            yield {"vlan": vlan, "port": name(port), "expires s": round(left, 1)}

    def querier(self, now: float) -> Rows:
        """Who asks for memberships, in each VLAN by each protocol."""
        bridge = self._bridge
        for row in () if bridge is None else bridge.snooping.queriers(now):
            yield {
                "vlan": row.vlan,
                "protocol": "igmp" if row.ipv4 else "mld",
                "state": str(row.state.value),
                "address": str(ip_address(row.address)),
                "every s": row.interval,
                "robustness": row.robustness,
                "next s": "" if row.seconds is None else round(max(0.0, row.seconds), 1),
            }

    def bindings(self, now: float) -> Rows:
        """Whose an address is at a port with a source guard."""
        bridge, name = self._bridge, self._name()
        if bridge is None:
            return
        for port, each in bridge.guard.allowed():
            address = "any" if each.address is None else str(ip_address(each.address))
            yield {
                "vlan": "all",
                "address": address if each.prefix is None else f"{address}/{each.prefix}",
                "mac": "any" if each.mac is None else each.mac.hex(":"),
                "port": name(port),
                "by": "static",
                "expires s": "static",
            }
        for row in bridge.guard.bindings.rows(now):
            yield {
                "vlan": row.vlan,
                "address": str(ip_address(row.address)),
                "mac": row.mac.hex(":"),
                "port": name(row.port),
                "by": "dhcp" if row.leased else "learn",
                "expires s": "never" if row.seconds == inf else round(row.seconds, 1),
            }

    def neighbours(self, now: float) -> Rows:
        """Which host has which IP address, by what was heard of ARP and neighbour discovery."""
        bridge, name = self._bridge, self._name()
        for row in () if bridge is None else bridge.neighbours.rows(now):
            yield {
                "vlan": row.vlan,
                "address": str(ip_address(row.address)),
                "mac": row.mac.hex(":"),
                "port": name(row.port),
                "router": "" if row.router is None else "yes" if row.router else "no",
                "doubted": "yes" if row.doubted else "",
                "age s": round(row.age, 1),
            }

    def routes(self, now: float) -> Rows:
        """Which prefix leads to which peer, and how many packets (superframes count once) have asked for it."""
        # Imported here: asked for by a person, and a tunnel between two ends has no router.
        from caetun.l3.router import Router

        board = self._node.board
        rows = board.rows() if isinstance(board, Router) else []
        for prefix, peer, state, hits in rows:
            yield {"prefix": prefix, "peer": peer, "state": state, "hits": hits}

    def mesh(self, now: float) -> Rows:
        """Every other member of a mesh, and the way to it; on a hub: whom it has introduced."""
        return iter(()) if self._mesh is None else self._mesh.rows()

    def drops(self, now: float) -> Rows:
        """Why frames, records and messages were thrown away, and how many."""
        return iter([{"reason": str(reason), "times": times} for reason, times in sorted(self._drops.items()) if times])

    def mangle(self, now: float) -> Rows:
        """Every rule of --mangle, and the frames that it dropped, accepted or changed."""
        rules = () if self._pipeline is None else self._pipeline.rules
        for rule in rules:
            yield {"rule": rule.text, "frames": rule.frames, "bytes": rule.octets}

    def leases(self, now: float) -> Rows:
        """Every address that was given to a client."""
        return iter([] if self._negotiations is None else self._negotiations.leases())

    def members(self, now: float) -> Rows:
        """Everybody who has joined by an invitation, and open invitations."""
        return iter([] if self._negotiations is None else self._negotiations.members())

    def config(self, now: float) -> Rows:
        """Every setting that is not a default, and where it comes from."""
        return iter([] if self._negotiations is None else self._negotiations.config())

    def _switches(self, number: int) -> bool:
        """Whether a port is one of the switch: those of direct ways in a mesh are not (`show mesh`)."""
        # Imported here: as in `_bridge`.
        from caetun.l2.member import HUB, MemberSwitch

        return number <= HUB or not isinstance(self._node.board, MemberSwitch)

    @property
    def _bridge(self) -> Bridge | None:
        # Imported here: asked for by a person, and a tunnel between two ends has no switch.
        from caetun.l2.switchboard import Switchboard

        board = self._node.board
        return board.bridge if isinstance(board, Switchboard) else None

    def _names(self) -> dict[int, str]:
        return {LOCAL: LOCAL_NAME, **self._node.port_names()}

    def _name(self) -> Callable[[int], str]:
        names = self._names()
        return lambda number: names.get(number, str(number))


def _compression(peer: Peer) -> str:
    """What records to a peer are compressed with, and to which share of their size."""
    pair = peer.session.current
    small = None if pair is None else pair.deflater
    if small is None:
        return ""
    return f"{small.name}, {small.deflated / small.plain:.0%}" if small.plain else small.name


VIEWS: Final[Mapping[str, Callable[[Status, float], Rows]]] = {
    "peers": Status.peers,
    "links": Status.links,
    "ports": Status.ports,
    "fdb": Status.fdb,
    "mdb": Status.mdb,
    "routers": Status.routers,
    "querier": Status.querier,
    "bindings": Status.bindings,
    "neighbours": Status.neighbours,
    "routes": Status.routes,
    "mesh": Status.mesh,
    "drops": Status.drops,
    "mangle": Status.mangle,
    "leases": Status.leases,
    "members": Status.members,
    "config": Status.config,
}
