"""Cutting frames to the room of a datagram."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.offload.cut import LEAST_PIECE, Cutter
from caetun.types import DropReason, Drops, Mode
from caetun.wire.element import FRAGMENT, FRAGMENT_FIELDS, FRAME, HEAD, SEGMENT, SEGMENT_FIELDS
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.offload.superframes import TCP, UDP, Superframe, superframes


def _kinds(elements: list[bytes]) -> list[int]:
    """The kind of each element, after comparing the length in its head with its own."""
    heads = [HEAD.unpack_from(element)[0] for element in elements]
    assert [head & 0xFFFFFF for head in heads] == [len(element) - HEAD.size for element in elements]
    return [head >> 24 for head in heads]


def _segments_plainly(made: Superframe, room: int) -> list[bytes]:
    """What docs/wire.md, section 4.1, asks for, without haste."""
    piece = room - 4 - 20 - made.headers
    if made.protocol == UDP:
        piece -= piece % made.gso_size
    elements = []
    for at in range(0, len(made.payload), piece):
        run = made.payload[at : at + piece]
        fields = SEGMENT_FIELDS.pack(1, at, len(made.payload), made.headers)
        body = fields + made.header + made.frame[: made.headers] + run
        elements.append(HEAD.pack(SEGMENT << 24 | len(body)) + body)
    return elements


@given(superframes(), st.integers(256, 4000))
def test_superframes_are_cut_as_the_format_says(made: Superframe, room: int) -> None:
    elements = Cutter(made.mode).cut(memoryview(made.frame), made.header, room)
    assert all(len(element) <= room for element in elements)
    if set(_kinds(elements)) == {SEGMENT}:
        assert elements == _segments_plainly(made, room)
        assert room - 24 - made.headers >= (LEAST_PIECE if made.protocol == TCP else made.gso_size)
    elif made.protocol == TCP:
        assert room - 24 - made.headers < LEAST_PIECE
    else:
        assert room - 24 - made.headers < made.gso_size


@given(superframes(TCP), st.integers(700, 4000))
def test_all_elements_of_tcp_but_the_last_fill_the_room(made: Superframe, room: int) -> None:
    elements = Cutter(made.mode).cut(made.frame, made.header, room)
    assert set(_kinds(elements)) == {SEGMENT}
    assert {len(element) for element in elements[:-1]} <= {room}


def test_every_frame_gets_an_id_of_its_own_and_they_wrap() -> None:
    cutter = Cutter(Mode.TAP)
    cutter._ident = (1 << 32) - 2
    made = Superframe()
    idents = [int.from_bytes(cutter.cut(made.frame, made.header, 1440)[0][4:8], "big") for _ in range(3)]
    assert idents == [(1 << 32) - 1, 0, 1]


def test_hdr_len_may_be_wrong() -> None:
    made = Superframe()
    wrong = made.header[:2] + b"\x01\x00" + made.header[4:]
    assert Cutter(Mode.TAP).cut(made.frame, wrong, 1440) == Cutter(Mode.TAP).cut(made.frame, made.header, 1440)


def test_a_full_size_tcp_frame_with_open_checksum_is_cut_like_a_superframe() -> None:
    made = Superframe(payload=bytes(1448), gso_size=0)
    assert _kinds(Cutter(Mode.TAP).cut(made.frame, made.header, 1440)) == [SEGMENT, SEGMENT]


def test_nothing_refers_to_the_frame_afterwards() -> None:
    made = Superframe()
    frame = bytearray(made.frame)
    elements = Cutter(Mode.TAP).cut(memoryview(frame), made.header, 1440)
    frame[:] = bytes(len(frame))
    assert elements == _segments_plainly(made, 1440)


def test_udp_datagrams_too_large_for_the_room_are_segmented_and_then_fragmented() -> None:
    made = Superframe(UDP, payload=bytes(3100), gso_size=1500)
    elements = Cutter(Mode.TAP).cut(made.frame, made.header, 1440)
    assert _kinds(elements) == [FRAGMENT, FRAGMENT, FRAGMENT, FRAGMENT, FRAME]
    assert elements[-1][HEAD.size :] == made.packets()[-1]
    first = elements[0][12:] + elements[1][12:]
    assert first == NO_OFFLOAD + made.packets()[0]


def test_headers_too_long_for_the_room_are_no_obstacle() -> None:
    made = Superframe(version=6, extensions=((60, 30),), payload=bytes(3000))
    elements = Cutter(Mode.TAP).cut(made.frame, made.header, 256)
    assert set(_kinds(elements)) == {FRAGMENT}
    assert max(map(len, elements)) == 256
    alone = replace(made, gso_size=0)
    assert set(_kinds(Cutter(Mode.TAP).cut(alone.frame, alone.header, 256))) == {FRAGMENT}


def test_a_piece_of_tcp_is_worth_repeating_the_headers_for() -> None:
    made = Superframe(ip_options=bytes(40), tcp_options=bytes(40))
    least = 24 + made.headers + LEAST_PIECE
    assert set(_kinds(Cutter(Mode.TAP).cut(made.frame, made.header, least))) == {SEGMENT}
    assert SEGMENT not in _kinds(Cutter(Mode.TAP).cut(made.frame, made.header, least - 1))


@given(st.integers(1400, 9000), st.integers(256, 1400), st.booleans())
def test_everything_else_is_fragmented_with_its_header(size: int, room: int, open_checksum: bool) -> None:
    made = Superframe(UDP, payload=random.Random(size).randbytes(size), gso_size=size)
    header = made.part_header(0, 1) if open_checksum else NO_OFFLOAD
    elements = Cutter(Mode.TAP).cut(made.frame, header, room)
    assert set(_kinds(elements)) == {FRAGMENT}
    fields = [FRAGMENT_FIELDS.unpack_from(element, HEAD.size) for element in elements]
    assert {(ident, total) for ident, _, total in fields} == {(1, 10 + len(made.frame))}
    assert all(one[1] < two[1] for one, two in pairwise(fields))
    assert b"".join(element[12:] for element in elements) == header + made.frame


@pytest.mark.parametrize(
    ("frame", "header", "reason"),
    [
        (bytes(65526), NO_OFFLOAD, DropReason.FRAME_OVERSIZE),
        (Superframe().frame, replace(Superframe(), gso_size=1).header, DropReason.OFFLOAD_INVALID),
    ],
)
def test_what_cannot_be_carried_is_counted(frame: bytes, header: bytes, reason: DropReason) -> None:
    drops = Drops()
    assert Cutter(Mode.TAP, drops).cut(frame, header, 1440) == []
    assert drops == {reason: 1}


@given(st.binary(max_size=3000), st.binary(min_size=10, max_size=10), st.sampled_from(Mode), st.integers(256, 2000))
def test_total(frame: bytes, header: bytes, mode: Mode, room: int) -> None:
    elements = Cutter(mode).cut(frame, header, room)
    assert all(len(element) <= room for element in elements)
