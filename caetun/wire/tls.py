"""Flights of the security module `tls`, and what is said inside its TLS channel (docs/wire.md, section 2.4).

A flight, which crosses in pieces as a Noise message does:

    length (2) | bytes of TLS records | zeros

Inside the channel, as application data, one message from each side:

    length (2) | kind (1) | body

    kind 1   greeting   nonce (32) | X25519 public key (32) | hello, as in section 2.3
    kind 2   refusal    why, UTF-8
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.types import DropReason

# fixed by the specification
SMALLEST_FLIGHT: Final = 1156
"""The first flight fills a datagram, so that its answer is not much longer (as in RFC 9000, section 8.1)."""
MAX_EXCHANGES: Final = 15
NONCE_SIZE: Final = 32
SHARE_SIZE: Final = 32
MAX_INNER: Final = 4096
"""Bytes of a message in the channel: a hello with an ML-KEM key has 1,300."""
MAX_REASON: Final = 200
"""Bytes of a refusal's reason."""

_LENGTH: Final = struct.Struct(">H")
_GREETING: Final = 1
_REFUSAL: Final = 2
_EXCHANGE_SHIFT: Final = 4
_CIPHER_MASK: Final = 0x0F


class InnerGreeting(NamedTuple):
    """One side's part in the traffic keys, and its hello."""

    nonce: bytes
    share: bytes
    """X25519 public key."""
    hello: bytes
    """Encoded as for Noise."""


class Refusal(NamedTuple):
    """The sender does not take the receiver's certificate."""

    why: str


Inner: TypeAlias = InnerGreeting | Refusal


def encode_suite(cipher: int, exchange: int) -> int:
    """The suite byte of a flight: `cipher` is Noise's suite with the same cipher, `exchange` 1..15."""
    assert 1 <= exchange <= MAX_EXCHANGES
    return exchange << _EXCHANGE_SHIFT | cipher


def decode_suite(suite: int) -> tuple[int, int]:
    """Cipher and exchange; exchange 0 is no flight of TLS."""
    return suite & _CIPHER_MASK, suite >> _EXCHANGE_SHIFT


def encode_flight(records: bytes, *, first: bool) -> bytes:
    """A flight of up to 65,535 bytes; the `first` one is padded."""
    flight = _LENGTH.pack(len(records)) + records
    return flight.ljust(SMALLEST_FLIGHT, b"\0") if first else flight


def decode_flight(message: bytes) -> bytes:
    """The bytes for TLS; raises Malformed."""
    if len(message) < _LENGTH.size:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "length")
    (length,) = _LENGTH.unpack_from(message)
    records, padding = message[_LENGTH.size : _LENGTH.size + length], message[_LENGTH.size + length :]
    if not records or len(records) < length or any(padding):
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "flight")
    return records


def encode_inner(inner: Inner) -> bytes:
    """A message for the channel."""
    match inner:
        case InnerGreeting(nonce, share, hello):
            body = bytes((_GREETING,)) + nonce + share + hello
        case Refusal(why):
            body = bytes((_REFUSAL,)) + why.encode()[:MAX_REASON]
    return _LENGTH.pack(len(body)) + body


def decode_inner(stream: bytes) -> Inner | None:
    """The message that the bytes from the channel hold; None while it is not whole. Raises Malformed."""
    if len(stream) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(stream)
    if not 1 <= length <= MAX_INNER or len(stream) > _LENGTH.size + length:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "length of an inner message")
    body = stream[_LENGTH.size :]
    if len(body) < length:
        return None
    kind, rest = body[0], body[1:]
    if kind == _GREETING and len(rest) > NONCE_SIZE + SHARE_SIZE:
        share_at, hello_at = NONCE_SIZE, NONCE_SIZE + SHARE_SIZE
        return InnerGreeting(rest[:share_at], rest[share_at:hello_at], rest[hello_at:])
    if kind == _REFUSAL and len(rest) <= MAX_REASON:
        return Refusal(rest.decode("utf-8", "replace"))
    raise Malformed(DropReason.HANDSHAKE_MALFORMED, "inner message")
