"""Element heads and fields, byte by byte as docs/wire.md, section 4, has them."""

from __future__ import annotations

from caetun.wire.element import FRAGMENT, FRAGMENT_FIELDS, HEAD, SEGMENT, SEGMENT_FIELDS


def test_a_head_is_a_kind_and_three_bytes_of_length() -> None:
    assert HEAD.pack(SEGMENT << 24 | 0x010203) == bytes((4, 1, 2, 3))


def test_a_segment_begins_with_id_offset_total_and_header_length() -> None:
    assert SEGMENT_FIELDS.pack(1, 2, 3, 4) == bytes.fromhex("00000001 0002 0003 0004")


def test_a_fragment_begins_with_id_offset_and_total() -> None:
    assert HEAD.pack(FRAGMENT << 24) + FRAGMENT_FIELDS.pack(1, 2, 3) == bytes.fromhex("05000000 00000001 0002 0003")
