"""Messages of the enrolment: JSON objects (docs/wire.md, section 8), checked against a schema."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from caetun.errors import Malformed
from caetun.types import DropReason

# fixed by the specification
VERSION: Final = 1
_KEY: Final = r"^[A-Za-z0-9+/]{43}=\Z"
"""Base64 of 32 bytes."""


class Enrol(msgspec.Struct, tag_field="type", tag="enrol", frozen=True):
    """The invited one's own public key."""

    key: Annotated[str, msgspec.Meta(pattern=_KEY)]
    version: Annotated[int, msgspec.Meta(ge=1, le=65535)] = VERSION


class Welcome(msgspec.Struct, tag_field="type", tag="welcome", frozen=True):
    """It is a peer now."""

    name: Annotated[str, msgspec.Meta(max_length=32)]


class Denied(msgspec.Struct, tag_field="type", tag="denied", frozen=True):
    """It is not."""

    reason: Annotated[str, msgspec.Meta(max_length=256)]


Enrolment: TypeAlias = Enrol | Welcome | Denied
_DECODER: Final = msgspec.json.Decoder(Enrolment)
_ENCODER: Final = msgspec.json.Encoder()


def encode(message: Enrolment) -> bytes:
    """The body of a message of kind ENROLMENT."""
    return _ENCODER.encode(message)


def decode(body: bytes) -> Enrolment:
    """Raises Malformed."""
    try:
        message: Enrolment = _DECODER.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Malformed(DropReason.CHANNEL_MALFORMED, str(error)) from None
    return message
