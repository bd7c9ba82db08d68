"""DNS messages (RFC 1035, section 4), as far as finding the addresses of a name needs them.

 0      2       4         6         8         10        12
+------+-------+---------+---------+---------+---------+----------- ... ----------- ...
|  ID  | flags | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT | question    | answers
+------+-------+---------+---------+---------+---------+----------- ... ----------- ...
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

# fixed by the specification
A: Final = 1
"""RFC 1035, section 3.2.2"""
AAAA: Final = 28
"""RFC 3596, section 2.1"""
MAX_MESSAGE: Final = 512
"""Bytes of a message over UDP (RFC 1035, section 4.2.1): what is longer comes cut off."""
_HEADER: Final = struct.Struct(">HHHHHH")
_RECORD: Final = struct.Struct(">HHIH")
_IN: Final = 1
_RESPONSE: Final = 0x8000
_RECURSION_DESIRED: Final = 0x0100
_CODE: Final = 0x000F
_NO_SUCH_NAME: Final = 3
_MAX_LABEL: Final = 63
_MAX_NAME: Final = 255
_POINTER: Final = 0xC0
_LENGTHS: Final = {A: 4, AAAA: 16}

# chosen by us
MAX_ADDRESSES: Final = 16
"""Addresses taken from an answer."""

Address: TypeAlias = IPv4Address | IPv6Address


def encode_query(identity: int, name: str, kind: int) -> bytes:
    """A query for the records of a kind (A, AAAA) that a name has. `identity`: 0..65535, chosen at random.

    Raises ValueError for what cannot be a name.
    """
    header = _HEADER.pack(identity, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + _encode_name(name) + struct.pack(">HH", kind, _IN)


def decode_answer(message: bytes, query: bytes) -> tuple[list[Address], bool]:
    """The addresses in the answer to a query, and whether the name exists.

    Raises ValueError for anything that is no answer to this query, or one of a server that could not tell.
    """
    if len(message) < len(query) or message[:2] != query[:2]:
        raise ValueError("answers another query")
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    # A server repeats the question; that letters come in another case is allowed (RFC 4343, section 4.1).
    if not flags & _RESPONSE or questions != 1 or message[12 : len(query)].lower() != query[12:].lower():
        raise ValueError("answers another question")
    if flags & _CODE == _NO_SUCH_NAME:
        return [], False
    if flags & _CODE:
        raise ValueError(f"the server failed (code {flags & _CODE})")
    (kind,) = struct.unpack_from(">H", query, len(query) - 4)
    return _addresses(message, len(query), answers, kind), True


def _addresses(message: bytes, at: int, records: int, wanted: int) -> list[Address]:
    """Those in a number of records from `at` on. A message cut off holds fewer records than it says."""
    found: list[Address] = []
    for _ in range(records):
        at = _skip_name(message, at)
        if at + _RECORD.size > len(message):
            break
        kind, family, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        at += length
        if len(data) < length:
            break
        if kind == wanted and family == _IN and length == _LENGTHS[kind] and len(found) < MAX_ADDRESSES:
            found.append(IPv4Address(data) if kind == A else IPv6Address(data))
    return found


def _skip_name(message: bytes, at: int) -> int:
    """Where a name that begins at `at` ends; the end of the message if it does not. A pointer is its last part."""
    while at < len(message):
        length = message[at]
        if length & _POINTER == _POINTER:
            return at + 2
        at += 1 + length
        if not length:
            return at
    return len(message)


def _encode_name(name: str) -> bytes:
    """Labels, each with its length in front (RFC 1035, section 3.1); other alphabets by IDNA."""
    try:
        labels = [
            label.encode("idna") if not label.isascii() else label.encode() for label in name.rstrip(".").split(".")
        ]
    except UnicodeError:
        raise ValueError(f"{name!r} is no name") from None
    if not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise ValueError(f"{name!r} is no name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(encoded) > _MAX_NAME:
        raise ValueError(f"{name!r} is too long for a name")
    return encoded
