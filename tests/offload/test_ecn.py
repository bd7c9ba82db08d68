"""Congestion marks: only where both ends take them, in every kind of frame, with a checksum that stays right."""

from __future__ import annotations

import struct
from dataclasses import replace

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.offload.ecn import CE, mark
from caetun.types import Mode
from tests.offload.superframes import Superframe, superframes


def with_ecn(whole: Superframe, codepoint: int) -> bytearray:
    """The superframe with this codepoint in its IP header, whose checksum is right."""
    frame = bytearray(whole.frame)
    at = whole.network
    if whole.version == 6:
        frame[at + 1] = frame[at + 1] & ~0x30 | codepoint << 4
        return frame
    frame[at + 1] = frame[at + 1] & ~3 | codepoint
    frame[at + 10 : at + 12] = b"\0\0"
    size = (frame[at] & 15) * 4
    struct.pack_into(">H", frame, at + 10, dpkt.in_cksum(bytes(frame[at : at + size])))
    return frame


@given(superframes(), st.integers(0, 3))
def test_marks_are_taken_by_those_who_said_so(whole: Superframe, codepoint: int) -> None:
    frame = with_ecn(whole, codepoint)
    expected = with_ecn(whole, CE if codepoint else 0)
    assert mark(frame, whole.mode) == bool(codepoint)
    assert frame == expected


@given(superframes())
def test_a_frame_cut_short_stays_as_it_is(whole: Superframe) -> None:
    frame = with_ecn(whole, 1)
    for size in range(whole.transport):
        short = frame[:size]
        assert not mark(short, whole.mode)
        assert short == frame[:size]


def test_what_is_not_ip_stays_as_it_is() -> None:
    whole = Superframe(mode=Mode.TAP)
    for frame in (with_ecn(whole, 1), with_ecn(replace(whole, version=6), 1)):
        frame[12:14] = b"\x08\x06"
        before = bytes(frame)
        assert not mark(frame, Mode.TAP)
        assert frame == before


@pytest.mark.parametrize("mode", Mode)
@given(frame=st.binary(max_size=120))
def test_garbage_is_no_reason_to_fail(mode: Mode, frame: bytes) -> None:
    copy = bytearray(frame)
    if not mark(copy, mode):
        assert copy == frame
