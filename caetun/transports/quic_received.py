"""What has come in on a QUIC connection, and is to be acknowledged (RFC 9000 section 13.2).

Packets that the fast way has opened are accounted for here as aioquic does for its own, a run of packet numbers at a
time: duplicates, ranges to acknowledge, idle timer, spin bit.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from aioquic._buffer import Buffer as QuicBuffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_ack_frame
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.tls import Epoch

from caetun.transports.quic_packets import DATAGRAM

# fixed by the specification
_ACK: Final = 2
"""Type of an ACK frame without ECN counts (RFC 9000 section 19.3)."""

_ACK_FRAME: Final = Struct(">BQIBI")
"""Type, largest number, delay, further ranges, length of the range less one: integers of 1, 4 and 8 bytes."""
_OF_FOUR: Final = 2 << 30
_OF_EIGHT: Final = 3 << 62
"""What the two highest bits of an integer say of its length (RFC 9000 section 16); only types must be short."""
_MOST_OF_FOUR: Final = (1 << 30) - 1

SIMPLE_ACK: Final = _ACK_FRAME.size
"""Bytes of an ACK frame of one range."""

# chosen by us
ACK_AFTER: Final = 2
"""Packets in one wake-up that are acknowledged at its end, not later (RFC 9000 section 13.2.2)."""
ACK_BYTES: Final = 2400
"""In fewer bytes, packets wait like a lone one: what is answered small (TCP's acknowledgements) is not congestion, and
each acknowledgement costs both ends as much as twenty packets of a burst. Two full packets, as TCP counts."""
ACK_PACKETS: Final = 64
"""Packets acknowledged at once in any case: a burst and a half."""
ACK_SECONDS: Final = 0.001
"""Between two acknowledgements of fewer packets: what a timer of the event loop is worth."""
ACK_DELAY: Final = 0.008
"""Seconds that a lone packet, or a few small ones, wait for an acknowledgement: less than the 25 ms announced, more
than answers take."""


class PacketWindow:
    """Which packet numbers have come in, as far back as one may come late; takes the place of aioquic's."""

    SIZE: Final = 2048
    """Packet numbers told apart: older ones count as duplicates. Some forty bursts, as paths reorder by bursts."""

    __slots__ = ("_bits", "_next")

    def __init__(self) -> None:
        self._next = 0
        """One more than the highest number."""
        self._bits = 0
        """Bit n: whether `_next - 1 - n` has come in."""

    def add(self, number: int) -> None:
        """A packet came in."""
        self.add_run(number, number + 1)

    def add_run(self, start: int, stop: int) -> None:
        """Packets came in, numbered `start` to `stop - 1`."""
        ahead = stop - self._next
        if ahead > 0:
            # A far end may skip any number: what lies beyond the window is not worth a shift of gigabytes.
            self._bits = self._bits << ahead if ahead < self.SIZE else 0
            self._next = stop
        low = self._next - stop
        if low < self.SIZE:
            self._bits = (self._bits | ((1 << min(stop - start, self.SIZE)) - 1) << low) & ((1 << self.SIZE) - 1)

    def __contains__(self, number: int) -> bool:
        age = self._next - 1 - number
        return age >= self.SIZE or (age >= 0 and bool(self._bits >> age & 1))

    def misses(self, start: int, stop: int) -> bool:
        """Whether none of the packets from `start` to `stop - 1` has come in, nor is too old."""
        if start >= self._next:
            return True
        if self._next - 1 - start >= self.SIZE:
            return False
        low = max(0, self._next - stop)
        return not (self._bits >> low) & ((1 << (self._next - start - low)) - 1)


class Received:
    """Accounts for the packets of one connection."""

    def __init__(self, quic: QuicConnection) -> None:
        """While the handshake runs, aioquic accounts for all; `take_over` at its end."""
        self._quic = quic
        quic._ack_delay = ACK_DELAY
        self.space = QuicPacketSpace(is_application_data=True)
        """aioquic's account of 1-RTT packets; until `take_over` one of nothing."""
        self._window = PacketWindow()
        self._waiting = 0
        """Packets since the last acknowledgement that ask for one."""
        self._bytes = 0
        """Of these."""
        self._gap = False
        """Whether one is missing before one of these."""
        self._acknowledged_at = 0.0
        self.heard_at = 0.0
        """When the far end was last heard, or asked for a sign of life."""
        self._idle_from = 0.0
        """When silence began to count (RFC 9000 section 10.1)."""

    def take_over(self, now: float) -> None:
        """From now on packet numbers are told apart here, for aioquic as well."""
        self.space = self._quic._spaces[Epoch.ONE_RTT]
        self.heard_at = self._idle_from = now
        for number in sorted(self.space.received_packets._received):
            self._window.add(number)
        self.space.received_packets = self._window  # type: ignore[assignment]  # it has what aioquic asks of its own

    def __contains__(self, number: int) -> bool:
        """Whether a packet has come in before, or is too old to tell."""
        return number in self._window

    def misses(self, numbers: range) -> bool:
        """Whether none of these has come in before."""
        return self._window.misses(numbers.start, numbers.stop)

    def mark(self, numbers: range, now: float, size: int) -> None:
        """Packets have come in; `size`: bytes of frames in them that ask for an acknowledgement. Hot: once a burst."""
        space = self.space
        self.heard_at = self._idle_from = now
        self._window.add_run(numbers.start, numbers.stop)
        space.ack_queue.add(numbers.start, numbers.stop)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if size:
            self._waiting += len(numbers)
            self._bytes += size
            self._gap = self._gap or numbers.start != space.largest_received_packet + 1
            if space.ack_at is None:
                space.ack_at = now + ACK_DELAY
        if numbers.stop > space.largest_received_packet:
            space.largest_received_packet, space.largest_received_time = numbers.stop - 1, now
            space.expected_packet_number = max(space.expected_packet_number, numbers.stop)
        self._quic._ack_eliciting_sent_since_receipt = False

    def answered(self, now: float) -> None:
        """A packet that asks for an acknowledgement has been sent: silence counts from the first one on."""
        if not self._quic._ack_eliciting_sent_since_receipt:
            self._quic._ack_eliciting_sent_since_receipt = True
            self._idle_from = now

    def tell_idle(self) -> None:
        """Have aioquic's timer know since when there has been silence; before it is looked at."""
        quic = self._quic
        quic._close_at = max(quic._close_at or 0.0, self._idle_from + quic._idle_timeout())

    def marked_elsewhere(self, now: float) -> None:
        """aioquic has taken in a packet itself."""
        self._waiting += 1
        self._bytes += ACK_BYTES // 2
        self.heard_at = now

    def spin(self, number: int, bit: bool) -> None:
        """The spin bit of the packet with this number (RFC 9000 section 17.4)."""
        quic = self._quic
        if number > quic._spin_highest_pn:
            quic._spin_highest_pn = number
            quic._spin_bit = bit != quic._is_client

    def urgent(self, now: float) -> bool:
        """Whether an acknowledgement should leave now that nothing more is waiting.

        Under load one wake-up follows the other, and each acknowledgement wakes the far end up: then `ACK_PACKETS` are
        acknowledged together, or what has come after `ACK_SECONDS`.
        """
        due = self.space.ack_at
        if due is None:
            return False
        if self._gap or self._waiting >= ACK_PACKETS or now >= due:
            return True
        if self._waiting < ACK_AFTER or self._bytes < ACK_BYTES:
            return False
        if now - self._acknowledged_at >= ACK_SECONDS:
            return True
        self.space.ack_at = min(due, self._acknowledged_at + ACK_SECONDS)
        return False

    def simple_ack(self, now: float) -> bytes:
        """The usual acknowledgement as a frame, one range; nothing if that will not do.

        What aioquic would remember of it only serves to forget ranges, and here is but one.
        """
        space = self.space
        if len(space.ack_queue) != 1:
            return b""
        (received,) = space.ack_queue
        delay = int((now - (space.largest_received_time or now)) * 1e6) >> self._quic._local_ack_delay_exponent
        largest = received.stop - 1
        more = largest - received.start
        if more > _MOST_OF_FOUR:
            return b""
        space.ack_at = None
        return _ACK_FRAME.pack(_ACK, _OF_EIGHT | largest, _OF_FOUR | min(delay, _MOST_OF_FOUR), 0, _OF_FOUR | more)

    def acknowledged(self, now: float) -> None:
        """An acknowledgement has left, if one was due."""
        if self._waiting and self.space.ack_at is None:
            self._waiting, self._bytes, self._gap = 0, 0, False
            self._acknowledged_at = now


def read_ack(payload: bytes) -> tuple[list[range], int, memoryview] | None:
    """What a packet acknowledges, the delay as it is encoded, and the message that stands behind it or nothing.

    None if the packet holds anything else: an ACK frame, and maybe one DATAGRAM frame to the packet's end, is all.
    """
    if payload[0] != _ACK:
        return None
    if len(payload) >= SIMPLE_ACK:  # mostly one of ours, as `Received.simple_ack` writes it
        _, largest, delay, further, more = _ACK_FRAME.unpack_from(payload)
        largest, delay, more = largest - _OF_EIGHT, delay - _OF_FOUR, more - _OF_FOUR
        if not further and 0 <= more <= largest and more <= _MOST_OF_FOUR and 0 <= delay <= _MOST_OF_FOUR:
            rest = memoryview(payload)[SIMPLE_ACK:]
            return _with_message([range(largest - more, largest + 1)], delay, rest)
    buffer = QuicBuffer(data=payload)
    buffer.seek(1)
    try:
        ranges, delay = pull_ack_frame(buffer)
    except ValueError:
        return None
    return _with_message(list(ranges), delay, memoryview(payload)[buffer.tell() :])


def _with_message(ranges: list[range], delay: int, rest: memoryview) -> tuple[list[range], int, memoryview] | None:
    if rest and (rest[0] != DATAGRAM or len(rest) == 1):
        return None
    return ranges, delay, rest[1:]
