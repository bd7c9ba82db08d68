"""CUBIC (RFC 9438) with HyStart++ (RFC 9406), counted in bytes: an acknowledgement of many packets counts as many.

aioquic's own controllers are written for one call a packet, and end slow start at the first jitter of a busy machine.

    slow start --delay grows--> conservative slow start --5 rounds--> congestion avoidance
         ^  ^-- it was jitter --/                                      |  ^
         |                                                        loss |  |
         +---- persistent congestion -----------------------------     v--+ x 0.7
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control

# fixed by the specification
_C: Final = 0.4
"""How steep the curve is, segments/s^3 (RFC 9438 section 5)."""
_BETA: Final = 0.7
"""What a loss leaves of the window (section 4.6)."""
_ALPHA: Final = 3 * (1 - _BETA) / (1 + _BETA)
"""Segments a round trip by which Reno would grow after a decrease by `_BETA` (section 4.3)."""
_MAX_STEP: Final = 1.5
"""Times the window that the next round trip may reach (section 4.2)."""
_MIN_SEGMENTS: Final = 2
_RTT_SAMPLES: Final = 8
"""Samples in a round before it says something about delay (RFC 9406 section 4.3, as the next four)."""
_MIN_THRESHOLD: Final = 0.004
_MAX_THRESHOLD: Final = 0.016
_CONSERVATIVE_ROUNDS: Final = 5
_CONSERVATIVE_DIVISOR: Final = 4

# chosen by us
NAME: Final = "caetun-cubic"


class Sent(Protocol):
    """What congestion control knows of packets: one of aioquic's, or some of a burst."""

    @property
    def sent_time(self) -> float | None:
        """Seconds, monotonic."""

    @property
    def sent_bytes(self) -> int:
        """Of all of them."""


class Account(NamedTuple):
    """Some packets of a burst; fulfils `Sent`."""

    sent_time: float
    sent_bytes: int


class HyStart:
    """Whether slow start fills a queue already: each round's least RTT against that of the round before."""

    def __init__(self) -> None:
        self.conservative = False
        self.over = False
        self._round_began = 0.0
        self._last_least = self._least = self._baseline = float("inf")
        self._samples = 0
        self._rounds = 0

    def acknowledged(self, sent_time: float, now: float) -> None:
        """A packet sent at that time was acknowledged: a round ends with the first one sent in it."""
        if sent_time < self._round_began:
            return
        self._round_began = now
        self._last_least, self._least, self._samples = self._least, float("inf"), 0
        if self.conservative:
            self._rounds += 1
            self.over = self.over or self._rounds >= _CONSERVATIVE_ROUNDS

    def measured(self, rtt: float) -> None:
        """A round trip took so many seconds."""
        self._samples += 1
        self._least = min(self._least, rtt)
        if self._samples < _RTT_SAMPLES:
            return
        if self.conservative:
            if self._least < self._baseline:  # it was jitter
                self.conservative = False
        elif self._last_least != float("inf"):
            threshold = max(_MIN_THRESHOLD, min(self._last_least / 8, _MAX_THRESHOLD))
            if self._least >= self._last_least + threshold:
                self.conservative = True
                self._baseline, self._rounds = self._least, 0


class Cubic(QuicCongestionControl):
    """One path's congestion window. aioquic calls it, and `quic_recovery` with bursts."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.segment = max_datagram_size
        """Bytes of the datagrams in use."""
        self.ssthresh = None
        self._start: HyStart | None = HyStart()
        self._recovery_began = -1.0
        self._rtt = 0.0
        self._peak = 0.0
        """Window before the last loss, W_max."""
        self._epoch: float | None = None
        self._origin = 0.0
        """Seconds into the epoch at which the curve is at the peak, K."""
        self._reno = 0.0
        """Window that Reno would have, W_est."""

    def on_packet_sent(self, *, packet: Sent) -> None:
        """Bytes are in flight."""
        self.bytes_in_flight += packet.sent_bytes

    def on_packets_expired(self, *, packets: Iterable[Sent]) -> None:
        """Bytes are in flight no more, which means nothing."""
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes

    def on_packet_acked(self, *, now: float, packet: Sent) -> None:
        """Bytes have arrived, and the window was used: it grows."""
        self.bytes_in_flight -= packet.sent_bytes
        sent_time = packet.sent_time or 0.0
        if sent_time <= self._recovery_began:
            return
        if self.ssthresh is not None and self.congestion_window >= self.ssthresh:
            self._avoid(packet.sent_bytes, now)
            return
        divisor = 1
        if self._start is not None:
            self._start.acknowledged(sent_time, now)
            divisor = _CONSERVATIVE_DIVISOR if self._start.conservative else 1
            if self._start.over:
                self.ssthresh = self.congestion_window
        self.congestion_window += packet.sent_bytes // divisor

    def _avoid(self, acked: int, now: float) -> None:
        """Grow along the curve (RFC 9438 section 4.2 to 4.5)."""
        window = self.congestion_window
        if self._epoch is None:
            self._epoch = now
            self._peak = max(self._peak, window)
            self._origin = ((self._peak - window) / self.segment / _C) ** (1 / 3)
            self._reno = window
        elapsed = now - self._epoch
        share = acked / window
        self._reno += (_ALPHA if self._reno < self._peak else 1.0) * self.segment * share
        if self._curve(elapsed) < self._reno:
            self.congestion_window = max(window, int(self._reno))
            return
        target = min(max(self._curve(elapsed + self._rtt), window), _MAX_STEP * window)
        self.congestion_window = int(window + (target - window) * min(share, 1.0))

    def _curve(self, elapsed: float) -> float:
        return _C * (elapsed - self._origin) ** 3 * self.segment + self._peak

    def on_packets_lost(self, *, now: float, packets: Iterable[Sent]) -> None:
        """Bytes were lost: once a round trip, the window shrinks (section 4.6, 4.7)."""
        newest = -1.0
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            newest = max(newest, packet.sent_time or 0.0)
        if newest <= self._recovery_began:
            return
        self._recovery_began = now
        self._start = None
        window = self.congestion_window
        self._peak = window * (1 + _BETA) / 2 if window < self._peak else window
        self.congestion_window = self.ssthresh = max(int(window * _BETA), _MIN_SEGMENTS * self.segment)
        self._epoch = None

    def on_persistent_congestion(self) -> None:
        """Nothing gets through: begin anew, carefully (RFC 9002 section 7.6.2)."""
        self.congestion_window = _MIN_SEGMENTS * self.segment
        self._recovery_began = -1.0
        self._epoch = None

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """A round trip took so many seconds."""
        self._rtt = rtt
        if self._start is not None and self.ssthresh is None:
            self._start.measured(rtt)


register_congestion_control(NAME, Cubic)
