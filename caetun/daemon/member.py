"""A member's part of a mesh: a peer is made for each member that the hub introduces, and called at all its places,
while it calls us: where a NAT stands between, each call lets in the other.

With Ethernet, members also tell each other which hosts are behind them. While a direct way does not answer, what is for
that member goes by the hub (`l3/router.py`, `l2/member.py`).
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from caetun.errors import ConfigurationError, NetworkError
from caetun.mesh.hosts import Known
from caetun.mesh.introductions import MAX_MEMBERS
from caetun.notices import Event
from caetun.session.channel import Kind
from caetun.session.handshake import PeerId
from caetun.session.identity import StaticIdentity
from caetun.transports.udp import udp_sockets
from caetun.transports.udp_link import UdpLink
from caetun.types import DropReason, Mode
from caetun.wire.mesh import Gone, Hosts, Introduce, Join, Place, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from caetun.daemon.pump import Pump
    from caetun.l2.member import MemberSwitch
    from caetun.l3.table import Network
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.transports.base import Context, Link

# chosen by us
HINT_SECONDS: Final = 0.1
"""Between two looks at who sends by the hub: whoever does, though there is a direct way, has found that it is dead.
Seen from here it may only have gone quiet."""
CALM_SECONDS: Final = 3.0
"""After a hint that has made us answer by the hub at once, further ones only have the way tested: else both sides could
give each other hints for ever."""
TELL_SECONDS: Final = 1.0
"""Between two looks at which hosts are here: until members have heard of a new one, it is reached by the hub."""


class MemberBoard(Protocol):
    """What a mesh wants of a member's router or switch; ports are other members'."""

    def introduce(self, port: int, name: str, networks: Iterable[Network]) -> None:
        """The hub says who this is, and what leads there."""

    def suspect(self, number: int, suspect: bool) -> None:
        """The direct way does not answer: let the hub have what is for it; or it does again."""

    def works(self, port: int) -> bool:
        """Whether there is a direct way that answers."""

    def avoided(self) -> list[int]:
        """Who has sent by the hub since this was last asked, though there is one."""


class MemberMesh:
    """Knows other members of a hub, and calls them."""

    def __init__(self, node: Node, pump: Pump, context: Context, make_peer: Callable[[PeerId, str], Peer]) -> None:
        (self._hub,) = node.peers.values()
        self._node, self._pump, self._context = node, pump, context
        self._make_peer = make_peer
        self._members: dict[PeerId, dict[Place, Link]] = {}
        """The links that are offered, by where they lead."""
        self._board = cast(MemberBoard, node.board)
        switched = node.handshakes.hello.mode is Mode.TAP
        self._switch = cast("MemberSwitch", node.board) if switched else None
        self._known = Known()
        """What members know of our hosts, if there is a switch."""
        self._tested: set[Peer] = set()
        """Whose ways are tested for a hint, and not used meanwhile."""
        self._calm_until: dict[PeerId, float] = {}
        self._timers = [context.loop.call_later(HINT_SECONDS, self._look_for_hints)]
        if switched:
            self._timers.append(context.loop.call_later(TELL_SECONDS, self._look_for_hosts))

    def met(self, peer: Peer) -> None:
        """The hub, or a member, knows nothing of us."""
        if peer is self._hub:
            self._join()
        elif self._switch is not None:
            self._switch.forget(self._node.port_of(peer))
            self._known.met(peer.ident)
            self._tell(peer)

    def deaf(self, peer: Peer) -> None:
        """It has no mesh."""

    def gone(self, peer: Peer) -> None:
        """There is one hub, and members are taken away by us."""

    def heard(self, peer: Peer, body: bytes) -> None:
        """The hub introduces somebody, which nobody else can; or a member tells of its hosts. Raises Malformed."""
        message = decode(body)
        if isinstance(message, Hosts) and peer is not self._hub and self._switch is not None:
            self._switch.said(self._node.port_of(peer), message.come, message.gone)
        elif peer is not self._hub:
            self._node.drops.count(DropReason.MESH_STRANGER)
        elif isinstance(message, Introduce):
            self._introduced(message)
        elif isinstance(message, Gone):
            self._forget(PeerId(message.key))

    def owns(self, peer: Peer) -> bool:
        """Members other than the hub."""
        return peer is not self._hub

    def suspect(self, peer: Peer, suspect: bool) -> None:
        """Let the hub have what is for a member, or no more."""
        if peer.ident in self._members:  # else it was taken away just now
            self._board.suspect(self._node.port_of(peer), suspect)

    def told(self, event: Event) -> Event:
        """That a member does not answer directly is nothing to worry about."""
        name = event.fields.get("peer")
        if event.event != "peer.silent" or name == self._hub.name:
            return event
        return Event("info", "mesh.relayed", f"no direct way to {name} yet: it is reached by the hub", event.fields)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Other members, and whether they are reached directly."""
        for ident in self._members:
            peer = self._node.peers[ident]
            port = self._node.port_of(peer)
            works = self._board.works(port)
            yield {
                "member": peer.name,
                "way": "direct" if works else "by the hub",
                "link": peer.link.name if works and peer.link is not None else "",
                "hosts": "" if self._switch is None else self._switch.shortcuts.count(port),
            }

    def _look_for_hints(self) -> None:
        for peer in [peer for peer in self._tested if not peer.doubted]:
            self._tested.remove(peer)
            self.suspect(peer, False)
        avoided = self._board.avoided()
        if avoided:
            for peer in list(self._node.peers.values()):
                if self._node.port_of(peer) in avoided:
                    self._avoided(peer)
        self._timers[0] = self._context.loop.call_later(HINT_SECONDS, self._look_for_hints)

    def _avoided(self, peer: Peer) -> None:
        """A member sends by the hub: answer there until it is clear whether our way works."""
        now = self._context.loop.time()
        self._pump.doubt(peer)
        if peer.doubted and now >= self._calm_until.get(peer.ident, now):
            self._calm_until[peer.ident] = now + CALM_SECONDS
            self._tested.add(peer)
            self.suspect(peer, True)

    def _look_for_hosts(self) -> None:
        for key in self._known:
            self._tell(self._node.peers[PeerId(key)])
        self._timers[1] = self._context.loop.call_later(TELL_SECONDS, self._look_for_hosts)

    def _tell(self, peer: Peer) -> None:
        """Tell a member what it does not know yet of our hosts."""
        assert self._switch is not None
        news = self._known.news(peer.ident, self._switch.here())
        if news is not None and self._pump.say(peer, Kind.MESH, encode(news)):
            self._known.told(peer.ident, news)

    def close(self) -> None:
        """Look no more."""
        for timer in self._timers:
            timer.cancel()

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
        if ident == self._hub.ident or (ident not in self._members and len(self._members) >= MAX_MEMBERS):
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
        self._board.introduce(port, member.name, member.prefixes)
        self._offer(ident, member.places)

    def _forget(self, ident: PeerId) -> None:
        """The hub says that somebody is no member any more: who was expelled there, is expelled here."""
        if ident not in self._members:
            return
        del self._members[ident]
        peer = self._node.peers[ident]
        port = self._node.port_of(peer)
        self._board.introduce(port, peer.name, ())
        if self._switch is not None:
            self._switch.forget(port)
        self._known.forget(ident)
        self._tested.discard(peer)
        self._calm_until.pop(ident, None)
        self._pump.remove(peer, "the hub has parted us")

    def _offer(self, ident: PeerId, places: tuple[Place, ...]) -> None:
        """Call a member at these places, and at no others."""
        offered = self._members[ident]
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
