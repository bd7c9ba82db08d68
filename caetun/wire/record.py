"""The sealed record and the pieces in which it crosses a datagram link (docs/wire.md, section 3).

 0        1        2        3
+--------+--------+--------+--------+
|   4    | piece  | count  |   0    |
+--------+--------+--------+--------+
|          receiver index           |
+-----------------------------------+
|            counter (8)            |
|                                   |
+-----------------------------------+
|  part of the sealed container ... |
+-----------------------------------+
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

# fixed by the specification
INITIATION: Final = 1
RESPONSE: Final = 2
COOKIE_REPLY: Final = 3
RECORD: Final = 4
HEADER: Final = struct.Struct(">BBBBIQ")
HEADER_SIZE: Final = HEADER.size
TAG_SIZE: Final = 16
MAX_PIECES: Final = 64
PIECE_AT: Final = 1
"""Offset of the piece number in the header."""
PIECES_AT: Final = 2
"""Offset of the number of pieces in the header."""
SESSION_AT: Final = 4
SESSION_AND_COUNTER: Final = struct.Struct(">IQ")
"""The last 12 bytes of the header."""
COUNTER_LOW_AT: Final = 15
"""Offset of the counter's last byte in the header."""


class Record(NamedTuple):
    """One sealed container, whole."""

    session: int
    """Receiver's session index, 32 bits."""
    counter: int
    """Number of the record under its key, 64 bits: the nonce."""
    body: Buffer
    """Ciphertext and tag."""


class PieceHeader(NamedTuple):
    """The header of one datagram that carries a record or a piece of it."""

    piece: int
    pieces: int
    session: int
    counter: int


def encode_header(piece: int, pieces: int, session: int, counter: int) -> bytes:
    """The 16 bytes in front of a piece."""
    return HEADER.pack(RECORD, piece, pieces, 0, session, counter)


def decode_header(datagram: Buffer, at: int, stop: int) -> PieceHeader:
    """The header of the record datagram in `datagram[at:stop]`; raises Malformed."""
    if stop - at <= HEADER_SIZE or stop > len(datagram):
        raise Malformed(DropReason.DATAGRAM_SHORT)
    kind, piece, pieces, reserved, session, counter = HEADER.unpack_from(datagram, at)
    if kind != RECORD:
        raise Malformed(DropReason.DATAGRAM_TYPE)
    if reserved or not piece < pieces <= MAX_PIECES:
        raise Malformed(DropReason.RECORD_MALFORMED, "piece numbers")
    return PieceHeader(piece, pieces, session, counter)
