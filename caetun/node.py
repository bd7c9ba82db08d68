"""The engine: a frame or a record comes in, is decided upon, and goes out. Pure: no clock, no sockets.

| stage    | outbound            | inbound                                  |
|----------|---------------------|------------------------------------------|
| enter    | `device_received`   | `records_received`, `messages_received`  |
| decide   | `Bridge.forward`    | `Bridge.forward`; of two ends, nothing   |
| protect  | `Peer.send_batch`   | `Peer.record`                            |
| leave    | `Output.records`    | `Output.frames`                          |

Time is an argument; what is to be done comes back in the `Output` that the caller hands in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from caetun import notices
from caetun.notices import Event
from caetun.peers import LinkView, Output, Peer
from caetun.types import DropReason, Drops
from caetun.wire.container import Batch
from caetun.wire.record import Record

if TYPE_CHECKING:
    from caetun.l2.bridge import Bridge, PortSettings
    from caetun.l2.switchboard import Parcel, Switchboard
    from caetun.session.handshake import Established, PeerId, Refusal, Security
    from caetun.session.keypair import KeyPair


class IndexAllocator:
    """Session indices of this side: 32-bit random numbers that are not in use."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self.sessions: dict[int, tuple[Peer, KeyPair]] = {}
        """Who records with an index belong to. Bounded: a few key pairs a peer."""

    def __call__(self) -> int:
        """A fresh index."""
        while (index := int.from_bytes(self._entropy(4), "big")) in self.sessions or not index:
            pass
        return index


