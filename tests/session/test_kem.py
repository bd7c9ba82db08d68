"""ML-KEM-768 as we use it."""

from __future__ import annotations

import hashlib
import sys

import pytest

from caetun.errors import Refused
from caetun.session import kem
from caetun.types import DropReason


def entropy(size: int) -> bytes:
    return hashlib.shake_128(b"seed").digest(size)


def test_both_sides_share_a_secret() -> None:
    key = kem.DecapsulationKey(entropy)
    shared, ciphertext = kem.encapsulate(key.public)
    assert (len(key.public), len(ciphertext), len(shared)) == (1184, 1088, 32)
    assert key.decapsulate(ciphertext) == shared
    assert kem.DecapsulationKey(entropy).public == key.public


def test_another_ciphertext_gives_another_secret() -> None:
    key = kem.DecapsulationKey(entropy)
    shared, ciphertext = kem.encapsulate(key.public)
    assert key.decapsulate(ciphertext[:-1] + bytes((ciphertext[-1] ^ 1,))) != shared


def test_what_is_no_key_or_ciphertext_is_refused() -> None:
    for attempt in (
        lambda: kem.encapsulate(b"\xff" * 1184),  # FIPS 203, section 7.2: coefficients beyond the modulus
        lambda: kem.encapsulate(b""),
        lambda: kem.DecapsulationKey(entropy).decapsulate(b"short"),
    ):
        with pytest.raises(Refused) as refused:
            attempt()
        assert refused.value.reason is DropReason.HANDSHAKE_KEM


def test_a_library_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kem.supported()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None)
    assert kem.supported.__wrapped__() is False
