"""What a decision of the router costs, by the number of prefixes it has: `python benchmarks/router.py`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

from caetun.board import LOCAL
from caetun.l3.answers import Answers
from caetun.l3.router import MAX_KNOWN, Router
from caetun.l3.table import Table
from caetun.types import Drops, Iovec, Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD

ROUNDS = 9
PAIRS = 1000
"""Destinations in turn; less than the router remembers."""
PEERS = 10
assert 2 * PAIRS < MAX_KNOWN


def make(prefixes: int, version: int) -> Router:
    """A router with as many prefixes: /24 of 10.0.0.0/8, or /64 of fd00::/16."""
    drops = Drops()
    router = Router(Table(), Answers(Mode.TUN, drops), drops)
    for number in range(prefixes):
        four = IPv4Network((0x0A000000 + (number << 8), 24))
        six = IPv6Network(((0xFD << 120) + (number << 64), 64))
        router.add_routes(number % PEERS + 1, [four if version == 4 else six])
    for port in range(LOCAL + 1, PEERS + 1):
        router.add_port(port, None, 0.0)
    return router


def packet(source: int, destination: int, version: int) -> bytes:
    """From a host of one prefix to one of another."""
    if version == 4:
        ends = b"".join((0x0A000001 + (each << 8)).to_bytes(4, "big") for each in (source, destination))
        return bytes((0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0)) + ends + bytes(40)
    ends = b"".join(((0xFD << 120) + (each << 64) + 1).to_bytes(16, "big") for each in (source, destination))
    return bytes((0x60, 0, 0, 0, 0, 40, 17, 64)) + ends + bytes(40)


def microseconds(work: Callable[[], object], packets: int) -> float:
    """A packet, once everything is remembered."""
    work()
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(10):
            work()
        times.append((time.perf_counter() - begun) / packets / 10 * 1e6)
    return statistics.median(times)


def cost(prefixes: int, version: int) -> tuple[float, float, float, float]:
    """Outbound, to the device, from peer to peer (copied, one hop less), and the first packet of an address."""
    router = make(prefixes, version)
    ends = [((7919 * number) % prefixes, (104729 * number + 1) % prefixes) for number in range(PAIRS)]
    batch = Batch()
    while not batch.full:
        batch.append(packet(0, ends[len(batch)][1] // PEERS * PEERS, version))
    out = microseconds(lambda: router.outbound(batch, 0.0), len(batch))
    mine = [each // PEERS * PEERS for each, _ in ends]
    elsewhere: list[Iovec] = [(NO_OFFLOAD, packet(each, prefixes + 1, version)) for each in mine]
    local = microseconds(lambda: router.inbound(1, elsewhere, 0.0), len(elsewhere))
    others: list[Iovec] = [(NO_OFFLOAD, packet(each, each + 1, version)) for each in mine]
    between = microseconds(lambda: router.inbound(1, others, 0.0), len(others))

    def first() -> None:
        router.add_port(1, None, 0.0)  # which makes it forget
        router.inbound(1, elsewhere, 0.0)

    return out, local, between, microseconds(first, len(elsewhere))


def main() -> None:
    print("| prefixes | IP | from the device µs | to the device µs | peer to peer µs | first of an address µs |")
    print("|--:|--:|--:|--:|--:|--:|")
    for prefixes in (20, 1000, 10_000):
        for version in (4, 6):
            print(f"| {prefixes:,} | {version} |" + "".join(f" {each:.2f} |" for each in cost(prefixes, version)))


if __name__ == "__main__":
    main()
