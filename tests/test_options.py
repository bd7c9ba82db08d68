"""Kinds of values: bounds, units, and what TOML may hold."""

from __future__ import annotations

import base64
import datetime
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.options import (
    DEVICE,
    FILE,
    INTERFACE,
    MODE,
    PEER,
    SWITCH,
    DeviceRef,
    Kind,
    Option,
    choice,
    duration,
    integer,
)
from caetun.types import Mode

MTU = integer(576, 65500, "BYTES", "bytes")
KEEPALIVE = duration(1, 3600)


def option(kind: Kind, repeatable: bool = False) -> Option:
    return Option(kind, "general", "for tests", repeatable=repeatable, name="an_option")


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("10s", 10), ("2m", 120), ("1h", 3600), ("1.5", 1.5), (" 90 s ", 90), ("1", 1)]
)
def test_durations(text: str, seconds: float) -> None:
    assert KEEPALIVE.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1e3", "inf", "nan", "10ms", "1,5", "2 minutes", "0", "3601", "2h"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"1\.\.3600 s"):
        KEEPALIVE.parse(text)


@given(st.integers())
def test_whole_numbers_within_bounds_only(number: int) -> None:
    if 576 <= number <= 65500:
        assert MTU.parse(str(number)) == number
    else:
        with pytest.raises(ValueError, match=r"576\.\.65500 bytes"):
            MTU.parse(str(number))


@pytest.mark.parametrize("text", ["", "1 500", "1500.0", "0x5dc", "१५००", "1_500", "+1500"])
def test_whole_numbers_are_written_plainly(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        MTU.parse(text)


def test_a_choice_lists_what_there_is() -> None:
    kind = choice("text", "json")
    assert kind.parse("json") == "json"
    with pytest.raises(ValueError, match="'xml' is not known: give one of text, json"):
        kind.parse("xml")


def test_modes() -> None:
    assert MODE.parse("tap") is Mode.TAP
    with pytest.raises(ValueError, match=r"give tun .* or tap"):
        MODE.parse("bridge")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tun0", DeviceRef("tun0")),
        ("caetun%d", DeviceRef("caetun%d")),
        ("fd:7", DeviceRef(fd=7)),
        ("a" * 15, DeviceRef("a" * 15)),
    ],
)
def test_devices(text: str, meant: DeviceRef) -> None:
    assert DEVICE.parse(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize("text", ["", "a" * 16, "é" * 8, "a/b", "a b", ".", "..", "fd:", "fd:-1", "fd:x"])
def test_devices_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an interface name"):
        DEVICE.parse(text)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1/24", "10.0.0.1/32", "10.0.0.0/31", "10.0.0.1/255.255.255.0", "fd00::1/64", "fe80::1/64", "fd00::/128"],
)
def test_addresses(text: str) -> None:
    assert INTERFACE.parse(text) == ip_interface(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1", "no prefix length: write for example 10.0.0.1/24"),
        ("fd00::1", "no prefix length: write for example fd00::1/64"),
        ("10.0.0.1/33", "not an address"),
        ("hub.example/24", "not an address"),
        ("10.0.0.0/24", "whole network: .* 10.0.0.1/24"),
        ("10.0.0.255/24", "whole network"),
        ("fd00::/64", "whole network: .* fd00::1/64"),
        ("224.0.0.1/24", "cannot be a host's"),
        ("0.0.0.0/0", "cannot be a host's"),
        ("fe80::1%eth0/64", "cannot be a host's"),
    ],
)
def test_addresses_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        INTERFACE.parse(text)


def test_a_key_in_place_of_its_file_is_not_repeated() -> None:
    key = "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80="
    with pytest.raises(ValueError, match="holds a key, not the name of a file") as caught:
        FILE.parse(key)
    assert key not in str(caught.value)
    assert FILE.parse("/etc/caetun.key") == Path("/etc/caetun.key")
    with pytest.raises(ValueError, match="names no file"):
        FILE.parse("")


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (MTU, 1400, 1400),
        (MTU, "1400", 1400),
        (KEEPALIVE, 10, 10.0),
        (KEEPALIVE, 2.5, 2.5),
        (KEEPALIVE, "2m", 120.0),
        (SWITCH, True, True),
        (SWITCH, False, False),
    ],
)
def test_what_toml_may_hold(kind: Kind, raw: object, value: object) -> None:
    assert option(kind).read(raw) == value


@pytest.mark.parametrize(
    ("kind", "raw", "why"),
    [
        (MTU, True, "is true or false: give 576..65500 bytes"),
        (MTU, 1400.0, "is a number"),
        (MTU, {"bytes": 1400}, "is a table"),
        (MTU, datetime.date(2026, 1, 31), "is a date or time"),
        (KEEPALIVE, float("inf"), "not a duration"),
        (KEEPALIVE, float("nan"), "not a duration"),
        (KEEPALIVE, False, "is true or false"),
        (MODE, 1, "is a number: give tun, tap in quotes"),
        (MODE, ["tap"], "is a list"),
        (SWITCH, "true", "is a switch: give true or false, without quotes"),
        (SWITCH, 1, "is a switch"),
    ],
)
def test_what_toml_may_not_hold(kind: Kind, raw: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        option(kind).read(raw)


def test_a_repeatable_option_takes_one_or_a_list() -> None:
    many = option(MODE, repeatable=True)
    assert many.read("tap") == (Mode.TAP,)
    assert many.read(["tap", "tun"]) == (Mode.TAP, Mode.TUN)
    assert many.read([]) == ()
    with pytest.raises(ValueError, match="is a list"):
        many.read([["tap"]])


@pytest.mark.parametrize("words", ["", ",name=attic", ",name=attic,allowed=10.1.0.0/24+fd01::/64,isolated"])
@pytest.mark.parametrize("who", [base64.b64encode(bytes(range(32))).decode(), "cn:attic"])
def test_a_peer_is_shown_as_it_was_written(who: str, words: str) -> None:
    assert str(PEER.parse(who + words)) == who + words
