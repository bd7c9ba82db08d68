"""The link contract's in-memory double: endpoints joined by a network that is a list, with chance that repeats.

    network = MemoryNetwork(Conditions(loss=0.01), seed=7)
    one, other = network.endpoint("one", Drops()), network.endpoint("other", Drops())
    one.start(None, arrivals, sessions)
    one.link("other").send(records)
    network.deliver(now=1.5)

Nothing happens by itself and nothing waits: what is sent lies on the network until `deliver`, whose `now` is virtual
time. The same calls with the same seed have the same outcome.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from caetun.transports.base import Arrivals, Reactor, Sessions
from caetun.transports.pieces import MAX_RECORD, Assembler, cut_record
from caetun.types import DropReason, Drops
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, Record, encode_header

# chosen by us
FLOOR: Final = 1200
"""Bytes of a datagram before the path is known, as on UDP."""
MAX_DATAGRAM: Final = 65507
"""Bytes: the most that UDP carries over IPv4."""
_REACH: Final = 16.0
"""How many later datagrams may overtake one that is held up, at most."""
_MAX_ROUNDS: Final = 1000
"""Deliveries after which two sides that answer each other will not come to rest any more."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the network does to datagrams."""

    loss: float = 0.0
    """Share of datagrams that vanish, 0..1."""
    duplication: float = 0.0
    """Share that arrives twice, 0..1."""
    reordering: float = 0.0
    """Share that is overtaken by others, 0..1."""
    path: int = MAX_DATAGRAM
    """Bytes of the longest datagram that gets through; a longer one vanishes without a word."""
    ceiling: int = MAX_DATAGRAM
    """Bytes of the longest datagram that the local interface takes; a longer one is refused (`too_big`)."""
    capacity: int = 1 << 20
    """Datagrams of one endpoint that may be under way; then its links are full."""


class _Datagram(NamedTuple):
    source: MemoryEndpoint
    target: str
    content: bytes


