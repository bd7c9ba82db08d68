"""Handshake datagrams (docs/wire.md, section 2).

An initiation or response, or a piece of one:

     0        1        2        3
    +--------+--------+--------+--------+
    |  1, 2  | piece  | count  | suite  |
    +--------+--------+--------+--------+
    |           sender index            |
    +-----------------------------------+
    |          receiver index           |
    +-----------------------------------+
    |  part of the Noise message ...    |     1..1156 bytes
    +-----------------------------------+
    |       mac1 (16), mac2 (16)        |
    +-----------------------------------+

A cookie reply:

    +--------+--------+--------+--------+
    |   3    |   0    |   0    |   0    |
    +--------+--------+--------+--------+
    |          receiver index           |
    +-----------------------------------+
    |  salt (24), sealed cookie (32)    |
    +-----------------------------------+

What the codes are computed with is no business of this module: see `session/cookies.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.record import COOKIE_REPLY, INITIATION, RESPONSE

# fixed by the specification
MAC_SIZE: Final = 16
CODES_SIZE: Final = 2 * MAC_SIZE
SALT_SIZE: Final = 24
SEALED_COOKIE_SIZE: Final = 32
EPHEMERAL_SIZE: Final = 32
MAX_PARTS: Final = 4
MAX_FLIGHT_PARTS: Final = 16
"""Pieces of one flight of TLS: 18 KiB, a chain of three certificates with RSA keys of 4,096 bits and some to spare."""
MAX_PART: Final = 1156
"""Bytes of a Noise message in one datagram."""
MAX_DATAGRAM: Final = 1200
_FIRST_FLIGHT: Final = 16
"""Suites from here on are flights of TLS (`wire/tls.py`), which may be longer, and of which there are several."""

_HEADER: Final = struct.Struct(">BBBBII")
_COOKIE_REPLY: Final = struct.Struct(f">BBBBI{SALT_SIZE}s{SEALED_COOKIE_SIZE}s")


class Codes(NamedTuple):
    """A datagram, taken apart at its two message authentication codes."""

    covered: bytes
    """What mac1 covers; mac2 covers mac1 too."""
    mac1: bytes
    mac2: bytes


class Header(NamedTuple):
    """What all pieces of one message have in common."""

    kind: int
    """INITIATION or RESPONSE."""
    suite: int
    """8 bits, whether known or not."""
    sender: int
    """Index that the sender wants to see in records, 32 bits."""
    receiver: int
    """Sender index of the message that this one answers; 0 in an initiation."""


class Piece(NamedTuple):
    """One datagram's part of a message."""

    header: Header
    number: int
    """Below `total`."""
    total: int
    """1..4, of TLS 1..16"""
    part: bytes
    """1..1156 bytes of the Noise message."""


class CookieReply(NamedTuple):
    """What a side under load answers."""

    receiver: int
    """Sender index of the message answered."""
    salt: bytes
    """24 bytes."""
    sealed: bytes
    """32 bytes: the cookie and its tag."""


def cut(header: Header, message: bytes) -> list[bytes]:
    """The datagrams of a message (1..4624 bytes, of TLS 1..18496), each still without its two codes."""
    count = -(-len(message) // MAX_PART)
    assert 1 <= count <= _most_parts(header.suite)
    length = -(-len(message) // count)
    return [
        _HEADER.pack(header.kind, number, count, header.suite, header.sender, header.receiver)
        + message[number * length : (number + 1) * length]
        for number in range(count)
    ]


def _most_parts(suite: int) -> int:
    return MAX_PARTS if suite < _FIRST_FLIGHT else MAX_FLIGHT_PARTS


def only_challenges(messages: Sequence[Buffer]) -> bool:
    """Whether messages just ask the far end to show that its address is its own (cookie replies): being sent those it
    has proven nothing, and it will repeat what it has said."""
    return all(len(message) and message[0] == COOKIE_REPLY for message in messages)


def decode_type(datagram: bytes) -> int:
    """INITIATION, RESPONSE or COOKIE_REPLY; raises Malformed for anything else."""
    if not datagram:
        raise Malformed(DropReason.DATAGRAM_SHORT)
    if datagram[0] not in (INITIATION, RESPONSE, COOKIE_REPLY):
        raise Malformed(DropReason.DATAGRAM_TYPE)
    return datagram[0]


def decode_codes(datagram: bytes) -> Codes:
    """The codes of an initiation or response and what they cover; raises Malformed. Hot while flooded."""
    if not _HEADER.size + CODES_SIZE < len(datagram) <= MAX_DATAGRAM:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "length")
    return Codes(datagram[:-CODES_SIZE], datagram[-CODES_SIZE:-MAC_SIZE], datagram[-MAC_SIZE:])


def decode_piece(covered: bytes) -> Piece:
    """The piece in what mac1 covers; raises Malformed."""
    if not _HEADER.size < len(covered) <= _HEADER.size + MAX_PART:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "length")
    kind, number, count, suite, sender, receiver = _HEADER.unpack_from(covered)
    if kind not in (INITIATION, RESPONSE) or not number < count <= _most_parts(suite):
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "type or piece numbers")
    if kind == INITIATION and receiver and suite < 2 * _FIRST_FLIGHT:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "an initiation with a receiver index")
    return Piece(Header(kind, suite, sender, receiver), number, count, covered[_HEADER.size :])


def decode_ephemeral(message: bytes) -> bytes:
    """The ephemeral public key that every Noise message of ours begins with, in the clear; raises Malformed."""
    if len(message) < EPHEMERAL_SIZE:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "no ephemeral key")
    return message[:EPHEMERAL_SIZE]


def encode_cookie_reply(reply: CookieReply) -> bytes:
    """The datagram, 64 bytes."""
    return _COOKIE_REPLY.pack(COOKIE_REPLY, 0, 0, 0, *reply)


def decode_cookie_reply(datagram: bytes) -> CookieReply:
    """Raises Malformed."""
    if len(datagram) != _COOKIE_REPLY.size:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "length")
    kind, *zeros, receiver, salt, sealed = _COOKIE_REPLY.unpack(datagram)
    if kind != COOKIE_REPLY or any(zeros):
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "type or reserved bytes")
    return CookieReply(receiver, salt, sealed)
