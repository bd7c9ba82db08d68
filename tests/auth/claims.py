"""Claims for tests of modules."""

from __future__ import annotations

import pytest

from caetun.auth.base import Claim, Denied, Method

WALL = 1_700_000_000.0


def claim(*, user: str = "", known: bool = True, wall: float = WALL, certificate: bytes = b"", **values: str) -> Claim:
    """One with these answers; `user`: as the modules before have found."""
    key, target, nonce = b"k" * 32, b"t" * 32, b"n" * 32
    return Claim(key, target, known, "192.0.2.7", certificate, nonce, wall, values, user)


def denied(method: Method, given: Claim) -> Denied:
    """Why a module does not agree."""
    with pytest.raises(Denied) as caught:
        method.check(given)
    return caught.value
