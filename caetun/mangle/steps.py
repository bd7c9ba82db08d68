"""What a rule does to a frame: each step is called with the frame, and whether it leaves this host.

A step changes headers by `Frame.replace`, so that checksums follow and a superframe stays one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, TypeAlias

from caetun.mangle.frame import ICMPV6, IGMP, Frame
from caetun.types import DropReason
from caetun.wire import ip
from caetun.wire.tcp import mss_at

# fixed by the specification
_IPV4_TTL_AT: Final = 8
_IPV6_HOP_LIMIT_AT: Final = 7
_LINK_SCOPE_ICMPV6: Final = frozenset((130, 131, 132, 133, 134, 135, 136, 137, 143))
"""MLD (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861): with another hop limit they are ignored."""
_HEADERS: Final = {ip.IPV4: 40, ip.IPV6: 60}
"""Bytes of IP and TCP header in an MTU (RFC 6691, section 3)."""


class Verdict(enum.Enum):
    """What goes on with a frame; a `DropReason` in its place: it is dropped."""

    NOT_MEANT = "not meant"
    """The rule's conditions do not hold. No step returns it."""
    UNTOUCHED = "untouched"
    NOTED = "noted"
    """By `OuterClass`; the frame stays as it is."""
    CHANGED = "changed"
    ACCEPT = "accept"


Outcome: TypeAlias = Verdict | DropReason
Step: TypeAlias = Callable[[Frame, bool], Outcome]


def drop(frame: Frame, outgoing: bool) -> Outcome:
    """Keep it out."""
    return DropReason.MANGLE_FILTER


def accept(frame: Frame, outgoing: bool) -> Outcome:
    """Let it pass, and spare it the rules that follow."""
    return Verdict.ACCEPT


class SegmentClamp:
    """Has both ends of a TCP connection send segments of at most `mss` bytes; None: what goes into `mtu`. A step."""

    def __init__(self, mss: int | None, mtu: int) -> None:
        self._mss = mss
        self.mtu = mtu
        """Bytes, of the device; changes with it."""

    def __call__(self, frame: Frame, outgoing: bool) -> Outcome:
        """Look at a frame."""
        packet = frame.packet
        if packet is None or packet.protocol != ip.TCP:
            return Verdict.UNTOUCHED
        at = mss_at(frame.head, packet.transport)
        if at is None:
            return Verdict.UNTOUCHED
        most = self.mtu - _HEADERS[packet.version] if self._mss is None else self._mss
        if (frame.head[at] << 8 | frame.head[at + 1]) <= most:
            return Verdict.UNTOUCHED
        frame.replace(at, most.to_bytes(2, "big"))
        return Verdict.CHANGED


def set_dscp(dscp: int) -> Step:
    """Give packets this class, 0..63 (RFC 2474)."""
    return _traffic_class(0b11, dscp << 2)


class OuterClass:
    """Notes the classes of what leaves, for the packets that carry it. A step.

    A batch of frames is sealed as one: its packets get the class that all of its frames have, or else none. The outer
    ECN bits stay 0, which is the compatibility mode of RFC 6040, section 4.1: a record spans several packets.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, frame: Frame, outgoing: bool) -> Outcome:
        """Say that the frame's class is to be noted, by `note`: of all rules of this kind one keeps it."""
        return Verdict.NOTED

    def note(self, traffic_class: int) -> None:
        """A frame of this class leaves."""
        self._seen.add(traffic_class)

    def take(self) -> int:
        """The outer traffic class for the frames since the last call: DSCP in the upper six of eight bits."""
        seen = self._seen
        outer = seen.pop() if len(seen) == 1 else 0
        seen.clear()
        return outer


def traffic_class(frame: Frame) -> int:
    """DSCP in the upper six of eight bits; 0 of what is no IP packet."""
    packet = frame.packet
    if packet is None:
        return 0
    at = frame.network
    word = frame.head[at] << 8 | frame.head[at + 1]
    return (word >> (0 if packet.version == ip.IPV4 else 4)) & 0xFC


def clear_ecn() -> Step:
    """Declare packets not ECN-capable (RFC 3168, section 5): for a path that mistreats those that are."""
    return _traffic_class(0b11111100, 0)


def _traffic_class(keep: int, set_: int) -> Step:
    """Of the eight bits that IPv4 and IPv6 have in common, `keep` these and set those."""

    def step(frame: Frame, outgoing: bool) -> Outcome:
        packet = frame.packet
        if packet is None:
            return Verdict.UNTOUCHED
        at, shift = frame.network, 0 if packet.version == ip.IPV4 else 4
        word = frame.head[at] << 8 | frame.head[at + 1]
        other = word & ~(0xFF << shift) | ((word >> shift & keep) | set_) << shift
        if other == word:
            return Verdict.UNTOUCHED
        frame.replace(at, other.to_bytes(2, "big"))
        return Verdict.CHANGED

    return step


def set_ttl(ttl: int) -> Step:
    """Let packets live for that many hops: 1..255, or negative: so many fewer; what has none left is dropped.

    What belongs to one link (neighbour discovery, IGMP, MLD) is left alone.
    """

    def step(frame: Frame, outgoing: bool) -> Outcome:
        packet = frame.packet
        if packet is None or packet.protocol == IGMP or _link_scope(frame, packet):
            return Verdict.UNTOUCHED
        at = frame.network + (_IPV4_TTL_AT if packet.version == ip.IPV4 else _IPV6_HOP_LIMIT_AT)
        old = frame.head[at]
        new = ttl if ttl > 0 else old + ttl
        if new <= 0:
            return DropReason.MANGLE_TTL
        if new == old:
            return Verdict.UNTOUCHED
        frame.replace(at, bytes((new,)))
        return Verdict.CHANGED

    return step


def _link_scope(frame: Frame, packet: ip.Packet) -> bool:
    at = packet.transport
    return packet.protocol == ICMPV6 and at < len(frame.head) and frame.head[at] in _LINK_SCOPE_ICMPV6
