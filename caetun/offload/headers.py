"""Headers for a part of a superframe's payload: what Linux's segmentation does to them, for a part of any size.

The rules are those of `inet_gso_segment`, `ipv6_gso_segment`, `tcp_gso_segment` and `__udp_gso_segment` as seen from
outside; RFC 9293, section 3.4 (sequence numbers), RFC 3168, section 6.1.2 (CWR once), RFC 6864 (IPv4 identification).
"""

from __future__ import annotations

import struct
from typing import Final

from caetun.offload.validate import Superframe
from caetun.types import Buffer
from caetun.wire import ip
from caetun.wire.checksum import adjusted, adjusted_sum

_WORD: Final = struct.Struct(">H")
_WORDS: Final = struct.Struct(">HH")
_LONG: Final = struct.Struct(">I")


def part_headers(whole: Superframe, headers: Buffer, start: int, stop: int) -> bytearray:
    """Headers for the packet that carries payload bytes `start` to `stop` of a superframe, checksum still open.

    `headers` begins with the superframe's own headers. Adjusted are: IP length, IPv4 identification (of the first
    segment that begins in the part) and header checksum, TCP sequence number, FIN and PSH (only with the last byte),
    CWR (only with the first), UDP length, and the pseudo-header's sum in the checksum field.
    """
    part = bytearray(headers[: whole.payload])
    network, transport = whole.network, whole.transport
    cut_off = whole.length - whole.payload - (stop - start)
    if whole.version == ip.IPV4:
        _adjust_ipv4(part, network, cut_off, -(-start // whole.unit))
    else:
        length = whole.length - network - ip.IPV6_HEADER_SIZE - cut_off
        _WORD.pack_into(part, network + ip.IPV6_LENGTH_AT, length)
    old_size = whole.length - transport
    if whole.protocol == ip.TCP:
        check_at = transport + ip.TCP_CHECKSUM_AT
        _adjust_tcp(part, transport, start, not cut_off or stop == whole.length - whole.payload)
    else:
        check_at = transport + ip.UDP_CHECKSUM_AT
        _WORD.pack_into(part, transport + ip.UDP_LENGTH_AT, old_size - cut_off)
    (partial,) = _WORD.unpack_from(part, check_at)
    _WORD.pack_into(part, check_at, adjusted_sum(partial, old_size, old_size - cut_off))
    return part


def _adjust_ipv4(part: bytearray, network: int, cut_off: int, index: int) -> None:
    """Take `cut_off` from the length and add `index` to the identification (RFC 791, section 3.1)."""
    length, ident = _WORDS.unpack_from(part, network + ip.IPV4_LENGTH_AT)
    (check,) = _WORD.unpack_from(part, network + ip.IPV4_CHECKSUM_AT)
    new_length, new_ident = length - cut_off, (ident + index) & 0xFFFF
    _WORDS.pack_into(part, network + ip.IPV4_LENGTH_AT, new_length, new_ident)
    check = adjusted(adjusted(check, length, new_length), ident, new_ident)
    _WORD.pack_into(part, network + ip.IPV4_CHECKSUM_AT, check)


def _adjust_tcp(part: bytearray, transport: int, start: int, last: bool) -> None:
    (sequence,) = _LONG.unpack_from(part, transport + ip.TCP_SEQUENCE_AT)
    _LONG.pack_into(part, transport + ip.TCP_SEQUENCE_AT, (sequence + start) & 0xFFFFFFFF)
    if start:
        part[transport + ip.TCP_FLAGS_AT] &= ~ip.TCP_CWR
    if not last:
        part[transport + ip.TCP_FLAGS_AT] &= ~(ip.TCP_FIN | ip.TCP_PSH)
