"""The router between a device and peers: packets go where the longest prefix of their destination leads.

| packet                                     | what becomes of it                                                   |
|--------------------------------------------|----------------------------------------------------------------------|
| from the device, to a peer's prefix        | to the peer, as it is                                                |
| from a peer, source not in its prefixes    | dropped                                                              |
| from a peer, to this host or no prefix     | to the device: the host's own routes and rules decide                |
| from a peer, to another one's prefix       | to that peer, one hop less; or to the host; or refused (`Between`)   |
| to an address of ours that nobody has      | refused, with ICMP to its sender                                     |

A member of a mesh sends by its hub what has no direct way that works, takes from it what comes from any member, and
passes nothing on: all is for its device.

The hop limit goes down where the packet passes no other router: from peer to peer. What comes from the device, or goes
there, is counted by the host's kernel if that forwards it, and not if the host itself is an end of it.

IPv4 header checksums are not looked at (RFC 1812, section 5.2.2), but adjusted (RFC 1624): a wrong one stays wrong.
"""

from __future__ import annotations

import contextlib
import enum
import struct
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

from caetun.board import LOCAL, Batches, Parcel, parted
from caetun.l3.answers import Answers, Lost
from caetun.l3.sorter import Sorter
from caetun.l3.table import UNKNOWN, VACANT, Network, Route, Table
from caetun.types import Buffer, DropReason, Drops, Iovec
from caetun.wire import ip
from caetun.wire.container import HEAD_SIZE, VNET_SIZE, Batch
from caetun.wire.icmp import Error
from caetun.wire.virtio_net import NO_OFFLOAD

# fixed by the specification
_DESTINATION4: Final = struct.Struct(">16xI")
_ADDRESSES4: Final = struct.Struct(">12xQ")
_DESTINATION6: Final = struct.Struct(">24x16s")
_ADDRESSES6: Final = struct.Struct(">8x32s")
_LINK_LOCAL: Final = ip_network("169.254.0.0/16"), ip_network("fe80::/10")
"""Packets from or to there are not for routers (RFC 3927, section 7; RFC 4291, section 2.5.6)."""

# chosen by us
MAX_KNOWN: Final = 8192
"""Destinations of the device, and pairs of addresses of all peers, that are remembered. One more, and all are
forgotten: that costs a look-up each, and nobody can make it cost more."""
MAX_WAITING: Final = 256
"""ICMP errors that wait for `tick`."""
TELL_SECONDS: Final = 60.0
"""Between two notices that a peer sends from addresses that are not its own."""


class Between(enum.StrEnum):
    """What becomes of packets from peer to peer."""

    ON = "on"
    OFF = "off"
    HOST = "host"
    """The host forwards them, by its own rules, or does not."""


class Verdict(NamedTuple):
    """What becomes of packets with the same addresses."""

    route: Route
    ports: tuple[int, ...]
    """Where they go; none: nowhere."""
    reason: DropReason = DropReason.ROUTE_NONE
    error: Error | None = None
    """What their sender is told if they go nowhere."""
    relayed: int = LOCAL
    """The port of the member of a mesh whose packets these are, if they came by the hub."""


_TO_DEVICE: Final = (LOCAL,)
_RELAYED: Final = (LOCAL, LOCAL)
"""The same, of what a member of a mesh has sent by the hub."""


