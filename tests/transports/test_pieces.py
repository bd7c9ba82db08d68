"""Records in pieces: put together whichever way they arrive, within bounds."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator
from itertools import groupby
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.transports.pieces import MAX_RECORD, MAX_UNFINISHED, UNFINISHED_SECONDS, Assembler, cut_record
from caetun.types import DropReason, Drops
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, RECORD, Record, decode_header, encode_header

OURS = {1, 2}
"""Session indices given out."""
STRANGE = 3
Datagram: TypeAlias = tuple[str, bytes]
"""Where it comes from, and its bytes."""
Burst: TypeAlias = tuple[str, bytes, int]
"""The same for several, and the size of each."""


def datagrams_of(record: Record, room: int) -> list[bytes]:
    parts = [bytes(part) for part in cut_record(record, room)]
    return [head + body for head, body in zip(parts[::2], parts[1::2], strict=True)]


def record(counter: int, size: int, session: int = 1) -> Record:
    return Record(session, counter, random.Random(counter).randbytes(size))


class Receiver:
    """An assembler, and what it made of what it was given."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.assembler = Assembler(self.drops, OURS)
        self.records: list[Record] = []
        self.messages: list[bytes] = []

    def burst(self, source: Hashable, content: bytes, size: int, now: float = 0.0) -> None:
        """One read. Its memory is overwritten afterwards, as that of a socket is."""
        records: list[Record] = []
        memory = bytearray(content)
        self.assembler.burst(source, memoryview(memory), size, now, (records, self.messages))
        self.records += [record._replace(body=bytes(record.body)) for record in records]
        memory[:] = b"\xee" * len(memory)

    def singly(self, datagrams: Iterable[bytes], source: str = "far", now: float = 0.0) -> None:
        for datagram in datagrams:
            self.burst(source, datagram, len(datagram), now)

    def unfinished_bytes(self) -> int:
        unfinished = self.assembler._unfinished.values()
        return sum(len(part) for one in unfinished for part in one.parts if part is not None)


