"""What the steps that every record pays for cost: the replay window and the AEAD. Prints a Markdown table.

    python benchmarks/primitives.py [repeats]

Each figure is the best of `repeats` runs (7): what the code costs, not what else the machine was doing. The two sizes
are a record of one datagram and one that holds a whole superframe: they show why long records pay (docs/wire.md, 3).
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from caetun.session.replay import ReplayWindow

SIZES: Final = (1440, 64_000)
"""Bytes of a container."""
REPEATS: Final = 7
COUNTERS: Final = 100_000
BURST: Final = 44
"""Records that arrive in reverse, as after a burst that took two paths."""
RUN_BYTES: Final = 8_000_000
"""Bytes sealed or opened in one run."""

Run: TypeAlias = Callable[[], int]
"""Does a number of operations and returns how many."""


class Row(NamedTuple):
    """One line of the table."""

    operation: str
    size: int
    """Bytes the operation handles, 0 if that means nothing."""
    seconds: float
    """Of one operation."""


def best(run: Run, repeats: int) -> float:
    """Seconds of one operation, the least of several runs."""

    def once() -> float:
        start = time.perf_counter()
        count = run()
        return (time.perf_counter() - start) / count

    return min(once() for _ in range(repeats))


def replay(order: list[int]) -> Run:
    """Check and mark counters in this order, in a fresh window each time."""

    def run() -> int:
        window = ReplayWindow()
        check, mark = window.check, window.mark
        for counter in order:
            if check(counter) is None:
                mark(counter)
        return len(order)

    return run


def aead(cipher: AESGCM | ChaCha20Poly1305, size: int) -> tuple[Run, Run]:
    """Seal and open containers of this size, nonces built as a key pair builds them."""
    nonce = struct.Struct(">IQ").pack
    count = max(1, RUN_BYTES // size)
    plain = bytes(size)
    sealed = cipher.encrypt(nonce(0, 0), plain, None)
    encrypt, decrypt = cipher.encrypt, cipher.decrypt

    def seal() -> int:
        for counter in range(count):
            encrypt(nonce(0, counter), plain, None)
        return count

    def open_() -> int:
        for _ in range(count):
            decrypt(nonce(0, 0), sealed, None)
        return count

    return seal, open_


def measure(repeats: int) -> list[Row]:
    """All figures."""
    in_order = list(range(COUNTERS))
    reversed_bursts = [at + BURST - 1 - step for at in range(0, COUNTERS, BURST) for step in range(BURST)]
    rows = [
        Row("replay check + mark, in order", 0, best(replay(in_order), repeats)),
        Row(f"replay check + mark, bursts of {BURST} reversed", 0, best(replay(reversed_bursts), repeats)),
    ]
    ciphers: dict[str, AESGCM | ChaCha20Poly1305] = {
        "AES-128-GCM": AESGCM(bytes(16)),
        "AES-256-GCM": AESGCM(bytes(32)),
        "ChaCha20-Poly1305": ChaCha20Poly1305(bytes(32)),
    }
    for name, cipher in ciphers.items():
        for size in SIZES:
            seal, open_ = aead(cipher, size)
            rows.append(Row(f"{name} seal", size, best(seal, repeats)))
            rows.append(Row(f"{name} open", size, best(open_, repeats)))
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| operation | bytes | us | Gbit/s |", "|---|---:|---:|---:|"]
    for operation, size, seconds in rows:
        rate = f"{size * 8 / seconds / 1e9:.1f}" if size else ""
        lines.append(f"| {operation} | {size or ''} | {seconds * 1e6:.2f} | {rate} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS)))
