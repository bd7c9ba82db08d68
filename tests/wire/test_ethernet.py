"""Finding the network header behind VLAN tags."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.ethernet import MAX_TAGS, TYPE_IPV4, TYPE_IPV6, network_header

_MACS = bytes(12)


def _frame(*types: int) -> bytes:
    """A frame with tags of these TPIDs, the last being its EtherType."""
    return _MACS + b"\0\x07".join(struct.pack(">H", kind) for kind in types) + bytes(40)


def test_without_a_tag() -> None:
    assert network_header(_frame(TYPE_IPV4)) == (TYPE_IPV4, 14)


def test_behind_customer_and_service_tags() -> None:
    assert network_header(_frame(0x8100, TYPE_IPV6)) == (TYPE_IPV6, 18)
    assert network_header(_frame(0x88A8, 0x8100, TYPE_IPV4)) == (TYPE_IPV4, 22)


def test_dpkt_finds_the_same() -> None:
    frame = _frame(0x88A8, 0x8100, 0x1234)
    tags = dpkt.ethernet.Ethernet(frame).vlan_tags
    assert network_header(frame) == (tags[-1].type, 14 + 4 * len(tags))


def test_one_tag_too_many_is_left_standing() -> None:
    assert network_header(_frame(*[0x8100] * MAX_TAGS, TYPE_IPV4)) == (TYPE_IPV4, 14 + 4 * MAX_TAGS)
    assert network_header(_frame(*[0x8100] * (MAX_TAGS + 1), TYPE_IPV4)) == (0x8100, 14 + 4 * MAX_TAGS)


@pytest.mark.parametrize("frame", [b"", _MACS, _frame(0x8100, TYPE_IPV4)[:17], _frame(0x8100, TYPE_IPV4)[:13]])
def test_a_frame_that_ends_before_its_type_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        network_header(frame)
    assert caught.value.reason is DropReason.FRAME_SHORT


@given(st.lists(st.sampled_from((0x8100, 0x88A8, 0x0800, 0)), max_size=12), st.binary(max_size=6))
def test_total(types: list[int], rest: bytes) -> None:
    frame = memoryview(_MACS + b"\0\0".join(struct.pack(">H", kind) for kind in types) + rest)
    try:
        ethertype, at = network_header(frame)
    except Malformed:
        return
    assert at <= len(frame)
    assert frame[at - 2] << 8 | frame[at - 1] == ethertype
