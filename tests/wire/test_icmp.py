"""ICMP errors: about what, and what is in them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.wire.icmp import Error, answerable, encode
from tests.l3.packets import packet, told

ME, YOU = "192.0.2.1", "198.51.100.2"
ME6, YOU6 = "2001:db8::1", "2001:db8:1::2"


def icmp(kind: int, *, six: bool = False) -> bytes:
    raw = bytearray(packet(*((ME6, YOU6) if six else (ME, YOU)), protocol=58 if six else 1))
    raw[40 if six else 20] = kind
    return bytes(raw)


def fragment(offset: int) -> bytes:
    raw = packet(ME, YOU)
    return raw[:6] + struct.pack(">H", 0x2000 | offset) + raw[8:]


def fragment6(offset: int) -> bytes:
    raw = packet(ME6, YOU6)
    return raw[:6] + bytes((44,)) + raw[7:40] + struct.pack(">BBHI", 17, 0, offset << 3 | 1, 7) + raw[40:]


@pytest.mark.parametrize(
    "raw",
    [packet(ME, YOU), packet(ME6, YOU6), icmp(8), icmp(0), icmp(128, six=True), fragment(0), fragment6(0)],
    ids=["udp", "udp6", "echo", "reply", "echo6", "first fragment", "first fragment6"],
)
def test_an_error_about_an_ordinary_packet(raw: bytes) -> None:
    assert answerable(raw, 0)
    assert answerable(bytes(14) + raw, 14)


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_no_error_about_an_error(kind: int) -> None:
    assert not answerable(icmp(kind), 0)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 127, 137])
def test_no_error_about_an_error_of_ipv6(kind: int) -> None:
    assert not answerable(icmp(kind, six=True), 0)


@pytest.mark.parametrize(
    "raw",
    [
        *(fragment(1), fragment6(1), icmp(8)[:20], icmp(128, six=True)[:40]),
        *(packet(ME, "224.0.0.1"), packet(ME, "255.255.255.255"), packet(ME6, "ff02::1")),
        *(packet("0.0.0.0", YOU), packet("127.0.0.1", YOU), packet("239.0.0.1", YOU), packet("255.255.255.255", YOU)),
        *(packet("::", YOU6), packet("::1", YOU6), packet("ff02::1", YOU6)),
    ],
)
def test_no_error_about_what_is_of_many_or_of_nobody(raw: bytes) -> None:
    assert not answerable(raw, 0)


@given(st.binary(max_size=100), st.integers(0, 0xFF), st.integers(0, 20))
def test_whatever_it_is_there_is_a_decision(noise: bytes, first: int, at: int) -> None:
    assert answerable(bytes(at) + bytes((first,)) + noise, at) in (True, False)


@pytest.mark.parametrize("size", [60, 500, 1500, 60_000])
def test_it_quotes_as_much_as_it_may(size: int) -> None:
    raw = packet(ME, YOU, size)
    answer = encode(Error.TOO_BIG, bytes((10, 0, 0, 1)), raw, 1400)
    assert told(answer) == ("10.0.0.1", ME, 3, 4, 1400, raw[:548])
    assert len(answer) <= 576
    raw = packet(ME6, YOU6, size)
    answer = encode(Error.TOO_BIG, bytes(15) + b"\7", raw, 1400)
    assert told(answer) == ("::7", ME6, 2, 0, 1400, raw[:1232])
    assert len(answer) <= 1280


@pytest.mark.parametrize(
    ("error", "four", "six"),
    [
        (Error.NO_ROUTE, (3, 0), (1, 0)),
        (Error.HOST, (3, 1), (1, 3)),
        (Error.PROHIBITED, (3, 13), (1, 1)),
        (Error.EXPIRED, (11, 0), (3, 0)),
        (Error.TOO_BIG, (3, 4), (2, 0)),
    ],
)
def test_types_and_codes(error: Error, four: tuple[int, int], six: tuple[int, int]) -> None:
    assert told(encode(error, bytes(4), packet(ME, YOU)))[2:4] == four
    assert told(encode(error, bytes(16), packet(ME6, YOU6)))[2:4] == six
