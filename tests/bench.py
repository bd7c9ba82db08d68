"""A node with one peer and handshakes that end as a test wants, without public-key work or a network."""

from __future__ import annotations

from caetun.node import IndexAllocator, Node
from caetun.peers import Output, Peer, Timing
from caetun.session.handshake import Answer, Cipher, Handshakes, Hello, PeerId
from caetun.session.keypair import KeyPair
from caetun.session.session import Session
from caetun.types import Drops, Mode
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
