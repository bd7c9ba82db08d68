"""Handshake datagrams: pieces, codes, cookie replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.handshake import (
    Codes,
    CookieReply,
    Header,
    Piece,
    cut,
    decode_codes,
    decode_cookie_reply,
    decode_ephemeral,
    decode_piece,
    decode_type,
    encode_cookie_reply,
)
from caetun.wire.record import INITIATION, RESPONSE

index = st.integers(0, 2**32 - 1)
INITIATION_HEADER = Header(INITIATION, 1, 0x01020304, 0)
RESPONSE_HEADER = Header(RESPONSE, 2, 5, 6)


@given(st.binary(min_size=1, max_size=4624), st.integers(0, 255), index, index)
def test_pieces_survive(message: bytes, suite: int, sender: int, receiver: int) -> None:
    header = Header(RESPONSE, suite, sender, receiver)
    pieces = [decode_piece(datagram) for datagram in cut(header, message)]
    assert b"".join(piece.part for piece in pieces) == message
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    assert {(piece.header, piece.total) for piece in pieces} == {(header, len(pieces))}


@pytest.mark.parametrize(
    ("length", "parts"),
    [(1, [1]), (1156, [1156]), (1157, [579, 578]), (1322, [661, 661]), (2313, [771] * 3), (4624, [1156] * 4)],
)
def test_smallest_number_of_equal_pieces(length: int, parts: list[int]) -> None:
    datagrams = cut(INITIATION_HEADER, bytes(length))
    assert [len(datagram) - 12 for datagram in datagrams] == parts
    assert all(len(datagram) + 32 <= 1200 for datagram in datagrams)


def test_bytes_on_the_wire() -> None:
    assert cut(INITIATION_HEADER, b"noise") == [b"\x01\x00\x01\x01\x01\x02\x03\x04\x00\x00\x00\x00noise"]
    assert encode_cookie_reply(CookieReply(7, b"s" * 24, b"c" * 32)) == (
        b"\x03\x00\x00\x00\x00\x00\x00\x07" + b"s" * 24 + b"c" * 32
    )


def test_codes_are_taken_off() -> None:
    datagram = b"h" * 12 + b"n" + b"1" * 16 + b"2" * 16
    assert decode_codes(datagram) == Codes(b"h" * 12 + b"n", b"1" * 16, b"2" * 16)
    for length in (0, 31, 44, 1201):
        with pytest.raises(Malformed):
            decode_codes(bytes(length))


@pytest.mark.parametrize(
    "covered",
    [
        b"",
        bytes(12),
        b"\x03\x00\x01\x01" + bytes(9),
        b"\x01\x01\x01\x01" + bytes(9),
        b"\x01\x00\x00\x01" + bytes(9),
        b"\x01\x00\x05\x01" + bytes(9),
        b"\x01\x00\x01\x01\x00\x00\x00\x01\x00\x00\x00\x01n",
        b"\x01\x00\x01\x01" + bytes(8 + 1157),
    ],
)
def test_malformed_pieces(covered: bytes) -> None:
    with pytest.raises(Malformed) as malformed:
        decode_piece(covered)
    assert malformed.value.reason is DropReason.HANDSHAKE_MALFORMED


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_other_types_are_not_for_us(kind: int) -> None:
    with pytest.raises(Malformed) as malformed:
        decode_type(bytes((kind,)))
    assert malformed.value.reason is DropReason.DATAGRAM_TYPE


@given(index, st.binary(min_size=24, max_size=24), st.binary(min_size=32, max_size=32))
def test_cookie_replies_survive(receiver: int, salt: bytes, sealed: bytes) -> None:
    reply = CookieReply(receiver, salt, sealed)
    assert decode_cookie_reply(encode_cookie_reply(reply)) == reply


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_cookie_reply_with_a_wrong_first_word(at: int) -> None:
    datagram = bytearray(encode_cookie_reply(CookieReply(7, bytes(24), bytes(32))))
    datagram[at] ^= 0x40
    with pytest.raises(Malformed):
        decode_cookie_reply(bytes(datagram))


header_like = st.builds(
    lambda first, rest: bytes(first) + rest,
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)),
    st.binary(max_size=100),
)


@given(st.binary(max_size=1300) | header_like)
def test_decoders_are_total(datagram: bytes) -> None:
    for decode in (decode_type, decode_codes, decode_cookie_reply, decode_ephemeral):
        try:
            decode(datagram)
        except Malformed:
            continue
    try:
        piece = decode_piece(datagram)
    except Malformed:
        return
    assert isinstance(piece, Piece)
    assert piece.number < piece.total <= 4
    assert 1 <= len(piece.part) <= 1156
