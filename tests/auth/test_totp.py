"""One-time codes: window, reuse, unknown users. The published values are in conformance/."""

from __future__ import annotations

import pytest

from caetun.auth.base import WRONG
from caetun.auth.totp import STEP, OneTimeCode, decode_secret, encode_secret, totp, uri
from tests.auth.claims import WALL, claim, denied

SECRETS = {"alice": bytes(range(20)), "bob": bytes(range(20, 40))}


def at(steps: float, user: str = "alice") -> str:
    """The code of some steps from now."""
    return totp(SECRETS[user], WALL + steps * STEP)


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_clocks_may_differ_by_a_step(steps: int) -> None:
    assert OneTimeCode(SECRETS.get).check(claim(user="alice", code=at(steps))) == ""


@pytest.mark.parametrize("steps", [-2, 2, 1000])
def test_but_not_by_more(steps: int) -> None:
    assert denied(OneTimeCode(SECRETS.get), claim(user="alice", code=at(steps))).why == WRONG


def test_a_code_is_good_once() -> None:
    method = OneTimeCode(SECRETS.get)
    method.check(claim(user="alice", code=at(0)))
    assert denied(method, claim(user="alice", code=at(0))).note == "code used before"
    assert denied(method, claim(user="alice", code=at(-1))).note == "code used before"  # nor is an older one
    method.check(claim(user="alice", code=at(1)))
    method.check(claim(user="bob", code=at(0, "bob")))


@pytest.mark.parametrize("code", ["", "000000", "12345", "1234567", "abcdef", "١٢٣٤٥٦"])
def test_what_is_no_code(code: str) -> None:
    assert denied(OneTimeCode(SECRETS.get), claim(user="alice", code=code)).why == WRONG


def test_people_put_a_space_in_the_middle() -> None:
    assert OneTimeCode(SECRETS.get).check(claim(user="alice", code=f"{at(0)[:3]} {at(0)[3:]}")) == ""


def test_who_has_no_secret_hears_the_same() -> None:
    stranger = denied(OneTimeCode(SECRETS.get), claim(user="carol", code=totp(bytes(20), WALL)))
    assert (stranger.why, stranger.note) == (WRONG, "no code is set up for this user: caetun passwd --totp")


def test_secrets_as_text() -> None:
    text = encode_secret(SECRETS["alice"])
    assert decode_secret(text) == decode_secret(f" {text[:4].lower()} {text[4:]}") == SECRETS["alice"]
    assert uri(SECRETS["alice"], "a b") == f"otpauth://totp/CaeTun:a%20b?secret={text}&issuer=CaeTun"
    for wrong in ("", "1", "JBSWY3DP", "!"):
        with pytest.raises(ValueError, match=r"is not Base32|is too short"):
            decode_secret(wrong)
