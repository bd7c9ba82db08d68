"""Records on datagram links: cut into pieces on the way out, put together again on the way in.

A sender puts all pieces of a record into one GSO burst, and a receiver with GRO gets them back in one read: then one
comparison of four columns of the burst and one join make the record. Everything else (reordered, interleaved, lost
pieces) goes the slow way, piece by piece, through a small table of unfinished records.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from caetun.errors import Malformed
from caetun.transports.base import Sessions
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.record import (
    COUNTER_LOW_AT,
    HEADER_SIZE,
    MAX_PIECES,
    PIECE_AT,
    PIECES_AT,
    RECORD,
    SESSION_AND_COUNTER,
    SESSION_AT,
    Record,
    decode_header,
)

# fixed by the specification
_RESERVED_AT: Final = 3
"""Offset of the header's byte that is always 0."""

# chosen by us
MAX_UNFINISHED: Final = 64
"""Records kept unfinished; the oldest gives way."""
MAX_RECORD: Final = 128 * 1024
"""Bytes of sealed record put together, at most."""
UNFINISHED_SECONDS: Final = 1.0
_MAX_DATAGRAM: Final = 1 << 16
"""Bytes: while a record has room for one more of these, the piece that is expected needs no look at its size."""
_ORDER: Final = bytes(range(MAX_PIECES))
_RECORDS: Final = bytes([RECORD]) * MAX_PIECES
_ZEROS: Final = bytes(MAX_PIECES)
_ALONE: Final = bytes((RECORD, 0, 1, 0))
_FIRST_BYTES: Final = [[bytes((RECORD, piece, count, 0)) for piece in range(count)] for count in range(MAX_PIECES + 1)]


