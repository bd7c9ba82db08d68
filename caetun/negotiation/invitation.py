"""An invitation as one line: where the hub is, its key, and a token that is good for one enrolment.

    caetun://join?to=udp://hub.example:4500&hub=KEY&token=TOKEN&name=alice&mode=tap

The token is the private key of an identity that the hub lets in to enrol and to nothing else.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote

from caetun.endpoint import Endpoint, parse_remote
from caetun.errors import ConfigurationError
from caetun.types import Mode

# fixed by the specification (docs/wire.md, section 8)
SCHEME: Final = "caetun://join?"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")

# chosen by us
MAX_TEXT: Final = 2048
"""Characters: what a QR code of moderate size holds."""
MAX_PLACES: Final = 8


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the line says."""

    places: tuple[Endpoint, ...]
    """Where the hub is, best first."""
    hub: bytes
    """Its public key, 32 bytes."""
    token: bytes = field(repr=False)
    """32 bytes."""
    name: str
    mode: Mode

    def __str__(self) -> str:
        """The line. Whoever has it can enrol: it does not belong into logs."""
        fields = [("to", str(place)) for place in self.places]
        fields += [("hub", _key(self.hub)), ("token", _key(self.token)), ("name", self.name), ("mode", str(self.mode))]
        return SCHEME + "&".join(f"{word}={quote(value, safe=':/[]')}" for word, value in fields)


def _key(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def parse_invitation(text: str) -> Invitation:
    """Read a line; raises ConfigurationError, which does not repeat it."""
    line = text.strip()
    if not line.startswith(SCHEME) or len(line) > MAX_TEXT:
        raise ConfigurationError("not an invitation: give the whole line that `caetun invite` has printed, in quotes")
    try:
        fields = parse_qsl(line.removeprefix(SCHEME), max_num_fields=32, separator="&")
        single = dict(fields)
        places = tuple(parse_remote(value) for word, value in fields if word == "to")
        hub, token = (_decoded(single[word]) for word in ("hub", "token"))
        name, mode = single["name"], Mode(single["mode"])
        if not places or len(places) > MAX_PLACES or not all(place.scheme for place in places):
            raise ValueError
        if not _NAME.fullmatch(name):
            raise ValueError
    except (KeyError, ValueError):
        raise ConfigurationError(
            "the invitation is not complete: give the whole line that `caetun invite` has printed, in quotes"
        ) from None
    return Invitation(places, hub, token, name, mode)


def _decoded(text: str) -> bytes:
    """Raises ValueError."""
    try:
        key = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ValueError("not a key")
    return key
