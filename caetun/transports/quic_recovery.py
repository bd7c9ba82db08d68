"""Loss detection and congestion control of QUIC for packets that are sent in bursts (RFC 9002).

aioquic keeps an object for each packet in flight and looks at each of them for each acknowledgement. Here the packets
of one burst, which share the time at which they were sent, are the bits of two integers:

    pending   1 1 1 0 0 1 1 1      in flight: neither acknowledged nor lost
    lost      0 0 0 0 1 0 0 0      taken for lost; an acknowledgement that comes nevertheless says we were hasty
              ^ the newest   ^ the first packet

so that bytes in flight, acknowledged and lost are exact whatever packet it is, the last one of a burst included.
`BurstRecovery` takes the place of a connection's `QuicPacketRecovery`; aioquic's own packets go its own way in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import (
    K_PACKET_THRESHOLD,
    K_PERSISTENT_CONGESTION_THRESHOLD,
    K_TIME_THRESHOLD,
    QuicPacketRecovery,
    QuicPacketSpace,
)

from caetun.transports.quic_congestion import Account, Cubic, Sent

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection, QuicNetworkPath
    from aioquic.quic.rangeset import RangeSet

# fixed by the specification
_LEAST_RTT: Final = 1e-6
"""Seconds: an RTT is never nothing."""
_AMPLIFICATION: Final = 3
"""Times the bytes received that may go to an address before it is validated (RFC 9000 section 8.1)."""

# chosen by us
MAX_IN_FLIGHT: Final = 1 << 14
"""Packets: half of what two bytes of packet number tell apart."""
MAX_WINDOW: Final = 6 << 20
"""Bytes in flight: a far end's socket buffer, 8 MiB of ours, holds no more while it is busy."""
MAX_REORDERING: Final = 64
"""Packets: as far as `threshold` grows on a path that overtakes; a burst's worth (RFC 9002 section 6.1.1 allows it)."""
REMEMBER_PTOS: Final = 2
"""Probe timeouts for which packets taken for lost are remembered, to find out that they were only late."""
PACING_GAIN: Final = 1.25
"""More than one window a round trip: pauses between bursts must not waste what the path has (section 7.7)."""
SLOW_START_GAIN: Final = 2.0
"""The same while the window doubles each round trip."""
PACING_SECONDS: Final = 0.002
"""Of the pacing rate that may leave at once: twice what a timer of the event loop is worth."""
PACING_BURST: Final = 10
"""Datagrams that may leave at once in any case: an initial window (section 7.2)."""


class Burst:
    """Packets sent at one time, with numbers in a row."""

    __slots__ = ("count", "first", "last_size", "lost", "pending", "probe", "sent_time", "size", "total")

    def __init__(self, first: int, count: int, size: int, last_size: int, now: float, probe: bool) -> None:
        """`size`, `last_size`: bytes of each packet, and of the last one. `probe`: its loss says nothing of congestion,
        as it may have been too long for the path (RFC 9000 section 14.4)."""
        self.first = first
        self.count = count
        self.size = size
        self.last_size = last_size
        self.sent_time = now
        self.probe = probe
        self.pending = (1 << count) - 1
        self.lost = 0
        self.total = (count - 1) * size + last_size
        """Bytes of all of them."""

    def account(self, packets: int) -> Account:
        """Some of its packets, for congestion control."""
        return Account(self.sent_time, self.bytes_of(packets))

    def bytes_of(self, packets: int) -> int:
        """Bytes of some of its packets."""
        if packets == (1 << self.count) - 1:
            return self.total
        total = packets.bit_count() * self.size
        return total - self.size + self.last_size if packets >> (self.count - 1) else total

    def up_to(self, number: int) -> int:
        """Its packets whose number is at most this one."""
        count = min(self.count, number + 1 - self.first)
        return (1 << count) - 1 if count > 0 else 0

    def within(self, ranges: Sequence[range], at: int) -> int:
        """Its packets in some ranges, of which those before `at` lie below it."""
        packets = 0
        stop = self.first + self.count
        while at < len(ranges) and ranges[at].start < stop:
            packets |= self.up_to(ranges[at].stop - 1) & ~self.up_to(ranges[at].start - 1)
            at += 1
        return packets