class PieceByPiece:
    """The plain version: one datagram after the other into a table, without bounds."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.records: list[Record] = []
        self.messages: list[bytes] = []
        self._table: dict[tuple[str, int, int], dict[int, bytes]] = {}

    def take(self, source: str, datagram: bytes) -> None:
        if datagram and datagram[0] != RECORD:
            self.messages.append(datagram)
            return
        try:
            piece, count, session, counter = decode_header(datagram, 0, len(datagram))
        except Malformed as bad:
            self.drops.count(bad.reason)
            return
        if session not in OURS:
            self.drops.count(DropReason.RECORD_UNKNOWN_SESSION)
            return
        key = source, session, counter
        parts = self._table.setdefault(key, {})
        if piece in parts:
            self.drops.count(DropReason.RECORD_REPLAYED)
            return
        parts[piece] = datagram[HEADER_SIZE:]
        if len(parts) == count:
            del self._table[key]
            self.records.append(Record(session, counter, b"".join(parts[number] for number in range(count))))


# -- arbitrary networks --


@st.composite
def sent(draw: st.DrawFn) -> list[Datagram]:
    """What two far ends send: records of all sizes, and messages between them."""
    room = draw(st.sampled_from([1, 7, 20]))
    counters = draw(st.lists(st.integers(0, 255), unique=True, min_size=1, max_size=6))
    high = draw(st.sampled_from([0, 2**40]))
    datagrams: list[Datagram] = []
    for counter in counters:
        source = draw(st.sampled_from(["far", "farther"]))
        size = draw(st.integers(1, 6 * room) | st.integers(1, 6).map(lambda count: count * room))
        session = draw(st.sampled_from([1, 1, 1, 2, STRANGE]))
        datagrams += [(source, datagram) for datagram in datagrams_of(record(high + counter, size, session), room)]
        if draw(st.integers(0, 4)) == 0:
            datagrams.append((source, draw(st.sampled_from([b"\x01hello", b"\x03" * (HEADER_SIZE + room)]))))
    return datagrams


@st.composite
def arriving(draw: st.DrawFn, copies: bool) -> list[Datagram]:
    """What a network leaves of it: some lost, some late, with `copies` some twice."""
    datagrams = draw(sent())
    late = draw(st.sampled_from([0, 0, 2, 20]))
    due: list[tuple[int, Datagram]] = []
    for at, datagram in enumerate(datagrams):
        times = draw(st.sampled_from([1] * 12 + [0] + ([2] * 3 if copies else [])))
        due += [(at + draw(st.integers(0, late)), datagram) for _ in range(times)]
    return [datagram for _, datagram in sorted(due, key=lambda entry: entry[0])]


@st.composite
def read(draw: st.DrawFn, datagrams: list[Datagram]) -> list[Burst]:
    """How it is read: neighbours of one source and size, and one shorter behind them, may be merged by GRO."""
    bursts: list[Burst] = []
    for source, group in groupby(datagrams, key=lambda datagram: datagram[0]):
        content, size = b"", 0
        for _, datagram in group:
            fits = bool(size) and len(datagram) <= size and len(content) % size == 0
            if not fits or draw(st.integers(0, 5)) == 0:
                if content:
                    bursts.append((source, content, size))
                content, size = b"", len(datagram)
            content += datagram
        bursts.append((source, content, size))
    return bursts


def both(datagrams: list[Datagram], bursts: list[Burst]) -> tuple[Receiver, PieceByPiece]:
    hot, plain = Receiver(), PieceByPiece()
    for source, datagram in datagrams:
        plain.take(source, datagram)
    for burst in bursts:
        hot.burst(*burst)
    assert hot.messages == plain.messages
    return hot, plain


@given(st.data())
def test_bursts_are_taken_as_piece_by_piece(data: st.DataObject) -> None:
    datagrams = data.draw(arriving(copies=False))
    hot, plain = both(datagrams, data.draw(read(datagrams)))
    assert hot.records == plain.records
    assert hot.drops == plain.drops


@given(st.data())
def test_copies_harm_nothing(data: st.DataObject) -> None:
    datagrams = data.draw(arriving(copies=True))
    hot, plain = both(datagrams, data.draw(read(datagrams)))
    # A burst that holds a whole record again gives it again: the link contract allows that, the replay window sees it.
    assert set(plain.records) == set(hot.records)
    assert set(hot.drops) <= {DropReason.RECORD_REPLAYED, DropReason.RECORD_UNKNOWN_SESSION}


def garbled(datagram: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(datagram)
    for _ in range(chance.randrange(3)):
        damaged[chance.randrange(min(HEADER_SIZE, len(damaged)))] = chance.choice([0, 1, 2, 4, 64, 65, 255])
    return bytes(damaged[: chance.choice([len(damaged)] * 9 + [chance.randrange(len(damaged))])])


@given(st.data(), st.randoms(use_true_random=False))
def test_damaged_pieces_have_a_name(data: st.DataObject, chance: random.Random) -> None:
    datagrams = data.draw(arriving(copies=True))
    damaged = [(source, garbled(datagram, chance)) for source, datagram in datagrams]
    receiver = Receiver()
    for burst in data.draw(read([entry for entry in damaged if entry[1]])):
        receiver.burst(*burst)
    assert all(session in OURS and len(body) for session, _, body in receiver.records)
    assert set(receiver.drops) <= {
        DropReason.DATAGRAM_SHORT,
        DropReason.DATAGRAM_TYPE,
        DropReason.RECORD_MALFORMED,
        DropReason.RECORD_UNKNOWN_SESSION,
        DropReason.RECORD_REPLAYED,
    }


@given(content=st.binary(max_size=120), size=st.integers(1, 130))
def test_garbage_has_a_name(content: bytes, size: int) -> None:
    receiver = Receiver()
    receiver.burst("far", content, min(size, max(1, len(content))))
    total = -(-len(content) // size) or 1
    assert len(receiver.records) + len(receiver.messages) + sum(receiver.drops.values()) <= max(total, 1)
    assert len(receiver.records) + len(receiver.messages) + sum(receiver.drops.values()) + len(receiver.assembler) > 0


# -- the usual ways --


@pytest.mark.parametrize("count", [1, 2, 44, MAX_PIECES])
@pytest.mark.parametrize("last", [1, 99, 100])
def test_a_record_in_one_burst(count: int, last: int) -> None:
    whole = record(5, (count - 1) * 100 + last)
    datagrams = datagrams_of(whole, 100)
    assert len(datagrams) == count
    receiver = Receiver()
    receiver.burst("far", b"".join(datagrams), HEADER_SIZE + 100)
    assert (receiver.records, dict(receiver.drops), len(receiver.assembler)) == ([whole], {}, 0)


def test_a_record_whose_pieces_come_one_by_one() -> None:
    whole = record(5, 1000)
    receiver = Receiver()
    receiver.singly(datagrams_of(whole, 100)[:-1])
    assert (len(receiver.assembler), receiver.unfinished_bytes()) == (1, 900)
    receiver.singly(datagrams_of(whole, 100)[-1:])
    assert (receiver.records, dict(receiver.drops), len(receiver.assembler)) == ([whole], {}, 0)


@given(st.permutations(range(6)))
def test_order_does_not_matter(order: list[int]) -> None:
    whole = record(5, 590)
    datagrams = datagrams_of(whole, 100)
    receiver = Receiver()
    receiver.singly(datagrams[number] for number in order)
    assert (receiver.records, dict(receiver.drops), len(receiver.assembler)) == ([whole], {}, 0)


@given(st.lists(st.tuples(st.sampled_from([4, 5]), st.integers(0, 3)), max_size=24))
def test_single_pieces_are_taken_as_piece_by_piece_however_often_they_come(arrivals: list[tuple[int, int]]) -> None:
    pieces = {counter: datagrams_of(record(counter, 390), 100) for counter in (4, 5)}
    hot, plain = Receiver(), PieceByPiece()
    for counter, number in arrivals:
        hot.singly([pieces[counter][number]])
        plain.take("far", pieces[counter][number])
    assert hot.records == plain.records
    assert hot.drops == plain.drops


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_header_whose_reserved_byte_is_set_is_refused_in_a_burst_as_elsewhere(number: int) -> None:
    datagrams = datagrams_of(record(5, 490), 100)
    datagrams[number] = datagrams[number][:3] + b"\x01" + datagrams[number][4:]
    receiver = Receiver()
    receiver.burst("far", b"".join(datagrams), HEADER_SIZE + 100)
    assert (receiver.records, dict(receiver.drops)) == ([], {DropReason.RECORD_MALFORMED: 1})


def test_many_records_in_one_burst() -> None:
    records = [record(number, size) for number, size in enumerate([100, 100, 300, 100, 600, 50])]
    receiver = Receiver()
    receiver.burst("far", b"".join(b"".join(datagrams_of(one, 100)) for one in records), HEADER_SIZE + 100)
    assert (receiver.records, dict(receiver.drops)) == (records, {})


def test_a_record_over_two_bursts() -> None:
    whole = record(5, 1000)
    datagrams = datagrams_of(whole, 100)
    for at in range(1, 10):
        receiver = Receiver()
        receiver.burst("far", b"".join(datagrams[:at]), HEADER_SIZE + 100)
        receiver.burst("far", b"".join(datagrams[at:]), HEADER_SIZE + 100)
        assert (receiver.records, dict(receiver.drops), len(receiver.assembler)) == ([whole], {}, 0)


def test_messages_between_pieces() -> None:
    whole, message = record(5, 200), b"\x01" * (HEADER_SIZE + 100)
    first, second = datagrams_of(whole, 100)
    receiver = Receiver()
    receiver.burst("far", first + message + second, HEADER_SIZE + 100)
    assert (receiver.records, receiver.messages, dict(receiver.drops)) == ([whole], [message], {})


def test_a_message_in_place_of_a_piece() -> None:
    pieces = datagrams_of(record(5, 300), 100)
    message = b"\x01" + pieces[2][1:]
    receiver = Receiver()
    receiver.burst("far", b"".join([*pieces[:2], message]), HEADER_SIZE + 100)
    assert (receiver.records, receiver.messages, len(receiver.assembler)) == ([], [message], 1)


# -- what does not belong together --


def test_halves_of_two_records_in_one_burst() -> None:
    receiver = Receiver()
    first, second = datagrams_of(record(5, 200), 100)[0], datagrams_of(record(6, 200), 100)[1]
    receiver.burst("far", first + second, HEADER_SIZE + 100)
    assert (receiver.records, len(receiver.assembler)) == ([], 2)


def test_pieces_that_differ_in_source_session_or_counter_do_not_meet() -> None:
    second = datagrams_of(record(5, 200), 100)[1]
    for first, source in [
        (datagrams_of(record(6, 200), 100)[0], "far"),
        (datagrams_of(record(5, 200, session=2), 100)[0], "far"),
        (datagrams_of(record(5, 200), 100)[0], "farther"),
    ]:
        receiver = Receiver()
        receiver.singly([first], source)
        receiver.singly([second])
        assert (receiver.records, len(receiver.assembler)) == ([], 2)


def test_an_expected_piece_from_elsewhere_does_not_fit() -> None:
    datagrams = datagrams_of(record(5, 300), 100)
    receiver = Receiver()
    receiver.singly(datagrams[:2], "far")
    receiver.singly(datagrams[2:], "farther")
    assert receiver.records == []
    receiver.singly(datagrams[2:], "far")
    assert receiver.records == [record(5, 300)]


def test_unknown_sessions_are_dropped_before_they_take_memory() -> None:
    datagrams = datagrams_of(record(5, 300, session=STRANGE), 100)
    receiver = Receiver()
    receiver.singly(datagrams)
    receiver.burst("far", b"".join(datagrams), HEADER_SIZE + 100)
    receiver.singly(datagrams_of(record(6, 50, session=STRANGE), 100))
    assert (receiver.records, len(receiver.assembler)) == ([], 0)
    assert receiver.drops == {DropReason.RECORD_UNKNOWN_SESSION: 7}


def test_another_count_or_the_same_piece_again_is_refused() -> None:
    receiver = Receiver()
    receiver.singly([encode_header(0, 3, 1, 5) + b"a", encode_header(1, 4, 1, 5) + b"b"])
    receiver.singly([encode_header(2, 3, 1, 5) + b"c", encode_header(2, 3, 1, 5) + b"x"])
    receiver.singly([encode_header(1, 3, 1, 5) + b"b"])
    assert receiver.records == [Record(1, 5, b"abc")]
    assert receiver.drops == {DropReason.RECORD_MALFORMED: 1, DropReason.RECORD_REPLAYED: 1}


def test_what_only_looks_alike_is_left_to_the_seal() -> None:
    # Two half records whose counters end in the same byte, as if one: the burst is not searched for that.
    first, second = datagrams_of(record(5, 200), 100)[0], datagrams_of(record(5 + 256, 200), 100)[1]
    receiver = Receiver()
    receiver.burst("far", first + second, HEADER_SIZE + 100)
    assert receiver.records == [Record(1, 5, first[HEADER_SIZE:] + second[HEADER_SIZE:])]


# -- bounds --


def firsts(count: int, start: int = 0) -> Iterator[bytes]:
    """First pieces of records that are never finished."""
    for counter in range(start, start + count):
        yield encode_header(0, 2, 1, counter) + b"half"


def test_the_oldest_of_too_many_gives_way() -> None:
    receiver = Receiver()
    receiver.singly(firsts(MAX_UNFINISHED))
    assert (len(receiver.assembler), dict(receiver.drops)) == (MAX_UNFINISHED, {})
    receiver.singly(firsts(1, start=1000))
    assert (len(receiver.assembler), dict(receiver.drops)) == (MAX_UNFINISHED, {DropReason.RECORD_INCOMPLETE: 1})
    receiver.singly([encode_header(1, 2, 1, 1) + b"rest"])
    assert receiver.records == [Record(1, 1, b"halfrest")], "the second oldest is still there"
    receiver.singly([encode_header(1, 2, 1, 0) + b"rest"])
    assert len(receiver.records) == 1, "the oldest is not"


def test_waiting_has_an_end() -> None:
    receiver = Receiver()
    receiver.singly(firsts(1, start=1), now=10.0)
    receiver.singly(firsts(1, start=2), now=10.5)
    receiver.assembler.expire(10.0 + UNFINISHED_SECONDS - 0.001)
    assert (len(receiver.assembler), dict(receiver.drops)) == (2, {})
    receiver.assembler.expire(10.0 + UNFINISHED_SECONDS)
    assert (len(receiver.assembler), dict(receiver.drops)) == (1, {DropReason.RECORD_INCOMPLETE: 1})
    receiver.singly([encode_header(1, 2, 1, 1) + b"late", encode_header(1, 2, 1, 2) + b"rest"], now=11.4)
    assert receiver.records == [Record(1, 2, b"halfrest")]


def test_an_expected_piece_that_is_too_late_does_not_fit() -> None:
    datagrams = datagrams_of(record(5, 300), 100)
    receiver = Receiver()
    receiver.singly(datagrams[:2], now=10.0)
    receiver.assembler.expire(11.0)
    receiver.singly(datagrams[2:], now=11.0)
    assert (receiver.records, len(receiver.assembler)) == ([], 1)


def test_a_new_record_clears_the_table_of_what_is_too_old() -> None:
    receiver = Receiver()
    receiver.singly(firsts(10), now=10.0)
    receiver.singly(firsts(1, start=100), now=20.0)
    assert len(receiver.assembler) == 1
    assert receiver.drops == {DropReason.RECORD_INCOMPLETE: 10}


@pytest.mark.parametrize("order", ["in order", "backwards", "small ones between"])
def test_memory_is_bounded_however_pieces_come(order: str) -> None:
    largest = 65507 - HEADER_SIZE
    receiver = Receiver()
    for counter in range(2 * MAX_UNFINISHED):
        sizes = [largest, 100, largest] if order == "small ones between" else [largest] * 12
        pieces = [encode_header(number, MAX_PIECES, 1, counter) + bytes(size) for number, size in enumerate(sizes)]
        receiver.singly(reversed(pieces) if order == "backwards" else pieces)
        assert receiver.unfinished_bytes() <= len(receiver.assembler) * MAX_RECORD
    assert len(receiver.assembler) == MAX_UNFINISHED
    assert receiver.drops[DropReason.RECORD_MALFORMED] > 0


def test_a_record_of_the_largest_size_fits() -> None:
    unit = MAX_RECORD // MAX_PIECES
    whole = record(5, MAX_RECORD)
    receiver = Receiver()
    receiver.singly(datagrams_of(whole, unit))
    assert (receiver.records == [whole], dict(receiver.drops)) == (True, {})


# -- cutting --


@given(size=st.integers(1, 3000), room=st.integers(50, 1500))
def test_cut_pieces_are_as_large_as_may_be(size: int, room: int) -> None:
    whole = record(2**64 - 1, size, session=2**32 - 1)
    datagrams = datagrams_of(whole, room)
    assert [len(datagram) - HEADER_SIZE for datagram in datagrams[:-1]] == [room] * (len(datagrams) - 1)
    assert 0 < len(datagrams[-1]) - HEADER_SIZE <= room
    headers = [decode_header(datagram, 0, len(datagram)) for datagram in datagrams]
    assert [header.piece for header in headers] == list(range(len(datagrams)))
    assert {header[1:] for header in headers} == {(len(datagrams), 2**32 - 1, 2**64 - 1)}
    assert b"".join(datagram[HEADER_SIZE:] for datagram in datagrams) == whole.body
