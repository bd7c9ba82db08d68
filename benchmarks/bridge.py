"""What the switch costs: `python benchmarks/bridge.py`.

1. a decision between known hosts, by the number of addresses
2. a frame that goes to 50 peers, beside 50 frames that go to one: decided, sealed, handed to the link, not sent
3. a million random addresses from one port: how fast they are dealt with, and what they leave behind
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import resource
import statistics
import time
from itertools import count
from typing import Any, Final, cast

from caetun.board import LOCAL
from caetun.daemon.heap import keep_freed_memory
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.switchboard import Switchboard
from caetun.node import IndexAllocator, Node
from caetun.peers import Output, Peer, Timing
from caetun.session.handshake import Answer, Cipher, Established, Handshakes, PeerId
from caetun.session.session import Session
from caetun.types import Drops, Mode
from caetun.wire.container import Batch
from caetun.wire.hello import Hello

ROUNDS: Final = 9
FRAMES: Final = 20_000
FLOODS: Final = 300
PEERS: Final = 50
ADDRESSES: Final = 1_000_000
OWN: Final = b"\x02" + bytes(5)


def mac(number: int) -> bytes:
    return b"\x02\0" + number.to_bytes(4, "big")


def bridge(ports: int, drops: Drops | None = None) -> Bridge:
    made = Bridge(Drops() if drops is None else drops, LoopProbes(os.urandom(32), OWN, enabled=False))
    for number in range(ports):
        made.add_port(number, PortSettings(f"port{number}"), 0.0)
    made.tick(0.0)
    return made


def decision(known: int, ports: int = 10) -> float:
    """Microseconds a frame, of frames between random known addresses."""
    switch = bridge(ports)
    for number in range(known):
        switch.fdb.learn(0, mac(number), number % ports, 0.0)
    pairs = [((7919 * number) % known, (104729 * number + 1) % known) for number in range(1000)]
    frames = [
        (source % ports, memoryview(mac(destination) + mac(source) + b"\x08\0" + bytes(46)))
        for source, destination in pairs
    ]
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(FRAMES // len(frames)):
            for port, frame in frames:
                switch.forward(port, frame, 1.0)
        times.append((time.perf_counter() - begun) / FRAMES * 1e6)
    return statistics.median(times)


class Ready:
    """Handshakes that have ended well."""

    ciphers = tuple(Cipher)

    def __init__(self, drops: Drops) -> None:
        self.hello, self.drops = Hello(Mode.TAP, max_record=1 << 16), drops
        self.next = Answer([])

    def receive(self, *_: object) -> Answer:
        return self.next


@dataclasses.dataclass(eq=False)
class Link:
    """A stream that takes whatever it is given."""

    name: str
    source: str = ""
    full: bool = False
    unit: int = 1 << 16
    max_record: int = 1 << 16
    datagram: int = 0
    datagram_ceiling: int | None = None


def hub(peers: int, *, switch: bool) -> Node:
    """A node whose peers are all there."""
    drops, numbers = Drops(), count(1)
    board = Switchboard(bridge(1, drops), OWN) if switch else None
    ready = Ready(drops)
    handshakes = cast(Handshakes, ready)
    node = Node(handshakes, IndexAllocator(lambda size: next(numbers).to_bytes(size, "big")), drops, board)
    for number in range(LOCAL + 1, peers + 1):
        ident = PeerId(number.to_bytes(32, "big"))
        peer = Peer(ident, f"{number}", Session(Mode.TAP, drops), handshakes, Timing(), os.urandom)
        node.add(peer, PortSettings(peer.name))
        one, other = (hashlib.sha256(f"{number} {side}".encode()).digest() for side in ("one", "other"))
        established = Established(ident, True, Cipher.AES_GCM, one, other, number, number, ready.hello, False)
        ready.next = Answer([], established)
        node.messages_received(cast(Any, Link(f"{number}")), [b""], 0.0, 0.0, Output())
    node.tick(0.0, 0.0, Output())
    return node


def sending(many: Node, one: Node, size: int) -> tuple[float, float]:
    """Microseconds from a broadcast frame of `size` bytes to records: once for all of `many`; as often for `one`.

    In turn, so that whatever else the machine does falls on both.
    """
    out, batch = Output(), Batch()
    frame = b"\xff" * 6 + mac(1) + b"\x88\xb6" + bytes(size - 14)
    times: tuple[list[float], list[float]] = [], []
    for number in range(FLOODS):
        for node, repeats, found in ((many, 1, times[0]), (one, PEERS, times[1])):
            begun = time.perf_counter()
            for _ in range(repeats):
                batch.clear()
                batch.append(frame)
                node.device_received(batch, 1.0 + number / 100, out)
            found.append((time.perf_counter() - begun) * 1e6)
            out.clear()
    return statistics.median(times[0]), statistics.median(times[1])


def addresses(count: int) -> tuple[float, int, Drops, int]:
    """(microseconds a frame, addresses kept, drops, KiB that memory has grown) of a flood from one port."""
    drops = Drops()
    switch = bridge(3, drops)
    spent = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(0, count, 10_000):
        noise = os.urandom(50_000)
        frames = [
            memoryview(mac(7) + b"\2" + noise[at : at + 5] + b"\x08\0\x45\0\0\x2e" + bytes(42))
            for at in range(0, len(noise), 5)
        ]
        begun = time.perf_counter()
        for number, frame in enumerate(frames, start):
            switch.forward(1, frame, 1.0 + number * 1e-5)
        spent += time.perf_counter() - begun
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return spent / count * 1e6, len(switch.fdb), drops, grown


def main() -> None:
    keep_freed_memory()  # as the daemon does
    print("| addresses | µs a frame |\n|--:|--:|")
    for known in (100, 1000, 10_000):
        print(f"| {known:,} | {decision(known):.2f} |")
    print(f"\n| bytes | to {PEERS} peers, µs | {PEERS} times to one, µs | ratio |\n|--:|--:|--:|--:|")
    many, one = hub(PEERS, switch=True), hub(1, switch=False)
    for size in (100, 1514, 60_000):
        flood, single = sending(many, one, size)
        print(f"| {size:,} | {flood:,.0f} | {single:,.0f} | {flood / single:.2f} |")
    cost, kept, drops, grown = addresses(ADDRESSES)
    reasons = ", ".join(f"{times:,} {reason}" for reason, times in sorted(drops.items()))
    print(f"\n{ADDRESSES:,} random addresses: {cost:.1f} µs each, {kept:,} kept, {grown:,} KiB more; {reasons}")


if __name__ == "__main__":
    main()
