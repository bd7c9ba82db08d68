"""What a connection is about, by its first bytes: TLS, HTTP, records with a length in front, or nothing of ours.

TLS     0x16, 0x03           handshake record, any version (RFC 8446, section 5.1)
HTTP    A-Z, CR or LF        method, or empty lines, which are ignored (RFC 9112, section 2.2)
FRAMES  0x00, length, type   docs/wire.md, section 6: a handshake message or a record
"""

from __future__ import annotations

import enum
from typing import Final

from caetun.types import Buffer
from caetun.wire.framing import LENGTH, LENGTH_SIZE, MAX_MESSAGE
from caetun.wire.record import COOKIE_REPLY, INITIATION, RECORD, RESPONSE

# fixed by the specification
_TLS_HANDSHAKE: Final = 0x16
_TLS_MAJOR: Final = 3
_HTTP: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n")
_TYPES: Final = frozenset((INITIATION, RESPONSE, COOKIE_REPLY, RECORD))


class Opening(enum.Enum):
    """What begins."""

    TLS = enum.auto()
    HTTP = enum.auto()
    FRAMES = enum.auto()
    GARBAGE = enum.auto()


def opening(first: Buffer) -> Opening:
    """What the first read of a connection begins with.

    Frames need their first 5 bytes at once, as whoever frames sends more than that: so a lone zero is not waited upon,
    but answered at once, as garbage is.
    """
    if not len(first):
        return Opening.GARBAGE
    if first[0] in _HTTP:
        return Opening.HTTP
    if first[0] == _TLS_HANDSHAKE:
        return Opening.TLS if len(first) == 1 or first[1] == _TLS_MAJOR else Opening.GARBAGE
    if len(first) > LENGTH_SIZE and first[LENGTH_SIZE] in _TYPES and 0 < LENGTH.unpack_from(first)[0] <= MAX_MESSAGE:
        return Opening.FRAMES
    return Opening.GARBAGE
