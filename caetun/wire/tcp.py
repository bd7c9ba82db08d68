"""TCP options (RFC 9293, section 3.2): where the maximum segment size is.

kind 0: end        kind 1: no operation        else: kind (1) | length (1) | value (length - 2)
kind 2: maximum segment size, length 4
"""

from __future__ import annotations

from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer
from caetun.wire.ip import TCP_FLAGS_AT, TCP_HEADER_SIZE, tcp_payload

# fixed by the specification
SYN: Final = 0x02
_END: Final = 0
_NOTHING: Final = 1
_MSS: Final = 2
_MSS_LENGTH: Final = 4


def mss_at(frame: Buffer, transport: int) -> int | None:
    """Where the 2 bytes of the maximum segment size are in a TCP header that begins at `transport`.

    None if it is no SYN, has no such option, or does not parse.
    """
    try:
        end = tcp_payload(frame, transport)
    except Malformed:
        return None
    if not frame[transport + TCP_FLAGS_AT] & SYN:
        return None
    at = transport + TCP_HEADER_SIZE
    while at < end:
        kind = frame[at]
        if kind == _END:
            return None
        if kind == _NOTHING:
            at += 1
            continue
        if at + 1 >= end or frame[at + 1] < 2 or at + frame[at + 1] > end:
            return None
        if kind == _MSS:
            return at + 2 if frame[at + 1] == _MSS_LENGTH else None
        at += frame[at + 1]
    return None
