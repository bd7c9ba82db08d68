"""Messages on a byte stream (docs/wire.md, section 6): a length in front of each, and what a message holds.

 0        1        2        3
+--------+--------+--------+--------+
|   0    |         length           |     1..66,576: bytes of the message that follows
+--------+--------+--------+--------+
|  message: what a UDP datagram     |     a handshake message, or a record in one piece
|  would hold ...                   |
+-----------------------------------+

A decoder is given everything that has not been taken yet and answers with what is whole: it keeps nothing, so that
it cannot matter how the network cut the stream, and how much is kept is the caller's to bound.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.handshake import only_challenges
from caetun.wire.record import HEADER, HEADER_SIZE, INITIATION, RECORD, Record

# fixed by the specification
LENGTH: Final = struct.Struct(">I")
LENGTH_SIZE: Final = LENGTH.size
MAX_BODY: Final = 65 * 1024
"""Bytes of a record's body on a stream: the largest frame there is, its metadata, heads and tag."""
MAX_MESSAGE: Final = HEADER_SIZE + MAX_BODY
_PIECE_LIMIT: Final = 4
"""Pieces of a handshake message, at most."""
_PIECES_AT: Final = 2


class Decoded(NamedTuple):
    """What the bytes given to a decoder hold."""

    messages: Sequence[Buffer]
    """Whole messages, in order: views on what was given, or bytes."""
    taken: int
    """Bytes they took; the rest is given again, with more behind it."""
    ended: str = ""
    """Why the stream is over behind those messages, in words; "" if it goes on."""
    malformed: bool = False
    """Whether it is over because the far end does not keep to the rules."""
    answer: Buffer = b""
    """What the rules of the stream demand to be sent back (a WebSocket pong)."""


class Codec(Protocol):
    """Turns messages into bytes of a stream, and back. One for each stream: it may remember."""

    def frame(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """The bytes of one outgoing message, whose bytes are `parts` one after the other; at most 8 buffers."""

    def feed(self, view: memoryview) -> Decoded:
        """What the bytes in `view` hold: what was not taken before, and more behind it. Raises nothing.

        However the stream was cut, the messages are the same. `view` may be written to (to unmask in place) and ends
        with their delivery. The caller keeps what is not taken, up to a message and 1 KiB; what a codec keeps itself
        it bounds itself.
        """

    def farewell(self) -> Buffer:
        """What is said before we close the stream; may be empty."""


class LengthCodec:
    """Fulfils `Codec`: the 4-byte length."""

    __slots__ = ()

    def frame(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """The bytes of one outgoing message, whose bytes are `parts` one after the other: 1..MAX_MESSAGE in all."""
        return [LENGTH.pack(sum(map(len, parts))), *parts]

    def feed(self, view: memoryview) -> Decoded:
        """The whole messages at the beginning of `view`, as views on it. Hot: once a wake-up, one turn a message."""
        messages: list[Buffer] = []
        length_at = LENGTH.unpack_from
        at, size = 0, len(view)
        while size - at >= LENGTH_SIZE:
            (length,) = length_at(view, at)
            if not 1 <= length <= MAX_MESSAGE:
                return Decoded(messages, at, f"a message of {length} bytes", malformed=True)
            start = at + LENGTH_SIZE
            if size - start < length:
                break
            at = start + length
            messages.append(view[start:at])
        return Decoded(messages, at)

    def farewell(self) -> bytes:
        """Nothing is said at the end of such a stream."""
        return b""


def read_record(message: Buffer) -> Record | None:
    """The record that a whole message of a stream is, its body a view on it; None if it is another kind of message.

    Raises Malformed: DATAGRAM_SHORT, or RECORD_MALFORMED for one in several pieces, which streams do not have.
    """
    size = len(message)
    if not size:
        raise Malformed(DropReason.DATAGRAM_SHORT)
    if message[0] != RECORD:
        return None
    if size <= HEADER_SIZE:
        raise Malformed(DropReason.DATAGRAM_SHORT)
    _, piece, pieces, reserved, session, counter = HEADER.unpack_from(message)
    if piece or pieces != 1 or reserved:
        raise Malformed(DropReason.RECORD_MALFORMED, "pieces on a stream")
    return Record(session, counter, message[HEADER_SIZE:])


class FirstWords:
    """What a far end has said that nobody has answered yet: by its first message, how much more it may need for that.

    A handshake message is cut into 1..4 pieces, on streams too, and only the last one makes it whole. A challenge (a
    cookie reply) is no answer, and makes it say all of it again.
    """

    __slots__ = ("_left", "_whole")

    def __init__(self) -> None:
        self._whole = 0
        """Messages that the first one announced; 0 before it."""
        self._left = 0

    def heard(self, message: Buffer) -> None:
        """One more message has come."""
        if not self._whole:
            in_pieces = len(message) > _PIECES_AT and message[0] == INITIATION and message[_PIECES_AT] <= _PIECE_LIMIT
            self._left = self._whole = max(1, message[_PIECES_AT]) if in_pieces else 1
        self._left -= 1

    def answered(self, messages: Sequence[Buffer]) -> bool:
        """Messages are being sent to it; returns whether they are an answer."""
        if only_challenges(messages):
            self._left += self._whole
            return False
        return True

    @property
    def over(self) -> bool:
        """Whether it should have been answered by now."""
        return self._left <= 0
