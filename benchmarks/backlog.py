"""What a frame costs that waits in a peer's backlog while its link is full: put and take. Prints a Markdown table.

    python benchmarks/backlog.py [repeats]

Each figure is the best of `repeats` runs (7). The goals: 15 us for a superframe, so that a fast link that is full for
moments stays fast, and 4 us for a small frame. A copy of the same bytes there and back is what cannot be saved.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from caetun.session.backlog import MAX_LIMIT, Backlog
from caetun.types import Drops, Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import VnetHeader

REPEATS: Final = 7
FRAMES: Final = 4000
"""In one run."""
WAITING: Final = 1_000_000
WAITING_FRAMES: Final = 2000
"""Bytes or frames that wait all the while in the rows that say so."""
SUPERFRAME: Final = VnetHeader(1, 1, 66, 1448, 34, 16).encode()
CHECKSUM: Final = VnetHeader(1, 0, 0, 0, 34, 16).encode()
MACS: Final = bytes.fromhex("02000000000b02000000000a")


class Row(NamedTuple):
    """One line of the table."""

    what: str
    size: int
    """Bytes of a frame."""
    at_once: int
    """Frames in a batch."""
    seconds: float
    """Of one frame."""


def frame(flow: int, size: int, version: int) -> bytes:
    """An Ethernet frame with TCP of a flow."""
    ports = struct.pack(">HH", flow, 443)
    if version == 4:
        start = struct.pack(">BBHHHBBH", 0x45, 0, size - 14, 1, 0x4000, 64, 6, 0)
        head = MACS + b"\x08\x00" + start + bytes(8) + ports
    else:
        head = MACS + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, size - 54, 6, 64) + bytes(32) + ports
    return head + bytes(size - len(head))


def batch_of(frames: list[bytes]) -> Batch:
    """As a device gives them."""
    batch = Batch()
    for content in frames:
        batch.append(content, SUPERFRAME if len(content) > 2000 else CHECKSUM)
    return batch


def best(run: Callable[[], int], repeats: int) -> float:
    """Seconds of one frame, the least of several runs."""

    def once() -> float:
        start = time.perf_counter()
        frames = run()
        return (time.perf_counter() - start) / frames

    return min(once() for _ in range(repeats))


def through(batch: Batch, waiting: bool) -> Callable[[], int]:
    """Put the batch and take as much, again and again, at a moment or a step later each time."""

    def run() -> int:
        backlog = Backlog(Mode.TAP, b"benchmark's seed", Drops())
        while waiting and backlog.size < WAITING and len(backlog) < WAITING_FRAMES:
            backlog.put(batch, 0.0)
        done = 0
        now = 0.0
        while done < FRAMES:
            backlog.put(batch, now)
            taken = backlog.take(now, MAX_LIMIT)
            assert taken is not None
            done += len(taken)
            now += 0.000001 * len(taken)
        return done

    return run


def copied(size: int) -> Callable[[], int]:
    """The two copies alone."""

    def run() -> int:
        source, target = bytearray(size), bytearray(size)
        kept = [bytearray(size) for _ in range(16)]
        for number in range(FRAMES):
            kept[number % 16] = source[:]
            target[:] = kept[(number + 1) % 16]
        return FRAMES

    return run


def measure(repeats: int) -> list[Row]:
    """All figures."""
    rows = []
    for waiting in (False, True):
        state = "more waits" if waiting else "nothing waits"
        for what, flows, size, at_once in [
            ("superframe", 1, 60_000, 1),
            ("superframes of 4 flows in turn", 4, 15_000, 4),
            ("full frames, 10 flows", 10, 1514, 40),
            ("small frames, IPv4, 1 flow", 1, 66, 100),
            ("small frames, IPv4, 100 flows", 100, 66, 100),
            ("one small frame", 1, 66, 1),
        ]:
            batch = batch_of([frame(number % flows, size, 4) for number in range(at_once)])
            rows.append(Row(f"{what}, {state}", size, at_once, best(through(batch, waiting), repeats)))
    batch = batch_of([frame(1, 86, 6)] * 100)
    rows.append(Row("small frames, IPv6, 1 flow, nothing waits", 86, 100, best(through(batch, False), repeats)))
    rows += [Row("two copies alone", size, 1, best(copied(size), repeats)) for size in (60_000, 66)]
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| put and take | bytes | at once | us a frame | Gbit/s |", "|---|---:|---:|---:|---:|"]
    for what, size, at_once, seconds in rows:
        lines.append(f"| {what} | {size} | {at_once} | {seconds * 1e6:.2f} | {size * 8 / seconds / 1e9:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS)))
