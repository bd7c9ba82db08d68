"""CUBIC and HyStart++ on a path that a test makes up."""

from __future__ import annotations

import pytest

from caetun.transports.quic_congestion import Account, Cubic

SEGMENT = 1200


@pytest.fixture
def cubic() -> Cubic:
    return Cubic(max_datagram_size=SEGMENT)


def rounds(cubic: Cubic, count: int, rtt: float, now: float, acks: int = 10) -> float:
    """So many round trips in which the whole window arrives; when it is then."""
    for _ in range(count):
        sent, now = now, now + rtt
        window = cubic.congestion_window
        for _ in range(acks):
            cubic.bytes_in_flight += window // acks
            cubic.on_packet_acked(now=now, packet=Account(sent, window // acks))
            cubic.on_rtt_measurement(now=now, rtt=rtt)
    return now


def lose(cubic: Cubic, now: float) -> None:
    cubic.bytes_in_flight += SEGMENT
    cubic.on_packets_lost(now=now, packets=[Account(now - 0.001, SEGMENT)])


def test_slow_start_doubles_each_round(cubic: Cubic) -> None:
    rounds(cubic, 4, 0.05, 1.0)
    assert cubic.congestion_window == 16 * 10 * SEGMENT
    assert cubic.ssthresh is None


def test_a_queue_that_grows_ends_slow_start(cubic: Cubic) -> None:
    now = rounds(cubic, 3, 0.05, 1.0)
    for rtt in (0.06, 0.07, 0.08, 0.09, 0.10, 0.11, 0.12, 0.13):
        now = rounds(cubic, 1, rtt, now)
    assert cubic.ssthresh is not None
    assert cubic.congestion_window < 1 << 20


def test_jitter_does_not(cubic: Cubic) -> None:
    now = rounds(cubic, 2, 0.05, 1.0)
    now = rounds(cubic, 1, 0.065, now)
    rounds(cubic, 3, 0.05, now)
    assert cubic.ssthresh is None


def test_one_loss_a_round_trip_shrinks_once(cubic: Cubic) -> None:
    now = rounds(cubic, 6, 0.05, 1.0)
    before = cubic.congestion_window
    lose(cubic, now)
    assert cubic.congestion_window == int(before * 0.7)
    cubic.bytes_in_flight += SEGMENT
    cubic.on_packets_lost(now=now + 0.01, packets=[Account(now - 0.02, SEGMENT)])
    assert cubic.congestion_window == int(before * 0.7), "sent before we had slowed down"


def test_the_window_comes_back_to_where_it_was_and_goes_on(cubic: Cubic) -> None:
    now = rounds(cubic, 6, 0.05, 1.0)
    before = cubic.congestion_window
    lose(cubic, now)
    back = (before * 0.3 / SEGMENT / 0.4) ** (1 / 3)
    now = rounds(cubic, int(back / 0.05), 0.05, now + 0.05)
    assert 0.9 * before < cubic.congestion_window < 1.1 * before
    rounds(cubic, int(back / 0.05), 0.05, now)
    assert cubic.congestion_window > 1.15 * before


def test_on_a_short_path_it_is_no_slower_than_reno(cubic: Cubic) -> None:
    now = rounds(cubic, 3, 0.001, 1.0)
    lose(cubic, now)
    after = cubic.congestion_window
    rounds(cubic, 100, 0.001, now + 0.001)
    assert cubic.congestion_window > after + 50 * SEGMENT


def test_when_nothing_gets_through_little_is_left(cubic: Cubic) -> None:
    now = rounds(cubic, 6, 0.05, 1.0)
    lose(cubic, now)
    cubic.on_persistent_congestion()
    assert cubic.congestion_window == 2 * SEGMENT
    for _ in range(20):
        now += 1.0
        lose(cubic, now)
    assert cubic.congestion_window == 2 * SEGMENT
