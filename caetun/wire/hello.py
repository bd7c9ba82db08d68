"""The hello: what each side tells of itself inside the two handshake messages (docs/wire.md, section 2.3).

A list of fields, each

    type (1) | length (2) | value

Unknown types are skipped, so that a later version may add some; a type occurs at most once.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from caetun.errors import Malformed
from caetun.types import DropReason, Mode
from caetun.wire.record import INITIATION

# fixed by the specification
TIME: Final = 1
MODE: Final = 2
OFFLOADS: Final = 3
MTU: Final = 4
ENCAPSULATION_KEY: Final = 5
CIPHERTEXT: Final = 6
MAX_RECORD: Final = 7
INCARNATION: Final = 8
COMPRESSION: Final = 9
LENGTHS: Final = {
    TIME: 12,
    MODE: 1,
    OFFLOADS: 4,
    MTU: 2,
    ENCAPSULATION_KEY: 1184,
    CIPHERTEXT: 1088,
    MAX_RECORD: 4,
    INCARNATION: 8,
}
"""Bytes of each field's value, where it has one length."""
MAX_METHODS: Final = 8
MODE_NUMBERS: Final = {Mode.TUN: 1, Mode.TAP: 2}
DEFAULT_MTU: Final = 1500
DEFAULT_MAX_RECORD: Final = 1440
SMALLEST_MTU: Final = 68
"""RFC 791, section 3.2: every internet module must be able to forward 68 bytes."""
SMALLEST_MAX_RECORD: Final = 1024

_FIELD: Final = struct.Struct(">BH")
_TIME: Final = struct.Struct(">QI")
_SECOND: Final = 1_000_000_000
_METHOD: Final = b"[a-z0-9-]{1,16}"
_KNOWN: Final = frozenset((*LENGTHS, COMPRESSION))
_MODES: Final = {number: mode for mode, number in MODE_NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Hello:
    """What one side tells of itself. Raises ValueError if a number does not fit its field."""

    mode: Mode
    offloads: int = 0
    """What it accepts in frames, bit set: 1 checksum, 2 TSO IPv4, 4 TSO IPv6, 8 UDP segmentation; 32 bits."""
    mtu: int = DEFAULT_MTU
    """Of its device, in bytes, 68..65535."""
    max_record: int = DEFAULT_MAX_RECORD
    """Longest sealed record it puts together again, in bytes, 1024..2^32-1."""
    incarnation: int = 0
    """By which the far end knows whether this side remembers what was said on the control channel: 64 bits, chosen when
    it began or forgot; 0: it has no control channel."""
    compression: tuple[str, ...] = ()
    """Methods of compression it takes, at most 8, each 1..16 of a-z, 0-9 and '-'."""

    def __post_init__(self) -> None:
        if not (
            0 <= self.offloads < 1 << 32
            and SMALLEST_MTU <= self.mtu < 1 << 16
            and SMALLEST_MAX_RECORD <= self.max_record < 1 << 32
            and 0 <= self.incarnation < 1 << 64
        ):
            raise ValueError(f"a number in {self} is out of its range")
        if len(self.compression) > MAX_METHODS or not all(
            re.fullmatch(_METHOD, name.encode()) for name in self.compression
        ):
            raise ValueError(f"{self.compression} are too many methods of compression, or no names")


@dataclass(frozen=True, slots=True)
class Greeting:
    """The payload of a handshake message: a hello, and what only this message needs."""

    hello: Hello
    time: int | None = None
    """Of the initiation: nanoseconds since 1970. None in a response."""
    encapsulation_key: bytes | None = None
    """ML-KEM-768, 1,184 bytes, in an initiation that offers it."""
    ciphertext: bytes | None = None
    """ML-KEM-768, 1,088 bytes, in a response that took the offer."""


def encode_greeting(greeting: Greeting) -> bytes:
    """The payload of a handshake message; fields in the order of their types."""
    hello = greeting.hello
    fields: dict[int, bytes | None] = {
        TIME: None if greeting.time is None else _TIME.pack(*divmod(greeting.time, _SECOND)),
        MODE: bytes((MODE_NUMBERS[hello.mode],)),
        OFFLOADS: hello.offloads.to_bytes(4, "big"),
        MTU: hello.mtu.to_bytes(2, "big"),
        ENCAPSULATION_KEY: greeting.encapsulation_key,
        CIPHERTEXT: greeting.ciphertext,
        MAX_RECORD: hello.max_record.to_bytes(4, "big"),
        INCARNATION: hello.incarnation.to_bytes(8, "big") if hello.incarnation else None,
        COMPRESSION: ",".join(hello.compression).encode() or None,
    }
    return b"".join(_FIELD.pack(kind, len(value)) + value for kind, value in fields.items() if value is not None)


def decode_greeting(payload: bytes, kind: int) -> Greeting:
    """What a handshake message of this kind (INITIATION or RESPONSE) carries; raises Malformed."""
    fields = _decode_fields(payload)
    foreign = {CIPHERTEXT} if kind == INITIATION else {TIME, ENCAPSULATION_KEY}
    if MODE not in fields or (kind == INITIATION and TIME not in fields) or not foreign.isdisjoint(fields):
        raise _malformed("a hello lacks a field, or has one of the other message")
    mode = _MODES.get(fields[MODE][0])
    if mode is None:
        raise _malformed("unknown mode")
    try:
        hello = Hello(
            mode,
            _number(fields, OFFLOADS, 0),
            _number(fields, MTU, DEFAULT_MTU),
            _number(fields, MAX_RECORD, DEFAULT_MAX_RECORD),
            _number(fields, INCARNATION, 0),
            tuple(fields[COMPRESSION].decode().split(",")) if COMPRESSION in fields else (),
        )
    except ValueError as error:  # UnicodeDecodeError too
        raise _malformed(str(error)) from None
    return Greeting(hello, _decode_time(fields.get(TIME)), fields.get(ENCAPSULATION_KEY), fields.get(CIPHERTEXT))


def _decode_fields(payload: bytes) -> dict[int, bytes]:
    """Known fields by type, each of its right length."""
    fields: dict[int, bytes] = {}
    seen: set[int] = set()
    at = 0
    while at < len(payload):
        if at + _FIELD.size > len(payload):
            raise _malformed("a field is cut short")
        kind, length = _FIELD.unpack_from(payload, at)
        at += _FIELD.size
        if at + length > len(payload) or kind in seen or LENGTHS.get(kind, length) != length:
            raise _malformed(f"field {kind}")
        seen.add(kind)
        if kind in _KNOWN:
            fields[kind] = payload[at : at + length]
        at += length
    return fields


def _decode_time(value: bytes | None) -> int | None:
    """Nanoseconds since 1970."""
    if value is None:
        return None
    seconds, nanoseconds = _TIME.unpack(value)
    if nanoseconds >= _SECOND:
        raise _malformed("nanoseconds")
    return int(seconds * _SECOND + nanoseconds)


def _number(fields: dict[int, bytes], kind: int, default: int) -> int:
    return int.from_bytes(fields[kind], "big") if kind in fields else default


def _malformed(detail: str) -> Malformed:
    return Malformed(DropReason.HANDSHAKE_MALFORMED, detail)
