"""The first bytes of a connection say what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.wire.opening import Opening, opening


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"\x16\x03\x01\x02\x00", Opening.TLS),
        (b"\x16", Opening.TLS),
        (b"\x16\x02", Opening.GARBAGE),
        (b"GET / HTTP/1.1\r\n", Opening.HTTP),
        (b"P", Opening.HTTP),
        (b"\r\nGET", Opening.HTTP),
        (b"get /", Opening.GARBAGE),
        (b"\0\0\0\x94\x01", Opening.FRAMES),
        (b"\0\0\0\x20\x04rest", Opening.FRAMES),
        (b"\0\x01\x04\x10\x04", Opening.FRAMES),
        (b"", Opening.GARBAGE),
        (b"\0", Opening.GARBAGE),
        (b"\0\0\0\x94", Opening.GARBAGE),
        (b"\0\0\0\0\x01", Opening.GARBAGE),
        (b"\0\x02\0\0\x01", Opening.GARBAGE),
        (b"\x01\0\0\x94\x01", Opening.GARBAGE),
        (b"\0\0\0\x94\x05", Opening.GARBAGE),
        (b"\0\0\0\x94\0", Opening.GARBAGE),
        (b"\xff\xff", Opening.GARBAGE),
    ],
)
def test_openings(first: bytes, expected: Opening) -> None:
    assert opening(first) is expected


@given(st.binary())
def test_anything_is_something(first: bytes) -> None:
    assert opening(first) is opening(memoryview(first))
