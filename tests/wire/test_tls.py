"""Flights of TLS and what is said inside its channel."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.wire.handshake import Header, cut, decode_piece
from caetun.wire.record import INITIATION, RESPONSE
from caetun.wire.tls import (
    InnerGreeting,
    Refusal,
    decode_flight,
    decode_inner,
    decode_suite,
    encode_flight,
    encode_inner,
    encode_suite,
)

GREETING = InnerGreeting(bytes(32), b"\1" * 32, b"hello")


@given(st.binary(min_size=1, max_size=18_000), st.booleans())
def test_flights_survive(records: bytes, first: bool) -> None:
    flight = encode_flight(records, first=first)
    assert decode_flight(flight) == records
    assert not first or len(flight) >= 1156


def test_a_first_flight_fills_one_datagram() -> None:
    (datagram,) = cut(Header(INITIATION, encode_suite(1, 1), 7, 0), encode_flight(b"client hello", first=True))
    assert len(datagram) + 32 == 1200


@pytest.mark.parametrize("flight", [b"", b"\0", b"\0\0", b"\0\2x", b"\0\1xy"])
def test_malformed_flights(flight: bytes) -> None:
    with pytest.raises(Malformed):
        decode_flight(flight)


@given(st.integers(0, 15), st.integers(1, 15))
def test_suites_survive(cipher: int, exchange: int) -> None:
    assert decode_suite(encode_suite(cipher, exchange)) == (cipher, exchange)


def test_long_flights_and_later_ones_are_for_tls_only() -> None:
    header = Header(INITIATION, encode_suite(1, 2), 7, 8)
    pieces = [decode_piece(datagram) for datagram in cut(header, bytes(16 * 1156))]
    assert (len(pieces), pieces[15].header) == (16, header)
    wrong = ((1, RESPONSE, 5, 0), (1, INITIATION, 1, 8), (17, INITIATION, 1, 8), (17, RESPONSE, 17, 0))
    for suite, kind, count, receiver in wrong:
        with pytest.raises(Malformed):
            decode_piece(bytes((kind, 0, count, suite, 0, 0, 0, 7)) + receiver.to_bytes(4, "big") + b"x")


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=1500))
def test_greetings_survive(nonce: bytes, hello: bytes) -> None:
    greeting = InnerGreeting(nonce, nonce, hello)
    stream = encode_inner(greeting)
    assert decode_inner(stream) == greeting
    assert all(decode_inner(stream[:length]) is None for length in (0, 1, 2, len(stream) - 1))


def test_refusals_are_cut_short() -> None:
    refusal = decode_inner(encode_inner(Refusal("é" * 150)))
    assert isinstance(refusal, Refusal)
    assert refusal.why.startswith("é" * 100)
    assert len(refusal.why) <= 101


@pytest.mark.parametrize(
    "stream",
    [b"\0\0", b"\x10\x01", b"\0\1\3", b"\0\1\1", encode_inner(GREETING) + b"x", b"\0\x41\1" + bytes(64)],
)
def test_malformed_inner_messages(stream: bytes) -> None:
    with pytest.raises(Malformed):
        decode_inner(stream)


@given(st.binary(max_size=200))
def test_garbage_is_malformed_and_nothing_else(garbage: bytes) -> None:
    for decode in (decode_flight, decode_inner):
        with contextlib.suppress(Malformed):
            decode(garbage)
