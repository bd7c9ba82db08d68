"""Telling both ends of a flow about congestion without a loss: ECN (RFC 3168, section 5).

     0                 1                                       0                 1
    +--------+--------+--------+------+                       +--------+--------+--------+------+
    |4 | IHL |  DSCP  |  ECN   |  ... |   IPv4: byte 1 & 3    |6 |  DSCP   | ECN  |  flow label |   IPv6: byte 1 & 0x30
    +--------+--------+--------+------+                       +--------+--------+--------+------+

A superframe's packets all get its IP header, so marking it marks each of them. No checksum of TCP or UDP covers this.
"""

from __future__ import annotations

import struct
from typing import Final

from caetun.errors import Malformed
from caetun.types import Mode
from caetun.wire import ip
from caetun.wire.checksum import adjusted
from caetun.wire.ethernet import TYPE_IPV4, TYPE_IPV6, network_header

# fixed by the specification
CE: Final = 0b11
"""Congestion experienced. 0: the ends do not take marks; 1 and 2: they do."""
_IPV6_SHIFT: Final = 4
_VERSION_OF_TYPE: Final = {TYPE_IPV4: ip.IPV4, TYPE_IPV6: ip.IPV6}
_WORD: Final = struct.Struct(">H")


def mark(frame: bytearray | memoryview, mode: Mode) -> bool:
    """Set CE in a frame whose ends take it (ECT or already CE), in place; returns whether it is set now.

    The IPv4 header's checksum is mended (RFC 1624). A frame that does not parse stays as it is.
    """
    at = 0
    try:
        if mode is Mode.TAP:
            ethertype, at = network_header(frame)
            if _VERSION_OF_TYPE.get(ethertype) != (frame[at] >> 4 if at < len(frame) else 0):
                return False
        version = ip.outline(frame, at).version
    except Malformed:
        return False
    (word,) = _WORD.unpack_from(frame, at)
    ce = CE if version == ip.IPV4 else CE << _IPV6_SHIFT
    if not word & ce:
        return False
    _WORD.pack_into(frame, at, word | ce)
    if version == ip.IPV4:
        (check,) = _WORD.unpack_from(frame, at + ip.IPV4_CHECKSUM_AT)
        _WORD.pack_into(frame, at + ip.IPV4_CHECKSUM_AT, adjusted(check, word, word | ce))
    return True
