"""What is in flight, lost and acknowledged: exact for every packet of every burst, in time that a test makes."""

from __future__ import annotations

import random

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicNetworkPath
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketSpace
from hypothesis import given
from hypothesis import strategies as st

from caetun.transports.quic_recovery import MAX_IN_FLIGHT, Burst, BurstRecovery

SIZE, LAST = 1472, 600


class Path:
    """A connection's recovery, and a far end that acknowledges what it is told to."""

    def __init__(self) -> None:
        quic = QuicConnection(configuration=QuicConfiguration(is_client=True))
        self.recovery = BurstRecovery(quic)
        self.recovery.handshake_confirmed = True
        self.recovery.peer_completed_address_validation = True
        self.quic = quic
        self.space = QuicPacketSpace(is_application_data=True)
        self.recovery.spaces = [self.space]
        self.number = 0
        self.now = 10.0
        self.probes = 0
        self.recovery._send_probe = self._probed

    def _probed(self) -> None:
        self.probes += 1

    def send(self, count: int, probe: bool = False) -> range:
        burst = Burst(self.number, count, SIZE, LAST if count > 1 else SIZE, self.now, probe)
        self.recovery.burst_sent(burst, self.space)
        self.number += count
        return range(burst.first, self.number)

    def acknowledge(self, *ranges: range, after: float = 0.02) -> None:
        self.now += after
        acked = RangeSet()
        for some in ranges:
            acked.add(some.start, some.stop)
        self.recovery.on_ack_received(ack_rangeset=acked, ack_delay=0.0, now=self.now, space=self.space)

    @property
    def in_flight(self) -> int:
        return self.recovery.bytes_in_flight


@pytest.fixture
def path() -> Path:
    return Path()


def test_a_burst_counts_its_bytes(path: Path) -> None:
    path.send(44)
    assert path.in_flight == 43 * SIZE + LAST
    assert path.space.ack_eliciting_in_flight == 44
    path.acknowledge(range(43))
    assert (path.in_flight, path.space.ack_eliciting_in_flight) == (LAST, 1)
    path.acknowledge(range(44))
    assert (path.in_flight, path.space.ack_eliciting_in_flight, len(path.recovery.bursts)) == (0, 0, 0)


def test_a_gap_is_lost_once_three_later_ones_came(path: Path) -> None:
    path.send(44)
    path.acknowledge(range(10), range(11, 13))
    assert path.recovery.bursts[0].lost == 0
    path.acknowledge(range(10), range(11, 44), after=0.001)
    assert path.recovery.bursts[0].lost == 1 << 10
    assert path.recovery.window.ssthresh == path.recovery.congestion_window, "slow start is over"
    assert path.in_flight == 0


def test_the_last_packet_of_a_burst_is_found_lost_by_a_probe(path: Path) -> None:
    path.send(44)
    path.acknowledge(range(43))
    due = path.recovery.get_loss_detection_time(amplification_limited=False)
    assert due is not None
    assert due > path.now
    path.now = due
    path.recovery.on_loss_detection_timeout(now=path.now)
    assert path.probes == 1, "aioquic is asked to send a PING"
    assert path.in_flight == LAST, "a timeout says nothing about loss (RFC 9002 section 6.2)"
    ping = path.send(1)
    path.acknowledge(range(43), ping)
    assert path.in_flight == 0
    assert path.space.ack_eliciting_in_flight == 0


def test_a_few_late_ones_are_found_lost_by_time(path: Path) -> None:
    path.acknowledge(path.send(1))
    path.send(10)
    path.now += 0.001
    path.send(1)
    path.acknowledge(range(9), range(11, 12), after=0.01)
    assert path.in_flight == SIZE + LAST
    assert path.space.loss_time is not None
    path.now = path.space.loss_time
    path.recovery.on_loss_detection_timeout(now=path.now)
    assert path.in_flight == 0


def test_who_was_only_late_makes_us_patient(path: Path) -> None:
    path.send(44)
    path.acknowledge(range(20, 44))
    assert path.recovery.bursts[0].lost.bit_count() == 20
    path.acknowledge(range(44), after=0.001)
    assert path.recovery.threshold > 20
    path.send(44)
    path.acknowledge(range(44), range(64, 88))
    assert path.recovery.bursts[0].lost == 0


