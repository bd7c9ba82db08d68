"""The Internet checksum against a plain loop over words, as RFC 1071, section 1, describes it."""

from __future__ import annotations

import dpkt
from hypothesis import given
from hypothesis import strategies as st

from caetun.wire.checksum import adjusted, adjusted_sum, checksum, exchanged, exchanged_sum, fold, ones_sum

_WORDS = st.integers(0, 0xFFFF)


def _plain_sum(data: bytes, start: int = 0) -> int:
    """Add word by word, and each carry at once."""
    total = start
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_zero_is_zero_only_if_every_word_is() -> None:
    assert ones_sum(bytes(6)) == 0
    assert ones_sum(b"\xff\xff") == 0xFFFF
    assert ones_sum(b"\xff\xfe\x00\x01") == 0xFFFF


@given(st.binary(max_size=300), _WORDS)
def test_as_the_plain_loop(data: bytes, start: int) -> None:
    assert ones_sum(memoryview(data), start) == _plain_sum(data, start)


@given(st.binary(min_size=1, max_size=300))
def test_as_dpkt(data: bytes) -> None:
    assert checksum(data) == dpkt.in_cksum(data)


@given(st.integers(0, 0xFFFF * 0x10000))
def test_fold_keeps_the_sum_modulo_ffff(number: int) -> None:
    assert fold(number) <= 0xFFFF
    assert fold(number) % 0xFFFF == number % 0xFFFF


@given(st.binary(min_size=18, max_size=18), _WORDS, _WORDS)
def test_mending_a_checksum_equals_computing_it_anew(rest: bytes, old: int, new: int) -> None:
    rest = b"\x45" + rest[1:]  # some word is never zero, as in every header
    before = checksum(old.to_bytes(2, "big") + rest)
    assert adjusted(before, old, new) == checksum(new.to_bytes(2, "big") + rest)


def test_the_example_of_rfc_1624() -> None:
    assert adjusted(0xDD2F, old=0x5555, new=0x3285) == 0x0000


@given(st.binary(min_size=8, max_size=40), _WORDS, _WORDS)
def test_mending_a_partial_sum_equals_computing_it_anew(rest: bytes, old: int, new: int) -> None:
    rest = b"\x0a" + rest[1:]
    before = ones_sum(rest, old)
    assert adjusted_sum(before, old, new) == ones_sum(rest, new)


@given(st.binary(min_size=2, max_size=60), st.data())
def test_bytes_exchanged_anywhere(data: bytes, draw: st.DataObject) -> None:
    """RFC 1624, section 3: of what is not all zero, and that no real packet is."""
    at = draw.draw(st.integers(0, len(data) - 1))
    new = draw.draw(st.binary(min_size=1, max_size=len(data) - at))
    other = data[:at] + new + data[at + len(new) :]
    head = b"\x45\0"
    old, odd = data[at : at + len(new)], bool(at & 1)
    assert exchanged(checksum(head + data), old, new, odd) == checksum(head + other)
    assert exchanged_sum(ones_sum(head + data), old, new, odd) == ones_sum(head + other)
