"""A mesh: what a hub tells its peers about each other, and what these do about it.

    hub:     peers say that they join; once a second, what has changed is told (`mesh/introductions.py`)
    member:  a peer is made for each member that the hub introduces, and called at all its places, while it calls us:
             where a NAT stands between, each call lets in the other

While a direct way does not answer, what is for that member goes by the hub (`l3/router.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

from caetun.daemon.services import Service
from caetun.errors import ConfigurationError, NetworkError
from caetun.l3.router import Router
from caetun.mesh.introductions import MAX_MEMBERS, Introductions
from caetun.notices import Event
from caetun.session.channel import Kind
from caetun.session.handshake import PeerId
from caetun.session.identity import StaticIdentity
from caetun.transports.udp import udp_sockets
from caetun.transports.udp_link import UdpLink
from caetun.types import DropReason
from caetun.wire.mesh import Gone, Introduce, Join, Place, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from caetun.daemon.pump import Pump
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.transports.base import Context, Link

# chosen by us
LOOK_SECONDS: Final = 1.0
"""Between two looks at where peers are: an address that has changed is told so late."""
HINT_SECONDS: Final = 0.1
"""Between two looks at who sends by the hub: whoever does, though there is a direct way, has found that it is dead.
Seen from here it may only have gone quiet."""


class Mesh(Service, Protocol):
    """A hub's part, or a member's."""

    def owns(self, peer: Peer) -> bool:
        """Whether the mesh looks after the ways to a peer."""

    def suspect(self, peer: Peer, suspect: bool) -> None:
        """The direct way to a peer that it owns does not answer, or does again."""

    def told(self, event: Event) -> Event:
        """An event as a person is to hear of it."""

    def close(self) -> None:
        """Look no more."""


class HubMesh:
    """Introduces peers to each other."""

    def __init__(self, settings: Settings, node: Node, pump: Pump, loop: asyncio.AbstractEventLoop) -> None:
        self._node, self._pump, self._loop = node, pump, loop
        self._networks = {peer.key: peer.port.networks for peer in settings.peer}
        self._introductions = Introductions(node.drops, os.urandom)
        self._joined: dict[PeerId, tuple[Place, ...]] = {}
        """Who has joined, and where it sees itself. It says so once: not again after a silence, or a gate that was
        closed (bounded: peers of the settings)."""
        self._timer = loop.call_later(LOOK_SECONDS, self._look)

    def met(self, peer: Peer) -> None:
        """It may join."""
        self._joined.pop(peer.ident, None)
        self._introductions.left(peer.ident)

    def deaf(self, peer: Peer) -> None:
        """It will not join."""
        self.met(peer)

    def gone(self, peer: Peer) -> None:
        """It is no peer any more."""
        self._joined.pop(peer.ident, None)

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

    def _look(self) -> None:
        known = self._introductions
        for ident, places in self._joined.items():
            peer = self._node.peers[ident]
            if not peer.carries:
                known.left(ident)
                continue
            if ident not in known:
                known.joined(ident, peer.name, self._networks.get(ident, ()), places)
            known.seen(ident, _seen(peer.link))
        for key, message in known.poll():
            self._pump.say(self._node.peers[PeerId(key)], Kind.MESH, encode(message))
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()


class MemberMesh:
    """Knows other members of a hub, and calls them."""

    def __init__(self, node: Node, pump: Pump, context: Context, make_peer: Callable[[PeerId, str], Peer]) -> None:
        (self._hub,) = node.peers.values()
        self._node, self._pump, self._context = node, pump, context
        self._make_peer = make_peer
        self._members: dict[PeerId, dict[Place, Link]] = {}
        """The links that are offered, by where they lead."""
        router = node.board
        assert isinstance(router, Router)  # the settings see to it
        self._router = router
        self._timer = context.loop.call_later(HINT_SECONDS, self._look)

    def met(self, peer: Peer) -> None:
        """The hub knows nothing of us."""
        if peer is self._hub:
            self._join()

    def deaf(self, peer: Peer) -> None:
        """The hub has no mesh."""

    def gone(self, peer: Peer) -> None:
        """There is one hub."""

    def heard(self, peer: Peer, body: bytes) -> None:
        """The hub introduces somebody; nobody else can. Raises Malformed."""
        message = decode(body)
        if peer is not self._hub:
            self._node.drops.count(DropReason.MESH_STRANGER)
        elif isinstance(message, Introduce):
            self._introduced(message)
        elif isinstance(message, Gone):
            self._offer(PeerId(message.key), ())

    def owns(self, peer: Peer) -> bool:
        """Members other than the hub."""
        return peer is not self._hub

    def suspect(self, peer: Peer, suspect: bool) -> None:
        """Let the hub have what is for a member, or no more."""
        self._router.suspect(self._node.port_of(peer), suspect)

    def told(self, event: Event) -> Event:
        """That a member does not answer directly is nothing to worry about."""
        name = event.fields.get("peer")
        if event.event != "peer.silent" or name == self._hub.name:
            return event
        return Event("info", "mesh.relayed", f"no direct way to {name} yet: it is reached by the hub", event.fields)

    def _look(self) -> None:
        avoided = self._router.avoided()
        if avoided:
            for peer in self._node.peers.values():
                if self._node.port_of(peer) in avoided:
                    self._pump.doubt(peer)
        self._timer = self._context.loop.call_later(HINT_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _join(self) -> None:
        link = self._hub.link
        own: tuple[Place, ...] = ()
        if isinstance(link, UdpLink):
            address, port = link.seen_from
            with contextlib.suppress(ValueError):
                own = (Place(ip_address(address), port),)
        self._pump.say(self._hub, Kind.MESH, encode(Join(own)))

    def _introduced(self, member: Introduce) -> None:
        ident = PeerId(member.key)
        if ident not in self._members and (len(self._members) >= MAX_MEMBERS or ident == self._hub.ident):
            self._node.drops.count(DropReason.MESH_FULL)
            return
        identity = self._node.handshakes.identity
        assert isinstance(identity, StaticIdentity)  # the settings see to it
        try:
            identity.add(ident, member.psk)
        except ConfigurationError:
            self._node.drops.count(DropReason.MESH_MALFORMED)
            return
        if ident not in self._members:
            self._members[ident] = {}
            self._node.add(self._make_peer(ident, member.name))
        port = self._node.port_of(self._node.peers[ident])
        self._router.name(port, member.name)
        self._router.set_routes(port, member.prefixes)
        self._offer(ident, member.places)

    def _offer(self, ident: PeerId, places: tuple[Place, ...]) -> None:
        """Call a member at these places, and at no others."""
        offered = self._members.get(ident)
        if offered is None:
            return
        peer = self._node.peers[ident]
        for place in [place for place in offered if place not in places]:
            self._pump.withdraw(peer, offered.pop(place))
        for place in places:
            if place not in offered:
                with contextlib.suppress(NetworkError):  # this host lacks the address family
                    endpoint, address = udp_sockets(self._context).towards(str(place.address), place.port)
                    endpoint.native = True
                    offered[place] = endpoint.link(address)
                    self._pump.offer(peer, offered[place], 0)


def make_mesh(
    settings: Settings, node: Node, pump: Pump, context: Context, make_peer: Callable[[PeerId, str], Peer]
) -> Mesh:
    """A member's part if this side calls its hub, else a hub's."""
    if settings.connect:
        return MemberMesh(node, pump, context, make_peer)
    return HubMesh(settings, node, pump, context.loop)


def _seen(link: object) -> Place | None:
    """Where a peer is, if it is reached over plain UDP: only such an address can be called from elsewhere."""
    if not isinstance(link, UdpLink):
        return None
    address = ip_address(link.address[0].removeprefix("::ffff:"))
    return None if address.is_loopback or address.is_link_local else Place(address, link.address[1])