def test_a_lost_probe_of_the_path_says_nothing_of_congestion(path: Path) -> None:
    path.send(1, probe=True)
    path.send(10)
    window = path.recovery.congestion_window
    path.acknowledge(range(1, 11))
    assert path.in_flight == 0
    assert path.recovery.congestion_window >= window
    assert path.recovery.window.ssthresh is None


def test_a_window_that_is_not_used_does_not_grow(path: Path) -> None:
    window = path.recovery.congestion_window
    for _ in range(50):
        path.acknowledge(path.send(1))
    assert path.recovery.congestion_window == window
    for _ in range(5):
        path.acknowledge(path.send(8))
    assert path.recovery.congestion_window > window


def test_nothing_exceeds_the_window(path: Path) -> None:
    way = QuicNetworkPath(("192.0.2.1", 1), is_validated=True)
    window = path.recovery.congestion_window
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == window // SIZE
    path.send(window // SIZE)
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == 0
    path.acknowledge(range(path.number))
    path.recovery.window.congestion_window = SIZE // 2
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == 1, "one, whatever the window"


def test_an_address_that_is_not_validated_gets_little(path: Path) -> None:
    way = QuicNetworkPath(("192.0.2.1", 1))
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == 0
    way.bytes_received = SIZE
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == 3
    way.bytes_sent = 2 * SIZE
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == 1


def test_a_fast_window_leaves_in_portions(path: Path) -> None:
    way = QuicNetworkPath(("192.0.2.1", 1), is_validated=True)
    path.acknowledge(path.send(1), after=0.1)
    path.recovery.window.congestion_window = 1000 * SIZE
    path.recovery.window.ssthresh = 1
    first = path.recovery.allowed(SIZE, path.now, way, path.space)
    assert 10 <= first < 100
    path.send(first)
    assert path.recovery.allowed(SIZE, path.now, way, path.space) == 0
    assert path.recovery.paced_at is not None
    sent, until = first, path.now + 0.1
    while path.now < until:
        path.now += 0.001
        count = min(64, path.recovery.allowed(SIZE, path.now, way, path.space))
        if count:
            path.send(count)
        sent += count
    assert sent > 900
    assert path.in_flight <= path.recovery.congestion_window


def test_so_many_small_packets_that_their_numbers_would_be_ambiguous_wait(path: Path) -> None:
    way = QuicNetworkPath(("192.0.2.1", 1), is_validated=True)
    path.recovery.window.congestion_window = 1 << 30
    for _ in range(MAX_IN_FLIGHT // 64):
        path.recovery.burst_sent(Burst(path.number, 64, 40, 40, path.now, False), path.space)
        path.number += 64
    assert path.recovery.allowed(40, path.now, way, path.space) == 0


def test_a_path_on_which_nothing_passes_begins_anew(path: Path) -> None:
    path.acknowledge(path.send(8))
    path.acknowledge(path.send(8))
    for _ in range(20):
        path.now += 0.5
        path.send(8)
    last = path.send(1)
    path.acknowledge(last)
    assert path.recovery.congestion_window <= 2 * 1200


@given(st.integers(0, 10_000), st.lists(st.integers(1, 64), min_size=1, max_size=20))
def test_every_packet_is_accounted_for_whatever_is_acknowledged(seed: int, counts: list[int]) -> None:
    path, chance = Path(), random.Random(seed)
    state: dict[int, int] = {}  # packets in flight, and their bytes
    arrived: set[int] = set()
    for count in counts:
        numbers = path.send(count)
        state |= dict.fromkeys(numbers, SIZE)
        if count > 1:
            state[numbers[-1]] = LAST
        arrived |= {number for number in numbers if chance.random() < 0.9}
        told = RangeSet()
        for number in arrived:
            if chance.random() < 0.8:
                told.add(number)
        if len(told):
            path.acknowledge(*told, after=chance.random() * 0.05)
        pending = {
            burst.first + place
            for burst in path.recovery.bursts
            for place in range(burst.count)
            if burst.pending >> place & 1
        }
        assert path.in_flight == sum(state[number] for number in pending)
        assert path.space.ack_eliciting_in_flight == len(pending)
        assert not any(number in pending for some in told for number in some)


def test_the_keys_gone_nothing_is_in_flight(path: Path) -> None:
    path.send(10)
    path.recovery.discard_space(path.space)
    assert (path.in_flight, len(path.recovery.bursts)) == (0, 0)
