"""What the sender of a packet is told that goes no further: ICMP, seldom enough that nobody is flooded with it.

The answer to a frame on Ethernet is one too: addresses exchanged, VLAN tags kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.offload.segment import first_packet
from caetun.types import DropReason, Drops, Mode
from caetun.wire import ip
from caetun.wire.ethernet import TYPE_AT, TYPE_IPV4, TYPE_IPV6, network_header
from caetun.wire.icmp import Error, answerable, encode
from caetun.wire.virtio_net import NO_OFFLOAD

# fixed by the specification
_DUMMY: Final = bytes((192, 0, 0, 8))
"""Source of ICMP from a router that has no IPv4 address (RFC 7600)."""
_GROUP: Final = 0x01
"""In the first byte of a MAC address: not a single host's."""
_VERSION_OF_TYPE: Final = {TYPE_IPV4: ip.IPV4, TYPE_IPV6: ip.IPV6}

# chosen by us
RATE: Final = 100.0
"""Answers a second to one port: path MTU discovery and traceroute need a few, a flood gets no more."""
BURST: Final = 50.0
"""Answers at once: traceroute sends 16 probes together."""


class Lost(NamedTuple):
    """A frame that goes no further."""

    frame: memoryview
    header: bytes
    """Its virtio_net_hdr."""
    port: int
    """Where it came from: whose rate of answers is limited."""


class Bucket:
    """Tokens that come with time, and are taken one by one."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """`rate`: tokens a second; `burst`: tokens there can be."""
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, now: float) -> bool:
        """Whether there was one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Answers:
    """Makes them, for the frames of one device's kind."""

    def __init__(self, mode: Mode, drops: Drops, addresses: Sequence[bytes] = ()) -> None:
        """`addresses`: this host's inside the tunnel, 4 or 16 bytes each; the first of a family is what tells."""
        self._mode = mode
        self._drops = drops
        self._own = {len(address): address for address in reversed(addresses)}
        self._buckets: dict[int, Bucket] = {}
        """By port: bounded, as ports are."""

    def answer(self, error: Error, lost: Lost, now: float, *, mtu: int = 0, own: bool = False) -> bytes | None:
        """The frame that tells the sender of a lost one what became of it; None if he is not to be told.

        `mtu`: bytes, of `Error.TOO_BIG`; `own`: whether this host tells, or (as Linux takes no packet from its own
        address off a device) whom the packet is for.
        """
        frame, header, port = lost
        try:
            network = self._network(frame)
        except Malformed:
            return None
        if network is None or not answerable(frame, network):
            return None
        bucket = self._buckets.get(port)
        if bucket is None:
            bucket = self._buckets[port] = Bucket(RATE, BURST, now)
        if not bucket.take(now):
            self._drops.count(DropReason.ICMP_LIMIT)
            return None
        if frame[network] >> 4 == ip.IPV4:
            source = bytes(frame[network + ip.IPV4_DESTINATION_AT :][:4])
            source = self._own.get(4, _DUMMY) if own else source
        else:
            source = bytes(frame[network + ip.IPV6_DESTINATION_AT :][:16])
            source = self._own.get(16, b"") if own else source
            if not source:
                return None  # an error has an address of the node as its source (RFC 4443, section 2.2)
        try:
            packet = first_packet(frame, header, self._mode) if header != NO_OFFLOAD else frame
        except Malformed:
            return None
        told = encode(error, source, packet[network:], mtu)
        return (
            told if not network else bytes(frame[6:TYPE_AT]) + bytes(frame[:6]) + bytes(frame[TYPE_AT:network]) + told
        )

    def _network(self, frame: memoryview) -> int | None:
        """Where the IP packet begins; None if there is none, or it is from or to more than one host of the Ethernet."""
        if self._mode is Mode.TUN:
            return 0
        ethertype, network = network_header(frame)
        if (frame[0] | frame[6]) & _GROUP or network >= len(frame):
            return None
        return network if _VERSION_OF_TYPE.get(ethertype) == frame[network] >> 4 else None
