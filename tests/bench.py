"""A node with one peer, or a crowd at a switch; handshakes end as a test wants, with neither keys nor network."""

from __future__ import annotations

import dataclasses
from itertools import count

from caetun.board import LOCAL
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.switchboard import Switchboard
from caetun.node import IndexAllocator, Node
from caetun.peers import Output, Peer, Timing
from caetun.session.handshake import Answer, Cipher, Handshakes, Hello, PeerId
from caetun.session.keypair import KeyPair
from caetun.session.session import Session
from caetun.types import Drops, Mode
from caetun.wire.container import Batch
from tests.session.established import HELLO, PEER, established


class ReadyMade(Handshakes):
    """Handshakes whose outcomes are put in: no public-key work."""

    ciphers = tuple(Cipher)

    def __init__(self, drops: Drops) -> None:
        self.hello = HELLO
        self.drops = drops
        self.next = Answer([])

    def initiate(self, peer: PeerId, now: float, wall: float, cipher: Cipher | None = None) -> list[bytes]:
        return [f"initiation {cipher}".encode()]

    def abandon(self, peer: PeerId) -> None:
        """Nothing is under way."""

    def receive(self, datagram: object, source: str, now: float, wall: float) -> Answer:
        return self.next


class Link:
    """Somewhere to send to: a stream, or a path for datagrams if it is given a ceiling."""

    full = False

    def __init__(self, name: str = "link", ceiling: int | None = None) -> None:
        self.name = name
        self.source = f"{name} 1"
        self.datagram_ceiling = ceiling
        self.unit = self.max_record = 65536 if ceiling is None else 1184
        self.datagram = 0

    def resize(self, datagram: int) -> None:
        self.datagram = datagram


class Bench:
    """A node with one peer, to which handshakes happen."""

    def __init__(self, ceiling: int | None = None) -> None:
        self.drops, self.out, self.link = Drops(), Output(), Link(ceiling=ceiling)
        self.handshakes = ReadyMade(self.drops)
        self.node = Node(self.handshakes, IndexAllocator(bytes), self.drops)
        self.peer = Peer(PEER, "far", Session(Mode.TAP, self.drops), self.handshakes, Timing(), bytes)
        self.node.add(self.peer)

    def shake(self, number: int, now: float, *, initiator: bool, hello: Hello = HELLO) -> KeyPair:
        """Handshake `number` ends well; returns the far end's key pair."""
        ours, theirs = established(number, hello=hello)[:: 1 if initiator else -1]
        self.handshakes.next = Answer([b"reply"], ours)
        self.node.messages_received(self.link, [b"message"], now, now, self.out)
        return KeyPair(theirs, now)

    def hear(self, far: KeyPair, elements: bytes, now: float, link: Link | None = None) -> None:
        """The far end sends control elements, or a keepalive."""
        self.node.records_received(link or self.link, [far.seal(elements)], now, self.out)
        self.node.burst_end(now, self.out)

    def said(self, far: KeyPair) -> list[bytes]:
        """What the far end reads in the records sent since it last looked; probes have padding."""
        records = [record for _, some in self.out.records for record in some] + [one for _, one in self.out.probes]
        self.out.records.clear()
        self.out.probes.clear()
        return [far.open(record.counter, record.body) for record in records if record.session == far.local_index]

    def told(self) -> list[str]:
        """The names of the events since it was last looked."""
        names = [event.event for event in self.out.events]
        self.out.events.clear()
        return names

    def tick(self, now: float) -> None:
        """The deadline has come."""
        self.node.tick(now, now, self.out)


class Crowd:
    """A hub with so many peers at its switch, all of them there, each by a link of its own."""

    def __init__(self, peers: int) -> None:
        self.drops, self.out = Drops(), Output()
        self.handshakes = ReadyMade(self.drops)
        self.bridge = Bridge(self.drops, LoopProbes(bytes(32), b"\2" + bytes(5), enabled=False))
        self.bridge.add_port(LOCAL, PortSettings("local"), 0.0)
        board = Switchboard(self.bridge, b"\2" + bytes(5))
        numbers = count(1)
        self.node = Node(
            self.handshakes, IndexAllocator(lambda size: next(numbers).to_bytes(size, "big")), self.drops, board
        )
        self.links: list[Link] = []
        self.far: list[KeyPair] = []
        """What each far end seals and opens with."""
        for number in range(peers):
            ident = PeerId(number.to_bytes(32, "big"))
            session = Session(Mode.TAP, self.drops)
            peer = Peer(ident, f"peer{number}", session, self.handshakes, Timing(), bytes)
            self.node.add(peer, PortSettings(peer.name))
            ours, theirs = established(number, (1_000_000 + number, 2_000_000 + number))
            self.links.append(Link(f"link{number}", 1472))
            self.handshakes.next = Answer([], dataclasses.replace(ours, peer=ident))
            self.node.messages_received(self.links[-1], [b"message"], 0.0, 0.0, self.out)
            self.far.append(KeyPair(theirs, 0.0))
        self.out.clear()

    def hears(self, number: int, frame: bytes, now: float) -> None:
        """A peer's host sends a frame."""
        record = self.far[number].seal(pack_frame(frame))
        self.node.records_received(self.links[number], [record], now, self.out)
        self.node.burst_end(now, self.out)

    def sends(self, frame: bytes, now: float) -> None:
        """The hub's own host sends a frame."""
        batch = Batch()
        batch.append(frame)
        self.node.device_received(batch, now, self.out)

    def sealed(self) -> list[str]:
        """The links by which records with frames have left since it was last looked."""
        links = [link.name for link, records in self.out.records for record in records if len(record.body) > 64]
        self.out.clear()
        return links


def pack_frame(frame: bytes) -> bytes:
    """A container with one frame."""
    batch = Batch()
    batch.append(frame)
    return bytes(batch.view[: batch.end])
