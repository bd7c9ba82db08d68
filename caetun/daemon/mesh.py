"""A hub's part of a mesh: who has joined, and what they are told about each other (`mesh/introductions.py`).

The members' part is in `member.py`.
"""

from __future__ import annotations

import asyncio
import os
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from caetun.daemon.services import Service
from caetun.mesh.introductions import Introductions
from caetun.notices import Event
from caetun.session.channel import Kind
from caetun.session.handshake import PeerId
from caetun.transports.udp_link import UdpLink
from caetun.types import Mode
from caetun.wire.mesh import Join, Place, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from caetun.daemon.pump import Pump
    from caetun.l3.router import Router
    from caetun.l3.table import Network
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.transports.base import Context

# chosen by us
LOOK_SECONDS: Final = 1.0
"""Between two looks at where peers are: an address that has changed is told so late."""

SILENT_SECONDS: Final = 600.0
"""A member that the hub does not hear of is one for so long: until then others keep their ways to it, and call it where
it was."""


class Mesh(Service, Protocol):
    """A hub's part, or a member's."""

    def owns(self, peer: Peer) -> bool:
        """Whether the mesh looks after the ways to a peer."""

    def suspect(self, peer: Peer, suspect: bool) -> None:
        """The direct way to a peer that it owns does not answer, or does again."""

    def told(self, event: Event) -> Event:
        """An event as a person is to hear of it."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every member that this side knows of, and the way to it: for `caetun show mesh`."""

    def close(self) -> None:
        """Look no more."""


class HubMesh:
    """Introduces peers to each other."""

    def __init__(self, node: Node, pump: Pump, loop: asyncio.AbstractEventLoop) -> None:
        self._node, self._pump, self._loop = node, pump, loop
        self._routed = node.handshakes.hello.mode is Mode.TUN
        self._introductions = Introductions(node.drops, os.urandom, self._may_meet)
        self._joined: dict[PeerId, tuple[Place, ...]] = {}
        """Who has joined, and where it sees itself. It says so once: not again after a silence, or a gate that was
        closed (bounded: peers of the node)."""
        self._prefixes: dict[PeerId, tuple[Network, ...]] = {}
        """Of those who have joined, with a router."""
        self._silent_since: dict[PeerId, float] = {}
        """Members without a session."""
        self._timer = loop.call_later(LOOK_SECONDS, self._look)

    def met(self, peer: Peer) -> None:
        """It may join."""
        self._joined.pop(peer.ident, None)
        self._prefixes.pop(peer.ident, None)
        self._silent_since.pop(peer.ident, None)
        self._introductions.left(peer.ident)

    def deaf(self, peer: Peer) -> None:
        """It will not join."""
        self.met(peer)

    def gone(self, peer: Peer) -> None:
        """It is no peer any more."""
        self.met(peer)

    def heard(self, peer: Peer, body: bytes) -> None:
        """A peer joins. Raises Malformed."""
        message = decode(body)
        if isinstance(message, Join):
            self._joined[peer.ident] = message.places

    def owns(self, peer: Peer) -> bool:
        """Peers find the hub by themselves."""
        return False

    def suspect(self, peer: Peer, suspect: bool) -> None:
        """There are no peers of its own."""

    def told(self, event: Event) -> Event:
        """As it is."""
        return event

    def rows(self) -> Iterator[dict[str, Any]]:
        """Who has joined, where it can be called, and to how many others it was introduced."""
        for ident in self._joined:
            peer = self._node.peers.get(ident)
            if peer is not None:
                place = _seen(peer.link)
                yield {
                    "member": peer.name,
                    "state": "up" if peer.carries else "down",
                    "at": "" if place is None else f"{place.address} {place.port}",
                    "introduced to": self._introductions.known_to(ident),
                }

    def _may_meet(self, one: bytes, other: bytes) -> bool:
        """Whether frames of two members may go past this hub."""
        if self._routed:  # without addresses there is nothing to send to yet
            return bool(self._prefixes.get(PeerId(one)) and self._prefixes.get(PeerId(other)))
        # Imported here: only with a switch.
        from caetun.l2.port import may_bypass

        settings = [self._node.port_settings(self._node.peers[PeerId(key)]) for key in (one, other)]
        return None in settings or may_bypass(*settings)

    def _look(self) -> None:
        known = self._introductions
        networks = self._networks() if self._routed else {}
        for ident, places in list(self._joined.items()):
            peer = self._node.peers.get(ident)
            if peer is None:
                del self._joined[ident]
                self._silent_since.pop(ident, None)
            if peer is None or not self._is_member(peer):
                self._prefixes.pop(ident, None)
                known.left(ident)
                continue
            if not peer.carries:
                continue
            if ident not in known:
                known.joined(ident, peer.name, places)
            known.seen(ident, _seen(peer.link))
            self._prefixes[ident] = tuple(networks.get(self._node.port_of(peer), ()))
            known.has(ident, self._prefixes[ident])
        for key, message in known.poll():
            self._pump.say(self._node.peers[PeerId(key)], Kind.MESH, encode(message))
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def _is_member(self, peer: Peer) -> bool:
        """Whether others may have a way to it: it is welcome. One that is silent here may well speak to them."""
        if peer.carries:
            self._silent_since.pop(peer.ident, None)
            return True
        since = self._silent_since.setdefault(peer.ident, self._loop.time())
        shut_out = peer.expelled or peer.conversation.held
        return not shut_out and self._loop.time() - since < SILENT_SECONDS

    def _networks(self) -> dict[int, list[Network]]:
        """What leads to each peer now: by the settings, by an invitation, or from a pool."""
        router = self._node.board
        return cast("Router", router).table.by_port()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()


def make_mesh(
    settings: Settings, node: Node, pump: Pump, context: Context, make_peer: Callable[[PeerId, str], Peer]
) -> Mesh:
    """A member's part if this side calls its hub, else a hub's."""
    if settings.connect:
        # Imported here: a hub is none.
        from caetun.daemon.member import MemberMesh

        return MemberMesh(node, pump, context, make_peer)
    return HubMesh(node, pump, context.loop)


def _seen(link: object) -> Place | None:
    """Where a peer is, if it is reached over plain UDP: only such an address can be called from elsewhere."""
    if not isinstance(link, UdpLink):
        return None
    address = ip_address(link.address[0].removeprefix("::ffff:"))
    return None if address.is_loopback or address.is_link_local else Place(address, link.address[1])
