"""The element that stands for a container: what is carried, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.compressed import MAX_INFLATED, decode, encode
from caetun.wire.element import COMPRESSED


@given(st.integers(0, 255), st.integers(1, MAX_INFLATED), st.binary(min_size=1, max_size=500))
def test_it_survives(method: int, length: int, packed: bytes) -> None:
    container = encode(method, length, packed)
    assert container[0] == COMPRESSED
    assert int.from_bytes(container[1:4], "big") == len(container) - 4
    assert decode(container[4:]) == (method, length, packed)


def test_bytes_on_the_wire() -> None:
    assert encode(1, 1000, b"abc") == b"\x07\x00\x00\x07" + b"\x00\x03\xe8\x01" + b"abc"


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\1", b"\0\0\1\0", b"\0\0\0\0abc", b"\0\xff\xf1\0abc", b"\xff\xff\xff\0abc"]
)
def test_refused(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        decode(body)
    assert caught.value.reason is DropReason.COMPRESSION_MALFORMED


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_malformed(body: bytes) -> None:
    try:
        _, length, packed = decode(body)
    except Malformed:
        return
    assert 1 <= length <= MAX_INFLATED
    assert len(packed) == len(body) - 4
