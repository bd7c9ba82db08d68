"""Giving way to readers between bursts of frames."""

from __future__ import annotations

import os

import pytest

from caetun.devices import tuntap
from caetun.devices.manners import AFTER_LONG, BURST, SHORT, Manners
from caetun.devices.tuntap import TunTap
from caetun.types import Drops, Iovec, Mode
from caetun.wire.virtio_net import NO_OFFLOAD


class Processor:
    """A clock that others move while they run."""

    def __init__(self, others: float) -> None:
        self.now = 5.0
        self.others = others
        self.given = 0

    def give_way(self) -> None:
        self.given += 1
        self.now += self.others

    def manners(self) -> Manners:
        return Manners(self.give_way, lambda: self.now)

    def write(self, manners: Manners, bursts: int, each: float = 0.0001) -> int:
        """Write so many bursts; returns how often others could run."""
        before = self.given
        for _ in range(bursts):
            self.now += each
            manners.after_burst()
        return self.given - before


def test_with_nobody_waiting_it_asks_after_each_burst() -> None:
    processor = Processor(others=0.000001)
    assert processor.write(processor.manners(), 100) == 100


def test_a_reader_that_catches_up_is_let_in_each_time() -> None:
    processor = Processor(others=SHORT / 2)
    assert processor.write(processor.manners(), 100) == 100


def test_a_program_that_computes_takes_little() -> None:
    processor = Processor(others=SHORT * 1.5)
    began = processor.now
    given = processor.write(processor.manners(), 100_000)
    assert given * processor.others / (processor.now - began) == pytest.approx(1 / (1 + AFTER_LONG), rel=0.1)


class Counted(Manners):
    """Counts bursts."""

    def __init__(self) -> None:
        super().__init__()
        self.bursts = 0

    def after_burst(self) -> None:
        self.bursts += 1


@pytest.mark.parametrize(("count", "bursts"), [(1, 0), (BURST - 1, 0), (BURST, 1), (BURST * 3 + 5, 4)])
def test_frames_are_written_burst_by_burst_and_in_order(
    monkeypatch: pytest.MonkeyPatch, count: int, bursts: int
) -> None:
    manners = Counted()
    monkeypatch.setattr(tuntap, "Manners", lambda: manners)
    reading, writing = os.pipe()
    device = TunTap(writing, "some0", Mode.TAP, Drops())
    frames: list[Iovec] = [(NO_OFFLOAD, number.to_bytes(4, "big")) for number in range(count)]
    device.write_batch(frames)
    device.close()
    written = os.read(reading, 1 << 16)
    os.close(reading)
    assert written == b"".join(b"".join(frame) for frame in frames)
    assert manners.bursts == bursts
