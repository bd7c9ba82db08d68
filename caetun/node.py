"""The engine: a frame or a record comes in, is decided upon, and goes out. Pure: no clock, no sockets.

| stage    | outbound            | inbound                                  |
|----------|---------------------|------------------------------------------|
| enter    | `device_received`   | `records_received`, `messages_received`  |
| decide   | `_decide`           | `_decide_inbound`                        |
| protect  | `Peer.send_batch`   | `Peer.record`                            |
| leave    | `Output.records`    | `Output.frames`                          |

Time is an argument; what is to be done comes back in the `Output` that the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from caetun.peers import LinkView, Output, Peer
from caetun.types import DropReason, Drops
from caetun.wire.container import Batch
from caetun.wire.record import Record

if TYPE_CHECKING:
    from caetun.session.handshake import Handshakes, PeerId
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

    def __init__(self, handshakes: Handshakes, indices: IndexAllocator, drops: Drops) -> None:
        self._handshakes = handshakes
        self._indices = indices
        self.drops = drops
        self.peers: dict[PeerId, Peer] = {}

    @property
    def sessions(self) -> dict[int, tuple[Peer, KeyPair]]:
        """Session indices in use: endpoints drop pieces of records for any other."""
        return self._indices.sessions

    def add(self, peer: Peer) -> None:
        """Make a far end known."""
        self.peers[peer.ident] = peer

    # outbound

    def device_received(self, batch: Batch, now: float, out: Output) -> None:
        """Frames that the host sends. Hot: once a batch."""
        for peer in self._decide(batch):
            peer.send_batch(batch, now, out)

    def _decide(self, batch: Batch) -> Sequence[Peer]:
        """Which peers a batch goes to: point to point, there is one."""
        return list(self.peers.values())

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
            stale = peer.record(pair, record, link, now, out)
            if stale:
                self._retire(stale)

    def messages_received(
        self, link: LinkView, messages: Sequence[bytes], now: float, wall: float, out: Output
    ) -> None:
        """Datagrams that are not records: handshakes, or garbage."""
        for message in messages:
            answer = self._handshakes.receive(message, link.source, now, wall)
            if answer.replies:
                out.messages.append((link, answer.replies))
            established = answer.established
            if established is None:
                continue
            peer = self.peers[established.peer]
            stale = peer.established(established, link, now, out)
            for pair in (peer.session.current, *peer.session.unconfirmed):
                if pair is not None and pair.local_index == established.local_index:
                    self._indices.sessions[pair.local_index] = (peer, pair)
            self._retire(stale)

    def burst_end(self, now: float, out: Output) -> None:
        """Nothing more is waiting from the network right now."""
        for peer in self.peers.values():
            peer.burst_end(now, out)

    def too_big(self, link: LinkView, datagram: int, now: float, out: Output) -> None:
        """The local kernel refused a datagram of this size on a link."""
        for peer in self.peers.values():
            if peer.link is link:
                peer.too_big(datagram, now, out)

    def link_closed(self, link: LinkView, now: float, out: Output) -> None:
        """A link is gone."""
        for peer in self.peers.values():
            peer.withdraw(link, now, out)

    def _retire(self, pairs: Sequence[KeyPair]) -> None:
        for pair in pairs:
            self._indices.sessions.pop(pair.local_index, None)

    # time

    def tick(self, now: float, wall: float, out: Output) -> None:
        """Do what is due."""
        for peer in self.peers.values():
            self._retire(peer.tick(now, wall, out))

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [peer.next_deadline() for peer in self.peers.values()]
        return min((at for at in due if at is not None), default=None)

    def close(self, now: float, out: Output) -> None:
        """Tell all far ends that we go."""
        for peer in self.peers.values():
            peer.close(now, out)