def cut_record(record: Record, room: int) -> list[Buffer]:
    """The datagrams of a record, each as a header and a view on up to `room` bytes of body: header, body, header, ...

    The body must not be longer than `room * 64`.
    """
    body = memoryview(record.body)
    length = len(body)
    count = -(-length // room)
    rest = record.session.to_bytes(4, "big") + record.counter.to_bytes(8, "big")
    parts: list[Buffer] = [b""] * (2 * count)
    parts[0::2] = [first + rest for first in _FIRST_BYTES[count]]
    parts[1::2] = [body[at : at + room] for at in range(0, length, room)]
    return parts


class _Unfinished:
    """A record some pieces of which are here."""

    __slots__ = ("born", "have", "key", "parts", "size")

    def __init__(self, key: tuple[Hashable, int, int], count: int, born: float) -> None:
        self.key = key
        self.parts: list[bytes | None] = [None] * count
        self.have = 0
        self.size = 0
        self.born = born


class Assembler:
    """Puts records together out of datagrams from any number of far ends."""

    def __init__(self, drops: Drops, sessions: Sessions, gap: int = 0) -> None:
        """`gap`: bytes between two datagrams of a burst that are of neither."""
        self._gap = gap
        self._drops = drops
        self._sessions = sessions
        self._unfinished: OrderedDict[tuple[Hashable, int, int], _Unfinished] = OrderedDict()
        # The header of the piece that should come next, if pieces come one by one and in order, and from where.
        self._expected = b""
        self._expected_of: _Unfinished | None = None

    def __len__(self) -> int:
        """How many records are unfinished."""
        return len(self._unfinished)

    def burst(
        self, source: Hashable, view: memoryview, size: int, now: float, into: tuple[list[Record], list[bytes]]
    ) -> None:
        """Take in datagrams of one source in `view`, one every `size` bytes, the last maybe shorter.

        Appends records (their bodies may be views on `view`) to the first list of `into`, all that is of another
        type than a record to the second. Hot: the usual burst is one record, or a single datagram.
        """
        if len(view) > size:
            self._several(source, view, size, now, into)
            return
        head = view[:HEADER_SIZE]
        if head == self._expected:
            unfinished = self._expected_of
            if unfinished is not None and unfinished.key[0] == source:
                self._take(unfinished, unfinished.have, view[HEADER_SIZE:], into[0])
                return
        if head[:SESSION_AT] == _ALONE and len(view) > HEADER_SIZE:
            session, counter = SESSION_AND_COUNTER.unpack_from(view, SESSION_AT)
            if session in self._sessions:
                into[0].append(Record(session, counter, view[HEADER_SIZE:]))
                return
        self._single(source, view, now, into)

    def _several(
        self, source: Hashable, view: memoryview, size: int, now: float, into: tuple[list[Record], list[bytes]]
    ) -> None:
        """A burst of several datagrams: whole records are joined at once, the rest is taken one by one."""
        length, whole = len(view), size - self._gap
        total = -(-length // size)
        kinds, pieces = bytes(view[::size]), bytes(view[PIECE_AT::size])
        lows, reserved = bytes(view[COUNTER_LOW_AT::size]), bytes(view[_RESERVED_AT::size])
        number = 0
        while number < total:
            at = number * size
            count = view[at + PIECES_AT] if at + HEADER_SIZE < length else 0
            after = number + count
            if (
                count > 1
                and after <= total
                and pieces[number:after] == _ORDER[:count]
                and kinds[number:after] == _RECORDS[:count]
                and lows[number:after] == lows[number : number + 1] * count
                and reserved[number:after] == _ZEROS[:count]
                and count <= MAX_PIECES
            ):
                session, counter = SESSION_AND_COUNTER.unpack_from(view, at + SESSION_AT)
                if session in self._sessions:
                    bodies = [view[start + HEADER_SIZE : start + whole] for start in range(at, after * size, size)]
                    into[0].append(Record(session, counter, b"".join(bodies)))
                else:
                    self._drops.count(DropReason.RECORD_UNKNOWN_SESSION, count)
                number = after
                continue
            self._single(source, view[at : at + whole], now, into)
            number += 1

    def _single(self, source: Hashable, view: memoryview, now: float, into: tuple[list[Record], list[bytes]]) -> None:
        """One datagram, whatever it is."""
        if len(view) and view[0] != RECORD:
            into[1].append(bytes(view))
            return
        try:
            piece, count, session, counter = decode_header(view, 0, len(view))
        except Malformed as bad:
            self._drops.count(bad.reason)
            return
        if session not in self._sessions:
            self._drops.count(DropReason.RECORD_UNKNOWN_SESSION)
            return
        body = view[HEADER_SIZE:]
        if count == 1:
            into[0].append(Record(session, counter, body))
            return
        unfinished = self._begun((source, session, counter), count, now)
        if len(unfinished.parts) != count or unfinished.size + len(body) > MAX_RECORD:
            self._drops.count(DropReason.RECORD_MALFORMED)
        elif unfinished.parts[piece] is not None:
            self._drops.count(DropReason.RECORD_REPLAYED)
        else:
            self._take(unfinished, piece, body, into[0])

    def _begun(self, key: tuple[Hashable, int, int], count: int, now: float) -> _Unfinished:
        """The unfinished record of that key, or a new one: then the oldest gives way if there are too many."""
        unfinished = self._unfinished.get(key)
        if unfinished is None:
            self.expire(now)
            if len(self._unfinished) >= MAX_UNFINISHED:
                self._forget(next(iter(self._unfinished.values())))
                self._drops.count(DropReason.RECORD_INCOMPLETE)
            unfinished = self._unfinished[key] = _Unfinished(key, count, now)
        return unfinished

    def _take(self, unfinished: _Unfinished, piece: int, body: memoryview, records: list[Record]) -> None:
        """Put a piece that was missing in its place; append the record if that completes it."""
        in_order = piece == unfinished.have and (not piece or self._expected_of is unfinished)
        parts = unfinished.parts
        parts[piece] = bytes(body)
        unfinished.size += len(body)
        unfinished.have = have = unfinished.have + 1
        count = len(parts)
        _, session, counter = unfinished.key
        if have == count:
            self._forget(unfinished)
            records.append(Record(session, counter, b"".join([part for part in parts if part is not None])))
        elif in_order and unfinished.size <= MAX_RECORD - _MAX_DATAGRAM:
            self._expected = _FIRST_BYTES[count][have] + SESSION_AND_COUNTER.pack(session, counter)
            self._expected_of = unfinished
        elif self._expected_of is unfinished:
            self._expected_of, self._expected = None, b""

    def _forget(self, unfinished: _Unfinished) -> None:
        del self._unfinished[unfinished.key]
        if self._expected_of is unfinished:
            self._expected_of, self._expected = None, b""

    def expire(self, now: float) -> None:
        """Drop records whose missing pieces will not come any more."""
        while self._unfinished:
            oldest = next(iter(self._unfinished.values()))
            if now - oldest.born < UNFINISHED_SECONDS:
                return
            self._forget(oldest)
            self._drops.count(DropReason.RECORD_INCOMPLETE)