class BurstRecovery(QuicPacketRecovery):
    """aioquic's loss recovery, which knows bursts besides."""

    def __init__(self, quic: QuicConnection) -> None:
        """Takes the place of `quic._loss`; before anything has been sent."""
        configuration = quic.configuration
        super().__init__(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=configuration.max_datagram_size,
            peer_completed_address_validation=not configuration.is_client,
            send_probe=quic._send_probe,
        )
        self.window = Cubic(max_datagram_size=configuration.max_datagram_size)
        self._cc = self.window
        self.bursts: deque[Burst] = deque()
        self.threshold = K_PACKET_THRESHOLD
        """Packets by which one may be overtaken before it is taken for lost."""
        self._allowance = 0.0
        """Bytes that pacing lets leave now, at the time it was last looked at."""
        self._allowed_at = 0.0
        self.paced_at: float | None = None
        """When pacing lets so much leave that it is worth a look; None if nothing waits for that."""
        quic._loss = self

    # sending

    def burst_sent(self, burst: Burst, space: QuicPacketSpace) -> None:
        """Packets are on their way. Hot: once a burst."""
        self.bursts.append(burst)
        space.ack_eliciting_in_flight += burst.count
        self._time_of_last_sent_ack_eliciting_packet = burst.sent_time
        self._allowance -= burst.total
        self.window.bytes_in_flight += burst.total

    def allowed(self, size: int, now: float, path: QuicNetworkPath, space: QuicPacketSpace) -> int:
        """How many datagrams of `size` bytes may leave now.

        As many as fit into the congestion window, so that it is never exceeded, but for one where nothing is in flight;
        as pacing lets leave at once; and as an address that is not validated may be sent.
        """
        in_flight = self.window.bytes_in_flight
        room = min(self.window.congestion_window, MAX_WINDOW) - in_flight
        if not path.is_validated:
            room = min(room, _AMPLIFICATION * path.bytes_received - path.bytes_sent)
        if room < size and (in_flight or not path.is_validated):
            return 0
        paced = self._paced(size, now)
        if paced < size:
            self.paced_at = now + max(0.0, PACING_SECONDS / 2 - self._allowance / self._rate())
            return 0
        return min(max(1, min(room, paced) // size), MAX_IN_FLIGHT - space.ack_eliciting_in_flight)

    def _paced(self, size: int, now: float) -> int:
        """Bytes that may leave at once now (RFC 9002 section 7.7)."""
        if not self._rtt_initialized:
            return self.window.congestion_window
        rate = self._rate()
        most = max(PACING_BURST * size, rate * PACING_SECONDS)
        self._allowance = min(most, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        return int(self._allowance)

    def soon(self, space: QuicPacketSpace) -> float:
        """When the first of these is due: an acknowledgement, a loss by time, pacing; infinity if none is."""
        soon = inf if space.ack_at is None else space.ack_at
        if self.paced_at is not None and self.paced_at < soon:
            soon = self.paced_at
        return space.loss_time if space.loss_time is not None and space.loss_time < soon else soon

    def _rate(self) -> float:
        """Bytes a second."""
        gain = SLOW_START_GAIN if self.window.ssthresh is None else PACING_GAIN
        return gain * self.window.congestion_window / max(self._rtt_smoothed, _LEAST_RTT)

    def use_datagrams(self, size: int) -> None:
        """Datagrams have another size from now on: congestion control and pacing count in these."""
        self.window.segment = size
        self._pacer._max_datagram_size = size

    def new_path(self, size: int) -> None:
        """What was learned is about another path: begin anew, with datagrams of this size (RFC 9000 section 9.4)."""
        in_flight = self.window.bytes_in_flight
        self.window = Cubic(max_datagram_size=size)
        self._cc = self.window
        self.window.bytes_in_flight = in_flight
        self._rtt_initialized = False
        self._rtt_min = float("inf")
        self.threshold = K_PACKET_THRESHOLD

    # what comes back

    def on_ack_received(self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace) -> None:
        """As aioquic's, for its packets and for bursts."""
        if space.is_application_data and self.bursts:
            self.acknowledged(list(ack_rangeset), ack_delay, now, space)
        else:
            super().on_ack_received(ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space)

    def acknowledged(self, ranges: list[range], ack_delay: float, now: float, space: QuicPacketSpace) -> None:
        """Packets of application data were acknowledged: ranges of numbers, in order. Hot: once an acknowledgement."""
        largest = ranges[-1].stop - 1
        space.largest_acked_packet = max(space.largest_acked_packet, largest)
        used = self.window.bytes_in_flight * 2 >= self.window.congestion_window
        number, sent_time = self._acknowledge_bursts(ranges, now, space, used)
        own, own_time = self._acknowledge_packets(ranges, now, space, used)
        if own > number:
            number, sent_time = own, own_time
        if number < 0:
            return
        if number == largest:
            self._sample(now - sent_time, min(ack_delay, self.max_ack_delay), now)
        self._detect_loss(now=now, space=space)
        if self.peer_completed_address_validation:
            self._pto_count = 0

    def _acknowledge_bursts(
        self, ranges: list[range], now: float, space: QuicPacketSpace, used: bool
    ) -> tuple[int, float]:
        """Take packets of bursts out of flight; the highest newly acknowledged and when it was sent, or -1."""
        number, sent_time, at = -1, 0.0, 0
        done = False
        for burst in self.bursts:
            if burst.first >= ranges[-1].stop:
                break
            while ranges[at].stop <= burst.first:
                at += 1
            whole = ranges[at].start <= burst.first and burst.first + burst.count <= ranges[at].stop
            packets = -1 if whole else burst.within(ranges, at)
            acked = burst.pending & packets
            if acked:
                burst.pending ^= acked
                space.ack_eliciting_in_flight -= acked.bit_count()
                self._acked(burst.account(acked), now, used)
                number, sent_time = burst.first + acked.bit_length() - 1, burst.sent_time
            late = burst.lost & packets
            if late:
                burst.lost ^= late
                overtaken = ranges[-1].stop - 1 - burst.first
                self.threshold = max(self.threshold, min(MAX_REORDERING, overtaken + 1))
            done = done or not (burst.pending or burst.lost)
        if done:
            self.bursts = deque(burst for burst in self.bursts if burst.pending or burst.lost)
        return number, sent_time

    def _acknowledge_packets(
        self, ranges: list[range], now: float, space: QuicPacketSpace, used: bool
    ) -> tuple[int, float]:
        """The same for aioquic's own packets; only those that ask for an acknowledgement count for the answer."""
        number, sent_time = -1, 0.0
        if not space.sent_packets:
            return number, sent_time
        for packet in [packet for packet in space.sent_packets.values() if _covers(ranges, packet.packet_number)]:
            del space.sent_packets[packet.packet_number]
            if packet.is_ack_eliciting:
                space.ack_eliciting_in_flight -= 1
                number, sent_time = packet.packet_number, packet.sent_time or 0.0
            if packet.in_flight:
                self._acked(packet, now, used)
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.ACKED, *arguments)
        return number, sent_time

    def _acked(self, packet: Sent, now: float, used: bool) -> None:
        """The window grows only where it was what held us back (RFC 9002 section 7.8)."""
        if used:
            self.window.on_packet_acked(now=now, packet=packet)
        else:
            self.window.on_packets_expired(packets=[packet])

    def _sample(self, latest: float, delay: float, now: float) -> None:
        """A round trip has been measured (RFC 9002 section 5)."""
        latest = max(latest, _LEAST_RTT)
        self._rtt_min = min(self._rtt_min, latest)
        adjusted = latest - delay if latest >= self._rtt_min + delay else latest
        self._rtt_latest = latest
        if not self._rtt_initialized:
            self._rtt_initialized = True
            self._rtt_first_sample_time = now
            self._rtt_variance, self._rtt_smoothed = latest / 2, latest
        else:
            self._rtt_variance += (abs(self._rtt_smoothed - adjusted) - self._rtt_variance) / 4
            self._rtt_smoothed += (adjusted - self._rtt_smoothed) / 8
        self.window.on_rtt_measurement(now=now, rtt=latest)
        self._pacer.update_rate(congestion_window=self.window.congestion_window, smoothed_rtt=self._rtt_smoothed)

    # losses

    def _detect_loss(self, *, now: float, space: QuicPacketSpace) -> None:
        """Take for lost what was overtaken by too many or too long ago (RFC 9002 section 6.1)."""
        space.loss_time = None
        if space.sent_packets:
            super()._detect_loss(now=now, space=space)
        if not space.is_application_data or not self.bursts:
            return
        rtt = max(self._rtt_latest, self._rtt_smoothed) if self._rtt_initialized else self._rtt_initial
        delay = K_TIME_THRESHOLD * max(rtt, 0.001)
        losing: list[tuple[Burst, int]] = []
        for burst in self.bursts:
            if burst.first > space.largest_acked_packet:
                break
            overdue = burst.sent_time <= now - delay
            packets = burst.pending & burst.up_to(space.largest_acked_packet - (0 if overdue else self.threshold))
            if packets:
                losing.append((burst, packets))
            if not overdue and burst.pending & ~packets & burst.up_to(space.largest_acked_packet):
                due = burst.sent_time + delay
                space.loss_time = due if space.loss_time is None else min(space.loss_time, due)
        if losing:
            self._bursts_lost(losing, now, space)
        self._forget(now)

    def _bursts_lost(self, losing: list[tuple[Burst, int]], now: float, space: QuicPacketSpace) -> None:
        congested: list[Sent] = []
        for burst, packets in losing:
            burst.pending ^= packets
            burst.lost |= packets
            space.ack_eliciting_in_flight -= packets.bit_count()
            account = burst.account(packets)
            if burst.probe:
                self.window.on_packets_expired(packets=[account])
            else:
                congested.append(account)
        if not congested:
            return
        self.window.on_packets_lost(now=now, packets=congested)
        if self._persistent(losing):
            self.window.on_persistent_congestion()
        self._pacer.update_rate(congestion_window=self.window.congestion_window, smoothed_rtt=self._rtt_smoothed)

    def _persistent(self, losing: list[tuple[Burst, int]]) -> bool:
        """Whether nothing at all got through for several probe timeouts (RFC 9002 section 7.6)."""
        if not self._rtt_initialized:
            return False
        span = self.get_probe_timeout() * K_PERSISTENT_CONGESTION_THRESHOLD
        since, after = 0.0, -1
        for burst, packets in losing:
            whole = packets == (1 << burst.count) - 1
            if not whole or burst.first != after or burst.sent_time <= self._rtt_first_sample_time:
                since = burst.sent_time
            elif burst.sent_time - since > span:
                return True
            after = burst.first + burst.count
        return False

    def _forget(self, now: float) -> None:
        """Drop bursts of which nothing is in flight and no late acknowledgement will come any more."""
        horizon = now - REMEMBER_PTOS * self.get_probe_timeout()
        while self.bursts and not self.bursts[0].pending and self.bursts[0].sent_time < horizon:
            self.bursts.popleft()

    def discard_space(self, space: QuicPacketSpace) -> None:
        """The keys of these packets are gone."""
        if space.is_application_data:
            for burst in self.bursts:
                self.window.on_packets_expired(packets=[burst.account(burst.pending)])
            self.bursts.clear()
        super().discard_space(space)


def _covers(ranges: list[range], number: int) -> bool:
    return any(number in some for some in ranges)
