"""How QUIC says that a connection is over, in words."""

from __future__ import annotations

from typing import Final

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

# fixed by the specification
GOING: Final = 0x100
"""Application error code of an orderly end: H3_NO_ERROR (RFC 9114 section 8.1), as `h3` is what we announce."""
STRANGER: Final = 0x10B
"""What we tell whoever does not speak as a tunnel: H3_REQUEST_REJECTED, as a web server that does not want to."""
_CRYPTO_ERRORS: Final = range(0x100, 0x200)
"""Transport error codes that are TLS alerts (RFC 9001 section 4.8)."""

# chosen by us
MAX_REASON: Final = 100
"""Characters of what a far end says that are shown to a person."""
_MEANINGS: Final = {
    QuicErrorCode.NO_ERROR: "closed by the far end",
    QuicErrorCode.INTERNAL_ERROR: "an error inside the far end",
    QuicErrorCode.CONNECTION_REFUSED: "refused by the far end",
    QuicErrorCode.APPLICATION_ERROR: "closed by the far end during the handshake",
    QuicErrorCode.INVALID_TOKEN: "the far end did not accept its own token",
}


def words_for(event: ConnectionTerminated, remote: bool, idle: float) -> str:
    """Why a connection ended. `remote`: the far end said so; `idle`: seconds after which silence ends it."""
    reason = "".join(letter for letter in event.reason_phrase if letter.isprintable())[:MAX_REASON]
    code = event.error_code
    if reason == "Idle timeout" and not remote:
        return f"nothing heard for {idle:.0f} s"
    if code == QuicErrorCode.NO_VIABLE_PATH:
        return "the far end does not answer at its new address"
    if event.frame_type is None and remote:
        return f"closed by the far end: {reason}" if reason else "closed by the far end"
    who = "" if remote else "we found: "
    if code in _CRYPTO_ERRORS:
        return f"TLS: {who}{_alert(code)}" + (f": {reason}" if reason else "")
    if remote and code in _MEANINGS:
        meaning = _MEANINGS[QuicErrorCode(code)]
        return f"{meaning}: {reason}" if reason else meaning
    name = QuicErrorCode(code).name if code in list(QuicErrorCode) else f"error {code:#x}"
    return f"QUIC: {who}{name.lower().replace('_', ' ')}" + (f": {reason}" if reason else "")


def _alert(code: int) -> str:
    try:
        return AlertDescription(code - _CRYPTO_ERRORS.start).name.replace("_", " ")
    except ValueError:
        return f"alert {code - _CRYPTO_ERRORS.start}"
