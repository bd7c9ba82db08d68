"""Messages of the authentication stage."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.wire.authentication import Accepted, Ask, Denied, Field, Message, Reply, decode, encode

NONCE = bytes(range(32))


@pytest.mark.parametrize(
    "message",
    [
        Ask(NONCE, (Field("user", False), Field("password", True))),
        Ask(NONCE, ()),
        Reply(NONCE, {"user": "zoë", "password": 'quote " and \\ and \n'}),
        Accepted("alice"),
        Accepted(""),
        Denied("wrong user, password or code"),
    ],
)
def test_messages_survive(message: Message) -> None:
    assert decode(encode(message)) == message


def test_what_is_unknown_is_ignored() -> None:
    assert decode(b'{"type": "accepted", "user": "alice", "colour": "red"}') == Accepted("alice")


def test_a_reply_does_not_show_what_is_in_it() -> None:
    assert repr(Reply(NONCE, {"user": "alice", "password": "sesame"})) == "Reply(user, password)"


def test_text_that_is_shown_to_people_is_printable() -> None:
    assert decode(encode(Denied("a\x1b[2Jb\nc"))) == Denied("a?[2Jb?c")


@pytest.mark.parametrize(
    "shape",
    [
        [],
        1,
        {},
        {"type": "greet"},
        {"type": "ask", "nonce": "00", "fields": []},
        {"type": "ask", "nonce": NONCE.hex().upper() + "x", "fields": []},
        {"type": "ask", "nonce": NONCE.hex()},
        {"type": "ask", "nonce": NONCE.hex(), "fields": [{"name": "User", "secret": False}]},
        {"type": "ask", "nonce": NONCE.hex(), "fields": [{"name": "user", "secret": 0}]},
        {"type": "ask", "nonce": NONCE.hex(), "fields": ["user"]},
        {"type": "ask", "nonce": NONCE.hex(), "fields": [{"name": "user", "secret": False}] * 17},
        {"type": "answer", "nonce": NONCE.hex(), "values": {"user": 1}},
        {"type": "answer", "nonce": NONCE.hex(), "values": {"user": "x" * 12_001}},
        {"type": "answer", "nonce": NONCE.hex(), "values": {"user": "\ud800"}},
        {"type": "answer", "nonce": NONCE.hex(), "values": {f"field-{n}": "" for n in range(17)}},
        {"type": "accepted"},
        {"type": "refused", "why": "x" * 201},
    ],
)
def test_malformed(shape: Any) -> None:
    with pytest.raises(Malformed):
        decode(json.dumps(shape).encode())


def test_nesting_without_end() -> None:
    with pytest.raises(Malformed):
        decode(b"[" * 16_000)


@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_else(garbage: bytes) -> None:
    with contextlib.suppress(Malformed):
        decode(garbage)


@given(
    st.recursive(st.none() | st.booleans() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_any_json_is_malformed_or_a_message(shape: Any) -> None:
    for kind in ("ask", "answer", "accepted", "refused"):
        body = {"type": kind, "nonce": NONCE.hex(), "fields": shape, "values": shape, "user": shape, "why": shape}
        with contextlib.suppress(Malformed):
            encode(decode(json.dumps(body).encode()))
