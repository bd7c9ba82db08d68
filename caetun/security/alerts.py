"""What TLS alerts (RFC 8446, section 6) about a certificate mean to a person."""

from __future__ import annotations

from typing import Final

# fixed by the specification
WORDS: Final = {
    "bad_certificate": "its certificate is damaged",
    "unsupported_certificate": "its certificate is not meant for this use",
    "certificate_revoked": "its certificate is revoked",
    "certificate_expired": "its certificate has expired, or is not valid yet",
    "certificate_unknown": "its certificate is not accepted",
    "unknown_ca": "its certificate is of an unknown authority: compare --ca of both sides",
    "access_denied": "access denied",
    "certificate_required": "it has shown no certificate",
}
"""Alerts by which a side says that it does not take the other's certificate."""


def words(alert: str) -> str | None:
    """For an alert's name as the RFC spells it; None if it is not about a certificate."""
    return WORDS.get(alert)
