"""One-time codes against the published values: RFC 4226, appendix D, and RFC 6238, appendix B."""

from __future__ import annotations

import pytest

from caetun.auth.totp import hotp, totp

SECRET = b"12345678901234567890"
LONG = b"1234567890" * 7
SECRETS = {"sha1": SECRET, "sha256": LONG[:32], "sha512": LONG[:64]}

HOTP = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]

TOTP = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]


@pytest.mark.parametrize(("counter", "code"), enumerate(HOTP))
def test_hotp(counter: int, code: str) -> None:
    assert hotp(SECRET, counter) == code


@pytest.mark.parametrize(("wall", "sha1", "sha256", "sha512"), TOTP)
def test_totp(wall: int, sha1: str, sha256: str, sha512: str) -> None:
    for algorithm, code in (("sha1", sha1), ("sha256", sha256), ("sha512", sha512)):
        assert totp(SECRETS[algorithm], wall, 8, algorithm) == code
