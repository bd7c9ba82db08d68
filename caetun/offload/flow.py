"""Which flow a frame belongs to, so that a queue can be fair among flows (RFC 8290, section 4.1).

| frame                                  | told apart by                                             |
|----------------------------------------|-----------------------------------------------------------|
| TCP, UDP, SCTP, DCCP, UDP-Lite, ESP    | addresses, protocol, first 4 bytes: ports, or ESP's SPI   |
| any other IP packet                    | addresses, protocol                                       |
| a fragment                             | addresses: all fragments of a packet are one flow         |
| a packet with AH, or that is cut short | addresses                                                 |
| anything else on Ethernet, also ARP    | MAC addresses, EtherType                                  |

Tags of VLANs are looked behind.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer, Mode
from caetun.wire import ip
from caetun.wire.ethernet import HEADER_SIZE, TYPE_AT, TYPE_IPV4, TYPE_IPV6, network_header

# fixed by the specification
_WITH_PORTS: Final = frozenset((ip.TCP, ip.UDP, 33, 50, 132, 136))
"""Protocols whose first 4 bytes tell flows apart: ports, or the SPI of ESP (IANA: 33 DCCP, 50 ESP, 132 SCTP, 136
UDP-Lite)."""
_IPV4_ADDRESSES_AT: Final = 12
_IPV6_ADDRESSES_AT: Final = 8
_TUN_IPV4: Final = struct.Struct(">B5xHxB2xQI")
_TAP_IPV4: Final = struct.Struct(">12xHB5xHxB2xQI")
"""EtherType; version and header size, fragment, protocol, addresses, ports of IPv4 without options."""
_IPV6_PLAIN: Final = struct.Struct(">B5xBx36s")
"""Version, next header, addresses and ports of IPv6 without extension headers."""
_IPV6_TYPE: Final = TYPE_IPV6.to_bytes(2, "big")
_IPV6_FIRST: Final = b"\x60"
"""Least first byte of an IPv6 packet."""
_PLAIN_IPV4: Final = 0x45
_NO_FRAGMENT: Final = (0, 0x4000)

# chosen by us
HEADERS: Final = 256
"""Bytes from a frame's start that are looked at: enough for VLAN tags, IPv6, some extension headers and ports."""
_HASH_BITS: Final = 320
"""More than the longest key, the 37 bytes of TCP over IPv6."""
_SPREAD_SHIFT: Final = _HASH_BITS - 64
_SPREAD_MASK: Final = (1 << 64) - 1
_MIDDLE: Final = 48
"""Bits below those taken from the square."""


def flow_key(headers: bytes, mode: Mode) -> bytes:
    """What the frames of a flow have in common. Total: a frame that does not parse has a key too.

    `headers`: the frame, or its first `HEADERS` bytes.
    """
    at = 0
    try:
        if mode is Mode.TAP:
            ethertype, at = network_header(headers)
            if ethertype != TYPE_IPV4 and ethertype != TYPE_IPV6:
                return headers[:TYPE_AT] + headers[at - 2 : at]
    except Malformed:
        return headers[:TYPE_AT]
    if headers[at : at + 1] < _IPV6_FIRST:
        addresses = headers[at + _IPV4_ADDRESSES_AT : at + ip.IPV4_HEADER_SIZE]
    else:
        addresses = headers[at + _IPV6_ADDRESSES_AT : at + ip.IPV6_HEADER_SIZE]
    try:
        packet = ip.outline(headers, at)
    except Malformed:
        return addresses
    if not packet.whole:
        return addresses
    if packet.protocol in _WITH_PORTS:
        return addresses + headers[packet.transport : packet.transport + 4] + bytes((packet.protocol,))
    return addresses + bytes((packet.protocol,))


class FlowHash:
    """Spreads flows over 2**bits buckets; who does not know the seed cannot aim two flows at one bucket.

    Multiply-shift (Dietzfelbinger et al., 1997): with a secret odd factor, two keys meet with a chance of next to none
    in 64 bits, whoever chooses them. The middle of the square of those then spreads neighbours (ports that are counted
    up) as chance would; multiplied only, they lie in a lattice.
    """

    __slots__ = ("_factor", "_ip_at", "_mask", "_mode")

    def __init__(self, mode: Mode, seed: bytes, bits: int) -> None:
        """`seed`: 16 random bytes or more; `bits`: 1..32."""
        self._mode = mode
        self._ip_at = HEADER_SIZE if mode is Mode.TAP else 0
        self._factor = int.from_bytes(hashlib.blake2b(seed, digest_size=_HASH_BITS // 8).digest(), "big") | 1
        self._mask = (1 << bits) - 1

    def bucket(self, buffer: Buffer, start: int) -> int:
        """Where the frame in `buffer[start:]` belongs: 0..2**bits - 1. Hot: once a frame while a link is full.

        Knows the usual packet at a glance: TCP and the like over IPv4 without tags, options and fragments.
        """
        try:
            if self._ip_at:
                kind, first, fragment, protocol, addresses, ports = _TAP_IPV4.unpack_from(buffer, start)
            else:
                kind = TYPE_IPV4
                first, fragment, protocol, addresses, ports = _TUN_IPV4.unpack_from(buffer, start)
            if first == _PLAIN_IPV4 and kind == TYPE_IPV4 and protocol in _WITH_PORTS and fragment in _NO_FRAGMENT:
                key: int = (addresses << 32 | ports) << 8 | protocol
            else:
                key = self._other(buffer, start)
        except struct.error:
            key = self._other(buffer, start)
        spread = (key * self._factor >> _SPREAD_SHIFT) & _SPREAD_MASK
        return (spread * spread >> _MIDDLE) & self._mask

    def _other(self, buffer: Buffer, start: int) -> int:
        """The key of any frame; the same, with fewer steps, over IPv6 without tags and extension headers."""
        headers = bytes(buffer[start : start + HEADERS])
        at = self._ip_at
        if len(headers) >= at + _IPV6_PLAIN.size and (not at or headers[at - 2 : at] == _IPV6_TYPE):
            first, protocol, ends = _IPV6_PLAIN.unpack_from(headers, at)
            if first >> 4 == ip.IPV6 and protocol in _WITH_PORTS:
                key: int = int.from_bytes(ends, "big") << 8 | protocol
                return key
        return int.from_bytes(flow_key(headers, self._mode), "big")
