"""The engine: a frame or a record comes in, is decided upon, and goes out. Pure: no clock, no sockets.

| stage    | outbound              | inbound                                  |
|----------|-----------------------|------------------------------------------|
| enter    | `device_received`     | `records_received`, `messages_received`  |
| decide   | `Board.outbound`      | `Board.inbound`; of two ends, nothing    |
| fit      | `Fitter.fit`, rarely  |                                          |
| protect  | `Outbound.send_batch` | `Peer.record`                            |
| leave    | `Output.records`      | `Output.frames`                          |

What fits is asked only where a far end's device takes less than ours. Time is an argument; what is to be done comes
back in the `Output` that the caller hands in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caetun import notices
from caetun.board import LOCAL
from caetun.notices import Event
from caetun.peers import LinkView, Output, Peer
from caetun.types import DropReason, Drops, Iovec
from caetun.wire.container import Batch
from caetun.wire.record import Record
from caetun.wire.virtio_net import NO_OFFLOAD

if TYPE_CHECKING:
    from caetun.board import Board, Parcel
    from caetun.l3.fit import Fitter
    from caetun.session.identity import PeerId
    from caetun.session.keypair import KeyPair
    from caetun.session.security import Cipher, Established, Refusal, Security


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

    def __init__(self, handshakes: Security, indices: IndexAllocator, drops: Drops, board: Board | None = None) -> None:
        """`board`: joins several peers and the device; without, there is one peer, and nothing to decide."""
        self.handshakes = handshakes
        """With which peers are made."""
        self._indices = indices
        self.drops = drops
        self.peers: dict[PeerId, Peer] = {}
        self.board = board
        self._ports: dict[int, tuple[Peer, Any]] = {}
        """Of the board, by number: `LOCAL` is the device, and not in here."""
        self._port_of: dict[Peer, int] = {}
        self._next_port = 1
        """Numbers are not used twice: the switch may remember a former one."""
        self._up: dict[Peer, LinkView | None] = {}
        """Peers whose ports are up -> the last link they were reached by."""
        self.guest: Callable[[PeerId, Established, LinkView], Peer | None] | None = None
        """Makes a peer, and adds it, of somebody whom no configuration names; None if there is no room for one."""
        self._heard: set[Peer] = set()
        """Peers that have sent something in the burst that is coming in."""
        self._fitter: Fitter | None = None

    @property
    def ciphers(self) -> tuple[Cipher, ...]:
        """The allowed ones, best first."""
        return self.handshakes.ciphers

    def resized(self, mtu: int) -> None:
        """The device's MTU is another one: far ends are told with the next handshake."""
        self.handshakes.hello = dataclasses.replace(self.handshakes.hello, mtu=mtu)

    @property
    def sessions(self) -> dict[int, tuple[Peer, KeyPair]]:
        """Session indices in use: endpoints drop pieces of records for any other."""
        return self._indices.sessions

    def add(self, peer: Peer, settings: Any = None) -> None:
        """Make a far end known; `settings` are those of its port on the board."""
        self.peers[peer.ident] = peer
        self._ports[self._next_port] = peer, settings
        self._port_of[peer] = self._next_port
        self._next_port += 1

    def remove(self, peer: Peer, why: str, now: float, out: Output) -> None:
        """Forget a far end, and end its session."""
        self._retire(peer.expel(why, now, out))
        if self.board is not None and peer in self._up:
            self._port_changed(self.board, peer, now)
        self.handshakes.forget(peer.ident)
        del self.peers[peer.ident]
        del self._ports[self._port_of.pop(peer)]
        self._heard.discard(peer)

    def estrange(self, peer: Peer) -> None:
        """Both ends forget what was said: when they meet again, they are strangers."""
        peer.conversation.estrange()
        self.handshakes.estrange(peer.ident)

    def rename(self, peer: Peer, name: str) -> None:
        """A far end is known by another name from now on."""
        peer.rename(name)
        number = self._port_of[peer]
        settings = self._ports[number][1]
        if settings is not None:
            self._ports[number] = peer, dataclasses.replace(settings, name=name)

    def port_names(self) -> dict[int, str]:
        """The board's ports other than the device, by number."""
        return {number: peer.name for number, (peer, _) in self._ports.items()}

    def port_of(self, peer: Peer) -> int:
        """The number of a peer's port on the board."""
        return self._port_of[peer]

    def port_settings(self, peer: Peer) -> Any:
        """What `add` was given for a peer's port."""
        return self._ports[self._port_of[peer]][1]

    # outbound

    def device_received(self, batch: Batch, now: float, out: Output) -> None:
        """Frames that the host sends. Hot: once a batch."""
        if self.board is None:
            for peer in self.peers.values():
                if not peer.narrower:
                    peer.outbound.send_batch(batch, now, out)
                else:
                    self._send_fitting(self._port_of[peer], batch, LOCAL, now, out)
            return
        self._send(self.board.outbound(batch, now), LOCAL, now, out)
        if self.board.waiting:
            self._tick_board(self.board, now, out)

    def _send(self, parcels: Sequence[Parcel], origin: int, now: float, out: Output) -> None:
        """Send what the board has decided upon; `origin`: the port it came from."""
        ports = self._ports
        refused: list[tuple[int, list[Iovec]]] = []
        for some, batch in parcels:
            for number in some:
                peer = ports[number][0]
                if not peer.narrower:
                    peer.outbound.send_batch(batch, now, out)
                else:
                    refused.append((number, self._fitted(number, batch, origin, now, out)))
        for number, answers in refused:  # only now: the board may use the memory of parcels again
            self._answered(number, answers, now, out)

    def _send_fitting(self, number: int, batch: Batch, origin: int, now: float, out: Output) -> None:
        self._answered(number, self._fitted(number, batch, origin, now, out), now, out)

    def _fitted(self, number: int, batch: Batch, origin: int, now: float, out: Output) -> list[Iovec]:
        """Send what fits the far end's device; returns what is told about the rest, as if it came from there."""
        if self._fitter is None:
            # Imported here: the MTU is mostly the same on both sides.
            from caetun.l3.fit import Fitter

            self._fitter = Fitter(self.handshakes.hello.mode, self.drops)
        peer = self._ports[number][0]
        batches, answers = self._fitter.fit(batch, peer.narrower, origin, now)
        for each in batches:
            peer.outbound.send_batch(each, now, out)
        return [(NO_OFFLOAD, memoryview(answer)) for answer in answers]

    def _answered(self, number: int, answers: list[Iovec], now: float, out: Output) -> None:
        """Bring answers in the name of a peer to whoever sent what they are about."""
        if not answers:
            return
        if self.board is None:
            out.frames += answers
            return
        local, parcels = self.board.inbound(number, answers, now)
        out.frames += local
        self._send(parcels, number, now, out)

    def send_waiting(self, now: float, out: Output) -> bool:
        """Send some of what has waited for links that were full; returns whether there was any (see `Peer`)."""
        sent = False
        for peer in self.peers.values():
            sent = peer.outbound.send_waiting(now, out) or sent
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
            if self.board is not None:
                self._decide(self.board, peer, before, now, out)

    def _decide(self, board: Board, peer: Peer, before: int, now: float, out: Output) -> None:
        """Decide on the frames a peer has just sent: they were put behind those that were there `before`."""
        if peer.carries is not (peer in self._up) or peer.link is not self._up.get(peer):
            self._port_changed(board, peer, now)
        number = self._port_of[peer]
        if len(out.frames) > before:
            frames = out.frames[before:]
            del out.frames[before:]
            local, parcels = board.inbound(number, frames, now)
            out.frames += local
            self._send(parcels, number, now, out)
        if board.waiting:
            self._tick_board(board, now, out)

    def _port_changed(self, board: Board, peer: Peer, now: float) -> None:
        """See whether a peer has come or gone, and its port with it, or is reached by another link.

        One whose frames are held back is not there for the board.
        """
        number, known = self._port_of[peer], peer in self._up
        if peer.carries is not known:
            if known:
                del self._up[peer]
                board.remove_port(number)
                return
            board.add_port(number, self._ports[number][1], now)
        elif not known or peer.link is None or peer.link is self._up[peer]:
            return
        else:
            board.port_moved(number, now)
        self._up[peer] = peer.link

    def messages_received(
        self, link: LinkView, messages: Sequence[bytes], now: float, wall: float, out: Output
    ) -> None:
        """Datagrams that are not records: handshakes, or garbage."""
        for message in messages:
            answer = self.handshakes.receive(message, link.source, now, wall)
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
            if self.board is not None:
                self._port_changed(self.board, peer, now)

    def _refused(self, link: LinkView, refusal: Refusal, now: float, out: Output) -> None:
        """One side does not take the other for whom it says it is."""
        peer = None if refusal.peer is None else self.peers.get(refusal.peer)
        if peer is not None:
            peer.refused(now)
        out.events.append(notices.refused("" if peer is None else peer.name, link.name, refusal))

    def expel(self, peer: Peer, why: str, now: float, out: Output) -> None:
        """End the session of a far end that is not welcome any more."""
        self._retire(peer.expel(why, now, out))
        if self.board is not None:
            self._port_changed(self.board, peer, now)

    def burst_end(self, now: float, out: Output) -> None:
        """Nothing more is waiting from the network right now. Hot: once a burst."""
        for peer in self._heard:
            before = len(out.frames)
            peer.burst_end(now, out)
            if self.board is not None:
                self._decide(self.board, peer, before, now, out)
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
            if self.board is not None:
                self._port_changed(self.board, peer, now)
        if self.board is not None:
            self._tick_board(self.board, now, out)

    def _tick_board(self, board: Board, now: float, out: Output) -> None:
        local, parcels = board.tick(now)
        out.frames += local
        self._send(parcels, LOCAL, now, out)
        out.events += [Event(level, event, text, {}) for level, event, text in board.notices()]

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [peer.next_deadline() for peer in self.peers.values()]
        if self.board is not None:
            due.append(self.board.next_deadline())
        return min((at for at in due if at is not None), default=None)

    def close(self, now: float, out: Output) -> None:
        """Tell all far ends that we go."""
        for peer in self.peers.values():
            peer.close(now, out)
