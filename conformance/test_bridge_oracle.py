"""Our switch against the Linux bridge: thousands of random traces into both, and where each frame comes out of each.

CAETUN_ORACLE_TRACES sets how many traces are played for each kind of settings (100 by default).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from caetun.l2.bridge import Bridge
from conformance.bridge_oracle.demonstrations import DEMONSTRATIONS
from conformance.bridge_oracle.differences import DIFFERENCES, SOURCES
from conformance.bridge_oracle.kernel import KernelBridge, Workshop
from conformance.bridge_oracle.rigs import FLAVOURS, GRACE, QUERIER_PORT, QUIET, Flavour, Pair
from conformance.bridge_oracle.traces import LENGTH, PORTS, Step, World

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "tc", "bridge")

# chosen by us
_BRIDGES: Final = 100
"""Of each kind at a time: they take turns, frame by frame."""
_TURN: Final = 0.009
"""Seconds between two frames of one trace: a Linux bridge removes what has ended in its next tick (4 ms here)."""
_ROUNDS: Final = 5
"""Traces that follow each other on one pair of bridges."""
_TRACES: Final = int(os.environ.get("CAETUN_ORACLE_TRACES", _BRIDGES * _ROUNDS))
_MANY: Final = 20
"""Frames, more of which need not be so careful."""
_ENDED_AFTER: Final = 0.4
"""Seconds: a Linux bridge asked to be quick has forgotten whoever did not answer (twice 0.1 s)."""
_ENDED: Final = 10.0
"""The same for ours, in its own time."""
_NOW: Final = 1000.0
"""In these traces no time passes: see test_bridge_oracle_time.py for those where it does."""
_RARE: Final = 0.02
"""Of all frames, those where Linux forgets a port: more of them would hide something."""


class Match:
    """Pairs of bridges with the same settings, and what came of playing traces to them."""

    def __init__(self, flavour: Flavour, pairs: list[Pair]) -> None:
        self.flavour = flavour
        self.pairs = pairs
        self.frames = 0
        self.explained: Counter[str] = Counter()
        self.failures: dict[int, str] = {}
        """Pair -> the first frame about which they differ without a reason; it plays no further."""

    def begin(self) -> None:
        """Let the real querier speak, and hosts have time to answer."""
        for pair in self.pairs:
            pair.begin(_NOW - 2 * GRACE)
        time.sleep(2 * GRACE)
        for pair in self.pairs:
            pair.kernel.waiting()

    def play(self, traces: list[list[Step]], names: Iterable[object]) -> None:
        """One trace to each pair, in turns."""
        titles = [str(name) for name in names]
        for turn in zip(*traces, strict=True):
            until = time.monotonic() + _TURN
            for number, (pair, step) in enumerate(zip(self.pairs, turn, strict=True)):
                if number in self.failures:
                    continue
                self.frames += 1
                difference, failure = pair.judge(step, _NOW)
                if difference is not None:
                    self.explained[difference.name] += 1
                if failure:
                    self.failures[number] = f"{titles[number]}: {failure}"
            time.sleep(max(0.0, until - time.monotonic()))

    def verdict(self) -> None:
        """Everything is the same, or has its reason; and nothing came out that nobody looked for."""
        print(f"{self.frames} frames, {self.explained.total()} decided otherwise: {dict(self.explained)}")
        assert not self.failures, "\n".join(self.failures.values())
        assert not any(pair.kernel.waiting() for pair in self.pairs)
        assert self.explained[SOURCES] <= _RARE * self.frames


@pytest.mark.parametrize("name", FLAVOURS)
def test_random_traces_go_where_linux_sends_them(name: str) -> None:
    flavour = FLAVOURS[name]
    querier = QUERIER_PORT if flavour.asked else None
    for first in range(0, _TRACES, _BRIDGES * _ROUNDS):
        with Workshop([flavour.plan()] * _BRIDGES) as workshop:
            match = Match(flavour, [Pair(flavour, kernel, flavour.bridge()) for kernel in workshop.bridges])
            match.begin()
            for again in range(_ROUNDS):
                seeds = [first + number * _ROUNDS + again for number in range(_BRIDGES)]
                match.play([World(seed, querier).steps() for seed in seeds], seeds)
            match.verdict()


def test_ports_that_go_and_come_back() -> None:
    """What was learned, joined and heard at a port is gone with it."""
    flavour, count = FLAVOURS["somebody else asks"], 20
    with Workshop([flavour.plan()] * count) as workshop:
        match = Match(flavour, [Pair(flavour, kernel, flavour.bridge()) for kernel in workshop.bridges])
        match.begin()
        worlds = [World(100_000 + number, QUERIER_PORT) for number in range(count)]
        for port in range(PORTS):
            match.play([world.steps() for world in worlds], range(count))
            workshop.ip(f"link set t{number}p{port} down" for number in range(count))
            for pair, world in zip(match.pairs, worlds, strict=True):
                pair.ours.remove_port(port)
                world.down = port
            match.play([world.steps() for world in worlds], range(count))
            # Looking at a device makes the kernel take note of its carrier at once.
            workshop.ip(
                f"link {what} t{number}p{port} {how}"
                for what, how in (("set", "up"), ("show", ""))
                for number in range(count)
            )
            for pair, world in zip(match.pairs, worlds, strict=True):
                flavour.plug(pair.ours, port, _NOW)
                world.down = None
        match.verdict()
    assert match.frames == 2 * PORTS * LENGTH * count


@pytest.fixture(scope="module")
def shown() -> list[tuple[set[int], set[int]]]:
    """What became of the last frame of each demonstration: (Linux, ours)."""
    with Workshop([each.flavour.plan() for each in DEMONSTRATIONS]) as workshop:
        pairs = [Pair(each.flavour, *both) for each, both in zip(DEMONSTRATIONS, _both(workshop), strict=True)]
        all_of_them = list(zip(pairs, DEMONSTRATIONS, strict=True))
        early = [pair.forward(*each.last, _NOW) if each.unready else None for pair, each in all_of_them]
        Match(QUIET, pairs).begin()
        for number, (pair, each) in enumerate(all_of_them):
            for address, port in each.flavour.static:
                workshop.bridge(f"fdb add {address.hex(':')} dev t{number}p{port} master static")
            for frame in each.before:
                pair.forward(*frame, _NOW)
                time.sleep(_TURN if len(each.before) < _MANY else 0.0)
        time.sleep(_ENDED_AFTER)
        for pair, each in all_of_them:
            pair.ours.tick(_NOW + _ENDED * each.waits)
        late = [pair.forward(*each.last, _NOW + _ENDED * each.waits) for pair, each in all_of_them]
        return [first or last for first, last in zip(early, late, strict=True)]


def _both(workshop: Workshop) -> Iterator[tuple[KernelBridge, Bridge]]:
    for each, kernel in zip(DEMONSTRATIONS, workshop.bridges, strict=True):
        yield kernel, each.flavour.bridge()


@pytest.mark.parametrize("number", range(len(DEMONSTRATIONS)), ids=[each.difference for each in DEMONSTRATIONS])
def test_differs_on_purpose(shown: list[tuple[set[int], set[int]]], number: int) -> None:
    assert shown[number] == (DEMONSTRATIONS[number].linux, DEMONSTRATIONS[number].ours)


def test_every_difference_is_shown_and_told() -> None:
    names = {each.name for each in DIFFERENCES}
    assert names == {each.difference for each in DEMONSTRATIONS}
    table = (Path(__file__).parent.parent / "docs" / "switch.md").read_text()
    for each in DIFFERENCES:
        assert f"| {each.name} | {each.linux} | {each.ours} | {each.reason} |" in table
