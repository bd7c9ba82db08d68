"""A link of 100 Mbit/s in virtual time, a greedy stream of superframes, and a ping that does not suffer from it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import pytest

from caetun.session.backlog import Backlog
from caetun.types import DropReason, Drops, Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD, VnetHeader
from tests.session.test_backlog import SEED, batch_of, content, flow_of, number_of, packet

RATE = 12.5e6
"""Bytes a second."""
SEGMENT = 1448
SECONDS = 10.0
WARM = 2.0
"""Seconds that do not count: slow start, and what it costs."""
PING = 9
SUPERFRAME = VnetHeader(1, 1, 40, SEGMENT, 20, 16).encode()


class Line:
    """A link that sends a batch at a time, and what a peer does with its backlog around it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.drops = Drops()
        self.backlog = Backlog(Mode.TUN, SEED, self.drops)
        self.receivers: dict[int, Callable[[bytes], None]] = {}
        self._sending = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def run(self, until: float) -> None:
        while self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()

    def offer(self, frame: bytes, header: bytes = NO_OFFLOAD) -> None:
        batch = batch_of(frame, header=header)
        if self._sending or not self.backlog.empty:
            self.backlog.put(batch, self.now)
        else:
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        self._sending = True
        frames = content(batch)
        self.after(batch.end / RATE, lambda: self._sent(frames))

    def _sent(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.receivers[flow_of(frame)](frame)
        self._sending = False
        batch = self.backlog.take(self.now, self.backlog.limit)
        if batch is not None:
            self._send(batch)


class Greedy:
    """AIMD as in Reno: a segment more each round trip, half after a loss or a mark; it sends as large as it may."""

    def __init__(self, line: Line, flow: int, rtt: float, largest: int, ecn: bool = False) -> None:
        self.line, self.flow, self.rtt, self.largest, self.ecn = line, flow, rtt, largest, int(ecn)
        self.window = 10.0 * SEGMENT
        self.growing = True
        self.waiting: dict[int, tuple[int, float]] = {}
        """Size and time by number."""
        self.next = self.halved_at = 0
        self.delivered = self.halvings = 0
        self.waits: list[float] = []
        line.receivers[flow] = self.receive
        self.send()

    def send(self) -> None:
        room = int(self.window) - sum(size for size, _ in self.waiting.values())
        while room >= 2 * SEGMENT:
            size = min(room, self.largest)
            self.waiting[self.next] = size, self.line.now
            self.line.offer(packet(self.flow, self.next, size, self.ecn), SUPERFRAME)
            self.next += 1
            room -= size

    def receive(self, frame: bytes) -> None:
        number, marked = number_of(frame), frame[1] & 3 == 3
        if self.line.now >= WARM:
            self.delivered += len(frame)
            self.waits.append(self.line.now - self.waiting[number][1])
        self.line.after(self.rtt, lambda: self.acknowledged(number, marked))

    def acknowledged(self, number: int, marked: bool) -> None:
        size, _ = self.waiting.pop(number)
        lost = [earlier for earlier in self.waiting if earlier < number]
        for earlier in lost:
            del self.waiting[earlier]
        if (lost or marked) and number >= self.halved_at:
            self.growing, self.halved_at = False, self.next
            self.halvings += 1
            self.window = max(self.window / 2, 2.0 * SEGMENT)
        else:
            self.window += size if self.growing else SEGMENT * size / self.window
        self.send()


class Pings:
    """A small frame every few milliseconds, never in step with anything."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.sent_at: list[float] = []
        self.waits: list[float] = []
        line.receivers[PING] = self.receive
        self.send()

    def send(self) -> None:
        self.line.offer(packet(PING, len(self.sent_at)))
        self.sent_at.append(self.line.now)
        self.line.after(0.0073 + 0.0001 * (len(self.sent_at) % 31), self.send)

    def receive(self, frame: bytes) -> None:
        if self.line.now >= WARM:
            self.waits.append(self.line.now - self.sent_at[number_of(frame)])


def utilisation(*streams: Greedy) -> float:
    return sum(stream.delivered for stream in streams) / RATE / (SECONDS - WARM)


@pytest.mark.parametrize("ecn", [False, True], ids=["drops", "marks"])
@pytest.mark.parametrize(("rtt", "largest"), [(0.002, 60_000), (0.02, 60_000), (0.002, 15_000), (0.01, 15_000)])
def test_a_full_link_stays_full_and_a_ping_waits_for_one_superframe(rtt: float, largest: int, ecn: bool) -> None:
    line = Line()
    stream, pings = Greedy(line, 1, rtt, largest, ecn), Pings(line)
    line.run(SECONDS)
    assert len(pings.waits) > 500
    assert max(pings.waits) < 0.01
    assert utilisation(stream) > 0.9
    assert stream.halvings > 1
    assert (line.backlog.marked > 0, DropReason.BACKLOG_CODEL in line.drops) == (ecn, not ecn)
    assert sorted(stream.waits)[len(stream.waits) // 2] < 0.015  # the stream's own queue is short as well


def test_four_streams_share_the_link_and_the_ping_still_does_not_suffer() -> None:
    line = Line()
    streams = [Greedy(line, flow, 0.01, 60_000) for flow in range(1, 5)]
    pings = Pings(line)
    line.run(SECONDS)
    assert max(pings.waits) < 0.01
    assert utilisation(*streams) > 0.9
    for stream in streams:
        assert utilisation(stream) == pytest.approx(0.25, abs=0.08)


def test_who_ignores_losses_hurts_only_itself() -> None:
    line = Line()
    stream, pings = Greedy(line, 1, 0.01, 60_000), Pings(line)
    line.receivers[2] = lambda frame: None

    def flood() -> None:
        line.offer(packet(2, 0, 30_000))
        line.after(30_000 / (3 * RATE), flood)

    flood()
    line.run(SECONDS)
    assert max(pings.waits) < 0.01
    assert utilisation(stream) > 0.4
    assert line.drops[DropReason.BACKLOG_FULL] > 0
