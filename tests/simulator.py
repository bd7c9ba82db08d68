"""Hosts that run a tunnel each, on a network with a memory for nothing but its seed, in virtual time.

    world = World(seed=7)
    a, b = world.host("a", Setup({"b": ["b"]})), world.host("b", Setup({"a": []}))  # a connects, b listens
    a.send(frame(1))
    world.until(lambda: b.numbers == [1], within=1.0)

Everything but the kernel is real: node, peers, sessions, pieces. Between a host's device and the network stands what
`daemon/pump.py` does, without its event loop. Time jumps to whatever is due next, and never stands still: a deadline
that lies in the past after `tick` is an error here, as it would keep a real host's processor busy.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from caetun.board import LOCAL
from caetun.devices.memory import MemoryDevice
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.member import MemberSwitch
from caetun.l2.switchboard import Switchboard
from caetun.node import IndexAllocator, Node
from caetun.peers import Event, Output, Peer, Timing
from caetun.session.handshake import Handshakes, Hello, PeerId, Policy, PostQuantum
from caetun.session.identity import NO_PSK, SecretIdentity, StaticIdentity, public_key
from caetun.session.module import Means
from caetun.session.session import Session
from caetun.transports.pieces import Assembler, cut_record
from caetun.types import Drops, Mode
from caetun.wire.container import Batch
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, Record, encode_header

START: Final = 1000.0
WALL: Final = 1_700_000_000.0
ETHERNET: Final = 1472
"""Bytes of UDP payload that an interface with an MTU of 1500 carries."""
BATCH_LIMIT: Final = 61 * 1024
_NUMBER_AT: Final = 20
_MAX_STEPS_AT_ONCE: Final = 10_000
"""Steps without time going on after which hosts that answer each other will not come to rest any more."""


def frame(number: int, size: int = 100) -> bytes:
    """A frame of `size` bytes, at least 28, that carries a number."""
    return bytes(_NUMBER_AT) + number.to_bytes(8, "big") + bytes(size - _NUMBER_AT - 8)


def key_of(name: str) -> bytes:
    """The private key of the host of that name."""
    return hashlib.sha256(name.encode()).digest()


@dataclass(slots=True)
class Path:
    """What the network does to datagrams on their way from one place to another."""

    delay: float = 0.01
    """Seconds."""
    jitter: float = 0.0
    """Seconds: each datagram takes up to so much longer, so that they overtake each other."""
    loss: float = 0.0
    duplication: float = 0.0
    longest: int = ETHERNET
    """Bytes of the longest datagram that gets through; a longer one vanishes without a word."""
    cut: bool = False


@dataclass(slots=True)
class Setup:
    """How a host is configured."""

    peers: Mapping[str, Sequence[str]]
    """The far ends by name, and the addresses to connect to: none for those that connect to us."""
    secret: bytes | None = None
    """Shared with the only peer, instead of static keys."""
    mode: Mode = Mode.TAP
    mtu: int = 1500
    policy: Policy = field(default_factory=lambda: Policy(post_quantum=PostQuantum.OFF))
    timing: Timing = field(default_factory=Timing)
    span: int = 0
    switch: bool = False
    """Whether its device and its peers are ports of a switch."""
    member: bool = False
    """Whether that is the switch of a member of a mesh, whose first peer is the hub."""


class Link:
    """The way from a host to one address; fulfils the link contract."""

    full = False

    def __init__(self, host: Host, address: str) -> None:
        self._host = host
        self.address = address
        self.name = f"sim {address}"
        self.source = f"{address} 4500"
        self.resize(1200)

    @property
    def datagram_ceiling(self) -> int:
        return self._host.interface

    def resize(self, datagram: int) -> None:
        self.datagram = datagram
        self.unit = datagram - HEADER_SIZE
        self.max_record = min(MAX_PIECES, 65507 // datagram) * self.unit

    def send(self, records: Sequence[Record]) -> None:
        for record in records:
            assert len(record.body) <= self.max_record
            parts = cut_record(record, self.unit)
            for at in range(0, len(parts), 2):
                self._host.emit(self, bytes(parts[at]) + bytes(parts[at + 1]))

    def probe(self, record: Record) -> None:
        self._host.emit(self, encode_header(0, 1, record.session, record.counter) + bytes(record.body))

    def send_messages(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._host.emit(self, message)


class Host:
    """One host with its tunnel; `World.host` makes and starts it."""

    def __init__(self, world: World, name: str, setup: Setup) -> None:
        self.world = world
        self.name = name
        self.setup = setup
        self.outside = name
        """The address under which others see it, its own or that of a NAT; what goes to a former one is lost."""
        self.interface = ETHERNET
        """Bytes of the largest datagram that the local interface takes."""
        self.clock = 0.0
        """Seconds that its wall clock is ahead."""
        self.running = False
        self.drops = Drops()
        self.events: list[tuple[float, Event]] = []
        self.received: list[tuple[float, bytes]] = []
        """(time, frame) of what its device was given."""
        self.sought = 0
        """How often other ways should have been looked for."""
        self.shell: Callable[[Output], object] = lambda out: None
        """Does what is about links; `tests/carriers.py` has one that climbs a ladder."""
        self.next_number = 0
        self._entropy = random.Random(f"{world.seed} {name}").randbytes

    def start(self, setup: Setup | None = None) -> None:
        """Start the tunnel, with other settings if given; it knows nothing of what was before."""
        self.setup = setup = setup or self.setup
        self.running = True
        self._out = Output()
        self._batch = Batch(BATCH_LIMIT)
        self._refused: list[tuple[Link, int]] = []
        self._busy = False
        self._links: dict[str, Link] = {}
        self.device = MemoryDevice(setup.mode)
        indices = IndexAllocator(self._entropy)
        if setup.secret is None:
            keys = {public_key(key_of(name)): NO_PSK for name in setup.peers}
            identity: StaticIdentity | SecretIdentity = StaticIdentity(key_of(self.name), keys)
        else:
            identity = SecretIdentity(setup.secret)
        hello = Hello(setup.mode, mtu=setup.mtu, max_record=64 * 1024)
        self.handshakes = Handshakes(identity, Means(hello, setup.policy, self._entropy, indices, self.drops))
        self.node = Node(self.handshakes, indices, self.drops, self._switchboard() if setup.switch else None)
        self.assembler = Assembler(self.drops, self.node.sessions)
        self.peers: dict[str, Peer] = {}
        for name, addresses in setup.peers.items():
            ident = PeerId(public_key(key_of(name)) if setup.secret is None else identity.target)
            session = Session(setup.mode, self.drops, setup.span)
            peer = self.peers[name] = Peer(ident, name, session, self.handshakes, setup.timing, self._entropy)
            self.node.add(peer, PortSettings(name) if setup.switch else None)
            for address in addresses:
                peer.offer(self.link(address), 0, self.world.now, self._out)

    def _switchboard(self) -> Switchboard:
        address = b"\x02" + self._entropy(5)
        bridge = Bridge(self.drops, LoopProbes(self._entropy(32), address))
        bridge.add_port(LOCAL, PortSettings("local"), self.world.now)
        return MemberSwitch(bridge, address, self.drops) if self.setup.member else Switchboard(bridge, address)

    def stop(self) -> None:
        """End the tunnel in order: the far ends are told."""
        self.node.close(self.world.now, self._out)
        self._flush()
        self.running = False

    def crash(self) -> None:
        """End the tunnel without a word."""
        self.running = False

    # what a test looks at

    @property
    def peer(self) -> Peer:
        """The only peer."""
        (peer,) = self.peers.values()
        return peer

    @property
    def numbers(self) -> list[int]:
        """Of the frames received so far."""
        return [int.from_bytes(frame[_NUMBER_AT : _NUMBER_AT + 8], "big") for _, frame in self.received]

    def told(self, event: str) -> list[str]:
        """The texts of all events of that name."""
        return [happened.text for _, happened in self.events if happened.event == event]

    # what happens to it

    def link(self, address: str) -> Link:
        """The link to an address: always the same object."""
        return self._links.setdefault(address, Link(self, address))

    def send(self, *frames: bytes) -> None:
        """Its hosts send frames, all waiting at once."""
        for content in frames:
            self.device.put(content)
        while self.device.waiting and self.running:
            self._batch.clear()
            self.device.read_batch(self._batch)
            self.node.device_received(self._batch, self.world.now, self._out)
            self._flush()

    def send_numbers(self, numbers: range, size: int) -> None:
        """Its hosts send frames of `size` bytes that carry these numbers."""
        self.send(*(frame(number, size) for number in numbers))

    def emit(self, link: Link, datagram: bytes) -> None:
        """A datagram leaves its interface, if it is not too long for that."""
        if len(datagram) > self.interface:
            self._refused.append((link, len(datagram)))
        else:
            self.world.carry(self, link.address, datagram)

    def hear(self, source: str, datagram: bytes) -> None:
        """A datagram comes in."""
        if not self.running:
            return
        now, link = self.world.now, self.link(source)
        records: list[Record] = []
        messages: list[bytes] = []
        self.assembler.burst(source, memoryview(datagram), len(datagram), now, (records, messages))
        self.node.records_received(link, records, now, self._out)
        self.node.messages_received(link, messages, now, self.wall, self._out)
        self._busy = True

    def look(self) -> None:
        """The end of a burst if there was one, and of a deadline if it is due."""
        now = self.world.now
        if self._busy:
            self._busy = False
            self.assembler.expire(now)
            self.node.burst_end(now, self._out)
            self._flush()
        due = self.deadline
        if due is not None and due <= now:
            self.node.tick(now, self.wall, self._out)
            self._flush()
            due = self.deadline
            assert due is None or due > now, f"{self.name} would spin: due at {due}, it is {now}"

    @property
    def wall(self) -> float:
        """Its clock's seconds since 1970."""
        return WALL + self.world.now + self.clock

    @property
    def deadline(self) -> float | None:
        """When it wants to be asked again."""
        return self.node.next_deadline() if self.running else None

    def _check_age(self, records: Sequence[Record], now: float) -> None:
        """No record is sealed with keys that are too old (docs/wire.md, section 3)."""
        used = {record.session for record in records}
        for pair in (peer.session.current for peer in self.peers.values()):
            assert pair is None or pair.remote_index not in used or now - pair.born < self.setup.timing.lifetime

    def _flush(self) -> None:
        """What `Pump._flush` does."""
        out, now = self._out, self.world.now
        self.device.write_batch(out.frames)
        self.received += [(now, content) for content, _ in self.device.written]
        self.device.written.clear()
        for link, records in out.records:
            self._check_age(records, now)
            link.send(records)
        for link, record in out.probes:
            link.probe(record)
        for link, messages in out.messages:
            link.send_messages(messages)
        self.events += [(now, event) for event in out.events]
        self.sought += len(out.seek)
        self._out = Output()
        self.shell(out)
        refused, self._refused = self._refused, []
        for link, size in refused:
            self.node.too_big(link, size, now, self._out)
        if refused:
            self._flush()


