"""Messages of the authentication stage on the control channel (docs/wire.md, section 9): JSON objects in UTF-8.

    asks      {"type": "ask", "nonce": hex, "fields": [{"name": "user", "secret": false}, ...]}
    answers   {"type": "answer", "nonce": hex, "values": {"user": "alice", ...}}
    decides   {"type": "accepted", "user": "alice"}    or    {"type": "refused", "why": "..."}

Unknown members are ignored, so that a later version may add some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.types import DropReason

# fixed by the specification
NONCE_SIZE: Final = 32
"""Bytes."""
MAX_FIELDS: Final = 16
MAX_VALUE: Final = 12_000
"""Characters of a value: a chain of three certificates."""
MAX_TEXT: Final = 200
"""Characters of a name or reason."""
_FIELD: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NONCE: Final = re.compile(f"[0-9a-f]{{{2 * NONCE_SIZE}}}")


class Field(NamedTuple):
    """Something that is asked for."""

    name: str
    secret: bool
    """Whether it must not be shown while it is typed."""


class Ask(NamedTuple):
    """The side that was called wants to know who calls."""

    nonce: bytes
    fields: tuple[Field, ...]


class Reply(NamedTuple):
    """What was asked for."""

    nonce: bytes
    """That of the question."""
    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Reply({', '.join(self.values)})"


class Accepted(NamedTuple):
    """Come in."""

    user: str


class Denied(NamedTuple):
    """Stay out."""

    why: str


Message: TypeAlias = Ask | Reply | Accepted | Denied


def encode(message: Message) -> bytes:
    """The body of a message on the control channel."""
    match message:
        case Ask(nonce, fields):
            asked = [{"name": name, "secret": secret} for name, secret in fields]
            shape: dict[str, Any] = {"type": "ask", "nonce": nonce.hex(), "fields": asked}
        case Reply(nonce, values):
            shape = {"type": "answer", "nonce": nonce.hex(), "values": dict(values)}
        case Accepted(user):
            shape = {"type": "accepted", "user": user}
        case Denied(why):
            shape = {"type": "refused", "why": why}
    return json.dumps(shape, separators=(",", ":")).encode()


def decode(body: bytes) -> Message:
    """The message; raises Malformed."""
    try:
        shape = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise _malformed("not JSON") from None
    if not isinstance(shape, dict):
        raise _malformed("not an object")
    match shape.get("type"):
        case "ask":
            return Ask(_nonce(shape), _fields(shape.get("fields")))
        case "answer":
            return Reply(_nonce(shape), _values(shape.get("values")))
        case "accepted":
            return Accepted(_text(shape.get("user")))
        case "refused":
            return Denied(_text(shape.get("why")))
    raise _malformed("unknown type")


def _nonce(shape: Mapping[str, Any]) -> bytes:
    text = shape.get("nonce")
    if not isinstance(text, str) or not _NONCE.fullmatch(text):
        raise _malformed("nonce")
    return bytes.fromhex(text)


def _fields(shape: Any) -> tuple[Field, ...]:
    if not isinstance(shape, list) or len(shape) > MAX_FIELDS:
        raise _malformed("fields")
    found = []
    for each in shape:
        name, secret = (each.get("name"), each.get("secret")) if isinstance(each, dict) else (None, None)
        if not isinstance(name, str) or not _FIELD.fullmatch(name) or not isinstance(secret, bool):
            raise _malformed("field")
        found.append(Field(name, secret))
    return tuple(found)


def _values(shape: Any) -> dict[str, str]:
    if not isinstance(shape, dict) or len(shape) > MAX_FIELDS:
        raise _malformed("values")
    for name, value in shape.items():
        if not _FIELD.fullmatch(name) or not isinstance(value, str) or len(value) > MAX_VALUE:
            raise _malformed("value")
        if not value.isascii() and not _encodable(value):
            raise _malformed("value")
    return shape


def _text(shape: Any) -> str:
    """Text that a person will read: one line, printable."""
    if not isinstance(shape, str) or len(shape) > MAX_TEXT:
        raise _malformed("text")
    return "".join(each if each.isprintable() else "?" for each in shape)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return False
    return True


def _malformed(detail: str) -> Malformed:
    return Malformed(DropReason.AUTH_MALFORMED, detail)