class MemoryLink:
    """The way to one endpoint; fulfils the link contract."""

    def __init__(self, endpoint: MemoryEndpoint, target: str) -> None:
        self._endpoint = endpoint
        self.target = target
        self.name = f"memory {target}"
        self.source = f"{target} 0"
        self.resize(FLOOR)

    @property
    def full(self) -> bool:
        """Whether the network takes no more just now."""
        return self._endpoint.full

    @property
    def datagram_ceiling(self) -> int:
        """Largest datagram in bytes that the local interface takes."""
        return self._endpoint.network.conditions.ceiling

    def resize(self, datagram: int) -> None:
        """Use datagrams of this many bytes from now on."""
        self.datagram = datagram
        self.unit = datagram - HEADER_SIZE
        self.max_record = min(MAX_PIECES, MAX_RECORD // self.unit) * self.unit

    def send(self, records: Sequence[Record]) -> None:
        """Send records, in order, each in as many datagrams as it takes."""
        for record in records:
            if len(record.body) > self.max_record:
                self._endpoint.drops.count(DropReason.LINK_OVERSIZE)
                continue
            parts = cut_record(record, self.unit)
            self._put([b"".join(parts[at : at + 2]) for at in range(0, len(parts), 2)])

    def probe(self, record: Record) -> None:
        """Send a record in a single datagram, however large."""
        self._put([encode_header(0, 1, record.session, record.counter) + record.body])

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Send handshake messages."""
        for message in messages:
            self._put([message])

    def close(self) -> None:
        """Nothing: there is no connection."""

    def _put(self, datagrams: list[bytes]) -> None:
        """Send datagrams that belong together: all of them, or none if the network is full."""
        endpoint = self._endpoint
        if endpoint.full:
            endpoint.drops.count(DropReason.LINK_FULL)
            return
        longest = max(map(len, datagrams))
        if longest > self.datagram_ceiling:
            endpoint.drops.count(DropReason.LINK_OVERSIZE)
            if endpoint.arrivals is not None:
                endpoint.arrivals.too_big(self, longest)
            return
        endpoint.network.put([_Datagram(endpoint, self.target, datagram) for datagram in datagrams])
        endpoint.under_way += len(datagrams)
        endpoint.was_full = endpoint.full


class MemoryEndpoint:
    """One place on the network; `MemoryNetwork.endpoint` makes it."""

    def __init__(self, network: MemoryNetwork, address: str, drops: Drops) -> None:
        self.network = network
        self.address = address
        self.name = f"memory {address}"
        self.drops = drops
        self.arrivals: Arrivals | None = None
        """Who hears of what comes in; nobody before `start` and after `close`."""
        self.under_way = 0
        """How many datagrams were sent and have not been delivered."""
        self.was_full = False
        """Whether somebody may be waiting for `drained`."""
        self._links: dict[str, MemoryLink] = {}

    @property
    def full(self) -> bool:
        """Whether the network takes no more just now."""
        return self.under_way >= self.network.conditions.capacity

    def link(self, address: str) -> MemoryLink:
        """The link to an address: always the same object."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = MemoryLink(self, address)
        return link

    def start(self, reactor: Reactor | None, arrivals: Arrivals, sessions: Sessions) -> None:
        """Begin to receive. There is nothing for a reactor to watch."""
        self.arrivals = arrivals
        self._assembler = Assembler(self.drops, sessions)

    def close(self) -> None:
        """Stop: what arrives from now on goes nowhere."""
        self.arrivals = None

    def receive(self, source: str, burst: list[bytes], now: float) -> None:
        """Take in datagrams of one source, of equal size but the last, which may be shorter."""
        arrivals = self.arrivals
        if arrivals is None:
            return
        records: list[Record] = []
        messages: list[bytes] = []
        whole = memoryview(b"".join(burst))
        self._assembler.expire(now)
        self._assembler.burst(source, whole, len(burst[0]), now, (records, messages))
        if records:
            arrivals.records(self.link(source), records)
        if messages:
            arrivals.messages(self.link(source), messages)

    def burst_end(self) -> None:
        """Nothing more is waiting."""
        if self.arrivals is not None:
            self.arrivals.burst_end()

    def take_back(self, count: int) -> None:
        """So many datagrams have left the network; tells whoever waits once it takes more."""
        self.under_way -= count
        if self.was_full and not self.full:
            self.was_full = False
            if self.arrivals is not None:
                self.arrivals.drained()


class MemoryNetwork:
    """Joins endpoints."""

    def __init__(self, conditions: Conditions | None = None, seed: int = 0) -> None:
        """`conditions`: a perfect network if not given; may be replaced at any time."""
        self.conditions = Conditions() if conditions is None else conditions
        self._chance = random.Random(seed)
        self._endpoints: dict[str, MemoryEndpoint] = {}
        self._under_way: list[_Datagram] = []

    def __len__(self) -> int:
        """How many datagrams are under way."""
        return len(self._under_way)

    def endpoint(self, address: str, drops: Drops) -> MemoryEndpoint:
        """A new endpoint; one of the same address is there no more."""
        endpoint = self._endpoints[address] = MemoryEndpoint(self, address, drops)
        return endpoint

    def put(self, datagrams: list[_Datagram]) -> None:
        """Take what a link sends."""
        self._under_way += datagrams

    def deliver(self, now: float = 0.0) -> int:
        """Let arrive what is under way, `now` in monotonic seconds; returns how many datagrams did.

        What is sent because of that is under way afterwards.
        """
        taken, self._under_way = self._under_way, []
        arriving = self._arriving(taken)
        reached: dict[str, MemoryEndpoint] = {}
        for (source, target), content in _bursts(arriving):
            endpoint = self._endpoints.get(target)
            if endpoint is not None:
                reached[target] = endpoint
                endpoint.receive(source, content, now)
        for endpoint in reached.values():
            endpoint.burst_end()
        for sender, count in Counter(datagram.source for datagram in taken).items():
            sender.take_back(count)
        return len(arriving)

    def settle(self, now: float = 0.0) -> None:
        """Deliver until nothing is under way any more."""
        for _ in range(_MAX_ROUNDS):
            if not self._under_way:
                return
            self.deliver(now)
        raise AssertionError(f"still not at rest after {_MAX_ROUNDS} rounds")

    def _arriving(self, taken: list[_Datagram]) -> list[_Datagram]:
        """What chance leaves of these, in the order in which it arrives."""
        conditions, chance = self.conditions, self._chance.random
        due: list[tuple[float, _Datagram]] = []
        for at, datagram in enumerate(taken):
            # Always as many draws a datagram: other conditions leave the fate of the rest as it was.
            lost, twice, late, delay = chance(), chance(), chance(), chance()
            if lost < conditions.loss or len(datagram.content) > conditions.path:
                continue
            held = delay * _REACH if late < conditions.reordering else 0.0
            due += [(at + held, datagram)] * (2 if twice < conditions.duplication else 1)
        return [datagram for _, datagram in sorted(due, key=lambda entry: entry[0])]


def _bursts(datagrams: list[_Datagram]) -> Iterator[tuple[tuple[str, str], list[bytes]]]:
    """Neighbours from one source to one target, merged as GRO does: equal sizes, then maybe one shorter."""
    for way, group in groupby(datagrams, key=lambda datagram: (datagram.source.address, datagram.target)):
        burst: list[bytes] = []
        for datagram in group:
            content = datagram.content
            if burst and (len(content) > len(burst[0]) or len(burst[-1]) < len(burst[0]) or not content):
                yield way, burst
                burst = []
            burst.append(content)
        yield way, burst
