"""Record headers: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.record import (
    COUNTER_LOW_AT,
    HEADER_SIZE,
    MAX_PIECES,
    PIECE_AT,
    PIECES_AT,
    SESSION_AND_COUNTER,
    SESSION_AT,
    PieceHeader,
    decode_header,
    encode_header,
)

HEADER = bytes.fromhex("04 02 05 00 01020304 1112131415161718")
sessions = st.integers(0, 2**32 - 1)
counters = st.integers(0, 2**64 - 1)


@st.composite
def headers(draw: st.DrawFn) -> PieceHeader:
    pieces = draw(st.integers(1, MAX_PIECES))
    return PieceHeader(draw(st.integers(0, pieces - 1)), pieces, draw(sessions), draw(counters))


def reason_of(datagram: bytes, at: int = 0, stop: int | None = None) -> DropReason:
    with pytest.raises(Malformed) as malformed:
        decode_header(datagram, at, len(datagram) if stop is None else stop)
    return malformed.value.reason


def test_bytes_on_the_wire() -> None:
    assert encode_header(2, 5, 0x01020304, 0x1112131415161718) == HEADER
    assert (HEADER[PIECE_AT], HEADER[PIECES_AT], HEADER[COUNTER_LOW_AT]) == (2, 5, 0x18)
    assert SESSION_AND_COUNTER.unpack_from(HEADER, SESSION_AT) == (0x01020304, 0x1112131415161718)


@given(header=headers(), before=st.binary(max_size=40), body=st.binary(min_size=1, max_size=40), after=st.binary())
def test_a_header_survives_wherever_it_lies(header: PieceHeader, before: bytes, body: bytes, after: bytes) -> None:
    datagram = encode_header(*header) + body
    burst = memoryview(before + datagram + after)
    assert decode_header(burst, len(before), len(before) + len(datagram)) == header


@pytest.mark.parametrize("size", range(HEADER_SIZE + 1))
def test_a_datagram_without_a_body_is_short(size: int) -> None:
    assert reason_of(HEADER[:size]) is DropReason.DATAGRAM_SHORT


def test_a_datagram_that_ends_behind_the_buffer_is_short() -> None:
    assert reason_of(HEADER + b"body", 0, len(HEADER) + 5) is DropReason.DATAGRAM_SHORT
    assert reason_of(HEADER + b"body", 4, len(HEADER) + 4) is DropReason.DATAGRAM_SHORT


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 255])
def test_another_type_is_no_record(kind: int) -> None:
    assert reason_of(bytes([kind]) + HEADER[1:] + b"body") is DropReason.DATAGRAM_TYPE


@pytest.mark.parametrize(
    ("piece", "pieces", "reserved"), [(0, 0, 0), (1, 1, 0), (5, 2, 0), (255, 255, 0), (0, 65, 0), (0, 1, 1)]
)
def test_piece_numbers_that_cannot_be(piece: int, pieces: int, reserved: int) -> None:
    datagram = bytes((4, piece, pieces, reserved)) + HEADER[4:] + b"body"
    assert reason_of(datagram) is DropReason.RECORD_MALFORMED


@given(datagram=st.binary(max_size=40) | st.binary(max_size=40).map(lambda rest: b"\x04" + rest), data=st.data())
def test_decoder_is_total(datagram: bytes, data: st.DataObject) -> None:
    at, stop = data.draw(st.integers(0, 50)), data.draw(st.integers(0, 50))
    try:
        header = decode_header(datagram, at, stop)
    except Malformed:
        return
    assert 0 <= header.piece < header.pieces <= MAX_PIECES
    assert encode_header(*header) == datagram[at : at + HEADER_SIZE]
    assert at + HEADER_SIZE < stop <= len(datagram)
