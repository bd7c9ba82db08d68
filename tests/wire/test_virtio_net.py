"""The virtio_net_hdr's layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD, VnetHeader


def test_fields_are_little_endian_in_the_order_of_the_specification() -> None:
    header = VnetHeader.decode(bytes.fromhex("01 04 4200 a805 3600 1000"))
    assert header == VnetHeader(NEEDS_CSUM, 4, hdr_len=0x42, gso_size=0x5A8, csum_start=0x36, csum_offset=0x10)


def test_no_offload_is_all_zero() -> None:
    assert VnetHeader.decode(NO_OFFLOAD) == VnetHeader(0, 0, 0, 0, 0, 0)


@given(st.binary(min_size=10, max_size=10))
def test_encode_mirrors_decode(header: bytes) -> None:
    assert VnetHeader.decode(memoryview(header)).encode() == header


@given(st.binary(max_size=9))
def test_a_short_header_is_malformed(header: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        VnetHeader.decode(header)
    assert caught.value.reason is DropReason.OFFLOAD_INVALID