class Router:
    """Routes to peers. Fulfils `Board`."""

    def __init__(
        self,
        table: Table,
        answers: Answers,
        drops: Drops,
        between: Between = Between.ON,
        *,
        patient: bool = False,
        hub: int | None = None,
    ) -> None:
        """`hub`: the port of the hub, of a member of a mesh; `patient`: send to peers that are not there, too: it is
        for us to call them, and packets may wait.
        """
        self.table = table
        self._answers = answers
        self._drops = drops
        self._between = between
        self._patient = patient
        self._hub = hub
        self._names: dict[int, str] = {}
        self._up: set[int] = set()
        self._suspect: set[int] = set()
        """Ports that are up, and had better be left to the hub."""
        self._relayed: set[int] = set()
        self._granted: dict[int, list[Network]] = {}
        self._batches = Batches()
        self._outward: dict[int | bytes, Verdict] = {}
        """By destination."""
        self._inward: dict[int, dict[int | bytes, Verdict]] = {}
        """By port; then by source and destination."""
        self._known = 0
        self._waiting: list[tuple[int, bytes]] = []
        """(port, packet) of our own."""
        self._notices: list[tuple[str, str, str]] = []
        self._told: dict[int, float] = {}

    # what leads where

    def name(self, port: int, name: str) -> None:
        """How people call a port."""
        self._names[port] = name

    def add_routes(self, port: int, networks: Iterable[Network]) -> None:
        """Let prefixes lead to a port. Raises ValueError if one leads somewhere already."""
        for network in networks:
            self.table.add(network, port)
        self._forget()

    def remove_routes(self, networks: Iterable[Network]) -> None:
        """Forget prefixes."""
        self.table.remove(networks)
        self._forget()

    def add_port(self, number: int, settings: Any, now: float) -> None:
        """A peer has come up."""
        self._up.add(number)
        self._suspect.discard(number)
        self._forget()

    def remove_port(self, number: int) -> None:
        """A peer has gone down."""
        self._up.discard(number)
        self._forget()

    def introduce(self, port: int, name: str, networks: Iterable[Network]) -> None:
        """Of a member: let these prefixes lead to another member, and no others.

        What led to a third one, does no more: its introduction is older. What leads to the hub or this host, stays.
        """
        self._names[port] = name
        by_port = self.table.by_port()
        before = by_port.pop(port, [])
        by_port.pop(self._hub or LOCAL, None)
        wanted = set(networks)
        self.table.remove([*before, *(each for some in by_port.values() for each in some if each in wanted)])
        for network in wanted:
            with contextlib.suppress(ValueError):
                self.table.add(network, port)
        self._forget()

    def grant(self, port: int, networks: Iterable[Network]) -> None:
        """Let these prefixes lead to a port beside those that were added, and no longer those granted before."""
        self.table.remove(self._granted.pop(port, []))
        granted = self._granted[port] = []
        for network in networks:
            with contextlib.suppress(ValueError):  # it was given to another by the settings, who keeps it
                self.table.add(network, port)
                granted.append(network)
        self._forget()

    def suspect(self, number: int, suspect: bool) -> None:
        """Whether the direct way to a member of a mesh does not answer: then the hub has what is for it."""
        if suspect is not (number in self._suspect):
            (self._suspect.add if suspect else self._suspect.discard)(number)
            self._forget()

    def works(self, port: int) -> bool:
        """Whether packets go directly to a member."""
        return port in self._up and port not in self._suspect

    def avoided(self) -> list[int]:
        """Ports of members that have sent by the hub since this was last asked, though there is a direct way."""
        ports = [port for port in self._relayed if self.works(port)]
        self._relayed.clear()
        return ports

    def port_moved(self, number: int, now: float) -> None:
        """By which link a peer is reached changes no route."""

    def _forget(self) -> None:
        self._outward.clear()
        self._inward.clear()
        self._known = 0

    def _remember(self, known: dict[int | bytes, Verdict], key: int | bytes, verdict: Verdict) -> None:
        if self._known >= MAX_KNOWN:
            # `known` itself is kept by whoever is in the middle of a burst: emptied, not replaced.
            self._outward.clear()
            for some in self._inward.values():
                some.clear()
            self._known = 0
        known[key] = verdict
        self._known += 1

    # from the device

    def outbound(self, batch: Batch, now: float) -> list[Parcel]:
        """Packets that the host sends, and where they go. Hot: one look-up a packet."""
        self._batches.reclaim()
        buffer, known = batch.buffer, self._outward
        verdicts: list[Verdict] = []
        for start, stop in batch.spans():
            at = start + HEAD_SIZE
            if buffer[at] >> 4 == ip.IPV4:
                (key,) = _DESTINATION4.unpack_from(buffer, at)
            else:
                (key,) = _DESTINATION6.unpack_from(buffer, at)  # of a packet cut short: of what lay there before
            verdict = known.get(key)
            if verdict is None:
                verdict = self._judge_outbound(buffer[at:stop])
                self._remember(known, key, verdict)
            verdict.route.hits += 1
            verdicts.append(verdict)
        if not verdicts:
            return []
        first = verdicts[0].ports
        if first and all(verdict.ports is first or verdict.ports == first for verdict in verdicts):
            return [Parcel(first, batch)]
        sorter = Sorter(self._batches)
        for (frame, header), verdict in zip(batch.frames(), verdicts, strict=True):
            if verdict.ports:
                sorter.add(verdict.ports, (header, frame))
            else:
                self._refuse(verdict, (header, frame), LOCAL, now)
        return sorter.parcels

    def _judge_outbound(self, packet: Buffer) -> Verdict:
        ends = ip.ends(packet)
        if ends is None:
            return Verdict(self.table.elsewhere, (), DropReason.ROUTE_MALFORMED)
        destination = ends[1]
        route = self.table.find(destination)
        if route.port > LOCAL:
            return self._to_peer(route)
        if ip.is_to_many(destination):
            return Verdict(route, (), DropReason.ROUTE_MULTICAST)
        return Verdict(route, (), DropReason.ROUTE_NONE, Error.HOST if route.port == VACANT else Error.NO_ROUTE)

    def _to_peer(self, route: Route) -> Verdict:
        if self._hub is not None and not self.works(route.port):
            return Verdict(route, (self._hub,))
        if route.port in self._up or self._patient:
            return Verdict(route, route.ports)
        return Verdict(route, (), DropReason.ROUTE_DOWN, Error.HOST)

    # from peers

    def inbound(self, port: int, frames: Sequence[Iovec], now: float) -> tuple[list[Iovec], list[Parcel]]:
        """Packets that a peer sent: what the host gets, and what goes on to others. Hot: one look-up a packet."""
        self._batches.reclaim()
        known = self._inward.get(port)
        if known is None:
            known = self._inward[port] = {}
        local: list[Iovec] = []
        sorter: Sorter | None = None
        for frame in frames:
            packet = frame[1] if len(frame[0]) == VNET_SIZE else memoryview(frame[0])[VNET_SIZE:]
            if packet[0] >> 4 == ip.IPV4:
                (key,) = _ADDRESSES4.unpack_from(packet)
            elif len(packet) >= ip.IPV6_HEADER_SIZE:
                (key,) = _ADDRESSES6.unpack_from(packet)
            else:
                key = b""
            verdict = known.get(key)
            if verdict is None:
                verdict = self._judge_inbound(port, packet, now)
                self._remember(known, key, verdict)
            verdict.route.hits += 1
            if verdict.ports is _TO_DEVICE:
                local.append(frame)
            elif verdict.ports is _RELAYED:
                local.append(frame)
                self._relayed.add(verdict.relayed)
            elif verdict.ports and ip.hops(packet, 0) > 1:
                if sorter is None:
                    sorter = Sorter(self._batches)
                sorter.add(verdict.ports, parted(frame), forwarded=True)
            else:
                self._refuse(verdict, frame, port, now)
        return local, [] if sorter is None else sorter.parcels

    def _judge_inbound(self, port: int, packet: Buffer, now: float) -> Verdict:
        ends = ip.ends(packet)
        if ends is None:
            return Verdict(self.table.elsewhere, (), DropReason.ROUTE_MALFORMED)
        source, destination = ends
        owner = self.table.find(source).port
        if owner != port and (port != self._hub or owner <= LOCAL):
            return Verdict(self.table.elsewhere, (), self._foreign(port, source, now))
        route = self.table.find(destination)
        if self._hub is not None:
            return Verdict(route, _TO_DEVICE) if owner == port else Verdict(route, _RELAYED, relayed=owner)
        if route.port in (LOCAL, UNKNOWN):
            return Verdict(route, _TO_DEVICE)
        if route.port == VACANT:
            error = None if route.is_broadcast(destination) else Error.HOST
            return Verdict(route, (), DropReason.ROUTE_NONE, error)
        if route.port == port:
            return Verdict(route, (), DropReason.ROUTE_SAME_PEER, Error.HOST)
        if self._between is Between.HOST:
            return Verdict(route, _TO_DEVICE)
        if self._between is Between.OFF:
            return Verdict(route, (), DropReason.ROUTE_PROHIBITED, Error.PROHIBITED)
        return self._to_peer(route)

    def _foreign(self, port: int, source: bytes, now: float) -> DropReason:
        """A source that is not the peer's: told now and then, as it may be a prefix that was forgotten."""
        address = ip_address(source)
        if any(address in network for network in _LINK_LOCAL):
            return DropReason.ROUTE_LINK_LOCAL
        if now >= self._told.get(port, now) and not address.is_unspecified:
            self._told[port] = now + TELL_SECONDS
            text = (
                f"{self._names.get(port, port)} sends from {address}, which is not one of its addresses: "
                "if it should, add it to allowed= of that peer"
            )
            self._notices.append(("warning", "route.source", text))
        return DropReason.ROUTE_SOURCE

    # refusals

    def _refuse(self, verdict: Verdict, frame: Iovec, port: int, now: float) -> None:
        """A packet goes nowhere: count it, and tell its sender."""
        reason, error = verdict.reason, verdict.error
        if verdict.ports:  # it would have gone on, had it not gone far enough
            reason, error = DropReason.ROUTE_HOP_LIMIT, Error.EXPIRED
        self._drops.count(reason)
        if error is None or len(self._waiting) >= MAX_WAITING:
            return
        header, *parts = parted(frame)
        lost = Lost(memoryview(b"".join(parts)), bytes(header), port)
        answer = self._answers.answer(error, lost, now, own=port != LOCAL)
        if answer is not None:
            self._waiting.append((port, answer))

    @property
    def waiting(self) -> bool:
        """Whether there are ICMP errors to send."""
        return bool(self._waiting or self._notices)

    def tick(self, now: float) -> tuple[list[Iovec], list[Parcel]]:
        """ICMP errors: for the host, and for peers."""
        self._batches.reclaim()
        local: list[Iovec] = []
        sorter = Sorter(self._batches)
        for port, packet in self._waiting:
            if port == LOCAL:
                local.append((NO_OFFLOAD, packet))
            else:
                sorter.add((port,), (NO_OFFLOAD, packet))
        self._waiting.clear()
        return local, sorter.parcels

    def next_deadline(self) -> float | None:
        """There is nothing that time brings about."""
        return None

    def notices(self) -> Sequence[tuple[str, str, str]]:
        """What people should hear of since this was last asked."""
        notices, self._notices = self._notices, []
        return notices

    def rows(self) -> list[tuple[str, str, str, int]]:
        """Every route: (prefix, where to, state, hits), for people."""
        states: Mapping[int, str] = {LOCAL: "this host", VACANT: "nobody"}
        return [
            (
                str(route.network),
                self._names.get(route.port, ""),
                states.get(route.port, self._state(route.port)),
                route.hits,
            )
            for route in self.table
        ]

    def _state(self, port: int) -> str:
        if self.works(port):
            return "up"
        return "down" if self._hub is None or port == self._hub else "by the hub"
