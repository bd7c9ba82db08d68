"""NAT 1:1 of a prefix: hosts that are `inside` here are seen by the other side as of `outside`, host by host.

| packet                    | leaving                        | coming                          |
|---------------------------|--------------------------------|---------------------------------|
| IP                        | source: inside -> outside      | destination: outside -> inside  |
| quoted in an ICMP error   | destination: inside -> outside | source: outside -> inside       |
| ARP (RFC 826)             | sender, target                 | target                          |
| neighbour discovery       | target                         | target                          |

No state: any packet by itself says all. Checksums are mended, not recomputed (RFC 1624). Ports stay. Addresses inside
payloads (FTP, SIP) are not touched.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

from caetun.mangle.frame import ICMP, ICMPV6, Frame, quoted
from caetun.mangle.steps import Outcome, Verdict

# fixed by the specification
_ICMP_ERRORS: Final = frozenset((3, 4, 5, 11, 12))
"""RFC 792; RFC 1122, section 3.2.2."""
_ICMPV6_FIRST_INFORMATIONAL: Final = 128
"""RFC 4443, section 2.1."""
_QUOTE_AT: Final = 8
_TARGETED: Final = frozenset((135, 136))
"""Neighbour solicitation and advertisement (RFC 4861, 4.3 and 4.4)."""
_TARGET_AT: Final = 8
_ARP_TYPE: Final = 0x0806
_ARP_IPV4: Final = bytes.fromhex("0001080006 04")
_ARP_SENDER_AT: Final = 14
_ARP_TARGET_AT: Final = 24
_SOURCE, _DESTINATION = 0, 1

Network: TypeAlias = IPv4Network | IPv6Network


class Nat:
    """One pair of prefixes of one length. A step."""

    def __init__(self, inside: Network, outside: Network) -> None:
        self._size = inside.max_prefixlen // 8
        self._mask = int(inside.netmask)
        self._inside = int(inside.network_address)
        self._outside = int(outside.network_address)

    def __call__(self, frame: Frame, outgoing: bool) -> Outcome:
        """Translate a frame."""
        if frame.packet is not None:
            self._packet(frame, outgoing)
        elif frame.ethertype == _ARP_TYPE and self._size == 4:
            self._arp(frame, outgoing)
        return Verdict.CHANGED if frame.changed else Verdict.UNTOUCHED

    def _packet(self, frame: Frame, outgoing: bool) -> None:
        packet = frame.packet
        assert packet is not None
        at, size = frame.address_at(_SOURCE if outgoing else _DESTINATION)
        if size != self._size:
            return
        self._translate(frame, at, outgoing)
        if packet.protocol not in (ICMP, ICMPV6) or packet.transport >= len(frame.head):
            return
        kind = frame.head[packet.transport]
        if kind in _TARGETED and packet.protocol == ICMPV6:
            self._translate(frame, packet.transport + _TARGET_AT, outgoing)
        elif kind in _ICMP_ERRORS if packet.protocol == ICMP else kind < _ICMPV6_FIRST_INFORMATIONAL:
            self._quote(frame, packet.transport + _QUOTE_AT, outgoing)

    def _quote(self, frame: Frame, at: int, outgoing: bool) -> None:
        """The packet that an error is about went the other way."""
        inner = quoted(frame, at)
        if inner.packet is None:
            return
        place, size = inner.address_at(_DESTINATION if outgoing else _SOURCE)
        if size != self._size:
            return
        self._translate(inner, place, outgoing)
        if inner.changed:
            frame.replace(at, bytes(inner.head))

    def _arp(self, frame: Frame, outgoing: bool) -> None:
        at = frame.network
        if bytes(frame.head[at : at + len(_ARP_IPV4)]) != _ARP_IPV4:
            return
        if outgoing:
            self._translate(frame, at + _ARP_SENDER_AT, outgoing)
        self._translate(frame, at + _ARP_TARGET_AT, outgoing)

    def _translate(self, frame: Frame, at: int, outgoing: bool) -> None:
        """Exchange the prefix of the address at `at`, if it has the one."""
        stop = at + self._size
        if stop > len(frame.head):
            return
        address = int.from_bytes(frame.head[at:stop], "big")
        old, new = (self._inside, self._outside) if outgoing else (self._outside, self._inside)
        if address & self._mask == old:
            frame.replace(at, (new | address & ~self._mask).to_bytes(self._size, "big"))
