"""Records on datagram links: cut into pieces on the way out, put together again on the way in.

A sender puts all pieces of a record into one GSO burst, and a receiver with GRO gets them back in one read: then one
comparison of three columns of the burst and one join make the record. Everything else (reordered, interleaved, lost
pieces) goes the slow way, piece by piece, through a small table of unfinished records.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from caetun.errors import Malformed
from caetun.transports.base import Sessions
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.record import COUNTER_LOW_AT, HEADER_SIZE, MAX_PIECES, PIECE_AT, RECORD, Record, decode_header

# chosen by us
MAX_UNFINISHED: Final = 64
"""Records kept unfinished; the oldest gives way."""
MAX_RECORD: Final = 128 * 1024
"""Bytes of sealed record put together, at most."""
UNFINISHED_SECONDS: Final = 1.0
_ORDER: Final = bytes(range(MAX_PIECES))
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

    __slots__ = ("born", "have", "parts", "size")

    def __init__(self, count: int, born: float) -> None:
        self.parts: list[bytes | None] = [None] * count
        self.have = 0
        self.size = 0
        self.born = born


class Assembler:
    """Puts records together out of datagrams from any number of far ends."""

    def __init__(self, drops: Drops, sessions: Sessions) -> None:
        self._drops = drops
        self._sessions = sessions
        self._unfinished: OrderedDict[tuple[Hashable, int, int], _Unfinished] = OrderedDict()

    def __len__(self) -> int:
        """How many records are unfinished."""
        return len(self._unfinished)

    def burst(
        self, source: Hashable, view: memoryview, size: int, now: float, into: tuple[list[Record], list[bytes]]
    ) -> None:
        """Take in datagrams of one source, one after the other in `view`, each `size` bytes, the last maybe shorter.

        Appends records (their bodies may be views on `view`) to the first list of `into`, all that is of another
        type than a record to the second. Hot: the usual burst is one record, or datagrams with a record each.
        """
        records, messages = into
        length = len(view)
        total = -(-length // size)
        pieces = bytes(view[PIECE_AT::size]) if total > 1 else b""
        lows = bytes(view[COUNTER_LOW_AT::size]) if total > 1 else b""
        number = 0
        while number < total:
            at = number * size
            stop = min(at + size, length)
            if view[at] != RECORD:
                messages.append(bytes(view[at:stop]))
                number += 1
                continue
            try:
                piece, count, index, counter = decode_header(view, at, stop)
            except Malformed as bad:
                self._drops.count(bad.reason)
                number += 1
                continue
            if index not in self._sessions:
                self._drops.count(DropReason.RECORD_UNKNOWN_SESSION)
                number += 1
                continue
            if count == 1:
                records.append(Record(index, counter, view[at + HEADER_SIZE : stop]))
                number += 1
                continue
            after = number + count
            if (
                piece == 0
                and after <= total
                and pieces[number:after] == _ORDER[:count]
                and lows[number:after] == lows[number : number + 1] * count
            ):
                bodies = [view[start + HEADER_SIZE : start + size] for start in range(at, after * size, size)]
                records.append(Record(index, counter, b"".join(bodies)))
                number = after
                continue
            self._piece((source, index, counter), (piece, count), view[at + HEADER_SIZE : stop], now, records)
            number += 1

    def _piece(
        self,
        key: tuple[Hashable, int, int],
        place: tuple[int, int],
        body: memoryview,
        now: float,
        records: list[Record],
    ) -> None:
        """Add one piece of a record; append the record if that completes it."""
        piece, count = place
        unfinished = self._unfinished.get(key)
        if unfinished is None:
            self.expire(now)
            if len(self._unfinished) >= MAX_UNFINISHED:
                self._unfinished.popitem(last=False)
                self._drops.count(DropReason.RECORD_INCOMPLETE)
            unfinished = self._unfinished[key] = _Unfinished(count, now)
        if len(unfinished.parts) != count or unfinished.size + len(body) > MAX_RECORD:
            self._drops.count(DropReason.RECORD_MALFORMED)
            return
        if unfinished.parts[piece] is not None:
            self._drops.count(DropReason.RECORD_REPLAYED)
            return
        unfinished.parts[piece] = bytes(body)
        unfinished.size += len(body)
        unfinished.have += 1
        if unfinished.have == count:
            del self._unfinished[key]
            records.append(Record(key[1], key[2], b"".join([part for part in unfinished.parts if part is not None])))

    def expire(self, now: float) -> None:
        """Drop records whose missing pieces will not come any more."""
        while self._unfinished:
            key, oldest = next(iter(self._unfinished.items()))
            if now - oldest.born < UNFINISHED_SECONDS:
                return
            del self._unfinished[key]
            self._drops.count(DropReason.RECORD_INCOMPLETE)

    def next_deadline(self) -> float | None:
        """When `expire` next has something to do."""
        for oldest in self._unfinished.values():
            return oldest.born + UNFINISHED_SECONDS
        return None
