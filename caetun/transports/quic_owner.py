"""What a QUIC connection asks of the link that owns it."""

from __future__ import annotations

from typing import Protocol

from caetun.transports.udp_link import Way


class Owner(Way, Protocol):
    """Who lives on the connection."""

    def established(self, now: float) -> None:
        """The handshake is over: messages may be sent."""

    def received(self, messages: memoryview, size: int, now: float) -> None:
        """Messages, one every `size` bytes with `quic_packets.GAP` between two, the last maybe shorter."""

    def delivered(self) -> None:
        """Those are all for now: nothing more is at hand."""

    def ended(self, why: str) -> None:
        """The connection is over, not by `close`."""

    def known_as(self, cid: bytes, known: bool) -> None:
        """The far end may use this connection id from now on, or no more."""

    def stray(self, packet: memoryview, source: bytes, now: float) -> None:
        """A packet for another connection came in the same burst."""

    def moved(self) -> None:
        """The far end has another address now."""
