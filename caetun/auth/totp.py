"""`totp`: a code of six digits that changes every 30 s, as a second factor (RFC 6238). Each code is good once."""

from __future__ import annotations

import base64
import binascii
import hmac
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from caetun.auth.base import CODE, WRONG, Claim, Denied

# fixed by the specification
STEP: Final = 30
"""Seconds (RFC 6238, section 4.1)."""
DIGITS: Final = 6

# chosen by us
WINDOW: Final = 1
"""Steps before and after the present one whose code is taken: clocks differ, and people type (section 5.2)."""
SECRET_SIZE: Final = 20
"""Bytes: as long as the hash (RFC 4226, section 4, R6)."""


def hotp(secret: bytes, counter: int, digits: int = DIGITS, algorithm: str = "sha1") -> str:
    """The code for a counter (RFC 4226, section 5.3)."""
    digest = hmac.digest(secret, counter.to_bytes(8, "big"), algorithm)
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def totp(secret: bytes, wall: float, digits: int = DIGITS, algorithm: str = "sha1") -> str:
    """The code at a time, in seconds since 1970 (RFC 6238, section 4.2)."""
    return hotp(secret, int(wall) // STEP, digits, algorithm)


def decode_secret(text: str) -> bytes:
    """A secret in Base32, spaces and small letters allowed; raises ValueError."""
    plain = text.replace(" ", "").rstrip("=").upper()
    try:
        secret = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except binascii.Error:
        raise ValueError("is not Base32") from None
    if len(secret) < 10:
        raise ValueError("is too short: give 80 bits or more")
    return secret


def encode_secret(secret: bytes) -> str:
    """Base32, without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def uri(secret: bytes, user: str, issuer: str = "CaeTun") -> str:
    """What authenticator apps read from a QR code."""
    return f"otpauth://totp/{quote(issuer)}:{quote(user)}?secret={encode_secret(secret)}&issuer={quote(issuer)}"


class OneTimeCode:
    """Agrees with the code of the user that the modules before have found."""

    name = "totp"
    fields = (CODE,)

    def __init__(self, secrets: Callable[[str], bytes | None]) -> None:
        """`secrets`: by user; None if there is none."""
        self._secrets = secrets
        self._used: dict[str, int] = {}
        """The last step that was used, by user: no more than have secrets."""
        self._lock = threading.Lock()

    def check(self, claim: Claim) -> str:
        """See `Method`. A user without a secret of its own does not come in."""
        secret = self._secrets(claim.user)
        given = claim.values.get(CODE.name, "").replace(" ", "")
        now = int(claim.wall) // STEP
        steps = range(now - WINDOW, now + WINDOW + 1)
        # All are computed and compared, found or not: the time tells nothing.
        codes = [hotp(secret or bytes(SECRET_SIZE), step) for step in steps]
        found = [step for step, code in zip(steps, codes, strict=True) if hmac.compare_digest(code, _ascii(given))]
        if secret is None:
            raise Denied(note="no code is set up for this user: caetun passwd --totp")
        with self._lock:
            fresh = [step for step in found if step > self._used.get(claim.user, -1)]
            if not fresh:
                raise Denied(WRONG, "code used before" if found else "wrong code")
            self._used[claim.user] = fresh[0]
        return ""


def _ascii(text: str) -> str:
    """`compare_digest` takes nothing else."""
    return text if text.isascii() else ""
