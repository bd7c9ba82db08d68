"""What a running tunnel tells about itself: rows of plain values, for `caetun show` and for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from caetun.ports import LOCAL, LOCAL_NAME

if TYPE_CHECKING:
    from caetun.daemon.dialer import Dialer
    from caetun.daemon.negotiations import Negotiations
    from caetun.l2.bridge import Bridge
    from caetun.node import Node
    from caetun.types import Drops

Rows: TypeAlias = list[dict[str, Any]]


class Status:
    """Answers questions about one tunnel."""

    def __init__(
        self,
        node: Node,
        drops: Drops,
        dialer: Callable[[], Dialer | None],
        negotiations: Negotiations | None = None,
    ) -> None:
        self._negotiations = negotiations
        self._node = node
        self._drops = drops
        self._dialer = dialer

    def ask(self, what: str, now: float) -> Rows | None:
        """The rows of a view; None if there is none of that name."""
        view = VIEWS.get(what)
        return None if view is None else view(self, now)

    def peers(self, now: float) -> Rows:
        """Every far end and the link to it."""
        return [
            {
                "peer": peer.name,
                "state": "up" if peer.present else "down",
                "link": peer.link.name if peer.link is not None else "",
                "record bytes": peer.link.max_record if peer.link is not None else 0,
            }
            for peer in self._node.peers.values()
        ]

    def links(self, now: float) -> Rows:
        """Every carrier to a far end that this side calls, best first, and why it is not used."""
        dialer = self._dialer()
        statuses = [] if dialer is None else dialer.describe()
        return [
            {
                "carrier": status.rung.text,
                "state": str(status.phase),
                "for s": round(now - status.since, 1) if status.since else "",
                "why": status.why,
            }
            for status in statuses
        ]

    def ports(self, now: float) -> Rows:
        """Every port of the switch."""
        bridge = self._bridge
        if bridge is None:
            return []
        names = self._names()
        counts: dict[int, int] = {}
        for row in bridge.fdb.rows(now):
            counts[row.port] = counts.get(row.port, 0) + 1
        muted, routers = bridge.muted, {port for _, port, _ in bridge.snooping.routers(now)}
        return [
            {
                "port": name,
                "state": "muted" if number in muted else "up" if number in bridge.numbers else "down",
                "addresses": counts.get(number, 0),
                "router": "yes" if number in routers else "",
            }
            for number, name in names.items()
        ]

    def fdb(self, now: float) -> Rows:
        """Which address is behind which port."""
        bridge, names = self._bridge, self._names()
        rows = [] if bridge is None else bridge.fdb.rows(now)
        return [
            {
                "vlan": row.vlan,
                "address": row.address,
                "port": names.get(row.port, str(row.port)),
                "age s": "static" if row.static else round(row.age, 1),
            }
            for row in rows
        ]

    def mdb(self, now: float) -> Rows:
        """Which multicast group is wanted by which port."""
        bridge, names = self._bridge, self._names()
        rows = [] if bridge is None else bridge.snooping.rows(now)
        return [
            {
                "vlan": row.vlan,
                "group": str(ip_address(row.group)),
                "port": names.get(row.port, str(row.port)),
                "sources": ("all but " if row.excluding and row.sources else "all" if row.excluding else "")
                + ", ".join(str(ip_address(source)) for source in row.sources),
                "expires s": "static" if row.expires < 0 else round(row.expires, 1),
            }
            for row in rows
        ]

    def routes(self, now: float) -> Rows:
        """Which prefix leads to which peer, and how many packets (superframes count once) have asked for it."""
        # Imported here: asked for by a person, and a tunnel between two ends has no router.
        from caetun.l3.router import Router

        board = self._node.board
        rows = board.rows() if isinstance(board, Router) else []
        return [{"prefix": prefix, "peer": peer, "state": state, "hits": hits} for prefix, peer, state, hits in rows]

    def drops(self, now: float) -> Rows:
        """Why frames, records and messages were thrown away, and how many."""
        return [{"reason": str(reason), "times": times} for reason, times in sorted(self._drops.items()) if times]

    def leases(self, now: float) -> Rows:
        """Every address that was given to a client."""
        return [] if self._negotiations is None else self._negotiations.leases()

    def config(self, now: float) -> Rows:
        """Every setting that is not a default, and where it comes from."""
        return [] if self._negotiations is None else self._negotiations.config()

    @property
    def _bridge(self) -> Bridge | None:
        # Imported here: asked for by a person, and a tunnel between two ends has no switch.
        from caetun.l2.switchboard import Switchboard

        board = self._node.board
        return board.bridge if isinstance(board, Switchboard) else None

    def _names(self) -> dict[int, str]:
        return {LOCAL: LOCAL_NAME, **self._node.port_names()}


VIEWS: Final[Mapping[str, Callable[[Status, float], Rows]]] = {
    "peers": Status.peers,
    "links": Status.links,
    "ports": Status.ports,
    "fdb": Status.fdb,
    "mdb": Status.mdb,
    "routes": Status.routes,
    "drops": Status.drops,
    "leases": Status.leases,
    "config": Status.config,
}