class Node:
    """Joins one device to its peers."""

    def __init__(
        self, handshakes: Security, indices: IndexAllocator, drops: Drops, switchboard: Switchboard | None = None
    ) -> None:
        """`switchboard`: joins several peers and the device; without, there is one peer, and nothing to decide."""
        self._handshakes = handshakes
        self._indices = indices
        self.drops = drops
        self.peers: dict[PeerId, Peer] = {}
        self._board = switchboard
        self._ports: dict[int, tuple[Peer, PortSettings | None]] = {}
        """Of the switch, by number: `LOCAL` is the device, and not in here."""
        self._port_of: dict[Peer, int] = {}
        self._up: set[Peer] = set()
        """Peers whose ports are up."""
        self._last_port = 0
        self.guest: Callable[[PeerId, Established, LinkView], Peer | None] | None = None
        """Makes a peer, and adds it, of somebody whom no configuration names; None if there is no room for one."""
        self._heard: set[Peer] = set()
        """Peers that have sent something in the burst that is coming in."""

    @property
    def sessions(self) -> dict[int, tuple[Peer, KeyPair]]:
        """Session indices in use: endpoints drop pieces of records for any other."""
        return self._indices.sessions

    def add(self, peer: Peer, settings: PortSettings | None = None) -> None:
        """Make a far end known; `settings` are those of its port on the switch."""
        self.peers[peer.ident] = peer
        number = self._last_port = self._last_port + 1
        self._ports[number] = peer, settings
        self._port_of[peer] = number

    def remove(self, peer: Peer) -> None:
        """A far end is not known any more; its session, if there is one, ends without a word."""
        self._retire(peer.session.forget())
        if self._board is not None and peer in self._up:
            self._port_changed(self._board, peer, 0.0)
        del self.peers[peer.ident]
        del self._ports[self._port_of.pop(peer)]
        self._heard.discard(peer)
        self._handshakes.forget(peer.ident)

    def estrange(self, peer: Peer) -> None:
        """Both ends forget what was said: when they meet again, they are strangers."""
        peer.conversation.estrange()
        self._handshakes.forget(peer.ident)

    def rename(self, peer: Peer, name: str) -> None:
        """A far end is known by another name from now on."""
        peer.rename(name)
        number = self._port_of[peer]
        settings = self._ports[number][1]
        if settings is not None:
            self._ports[number] = peer, dataclasses.replace(settings, name=name)

    @property
    def bridge(self) -> Bridge | None:
        """The switch between device and peers, if there is one."""
        return None if self._board is None else self._board.bridge

    def port_names(self) -> dict[int, str]:
        """The switch's ports other than the device, by number."""
        return {number: peer.name for number, (peer, _) in self._ports.items()}

    # outbound

    def device_received(self, batch: Batch, now: float, out: Output) -> None:
        """Frames that the host sends. Hot: once a batch."""
        if self._board is None:
            for peer in self.peers.values():
                peer.send_batch(batch, now, out)
            return
        self._send(self._board.outbound(batch, now), now, out)
        if self._board.bridge.waiting:
            self._tick_switch(self._board, now, out)

    def _send(self, parcels: Sequence[Parcel], now: float, out: Output) -> None:
        """Send what the switch has decided upon."""
        ports = self._ports
        for some, batch in parcels:
            for number in some:
                ports[number][0].send_batch(batch, now, out)

    def send_waiting(self, now: float, out: Output) -> bool:
        """Send some of what has waited for links that were full; returns whether there was any (see `Peer`)."""
        sent = False
        for peer in self.peers.values():
            sent = peer.send_waiting(now, out) or sent
        return sent

    # inbound

    def records_received(self, link: LinkView, records: Sequence[Record], now: float, out: Output) -> None:
        """Sealed records from a link. Hot: once a burst."""
        sessions = self._indices.sessions
        for record in records:
            known = sessions.get(record.session)
            if known is None:
                self.drops.count(DropReason.RECORD_UNKNOWN_SESSION)
                continue
            peer, pair = known
            before = len(out.frames)
            stale = peer.record(pair, record, link, now, out)
            self._heard.add(peer)
            if stale:
                self._retire(stale)
            if self._board is not None:
                self._switch(self._board, peer, before, now, out)

    def _switch(self, board: Switchboard, peer: Peer, before: int, now: float, out: Output) -> None:
        """Decide on the frames a peer has just sent: they were put behind those that were there `before`."""
        if peer.carries is not (peer in self._up):
            self._port_changed(board, peer, now)
        if len(out.frames) == before:
            return
        frames = out.frames[before:]
        del out.frames[before:]
        local, parcels = board.inbound(self._port_of[peer], frames, now)
        out.frames += local
        self._send(parcels, now, out)
        if board.bridge.waiting:
            self._tick_switch(board, now, out)

    def _port_changed(self, board: Switchboard, peer: Peer, now: float) -> None:
        """A peer has come or gone, and its port with it; one whose frames are held back is not there for the switch."""
        number = self._port_of[peer]
        if peer.carries:
            self._up.add(peer)
            settings = self._ports[number][1]
            assert settings is not None, "a peer of a switch has been added with the settings of its port"
            board.bridge.add_port(number, settings, now)
        else:
            self._up.discard(peer)
            board.bridge.remove_port(number)

    def messages_received(
        self, link: LinkView, messages: Sequence[bytes], now: float, wall: float, out: Output
    ) -> None:
        """Datagrams that are not records: handshakes, or garbage."""
        for message in messages:
            answer = self._handshakes.receive(message, link.source, now, wall)
            if answer.replies:
                out.messages.append((link, answer.replies))
            established = answer.established
            if answer.refusal is not None:
                self._refused(link, answer.refusal, now, out)
            if established is None:
                continue
            peer = self.peers.get(established.peer)
            if peer is None and self.guest is not None:
                peer = self.guest(established.peer, established, link)
            if peer is None:
                continue
            stale = peer.established(established, link, now, out)
            for pair in (peer.session.current, *peer.session.unconfirmed):
                if pair is not None and pair.local_index == established.local_index:
                    self._indices.sessions[pair.local_index] = (peer, pair)
            self._retire(stale)
            if self._board is not None and peer.carries is not (peer in self._up):
                self._port_changed(self._board, peer, now)

    def _refused(self, link: LinkView, refusal: Refusal, now: float, out: Output) -> None:
        """One side does not take the other for whom it says it is."""
        peer = None if refusal.peer is None else self.peers.get(refusal.peer)
        if peer is not None:
            peer.refused(now)
        out.events.append(notices.refused("" if peer is None else peer.name, link.name, refusal))

    def expel(self, peer: Peer, why: str, now: float, out: Output) -> None:
        """End the session of a far end that is not welcome any more."""
        self._retire(peer.expel(why, now, out))
        if self._board is not None and peer.present is not (peer in self._up):
            self._port_changed(self._board, peer, now)

    def burst_end(self, now: float, out: Output) -> None:
        """Nothing more is waiting from the network right now. Hot: once a burst."""
        for peer in self._heard:
            before = len(out.frames)
            peer.burst_end(now, out)
            if self._board is not None:
                self._switch(self._board, peer, before, now, out)
        self._heard.clear()

    def too_big(self, link: LinkView, datagram: int, now: float, out: Output) -> None:
        """The local kernel refused a datagram of this size on a link."""
        for peer in self.peers.values():
            if peer.link is link:
                peer.too_big(datagram, now, out)

    def link_closed(self, link: LinkView, now: float, out: Output) -> None:
        """A link is gone."""
        for peer in self.peers.values():
            peer.withdraw(link, now, out)

    def network_changed(self, now: float, out: Output) -> None:
        """This host's addresses or routes are others now: links may work that did not, and the other way round."""
        for peer in self.peers.values():
            peer.network_changed(now, out)

    def _retire(self, pairs: Sequence[KeyPair]) -> None:
        for pair in pairs:
            self._indices.sessions.pop(pair.local_index, None)

    # time

    def tick(self, now: float, wall: float, out: Output) -> None:
        """Do what is due."""
        for peer in self.peers.values():
            self._retire(peer.tick(now, wall, out))
        if self._board is not None:
            self._tick_switch(self._board, now, out)

    def _tick_switch(self, board: Switchboard, now: float, out: Output) -> None:
        for peer in self.peers.values():
            if peer.carries is not (peer in self._up):
                self._port_changed(board, peer, now)
        local, parcels = board.tick(now)
        out.frames += local
        self._send(parcels, now, out)
        told = board.bridge.notices
        out.events += [Event(notice.level, notice.event, notice.text, {}) for notice in told]
        told.clear()

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [peer.next_deadline() for peer in self.peers.values()]
        if self._board is not None:
            due.append(self._board.bridge.next_deadline())
        return min((at for at in due if at is not None), default=None)

    def close(self, now: float, out: Output) -> None:
        """Tell all far ends that we go."""
        for peer in self.peers.values():
            peer.close(now, out)
