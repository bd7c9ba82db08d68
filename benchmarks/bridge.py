"""What a decision of the switch costs, by the number of addresses it knows: `python benchmarks/bridge.py`."""

from __future__ import annotations

import os
import statistics
import time

from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.types import Drops

ROUNDS = 9
FRAMES = 20_000


def mac(number: int) -> bytes:
    return b"\x02\0" + number.to_bytes(4, "big")


def cost(known: int, ports: int = 10) -> float:
    """Microseconds a frame, of frames between random known addresses."""
    bridge = Bridge(Drops(), LoopProbes(os.urandom(32), mac(1 << 24)))
    for number in range(ports):
        bridge.add_port(number, PortSettings(f"port{number}"), 0.0)
    for number in range(known):
        bridge.fdb.learn(0, mac(number), number % ports, 0.0)
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
                bridge.forward(port, frame, 1.0)
        times.append((time.perf_counter() - begun) / FRAMES * 1e6)
    return statistics.median(times)


def main() -> None:
    print("| addresses | µs a frame |\n|--:|--:|")
    for known in (100, 1000, 10_000):
        print(f"| {known:,} | {cost(known):.2f} |")


if __name__ == "__main__":
    main()
