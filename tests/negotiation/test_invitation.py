"""The line that invites: what it says survives, and what is no such line is told without repeating it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.endpoint import parse_remote
from caetun.errors import ConfigurationError
from caetun.negotiation.invitation import Invitation, parse_invitation
from caetun.types import Mode

PLACES = tuple(
    parse_remote(text) for text in ("udp://hub.example:443", "tcp://[2001:db8::1]:4500", "wss://hub.example/a/b")
)
LINE = str(Invitation(PLACES, bytes(range(32)), bytes(range(32, 64)), "alice", Mode.TAP))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.sampled_from(Mode))
def test_it_survives(hub: bytes, token: bytes, mode: Mode) -> None:
    invitation = Invitation(PLACES, hub, token, "al.i-c_e", mode)
    assert parse_invitation(f" {invitation}\n") == invitation


def test_it_is_one_line_that_a_person_can_read() -> None:
    assert LINE.startswith(
        "caetun://join?to=udp://hub.example:443&to=tcp://[2001:db8::1]:4500&to=wss://hub.example:443/a/b&"
    )
    assert LINE.endswith("&name=alice&mode=tap")
    assert "'" not in LINE
    assert " " not in LINE


@pytest.mark.parametrize(
    "line",
    [
        "",
        "caetun://",
        LINE.replace("caetun", "https"),
        LINE[:-9],
        LINE.replace("token=", "taken="),
        LINE.replace("tap", "tip"),
        LINE.replace("name=alice", "name=a/b"),
        LINE.replace("udp://hub.example:443", "hub.example:443"),
        LINE.replace("udp://", "gopher://"),
        LINE.replace("&hub=", "&hub=A"),
        LINE + "&x=" + "y" * 2048,
        LINE + "&z=1" * 40,
    ],
)
def test_what_is_none_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_invitation(line)
    assert "invitation" in str(refused.value)
    assert LINE[100:120] not in str(refused.value)


@given(st.text(max_size=80))
def test_the_parser_is_total(tail: str) -> None:
    try:
        parse_invitation("caetun://join?" + tail)
    except ConfigurationError:
        return
    raise AssertionError("nobody guesses an invitation")
