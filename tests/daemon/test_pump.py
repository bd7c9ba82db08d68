"""What moves batches, with a node that says what a test wants: full links, moves, and the device meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from caetun.daemon.pump import HOLD_SECONDS, Pump
from caetun.notices import Event
from caetun.output import Output
from caetun.wire.container import Batch
from caetun.wire.record import Record
from tests.simulator import frame

PATIENCE = 5.0


def record(number: int) -> Record:
    return Record(7, number, b"sealed")


class Link:
    """Somewhere to send to, until it is full."""

    fills = False
    """Whether the next record is one too many."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.sent: list[int] = []

    def send(self, records: list[Record]) -> None:
        self.sent += [record.counter for record in records]
        self.full = self.fills


class Node:
    """Seals what the device sends for the link in use, or keeps it while that is full."""

    board = None

    def __init__(self, link: Link) -> None:
        self.link = link
        self.count = 0
        self.waiting: list[int] = []
        self.move_to: Link | None = None
        """Where the far end's next record shows it to be."""

    def device_received(self, batch: Batch, now: float, out: Output) -> None:
        self.count += 1
        if self.link.full or self.waiting:
            self.waiting.append(self.count)
        else:
            out.records.append((self.link, [record(self.count)]))

    def records_received(self, link: Any, records: Any, now: float, out: Output) -> None:
        if self.move_to is not None:
            self.link, self.move_to = self.move_to, None
            out.moved.append("peer")

    def send_waiting(self, now: float, out: Output) -> bool:
        if not self.waiting or self.link.full:
            return False
        out.records.append((self.link, [record(self.waiting.pop(0))]))
        return True

    def burst_end(self, now: float, out: Output) -> None: ...

    def tick(self, now: float, wall: float, out: Output) -> None: ...

    def next_deadline(self) -> float | None:
        return None

    def close(self, now: float, out: Output) -> None: ...


class Device:
    """Gives a frame whenever there is something in its pipe."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)

    def fileno(self) -> int:
        return self._out

    def host_sends(self) -> None:
        os.write(self._in, b"x")

    def read_batch(self, batch: Batch) -> None:
        try:
            os.read(self._out, 1)
        except BlockingIOError:
            return
        batch.append(frame(1))

    def close(self) -> None:
        for fd in (self._out, self._in):
            os.close(fd)


class Shell:
    """Hears of events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    made.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(HOLD_SECONDS / 4)


def started(node: Node, device: Device) -> Pump:
    parts: Any = (node, device, Shell())
    pump = Pump(asyncio.get_running_loop(), *parts, Batch())
    pump.start()
    return pump


async def test_what_waits_for_a_full_link_goes_at_once_when_the_far_end_has_moved(device: Device) -> None:
    full, free = Link(full=True), Link()
    node = Node(full)
    pump = started(node, device)
    for _ in range(3):
        device.host_sends()
    await until(lambda: len(node.waiting) == 3)
    node.move_to = free
    pump.records(free, [record(1)])  # type: ignore[arg-type, list-item]
    assert free.sent == [1, 2, 3], "not only at the next look at the clock"
    assert full.sent == []
    device.host_sends()
    await until(lambda: free.sent == [1, 2, 3, 4])
    pump.stop()


async def test_a_link_that_has_become_full_holds_the_device_for_a_moment(device: Device) -> None:
    link = Link()
    pump = started(Node(link), device)
    link.fills = True
    device.host_sends()
    pump._device_readable()
    assert link.sent == [1]
    assert not pump._is_reading
    await until(lambda: pump._is_reading)
    pump.stop()


async def test_a_link_that_has_room_again_gets_what_waited_in_order(device: Device) -> None:
    link = Link(full=True)
    node = Node(link)
    pump = started(node, device)
    for _ in range(5):
        device.host_sends()
    await until(lambda: len(node.waiting) == 5)
    link.full = False
    pump.drained()
    assert link.sent == [1, 2, 3, 4, 5]
    pump.stop()


async def test_a_pump_that_was_stopped_reads_no_more(device: Device) -> None:
    node = Node(Link())
    pump = started(node, device)
    pump.stop()
    pump.drained()
    device.host_sends()
    await asyncio.sleep(10 * HOLD_SECONDS)
    assert node.count == 0
    assert not pump._is_reading
