"""Opened containers: frames come out in order, garbage has a name, and the hot way does what the plain one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.offload.validate import validated_checksum
from caetun.session.unpacking import unpack
from caetun.types import DropReason, Drops
from caetun.wire.container import Batch
from caetun.wire.element import CONTROL, FRAGMENT, FRAME, FRAME_CHECKSUM, HEAD, PADDING, SEGMENT, SUPERFRAME
from caetun.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD, VnetHeader

SMALLEST = 20
Outcome: TypeAlias = tuple[list[tuple[str, int, bytes]], dict[DropReason, int], DropReason | None]
"""What came out in order (a frame and its header, or another element and its kind), what was dropped, how it ended."""
Unpack: TypeAlias = Callable[[bytes, Drops, list[tuple[str, int, bytes]]], None]


def hot(plain: bytes, drops: Drops, out: list[tuple[str, int, bytes]]) -> None:
    class Frames(list[tuple[bytes, memoryview]]):
        def append(self, iovec: tuple[bytes, memoryview]) -> None:
            out.append(("frame", 0, b"".join(iovec)))

    unpack(plain, SMALLEST, Frames(), drops, lambda kind, body: out.append(("other", kind, bytes(body))))  # type: ignore[arg-type]


def straight(plain: bytes, drops: Drops, out: list[tuple[str, int, bytes]]) -> None:
    """The plain version: docs/wire.md, section 4, sentence by sentence."""
    while plain and plain[0] != PADDING:
        if len(plain) < 4:
            raise Malformed(DropReason.CONTAINER_MALFORMED)
        kind, length = plain[0], int.from_bytes(plain[1:4], "big")
        if 4 + length > len(plain):
            raise Malformed(DropReason.CONTAINER_MALFORMED)
        body, plain = plain[4 : 4 + length], plain[4 + length :]
        if kind not in (FRAME, FRAME_CHECKSUM):
            out.append(("other", kind, body))
            continue
        frame = body if kind == FRAME else body[: max(0, length - 2)]
        if len(frame) < SMALLEST:
            drops.count(DropReason.FRAME_SHORT)
            continue
        try:
            header = NO_OFFLOAD if kind == FRAME else validated_checksum(len(frame), *body[-2:])
        except Malformed as bad:
            drops.count(bad.reason)
            continue
        out.append(("frame", 0, header + frame))


def outcome(way: Unpack, plain: bytes) -> Outcome:
    drops, out = Drops(), list[tuple[str, int, bytes]]()
    try:
        way(plain, drops, out)
    except Malformed as malformed:
        return out, dict(drops), malformed.reason
    return out, dict(drops), None


def element(kind: int, body: bytes) -> bytes:
    return HEAD.pack(kind << 24 | len(body)) + body


checksummed = st.tuples(
    st.sampled_from([bytes(20), bytes(30), bytes(40), bytes(60)]),
    st.sampled_from([b"\x14\x02", b"\x14\x02", b"\x14\x10", b"\x22\x10", b"\x00\x10", b"\xff\xff"]),
).map(lambda parts: element(FRAME_CHECKSUM, parts[0] + parts[1]))
others = st.sampled_from([SUPERFRAME, SEGMENT, FRAGMENT, CONTROL, 7, 255])
wellformed = st.one_of(
    checksummed,
    st.binary(max_size=40).map(lambda body: element(FRAME, body)),
    st.binary(max_size=40).map(lambda body: element(FRAME_CHECKSUM, body)),
    st.tuples(others, st.binary(max_size=40)).map(lambda parts: element(*parts)),
)
endings = st.one_of(st.just(b""), st.integers(0, 9).map(bytes), st.binary(max_size=9))


@given(st.lists(wellformed, max_size=12), endings)
def test_the_hot_way_does_what_the_plain_one_does(elements: list[bytes], ending: bytes) -> None:
    plain = b"".join(elements) + ending
    assert outcome(hot, plain) == outcome(straight, plain)


@given(st.lists(checksummed, min_size=2, max_size=20))
def test_a_known_checksum_is_judged_anew_for_a_shorter_frame(elements: list[bytes]) -> None:
    plain = b"".join(elements)
    assert outcome(hot, plain) == outcome(straight, plain)


@given(st.binary(max_size=200))
def test_garbage_has_a_name(plain: bytes) -> None:
    out, drops, ending = outcome(hot, plain)
    assert (out, drops, ending) == outcome(straight, plain)
    assert ending in (None, DropReason.CONTAINER_MALFORMED)
    assert set(drops) <= {DropReason.FRAME_SHORT, DropReason.OFFLOAD_INVALID}


@given(st.lists(wellformed, min_size=1, max_size=5).map(b"".join), st.data())
def test_a_container_cut_short_anywhere(whole: bytes, data: st.DataObject) -> None:
    plain = whole[: data.draw(st.integers(0, len(whole)))]
    out, drops, ending = outcome(hot, plain)
    assert (out, drops, ending) == outcome(straight, plain)
    assert out == outcome(hot, whole)[0][: len(out)]


def test_order_is_kept_between_frames_and_other_elements() -> None:
    parts = [
        element(FRAME, b"a" * 20),
        element(SUPERFRAME, b"b" * 40),
        element(FRAME_CHECKSUM, b"c" * 40 + b"\x14\x02"),
        element(CONTROL, b"\x04\x01"),
        element(FRAME, b"d" * 20),
    ]
    header = VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 2).encode()
    assert outcome(hot, b"".join(parts))[0] == [
        ("frame", 0, NO_OFFLOAD + b"a" * 20),
        ("other", SUPERFRAME, b"b" * 40),
        ("frame", 0, header + b"c" * 40),
        ("other", CONTROL, b"\x04\x01"),
        ("frame", 0, NO_OFFLOAD + b"d" * 20),
    ]


def test_what_came_before_the_damage_is_taken_in() -> None:
    plain = element(FRAME, b"a" * 20) + b"\x01\x00\x01\x00short"
    assert outcome(hot, plain) == ([("frame", 0, NO_OFFLOAD + b"a" * 20)], {}, DropReason.CONTAINER_MALFORMED)


@pytest.mark.parametrize(
    "padding", [b"", b"\0", bytes(3), bytes(4), bytes(100), b"\0\0\0\x02anything", b"\0\0\0\x01", b"\0\xff\xff\xffx"]
)
def test_padding_ends_a_container(padding: bytes) -> None:
    assert outcome(hot, element(FRAME, b"a" * 20) + padding) == ([("frame", 0, NO_OFFLOAD + b"a" * 20)], {}, None)


@pytest.mark.parametrize("rest", [b"\x01", b"\x01\x00", b"\x07\x00\x00"])
def test_a_head_that_is_cut_short_is_malformed(rest: bytes) -> None:
    assert outcome(hot, element(CONTROL, b"") + rest)[2] is DropReason.CONTAINER_MALFORMED


def test_an_empty_container_is_a_keepalive() -> None:
    assert outcome(hot, b"") == ([], {}, None)


@given(
    st.lists(
        st.tuples(
            st.integers(SMALLEST + 4, 90).map(lambda size: bytes(range(size))),
            st.sampled_from([NO_OFFLOAD, VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 2).encode()]),
        ),
        max_size=20,
    )
)
def test_what_a_batch_lays_out_is_what_comes_out(frames: list[tuple[bytes, bytes]]) -> None:
    batch = Batch()
    for frame, header in frames:
        batch.append(frame, header)
    out, drops, ending = outcome(hot, bytes(batch.view[: batch.end]))
    assert (out, drops, ending) == ([("frame", 0, header + frame) for frame, header in frames], {}, None)


def test_views_are_on_the_container_itself() -> None:
    plain = element(FRAME, b"a" * 20) + element(SEGMENT, b"b" * 20)
    frames: list[tuple[bytes, memoryview]] = []
    bodies: list[memoryview] = []
    unpack(plain, SMALLEST, frames, Drops(), lambda kind, body: bodies.append(body))  # type: ignore[arg-type]
    assert [view.obj is plain for view in (frames[0][1], bodies[0])] == [True, True]
