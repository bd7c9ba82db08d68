"""Segmentation and checksums in software, against packets built one by one."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.offload.segment import complete, segment
from caetun.types import DropReason, Mode
from caetun.wire.virtio_net import DATA_VALID, NO_OFFLOAD, VnetHeader
from tests.offload.superframes import UDP, Superframe, superframes, verified


@given(superframes())
def test_a_superframe_becomes_the_packets_it_stands_for(made: Superframe) -> None:
    if made.gso_size:
        assert segment(memoryview(made.frame), made.header, made.mode) == made.packets()
    else:
        assert segment(made.frame, made.header, made.mode) == [complete(made.frame, made.header)]


@given(superframes())
def test_dpkt_finds_all_lengths_and_checksums_right(made: Superframe) -> None:
    uppers = [verified(packet, made.mode) for packet in segment(made.frame, made.header, made.mode)]
    assert b"".join(upper.data for upper in uppers) == made.payload


def test_a_frame_without_offload_comes_back_alone() -> None:
    packet = Superframe().packets()[0]
    assert segment(packet, NO_OFFLOAD, Mode.TAP) == [packet]


@given(superframes(), st.integers(1, 1000))
def test_an_open_checksum_is_completed(made: Superframe, stop: int) -> None:
    stop = min(stop, len(made.payload))
    header = VnetHeader(1, 0, 0, 0, made.transport, 6 if made.protocol == UDP else 16).encode()
    packet = complete(memoryview(made.part(0, stop)), header)
    assert verified(packet, made.mode).data == made.payload[:stop]


def test_a_checksum_that_is_not_open_is_left_as_it_is() -> None:
    packet = Superframe().packets()[0]
    assert complete(packet, VnetHeader(DATA_VALID, 0, 0, 0, 0, 0).encode()) == packet


def _udp_with_sum_zero() -> Superframe:
    """A datagram whose checksum computes to zero: its payload's second word is chosen so."""
    made = Superframe(UDP, payload=bytes(4), gso_size=4)
    check = made.part(0, 4, complete=True)[made.transport + 6 : made.transport + 8]
    return replace(made, payload=check + bytes(2))


def test_a_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    made = _udp_with_sum_zero()
    for packets in (segment(made.frame, made.header, Mode.TAP), [complete(made.frame, made.header)]):
        assert packets[0][made.transport + 6 : made.transport + 8] == b"\xff\xff"
        verified(packets[0], Mode.TAP)


@pytest.mark.parametrize("size", [0, 34, 51])
def test_a_checksum_behind_the_end_is_refused(size: int) -> None:
    made = Superframe()
    with pytest.raises(Malformed) as caught:
        complete(made.frame[:size], made.header)
    assert caught.value.reason is DropReason.OFFLOAD_INVALID


def test_a_superframe_whose_header_does_not_fit_is_refused() -> None:
    made = Superframe()
    with pytest.raises(Malformed) as caught:
        segment(made.frame, replace(made, gso_size=3).header, Mode.TAP)
    assert caught.value.reason is DropReason.OFFLOAD_INVALID


@given(st.binary(max_size=80), st.binary(max_size=12), st.sampled_from(Mode))
def test_total(frame: bytes, header: bytes, mode: Mode) -> None:
    with contextlib.suppress(Malformed):
        assert segment(frame, header, mode)
