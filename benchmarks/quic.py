"""QUIC beside UDP, link to link: records from one process to another over a veth pair, without device and session.

    benchmarks/quic.py [--seconds 3] [--rounds 2] [--carriers udp,quic] [--profile]       (root)

Per carrier, size of record and kind of veth: what arrives, and the processor time of both ends for a gigabyte. `whole`
records are as long as the link takes (what a path without loss carries), `unit` ones travel in one datagram each (what
a path with loss carries). UDP has no congestion control: what its receiver cannot take is lost, and does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from caetun.lab import Cable, Host, Lab
from caetun.transports import registry
from caetun.transports.base import Context, Link, Options, Target
from caetun.types import Drops
from caetun.wire.record import Record

# chosen by us
PORT: Final = 4433
SESSION: Final = 7
BATCH: Final = 60 * 1024
"""Bytes sent at one wake-up, as the pump does."""
OFFLOADS: Final = ("rx", "tx", "tso", "gso", "gro", "tx-udp-segmentation", "rx-gro-list", "rx-udp-gro-forwarding")
SETTLED: Final = 0.5
"""Seconds at the beginning that do not count: slow start."""


class Counting:
    """Arrivals that only count; echoes the first message, as the core answers it."""

    def __init__(self) -> None:
        self.bytes = 0
        self.records_in = 0
        self.drained_once = asyncio.Event()

    def records(self, link: Link, records: list[Record]) -> None:
        self.records_in += len(records)
        for record in records:
            self.bytes += len(record.body)

    def messages(self, link: Link, messages: list[bytes]) -> None:
        self.link = link
        link.send_messages(messages)

    def drained(self) -> None:
        self.drained_once.set()

    def burst_end(self) -> bool:
        return False

    def crowded(self, link: Link) -> bool:
        return False

    def too_big(self, link: Link, datagram: int) -> None:
        pass

    def closed(self, link: Link, why: str) -> None:
        print("closed:", why, file=sys.stderr)


def context_for(counting: Counting) -> Context:
    loop = asyncio.get_running_loop()
    return Context(loop, counting, {SESSION}, Drops(), Options(), lambda *_: None)


def used() -> float:
    """Seconds of processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def receive(carrier: str, seconds: float) -> dict[str, Any]:
    counting = Counting()
    context = context_for(counting)
    endpoint = registry.find(carrier).listen(Target("", PORT), context)
    print("ready", flush=True)
    while not counting.bytes:
        await asyncio.sleep(0.01)
    await asyncio.sleep(SETTLED)
    began, before, spent = time.monotonic(), counting.bytes, used()
    await asyncio.sleep(seconds - SETTLED)
    took, arrived, spent = time.monotonic() - began, counting.bytes - before, used() - spent
    await asyncio.sleep(2 * SETTLED)
    endpoint.close()
    return {"bytes": arrived, "seconds": took, "cpu": spent, "drops": {str(key): n for key, n in context.drops.items()}}


async def send(carrier: str, host: str, size: str, seconds: float) -> dict[str, Any]:
    counting = Counting()
    context = context_for(counting)
    (link, *_) = await registry.find(carrier).dial(Target(host, PORT), context)
    link.resize(link.datagram_ceiling or 0)
    link.send_messages([b"\x01hello"])
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds + SETTLED / 2
    length = min(link.max_record, BATCH) if size == "whole" else link.unit
    body = os.urandom(length)
    count = max(1, BATCH // length)
    counter = sent = 0
    spent, began = used(), time.monotonic()
    while loop.time() < until:
        counting.drained_once.clear()
        link.send([Record(SESSION, number, body) for number in range(counter, counter + count)])
        counter += count
        sent += count * length
        if link.full:
            try:
                async with asyncio.timeout(1.0):
                    await counting.drained_once.wait()
            except TimeoutError:
                print("stalled", file=sys.stderr)
        else:
            await asyncio.sleep(0)
    spent, took = used() - spent, time.monotonic() - began
    recovery = getattr(getattr(link, "connection", None), "recovery", None)
    if recovery is not None:
        print(
            f"  window {recovery.congestion_window} of which {recovery.bytes_in_flight} in flight, "
            f"round trip {recovery._rtt_smoothed * 1000:.2f} ms, threshold {recovery.threshold}",
            file=sys.stderr,
        )
    link.close()
    return {"bytes": sent, "seconds": took, "cpu": spent, "drops": {str(key): n for key, n in context.drops.items()}}


def end(arguments: argparse.Namespace) -> None:
    """One of the two processes."""
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    work = (
        receive(arguments.carrier, arguments.seconds)
        if arguments.end == "receive"
        else send(arguments.carrier, arguments.host, arguments.size, arguments.seconds)
    )
    profiler = cProfile.Profile()
    if arguments.profile:
        profiler.enable()
    with runner:
        result = runner.run(work)
    if arguments.profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(32)
    print(json.dumps(result))


def measure(hosts: tuple[Host, Host], carrier: str, size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bits a second that arrive, and processor seconds a gigabyte."""
    options = [carrier, "--seconds", str(arguments.seconds), "--size", size]
    if arguments.profile:
        options.append("--profile")
    program = [sys.executable, __file__, "--end"]
    where = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    far = hosts[1].spawn([*program, "receive", "--carrier", *options], stdout=subprocess.PIPE, environment=where)
    assert far.stdout is not None
    far.stdout.readline()
    near = hosts[0].spawn(
        [*program, "send", "--host", "10.0.0.2", "--carrier", *options], stdout=subprocess.PIPE, environment=where
    )
    received, sent = (json.loads(process.communicate()[0]) for process in (far, near))
    rate = received["bytes"] / received["seconds"]
    cpu = [part["cpu"] / part["seconds"] for part in (sent, received)]
    return {
        "gbits": rate * 8 / 1e9,
        "cpu": [share / rate * 1e9 for share in cpu],
        "drops": [sent["drops"], received["drops"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--carriers", default="udp,quic")
    parser.add_argument("--sizes", default="whole,unit")
    parser.add_argument("--cables", default="offload,no-offload")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--end", choices=["send", "receive"], help=argparse.SUPPRESS)
    parser.add_argument("--carrier", help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.end:
        end(arguments)
        return
    for cable in arguments.cables.split(","):
        with Lab() as lab:
            hosts = lab.host("near"), lab.host("far")
            lab.link(*hosts, left=["10.0.0.1/24"], right=["10.0.0.2/24"], cable=Cable(offload=cable == "offload"))
            for size in arguments.sizes.split(","):
                for carrier in arguments.carriers.split(","):
                    runs = [measure(hosts, carrier, size, arguments) for _ in range(arguments.rounds)]
                    gbits = statistics.median(run["gbits"] for run in runs)
                    cpu = [statistics.median(run["cpu"][side] for run in runs) for side in (0, 1)]
                    print(
                        f"{cable:10} {size:5} {carrier:4} {gbits:6.2f} Gbit/s   CPU s/GB {cpu[0]:.2f} out"
                        f" {cpu[1]:.2f} in   drops {runs[-1]['drops']}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
