"""What waits while a link is full: nothing lost uncounted, order kept, bounds held, bulk shared, small things first."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict, deque
from typing import TypeAlias

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.backlog import (
    BATCH_SECONDS,
    FLOW_BITS,
    MAX_BYTES,
    MAX_FRAMES,
    MAX_LIMIT,
    MIN_LIMIT,
    QUANTUM,
    Backlog,
)
from caetun.session.codel import INTERVAL, TARGET
from caetun.types import DropReason, Drops, Mode
from caetun.wire.container import HEAD_SIZE, MAX_BATCH_FRAMES, Batch
from caetun.wire.virtio_net import NO_OFFLOAD, VnetHeader

SEED = b"seed of backlogs"
HEADERS = 28
SUPERFRAME = VnetHeader(1, 1, 40, 1448, 20, 16).encode()
CHECKSUM = VnetHeader(1, 0, 0, 0, 20, 16).encode()


def packet(flow: int, number: int = 0, size: int = 100, ecn: int = 0) -> bytes:
    """An IPv4 packet of a flow, that carries a number."""
    start = struct.pack(">BBHHHBB", 0x45, ecn, size, number & 0xFFFF, 0x4000, 64, 17)
    addresses = bytes.fromhex("0a0900010a090002")
    check = struct.pack(">H", dpkt.in_cksum(start + b"\0\0" + addresses))
    return start + check + addresses + struct.pack(">HHI", flow, 53, number) + bytes(size - HEADERS)


def flow_of(frame: bytes) -> int:
    return int.from_bytes(frame[20:22], "big")


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[24:28], "big")


def batch_of(*frames: bytes, header: bytes = NO_OFFLOAD) -> Batch:
    batch = Batch()
    for frame in frames:
        batch.append(frame, header)
    return batch


def content(batch: Batch | None) -> list[bytes]:
    return [] if batch is None else [bytes(frame) for frame, _ in batch.frames()]


def drained(backlog: Backlog, now: float, limit: int = MAX_LIMIT) -> list[bytes]:
    """All that comes out, without time passing."""
    frames: list[bytes] = []
    while batch := backlog.take(now, limit):
        frames += content(batch)
    return frames


@pytest.fixture
def drops() -> Drops:
    return Drops()


@pytest.fixture
def backlog(drops: Drops) -> Backlog:
    return Backlog(Mode.TUN, SEED, drops)


# what goes in comes out


def test_frames_come_back_with_their_metadata_once(backlog: Backlog) -> None:
    batch = batch_of(packet(1, 1), packet(1, 2))
    batch.append(packet(1, 3, 9000), SUPERFRAME)
    batch.append(packet(1, 4), CHECKSUM)
    before = [(bytes(frame), header) for frame, header in batch.frames()]
    backlog.put(batch, 0.0)
    assert (len(backlog), backlog.size, backlog.empty) == (4, batch.end, False)
    offloads = batch.offloads
    batch.clear()  # its memory belongs to the device again
    batch.append(packet(9))
    taken = backlog.take(0.0, MAX_LIMIT)
    assert taken is not None
    assert [(bytes(frame), header) for frame, header in taken.frames()] == before
    assert taken.offloads == offloads
    assert backlog.take(0.0, MAX_LIMIT) is None
    assert (len(backlog), backlog.size, backlog.empty) == (0, 0, True)


def test_a_batch_keeps_to_its_limit_and_a_longer_frame_comes_alone(backlog: Backlog) -> None:
    backlog.put(batch_of(packet(1, 1, 1000), packet(1, 2, 1000), packet(1, 3, 1000), packet(1, 4, 5000)), 0.0)
    assert [len(content(backlog.take(0.0, 2100))) for _ in range(3)] == [2, 1, 1]
    backlog.put(batch_of(*(packet(1, number, 40) for number in range(100))), 0.0)
    backlog.put(batch_of(*(packet(1, number, 40) for number in range(100))), 0.0)
    assert len(content(backlog.take(0.0, 10 * MAX_LIMIT))) == MAX_BATCH_FRAMES


def test_backlogs_may_share_the_memory_of_what_they_give() -> None:
    shared = Batch()
    one, other = (Backlog(Mode.TUN, SEED, Drops(), batch=shared) for _ in range(2))
    one.put(batch_of(packet(1)), 0.0)
    other.put(batch_of(packet(2)), 0.0)
    assert one.take(0.0, MAX_LIMIT) is shared
    assert content(other.take(0.0, MAX_LIMIT)) == [packet(2)]


Step: TypeAlias = tuple[list[tuple[int, int, bool]], float, int, int]
"""Frames (flow, size, ECT) that come, seconds that pass, takes, and the limit of each."""
steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(1, 6), st.sampled_from((40, 100, 1500, 9000, 60_000)), st.booleans()), max_size=9
        ),
        st.sampled_from((0.0, 0.0005, 0.004, 0.02)),
        st.integers(0, 2),
        st.sampled_from((100, 3000, 20_000, MAX_LIMIT)),
    ),
    max_size=60,
)


@given(steps)
def test_nothing_is_lost_uncounted_and_order_in_a_flow_is_kept(story: list[Step]) -> None:
    drops = Drops()
    backlog = Backlog(Mode.TUN, SEED, drops, max_bytes=200_000)
    now, number, taken = 0.0, 0, list[bytes]()
    for frames, pause, takes, limit in story:
        batch = Batch()
        for flow, size, ecn in frames:
            if batch.full:
                break
            batch.append(packet(flow, number, size, int(ecn)))
            number += 1
        backlog.put(batch, now)
        assert backlog.size <= 200_000
        now += pause
        for _ in range(takes):
            out = backlog.take(now, limit)
            assert out is None or out.end <= limit or len(out) == 1
            taken += content(out)
    assert backlog.empty == (len(backlog) == 0) == (backlog.size == 0)
    rest = len(backlog)
    assert len(taken) + drops.total() + rest == number
    taken += drained(backlog, now, MAX_LIMIT)
    assert len(taken) + drops.total() == number
    assert backlog.empty
    assert set(drops) <= {DropReason.BACKLOG_FULL, DropReason.BACKLOG_CODEL}
    numbers = defaultdict(list)
    for frame in taken:
        numbers[flow_of(frame)].append(number_of(frame))
    assert all(line == sorted(set(line)) for line in numbers.values())


# whose turn it is


def test_a_small_frame_overtakes_bulk(backlog: Backlog) -> None:
    for number in range(10):
        backlog.put(batch_of(packet(1, number, 60_000), header=SUPERFRAME), 0.0)
    assert content(backlog.take(0.0, MAX_LIMIT)) == [packet(1, 0, 60_000)]
    backlog.put(batch_of(packet(2, 7)), 0.0)
    first = content(backlog.take(0.0, 20_000))
    assert first == [packet(2, 7)]  # alone: the superframe behind it would only delay its record
    assert number_of(content(backlog.take(0.0, 20_000))[0]) == 1


def test_who_has_more_than_a_frame_waiting_is_not_small(backlog: Backlog) -> None:
    backlog.put(batch_of(*(packet(1, number, 1500) for number in range(20))), 0.0)
    backlog.put(batch_of(*(packet(2, number, 1500) for number in range(20))), 0.0)
    flows = [flow_of(frame) for _ in range(5) for frame in content(backlog.take(0.0, 3100))]
    assert Counter(flows) == {1: 5, 2: 5}
    assert flows == [1, 1, 2, 2, 1, 2, 1, 2, 1, 2]  # a full frame leaves a few bytes of the first quantum


def test_superframes_and_small_packets_share_by_bytes(backlog: Backlog) -> None:
    for number in range(20):
        backlog.put(batch_of(packet(1, number, 60_000)), 0.0)
        backlog.put(batch_of(*(packet(2, 40 * number + at, 1500) for at in range(40))), 0.0)
    sent: Counter[int] = Counter()
    while sum(sent.values()) < 1_200_000:
        for frame in content(backlog.take(0.0, MAX_LIMIT)):
            sent[flow_of(frame)] += len(frame)
    assert abs(sent[1] - sent[2]) <= 60_000 + 2 * QUANTUM


def test_nobody_stays_in_front_by_coming_and_going(backlog: Backlog) -> None:
    backlog.put(batch_of(*(packet(1, number, 1500) for number in range(40))), 0.0)
    sent: Counter[int] = Counter()
    for number in range(40):
        backlog.put(batch_of(packet(2, number, 1400)), 0.0)
        sent += Counter(flow_of(frame) for frame in content(backlog.take(0.0, 1550)))
    assert sent[1] >= 15


class PlainRounds:
    """Deficit round robin as in RFC 8290, section 4.2, word by word."""

    def __init__(self) -> None:
        self.frames: defaultdict[int, deque[bytes]] = defaultdict(deque)
        self.deficit: dict[int, int] = {}
        self.new: deque[int] = deque()
        self.old: deque[int] = deque()

    def put(self, frame: bytes) -> None:
        flow = flow_of(frame)
        self.frames[flow].append(frame)
        if flow not in self.new and flow not in self.old:
            self.deficit[flow] = QUANTUM
            self.new.append(flow)

    def take(self) -> bytes:
        while True:
            flows = self.new or self.old
            flow = flows[0]
            if self.deficit[flow] <= 0:
                self.deficit[flow] += QUANTUM
                self.old.append(flows.popleft())
            elif self.frames[flow]:
                frame = self.frames[flow].popleft()
                self.deficit[flow] -= len(frame) + HEAD_SIZE
                return frame
            elif flows.popleft() and flows is self.new:
                self.old.append(flow)


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from((40, 1400, 1500, 9000, 60_000)), st.integers(0, 2)),
        max_size=60,
    )
)
def test_turns_are_those_of_plain_rounds(story: list[tuple[int, int, int]]) -> None:
    backlog, plain = Backlog(Mode.TUN, SEED, Drops()), PlainRounds()
    backlog.put(batch_of(packet(9, 0, 1500), packet(9, 1, 1500)), 0.0)  # so that neither is ever empty
    for number in range(2):
        plain.put(packet(9, number, 1500))
    waiting = 2
    for number, (flow, size, takes) in enumerate(story):
        backlog.put(batch_of(packet(flow, number, size)), 0.0)
        plain.put(packet(flow, number, size))
        waiting += 1
        for _ in range(min(takes, waiting - 1)):
            assert content(backlog.take(0.0, 1)) == [plain.take()]
            waiting -= 1
    assert drained(backlog, 0.0, 1) == [plain.take() for _ in range(waiting)]


# bounds


def test_at_the_cap_the_longest_queue_loses_its_oldest_frames(backlog: Backlog, drops: Drops) -> None:
    backlog.put(batch_of(packet(2, 1)), 0.0)
    count = MAX_BYTES // 60_000
    for number in range(count + 5):
        backlog.put(batch_of(packet(1, number, 60_000)), 0.0)
    lost = drops[DropReason.BACKLOG_FULL]
    assert backlog.size <= MAX_BYTES
    assert drops == {DropReason.BACKLOG_FULL: lost}
    frames = drained(backlog, 0.0)
    assert frames[0] == packet(2, 1)
    assert [number_of(frame) for frame in frames[1:]] == list(range(lost, count + 5))


def test_frames_are_capped_too_and_so_are_flows(backlog: Backlog, drops: Drops) -> None:
    for number in range(60):
        backlog.put(batch_of(*(packet(100 * number + at, number, 40) for at in range(100))), 0.0)
        assert len(backlog) <= MAX_FRAMES
        assert backlog.flows <= 1 << FLOW_BITS
    assert drops == {DropReason.BACKLOG_FULL: 6000 - MAX_FRAMES}
    assert len(drained(backlog, 0.0)) == MAX_FRAMES
    assert backlog.flows == 0


def test_a_peer_that_is_gone_takes_its_frames_with_it(backlog: Backlog, drops: Drops) -> None:
    backlog.abandon(DropReason.NO_SESSION)
    assert drops == {}
    backlog.put(batch_of(packet(1), packet(2)), 0.0)
    backlog.abandon(DropReason.NO_SESSION)
    assert (drops, backlog.empty, backlog.size, backlog.flows) == ({DropReason.NO_SESSION: 2}, True, 0, 0)
    assert backlog.take(0.0, MAX_LIMIT) is None


# a queue that stands


def stand(backlog: Backlog, seconds: float, queued: int, size: int, ecn: int = 0) -> list[bytes]:
    """A frame comes for each that goes, so that `queued` wait; one goes in a time that makes them wait too long."""
    step = 4 * TARGET / queued
    for number in range(queued):
        backlog.put(batch_of(packet(1, number, size, ecn)), 0.0)
    frames = []
    for turn in range(round(seconds / step)):
        now = (turn + 1) * step
        frames += content(backlog.take(now, 1))
        while len(backlog) < queued:
            backlog.put(batch_of(packet(1, 0, size, ecn)), now)
    return frames


def test_a_standing_queue_loses_some(backlog: Backlog, drops: Drops) -> None:
    stand(backlog, 3 * INTERVAL, 8, 1500)
    assert 2 <= drops[DropReason.BACKLOG_CODEL] <= 6
    assert drops == {DropReason.BACKLOG_CODEL: drops[DropReason.BACKLOG_CODEL]}


def test_two_superframes_are_no_standing_queue(backlog: Backlog, drops: Drops) -> None:
    stand(backlog, 1.0, 2, 60_000)
    assert drops == {}
    stand(backlog, 1.0, 3, 60_000)
    assert drops[DropReason.BACKLOG_CODEL] > 2


@pytest.mark.parametrize("size", [1500, 60_000])
def test_who_takes_marks_loses_nothing(backlog: Backlog, drops: Drops, size: int) -> None:
    frames = stand(backlog, 3 * INTERVAL, 8, size, ecn=2)
    assert drops == {}
    marked = [frame for frame in frames if frame[1] & 3 == 3]
    assert 2 <= len(marked) == backlog.marked <= 6
    assert all(dpkt.in_cksum(frame[:20]) == 0 for frame in marked)
    assert {len(frame) for frame in frames} == {size}


# the link's rate


def paced(backlog: Backlog, rate: float, seconds: float, start: float = 0.0) -> float:
    """A link of `rate` bytes a second takes all that `limit` says; returns when it ends."""
    now = start
    bulk = batch_of(*[packet(1, 0, 1500, 1)] * 40)
    while now < start + seconds:
        backlog.put(bulk, now)
        backlog.put(bulk, now)
        batch = backlog.take(now, backlog.limit)
        assert batch is not None
        now += batch.end / rate
    return now


def test_batches_follow_the_links_rate(backlog: Backlog) -> None:
    assert backlog.limit == MAX_LIMIT
    now = paced(backlog, 12.5e6, 0.3)
    assert backlog.rate == pytest.approx(12.5e6, rel=0.1)
    assert backlog.limit == pytest.approx(12.5e6 * BATCH_SECONDS, rel=0.1)
    now = paced(backlog, 0.1e6, 1.0, now)
    assert backlog.limit == MIN_LIMIT
    paced(backlog, 500e6, 0.05, now)
    assert backlog.limit == MAX_LIMIT


def test_what_a_link_does_while_nothing_waits_says_nothing(backlog: Backlog) -> None:
    now = paced(backlog, 12.5e6, 0.3)
    drained(backlog, now)
    backlog.put(batch_of(packet(1), packet(2)), now + 60)
    backlog.take(now + 60, 1)
    backlog.take(now + 60.001, 1)
    assert backlog.rate == pytest.approx(12.5e6, rel=0.1)
