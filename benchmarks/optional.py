"""What the parts cost that are off by default: compression of a record, and rules on a frame. Prints a Markdown table.

    python benchmarks/optional.py [repeats]

Each figure is the least processor time of `repeats` runs (25). They justify `session/deflation.py` (how rarely data
that does not shrink is tried) and what docs/mangle.md says of rules.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from caetun.compression.registry import BUILT_IN, find
from caetun.devices.mangled import MangledDevice
from caetun.devices.memory import MemoryDevice
from caetun.mangle.rules import make_pipeline
from caetun.session.deflation import SAMPLE
from caetun.types import Drops, Iovec, Mode
from caetun.wire.virtio_net import NO_OFFLOAD

REPEATS: Final = 25
RECORD: Final = 60_000
"""Bytes: what a device hands over at once."""
RUNS: Final = 50
FRAMES: Final = 20
RULES: Final = ("mss auto", "drop udp port 5353", "out dscp ef udp port 5060", "in ttl -1")
PACKET: Final = bytes.fromhex("45000024000100004011659c0a0100050a020009138800350010000061626364") + bytes(4)
"""UDP over IPv4."""


class Sink(MemoryDevice):
    """Takes frames and forgets them."""

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Nothing."""


def best(run: Callable[[], object], repeats: int) -> float:
    """Microseconds of processor time of one call."""

    def once() -> float:
        start = time.process_time()
        for _ in range(RUNS):
            run()
        return (time.process_time() - start) / RUNS * 1e6

    return min(once() for _ in range(repeats))


def compression(repeats: int) -> list[tuple[str, float]]:
    """Each method on a log, on random data, and on a sample of that."""
    log = b"".join(b"10:%02d info request %d answered\n" % (at % 60, at * 7919) for at in range(RECORD // 24))[:RECORD]
    rows = []
    for name in BUILT_IN:
        method = find(name)
        for what, plain in (("log", log), ("random", os.urandom(RECORD)), ("sample, random", os.urandom(SAMPLE))):
            packed = method.deflate(plain)
            share = f"{len(packed) / len(plain):.0%}"
            rows.append(
                (
                    f"{name} deflate, {what}, {len(plain)} bytes to {share}",
                    best(partial(method.deflate, plain), repeats),
                )
            )
        small = method.deflate(log)
        rows.append((f"{name} inflate, log", best(partial(method.inflate, small, RECORD), repeats)))
    return rows


def rules(repeats: int) -> list[tuple[str, float]]:
    """One packet from the tunnel, by the number of rules it passes."""
    rows = []
    frames: list[Iovec] = [(NO_OFFLOAD, memoryview(PACKET))] * FRAMES
    for count in range(1, len(RULES) + 1):
        device = MangledDevice(Sink(Mode.TUN), make_pipeline(RULES[:count], 1500), Drops())
        cost = best(partial(device.write_batch, frames), repeats) / FRAMES
        rows.append((f"a packet past {count} of: {', '.join(RULES)}", cost))
    return rows


if __name__ == "__main__":
    times = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    print("| operation | us |\n|---|---:|")
    for label, cost in [*compression(times), *rules(times)]:
        print(f"| {label} | {cost:.2f} |")
