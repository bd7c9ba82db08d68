"""A chain of modules decides."""

from __future__ import annotations

import dataclasses

import pytest

from caetun.auth.base import CODE, PASSWORD, USER, WRONG, Claim, Denied, decide, fields_of
from caetun.auth.key import KnownKey
from caetun.wire.authentication import Field
from tests.auth.claims import claim, denied


@dataclasses.dataclass
class Says:
    """A module that always says the same."""

    user: str
    name: str = "says"
    fields: tuple[Field, ...] = (USER,)
    heard: str = ""

    def check(self, claim: Claim) -> str:
        self.heard = claim.user
        return self.user


def test_the_user_is_handed_on() -> None:
    first, second, third = Says(""), Says("alice"), Says("")
    assert decide([first, second, third], claim()) == "alice"
    assert (first.heard, second.heard, third.heard) == ("", "", "alice")
    assert decide([], claim()) == ""


def test_modules_that_speak_of_two_users() -> None:
    with pytest.raises(Denied) as caught:
        decide([Says("alice"), Says("bob")], claim())
    assert (str(caught.value), caught.value.note) == (WRONG, "says says bob, those before it alice")


def test_each_field_is_asked_for_once() -> None:
    assert fields_of([Says("", fields=(USER, PASSWORD)), Says("", fields=(USER, CODE))]) == (USER, PASSWORD, CODE)


def test_a_known_key() -> None:
    assert KnownKey().check(claim()) == ""
    assert denied(KnownKey(), claim(known=False)).why == "this key is not known here"


def test_a_claim_does_not_show_its_answers() -> None:
    assert "sesame" not in repr(claim(password="sesame"))
