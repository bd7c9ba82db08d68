"""Packets that came in: told apart, and acknowledged."""

from __future__ import annotations

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_ack_frame
from hypothesis import given
from hypothesis import strategies as st

from caetun.transports.quic_received import ACK_DELAY, PacketWindow, Received, read_ack

RUNS = st.lists(
    st.tuples(st.integers(0, 6000) | st.integers(0, 1 << 62), st.integers(1, 64)),
    min_size=1,
    max_size=60,
)


@given(RUNS)
def test_the_window_knows_what_came(runs: list[tuple[int, int]]) -> None:
    window, seen, highest = PacketWindow(), set[int](), -1
    for start, count in runs:
        numbers = range(start, start + count)
        oldest = highest - PacketWindow.SIZE + 1
        fresh = all(number not in seen and number >= oldest for number in numbers)
        assert window.misses(start, start + count) == fresh
        window.add_run(start, start + count)
        seen.update(numbers)
        highest = max(highest, numbers[-1])
        for number in (start, start + count - 1, start - 1, start + count, highest - PacketWindow.SIZE + 1):
            known = number in seen or number <= highest - PacketWindow.SIZE
            assert number < 0 or (number in window) == known


def test_a_packet_number_that_jumps_far_costs_nothing() -> None:
    window = PacketWindow()
    window.add(5)
    window.add((1 << 62) - 1)
    assert 5 in window, "too old to tell"
    assert (1 << 62) - 2 not in window
    assert window._bits.bit_length() <= PacketWindow.SIZE


FULL = 60_000
"""Bytes of a burst."""


@pytest.fixture
def received() -> Received:
    return Received(QuicConnection(configuration=QuicConfiguration(is_client=True)))


def test_the_usual_acknowledgement_says_what_came(received: Received) -> None:
    received.mark(range(70_000, 70_044), 1.0, FULL)
    read = read_ack(received.simple_ack(1.008))
    assert read is not None
    ranges, delay, message = read
    assert (list(ranges), delay << 3, bytes(message)) == ([range(70_000, 70_044)], 8000, b"")


def test_with_a_gap_aioquic_is_asked(received: Received) -> None:
    received.mark(range(5), 1.0, FULL)
    received.mark(range(6, 10), 1.0, FULL)
    assert received.urgent(1.0)
    assert received.simple_ack(1.0) == b""


def test_an_acknowledgement_may_carry_a_message(received: Received) -> None:
    received.mark(range(5), 1.0, FULL)
    read = read_ack(received.simple_ack(1.0) + b"\x30message")
    assert read is not None
    assert bytes(read[2]) == b"message"


def test_a_few_small_packets_wait_for_one_acknowledgement(received: Received) -> None:
    for number in range(10):
        received.mark(range(number, number + 1), 1.0, 110)
        assert not received.urgent(1.0)
    assert received.urgent(1.0 + ACK_DELAY), "not for long"
    received.mark(range(10, 11), 1.0, 1400)
    assert received.urgent(1.0), "as much as two full ones"


def test_silence_counts_from_the_last_word_and_the_first_unanswered_one(received: Received) -> None:
    quic = received._quic
    received.mark(range(5), 100.0, FULL)
    received.tell_idle()
    assert quic._close_at == 100.0 + quic._idle_timeout()
    received.answered(110.0)
    received.answered(120.0)
    received.tell_idle()
    assert quic._close_at == 110.0 + quic._idle_timeout()


@pytest.mark.parametrize("largest", [0, 63, 64, 20_000, (1 << 30) + 5, (1 << 62) - 1])
def test_the_usual_acknowledgement_is_read_as_by_aioquic(received: Received, largest: int) -> None:
    received.mark(range(max(0, largest - 3), largest + 1), 1.0, FULL)
    frame = received.simple_ack(1.02)
    buffer = Buffer(data=frame[1:])
    ranges, delay = pull_ack_frame(buffer)
    assert (buffer.eof(), read_ack(frame)) == (True, (list(ranges), delay, b""))


@pytest.mark.parametrize(
    "payload", [b"\x01", b"\x02", b"\x02\x05\x00\x00\x06", b"\x02\x05\x00\x00\x02\x30", b"\x03\x05"]
)
def test_anything_else_is_for_aioquic(payload: bytes) -> None:
    assert read_ack(payload) is None


@given(st.binary(min_size=1, max_size=60).map(lambda rest: b"\x02" + rest))
def test_any_bytes_are_read_or_left(payload: bytes) -> None:
    read = read_ack(payload)
    assert read is None or all(some.start >= 0 for some in read[0])


def test_acknowledgements_leave_when_they_are_worth_it(received: Received) -> None:
    received.mark(range(1), 1.0, 1300)
    assert not received.urgent(1.0), "a lone packet waits for an answer to go along with"
    received.mark(range(1, 2), 1.0, 1300)
    assert received.urgent(1.0)
    received.simple_ack(1.0)
    received.acknowledged(1.0)
    received.mark(range(2, 30), 1.0002, FULL)
    assert not received.urgent(1.0002), "just said something"
    assert received.space.ack_at == pytest.approx(1.001)
    assert received.urgent(1.001)
    received.mark(range(30, 90), 1.0003, FULL)
    assert received.urgent(1.0003), "many"
