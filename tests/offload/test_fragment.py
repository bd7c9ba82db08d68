"""Fragments: cut, put together in any order, and given up in time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.offload.fragment import LIFETIME, MAX_FRAGMENTS, MAX_FRAMES, MAX_MEMORY, Reassembly, fragments
from caetun.types import DropReason, Drops
from caetun.wire.element import FRAGMENT, FRAGMENT_FIELDS, HEAD


def _bodies(blob: bytes, room: int = 1000, ident: int = 1) -> list[memoryview]:
    return [memoryview(element)[4:] for element in fragments(blob, room, ident)]


def _body(ident: int, offset: int, total: int, run: bytes) -> bytes:
    return FRAGMENT_FIELDS.pack(ident, offset, total) + run


def _blob(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@given(st.integers(11, 65535), st.integers(256, 9000))
def test_fragments_fill_the_room(size: int, room: int) -> None:
    elements = fragments(_blob(size), room, 9)
    assert {len(element) for element in elements[:-1]} <= {room}
    assert len(elements[-1]) <= room
    assert all(HEAD.unpack_from(one)[0] == FRAGMENT << 24 | len(one) - HEAD.size for one in elements)


def test_what_total_cannot_express_is_refused() -> None:
    assert fragments(bytes(65535), 65000, 1)
    with pytest.raises(Malformed) as caught:
        fragments(bytes(65536), 65000, 1)
    assert caught.value.reason is DropReason.FRAME_OVERSIZE


@given(st.integers(11, 20000), st.integers(256, 3000), st.randoms(use_true_random=False))
def test_in_any_order_with_duplicates_the_frame_comes_out_once(size: int, room: int, chance: random.Random) -> None:
    blob, drops = _blob(size), Drops()
    reassembly = Reassembly(drops)
    bodies = _bodies(blob, room)
    late = chance.choice(bodies)
    early = [body for body in bodies if body is not late]
    arriving = chance.choices(early, k=len(early)) + early if early else []
    chance.shuffle(arriving)
    assert [whole for body in arriving if (whole := reassembly.fragment(body, 0.0))] == []
    assert reassembly.fragment(late, 0.0) == blob
    assert (reassembly.memory, reassembly.next_deadline(), drops) == (0, None, {})


def test_frames_may_interleave() -> None:
    reassembly = Reassembly(Drops())
    one, two = _bodies(b"a" * 1500, ident=1), _bodies(b"b" * 1500, ident=2)
    assert reassembly.fragment(one[0], 0.0) is None
    assert reassembly.fragment(two[0], 0.0) is None
    assert reassembly.fragment(one[1], 0.0) == b"a" * 1500
    assert reassembly.fragment(two[1], 0.0) == b"b" * 1500


def test_what_is_returned_outlives_the_body_it_came_in() -> None:
    reassembly = Reassembly(Drops())
    body = bytearray(_body(1, 0, 20, b"x" * 20))
    whole = reassembly.fragment(body, 0.0)
    body[:] = bytes(len(body))
    assert whole == b"x" * 20


def test_an_incomplete_frame_is_given_up_after_its_time() -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    first, second = _bodies(bytes(1500))
    reassembly.fragment(first, 10.0)
    assert reassembly.next_deadline() == 10.0 + LIFETIME
    reassembly.expire(10.0 + LIFETIME - 0.001)
    assert reassembly.memory == 1500
    reassembly.expire(10.0 + LIFETIME)
    assert (reassembly.memory, reassembly.next_deadline()) == (0, None)
    assert drops == {DropReason.FRAGMENT_INCOMPLETE: 1}
    assert reassembly.fragment(second, 11.0) is None


def test_a_fragment_that_comes_after_its_frames_time_does_not_complete_it() -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    first, second = _bodies(bytes(1500))
    reassembly.fragment(first, 0.0)
    assert reassembly.fragment(second, LIFETIME) is None
    assert drops == {DropReason.FRAGMENT_INCOMPLETE: 1}


def test_one_frame_too_many_costs_the_oldest() -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    for ident in range(MAX_FRAMES):
        reassembly.fragment(_bodies(bytes(1500), ident=ident)[0], 0.0)
    assert not drops
    reassembly.fragment(_bodies(bytes(1500), ident=MAX_FRAMES)[0], 0.0)
    assert drops == {DropReason.FRAGMENT_OVERFLOW: 1}
    assert reassembly.memory == 1500 * MAX_FRAMES
    assert reassembly.fragment(_bodies(bytes(1500), ident=1)[1], 0.0) is not None
    assert reassembly.fragment(_bodies(bytes(1500), ident=0)[1], 0.0) is None


def test_memory_is_bounded_whatever_totals_are_claimed() -> None:
    reassembly = Reassembly(Drops())
    for ident in range(3 * MAX_FRAMES):
        reassembly.fragment(_body(ident, 0, 65535, b"x"), 0.0)
        assert reassembly.memory <= MAX_MEMORY
    assert reassembly.memory == MAX_FRAMES * 65535


@pytest.mark.parametrize(
    "second",
    [
        _body(1, 50, 200, b"y" * 100),  # over the end of the first
        _body(1, 0, 200, b"y" * 50),  # a shorter one in the same place
        _body(1, 10, 200, b"y" * 20),  # inside the first
        _body(1, 0, 200, b"y" * 150),  # around the first
        _body(1, 100, 201, b"y" * 50),  # another total
        _body(1, 150, 200, b"y" * 51),  # beyond the end
    ],
)
def test_a_fragment_that_contradicts_another_spoils_the_frame(second: bytes) -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    assert reassembly.fragment(_body(1, 0, 200, b"x" * 100), 0.0) is None
    assert reassembly.fragment(second, 0.0) is None
    assert drops == {DropReason.FRAGMENT_MALFORMED: 1}
    assert reassembly.memory == 0
    assert reassembly.fragment(_body(1, 100, 200, b"x" * 100), 0.0) is None


def test_a_fragment_that_reaches_into_the_one_behind_it_spoils_the_frame() -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    reassembly.fragment(_body(1, 100, 200, b"x" * 50), 0.0)
    reassembly.fragment(_body(1, 0, 200, b"x" * 101), 0.0)
    assert drops == {DropReason.FRAGMENT_MALFORMED: 1}
    assert reassembly.memory == 0


@pytest.mark.parametrize(
    "body", [b"", bytes(7), _body(1, 0, 20, b""), _body(1, 0, 10, b"x" * 10), _body(1, 0, 0, b"x")]
)
def test_a_fragment_without_use_is_malformed(body: bytes) -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    assert reassembly.fragment(body, 0.0) is None
    assert drops == {DropReason.FRAGMENT_MALFORMED: 1}
    assert reassembly.memory == 0


def test_a_frame_in_too_many_fragments_is_dropped() -> None:
    drops = Drops()
    reassembly = Reassembly(drops)
    for at in range(MAX_FRAGMENTS):
        reassembly.fragment(_body(1, at, 65535, b"x"), 0.0)
    assert reassembly.memory == 65535
    reassembly.fragment(_body(1, MAX_FRAGMENTS, 65535, b"x"), 0.0)
    assert reassembly.memory == 0
    assert drops == {DropReason.FRAGMENT_MALFORMED: 1}


@given(st.lists(st.one_of(st.binary(max_size=30), st.tuples(*[st.integers(0, 40)] * 4)), max_size=40))
def test_total_and_accounted(arriving: list[bytes | tuple[int, int, int, int]]) -> None:
    reassembly = Reassembly(Drops())
    for now, piece in enumerate(arriving):
        if isinstance(piece, tuple):
            ident, offset, total, size = piece
            piece = _body(ident & 3, offset, total, bytes(size))
        whole = reassembly.fragment(piece, now / 10)
        assert whole is None or len(whole) > 10
    reassembly.expire(1e9)
    assert reassembly.memory == 0
