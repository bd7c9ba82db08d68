"""Methods of compression: what was deflated comes back, and what a far end makes up costs no more than it may."""

from __future__ import annotations

import resource

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from caetun.compression.base import Method
from caetun.compression.registry import BUILT_IN, find
from caetun.errors import Malformed
from caetun.types import DropReason

METHODS = [find(name) for name in BUILT_IN]
names = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
BOMB = bytes(1 << 28)
"""256 MiB that deflate to some KiB."""


@names
@given(plain=st.binary(min_size=1, max_size=3000) | st.builds(bytes, st.integers(1, 65520)))
def test_what_was_deflated_comes_back(method: Method, plain: bytes) -> None:
    packed = method.deflate(memoryview(bytearray(plain)))
    assert method.inflate(memoryview(packed), len(plain)) == plain


@names
def test_the_length_told_must_be_right(method: Method) -> None:
    packed = method.deflate(bytes(range(200)) * 7)
    for length in (1, 1399, 1401, 65520):
        with pytest.raises(Malformed) as caught:
            method.inflate(packed, length)
        assert caught.value.reason is DropReason.COMPRESSION_MALFORMED


@names
@given(garbage=st.binary(max_size=300), length=st.integers(1, 65520))
def test_garbage_is_refused_or_has_the_length_told(method: Method, garbage: bytes, length: int) -> None:
    try:
        plain = method.inflate(garbage, length)
    except Malformed:
        return
    assert len(plain) == length


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("lz4", lz4.block.compress(BOMB, store_size=False)),
        ("zstd", zstandard.ZstdCompressor().compress(BOMB)),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(BOMB)),
    ],
)
def test_a_bomb_takes_no_memory(name: str, packed: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        with pytest.raises(Malformed):
            find(name).inflate(packed, 65520)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


def test_a_frame_that_asks_for_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(bytes(1400)) + compressor.flush()
    assert zstandard.get_frame_parameters(packed).window_size == 1 << 27
    with pytest.raises(Malformed):
        find("zstd").inflate(packed, 1400)