class World:
    """Hosts, the paths between them, and time."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.now = START
        self.hosts: dict[str, Host] = {}
        self.tap: Callable[[str, str, bytes], bool] | None = None
        """Sees (source, target, datagram) of all that is sent, and says whether it goes on."""
        self.carried = 0  # datagrams sent so far
        self._chance = random.Random(seed).random
        self._paths: dict[tuple[str, str], Path] = {}
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def host(self, name: str, setup: Setup) -> Host:
        """A new host, running."""
        host = self.hosts[name] = Host(self, name, setup)
        host.start()
        return host

    # the network

    def path(self, source: str, target: str) -> Path:
        """From one host to another, by name."""
        return self._paths.setdefault((source, target), Path())

    def all_paths(self, **changes: Any) -> None:
        """Change what all paths do."""
        for source, target in itertools.permutations(self.hosts, 2):
            for name, value in changes.items():
                setattr(self.path(source, target), name, value)

    def carry(self, host: Host, target: str, datagram: bytes) -> None:
        """Take a datagram to whoever has the address `target` when it arrives."""
        self.carried += 1
        source = host.outside
        if self.tap is not None and not self.tap(source, target, datagram):
            return
        name = next((other.name for other in self.hosts.values() if other.outside == target), None)
        if name is None:
            return
        path = self.path(host.name, name)
        # Always as many draws a datagram: other conditions leave the fate of the rest as it was.
        lost, twice, *late = (self._chance() for _ in range(4))
        if path.cut or lost < path.loss or len(datagram) > path.longest:
            return
        for held in late[: 1 + (twice < path.duplication)]:
            self.inject(source, target, datagram, path.delay + path.jitter * held)

    def inject(self, source: str, target: str, datagram: bytes, delay: float = 0.0) -> None:
        """Let a datagram arrive, whoever has sent it."""

        def arrive() -> None:
            for host in self.hosts.values():
                if host.outside == target:
                    host.hear(source, datagram)

        self.after(delay, arrive)

    # time

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something so many seconds from now."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), action))

    def flow(self, host: Host, rate: float, seconds: float, *, size: int = 100, at_once: int = 1) -> range:
        """Let a host send `rate` times a second `at_once` frames; returns the numbers they carry."""
        times = round(rate * seconds)
        numbers = range(host.next_number, host.next_number + times * at_once)
        host.next_number = numbers.stop
        for turn in range(times):
            batch = numbers[turn * at_once : (turn + 1) * at_once]
            self.after(turn / rate, partial(host.send_numbers, batch, size))
        return numbers

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._run(self.now + seconds, lambda: False)

    def until(self, condition: Callable[[], bool], within: float) -> float:
        """Let time pass until the condition holds; returns how many seconds that took, at most `within`."""
        began = self.now
        assert self._run(self.now + within, condition), f"not within {within} s"
        return self.now - began

    def _run(self, end: float, condition: Callable[[], bool]) -> bool:
        steps_at_once = 0
        while not condition():
            due = [at for host in self.hosts.values() if (at := host.deadline) is not None]
            due += [self._agenda[0][0]] if self._agenda else []
            at = min(due, default=None)
            if at is None or at > end:
                self.now = end
                return condition()
            if at > self.now:
                self.now, steps_at_once = at, 0
            steps_at_once += 1
            assert steps_at_once < _MAX_STEPS_AT_ONCE, "time stands still"
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            for host in self.hosts.values():
                if host.running:
                    host.look()
        return True
