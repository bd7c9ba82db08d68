"""Batches become containers that fit: no frame is lost, changed or overtaken."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.offload.cut import Cutter
from caetun.offload.fragment import Reassembly
from caetun.offload.join import Joiner
from caetun.session.packing import pack, soften
from caetun.types import Buffer, DropReason, Drops, Iovec, Mode
from caetun.wire.container import (
    OFFLOAD_CHECKSUM,
    OFFLOAD_TSO4,
    OFFLOAD_TSO6,
    OFFLOAD_USO,
    Batch,
)
from caetun.wire.element import FRAGMENT, FRAME, FRAME_CHECKSUM, HEAD, PADDING, SEGMENT, SUPERFRAME
from caetun.wire.virtio_net import GSO_TCPV4, NEEDS_CSUM, NO_OFFLOAD, VnetHeader
from tests.offload.superframes import UDP, Superframe, superframes, verified

ALL = OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_USO
CHECKSUM = VnetHeader(NEEDS_CSUM, 0, 0, 0, 14, 2).encode()
FrameAndHeader: TypeAlias = tuple[bytes, bytes]

rooms = st.integers(256, 3000)
plain_frames = st.tuples(
    # EtherType 0: no IP packet, so that a frame that is too large is cut into fragments
    st.integers(20, 4000).map(lambda size: bytes(14) + bytes(range(256)) * 16 + bytes(size))
    | st.integers(20, 200).map(lambda size: bytes(14) + bytes(size)),
    st.sampled_from([NO_OFFLOAD, CHECKSUM]),
)


def batch_of(frames: list[FrameAndHeader]) -> Batch:
    batch = Batch(limit=1 << 16)
    for frame, header in frames:
        batch.append(frame, header)
    return batch


def elements(container: Buffer) -> Iterator[tuple[int, bytes]]:
    """The kinds and bodies of a container, the plain way."""
    at, content = 0, bytes(container)
    while at < len(content) and content[at] != PADDING:
        (head,) = HEAD.unpack_from(content, at)
        body = content[at + 4 : at + 4 + (head & 0xFFFFFF)]
        assert len(body) == head & 0xFFFFFF
        yield head >> 24, body
        at += 4 + len(body)
    assert not any(content[at:])


def carried(containers: list[Buffer]) -> list[FrameAndHeader]:
    """What a receiver makes of containers."""
    reassembly, frames = Reassembly(Drops()), list[FrameAndHeader]()
    for container in containers:
        for kind, body in elements(container):
            if kind == FRAME:
                frames.append((body, NO_OFFLOAD))
            elif kind == FRAME_CHECKSUM:
                frames.append((body[:-2], VnetHeader(NEEDS_CSUM, 0, 0, 0, body[-2], body[-1]).encode()))
            elif kind == SUPERFRAME:
                frames.append((body[:-10], body[-10:]))
            else:
                assert kind == FRAGMENT
                whole = reassembly.fragment(memoryview(body), 0.0)
                if whole is not None:
                    frames.append((bytes(whole[10:]), bytes(whole[:10])))
    return frames


# -- packing --


@given(frames=st.lists(plain_frames, min_size=1, max_size=12), room=rooms, pad=st.booleans())
def test_no_frame_is_lost_or_reordered(frames: list[FrameAndHeader], room: int, pad: bool) -> None:
    containers = pack(batch_of(frames), room, Cutter(Mode.TAP), pad)
    assert all(0 < len(container) <= room for container in containers)
    assert carried(containers) == frames


@given(frames=st.lists(plain_frames, min_size=1, max_size=12), room=rooms)
def test_padding_fills_what_is_nearly_full_except_the_last(frames: list[FrameAndHeader], room: int) -> None:
    batch = batch_of(frames)
    bare, padded = (pack(batch, room, Cutter(Mode.TAP), pad) for pad in (False, True))
    assert bytes(bare[-1]) == bytes(padded[-1])
    for container, same in zip(bare[:-1], padded[:-1], strict=True):
        grown = len(same) - len(container)
        assert bytes(same) == bytes(container) + bytes(grown)
        assert len(same) == room or (not grown and (len(same) < room * 3 / 4 or same[0] == FRAGMENT))


@given(frames=st.lists(plain_frames, min_size=2, max_size=12), room=rooms)
def test_no_container_takes_a_frame_that_the_one_before_had_room_for(frames: list[FrameAndHeader], room: int) -> None:
    containers = pack(batch_of(frames), room, Cutter(Mode.TAP), pad=False)
    for before, after in pairwise(containers):
        if FRAGMENT not in (before[0], after[0]):
            _, first = next(elements(after))
            assert len(before) + HEAD.size + len(first) > room


def test_a_batch_that_fits_is_sealed_as_it_lies() -> None:
    batch = batch_of([(b"a" * 100, NO_OFFLOAD), (b"b" * 92, NO_OFFLOAD)])
    (container,) = pack(batch, 200, Cutter(Mode.TAP), pad=True)
    assert isinstance(container, memoryview)
    assert container.obj is batch.buffer
    assert len(container) == 200
    assert len(pack(batch, 199 + 100, Cutter(Mode.TAP), pad=True)) == 1
    assert len(pack(batch, 199, Cutter(Mode.TAP), pad=True)) == 2


@pytest.mark.parametrize(("filled", "size"), [(299, 299), (300, 400), (399, 400), (400, 400)])
def test_three_quarters_are_worth_padding(filled: int, size: int) -> None:
    batch = batch_of([(b"a" * (filled - 4), NO_OFFLOAD), (b"b" * 390, NO_OFFLOAD)])
    padded, last = pack(batch, 400, Cutter(Mode.TAP), pad=True)
    assert (len(padded), len(last)) == (size, 394)


@pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
def test_padding_may_be_shorter_than_a_head(left: int) -> None:
    batch = batch_of([(b"a" * (300 - 4 - left), NO_OFFLOAD), (b"b" * 100, NO_OFFLOAD)])
    padded, last = pack(batch, 300, Cutter(Mode.TAP), pad=True)
    assert len(padded) == 300
    assert carried([padded, last]) == [(b"a" * (296 - left), NO_OFFLOAD), (b"b" * 100, NO_OFFLOAD)]


@given(made=superframes(), room=st.integers(1200, 9000), before=st.booleans(), after=st.booleans())
def test_a_superframe_between_others_is_cut_and_joined(made: Superframe, room: int, before: bool, after: bool) -> None:
    small = (bytes(60), NO_OFFLOAD)
    batch = batch_of([small] * before + [(made.frame, made.header)] + [small] * after)
    containers = pack(batch, room, Cutter(made.mode), pad=False)
    assert all(len(container) <= room for container in containers)
    kinds = [kind for container in containers for kind, _ in elements(container)]
    if SEGMENT in kinds:
        assert kinds == [FRAME] * before + [SEGMENT] * (len(kinds) - before - after) + [FRAME] * after
        joiner, out = Joiner(made.mode, Drops()), list[Iovec]()
        for container in containers:
            for kind, body in elements(container):
                if kind == SEGMENT:
                    joiner.segment(memoryview(body), out)
        joiner.flush(out)
        assert [b"".join(iovec) for iovec in out] == [made.header + made.frame]
    elif made.header in [header for _, header in carried(containers)]:
        assert carried(containers) == [small] * before + [(made.frame, made.header)] + [small] * after
    else:
        expected = [(packet, NO_OFFLOAD) for packet in made.packets()]
        assert carried(containers) == [small] * before + expected + [small] * after


# -- softening --


def only(frames: list[FrameAndHeader], offloads: int, mode: Mode, drops: Drops | None = None) -> list[FrameAndHeader]:
    drops = Drops() if drops is None else drops
    batches = soften(batch_of(frames), offloads, mode, drops)
    for batch in batches:
        assert not batch.offloads & ~offloads, "nothing is relied on that the far end does not accept"
        assert len(batch)
    return [(bytes(frame), header) for batch in batches for frame, header in batch.frames()]


@given(made=superframes(), offloads=st.integers(0, ALL))
def test_what_the_far_end_does_not_accept_is_done_for_it(made: Superframe, offloads: int) -> None:
    frames = only([(made.frame, made.header)], offloads, made.mode)
    if not batch_of([(made.frame, made.header)]).offloads & ~offloads:
        assert frames == [(made.frame, made.header)]
        return
    assert frames == [(packet, NO_OFFLOAD) for packet in made.packets()]
    for packet, _ in frames:
        verified(packet, made.mode)


@pytest.mark.parametrize("offloads", range(ALL + 1))
@pytest.mark.parametrize(
    ("made", "needed"),
    [
        (Superframe(gso_size=0, payload=b"x" * 900), OFFLOAD_CHECKSUM),
        (Superframe(), OFFLOAD_CHECKSUM | OFFLOAD_TSO4),
        (Superframe(version=6), OFFLOAD_CHECKSUM | OFFLOAD_TSO6),
        (Superframe(flags=0x90), OFFLOAD_CHECKSUM | OFFLOAD_TSO4),
        (Superframe(protocol=UDP), OFFLOAD_CHECKSUM | OFFLOAD_USO),
    ],
    ids=["checksum", "tcp4", "tcp6", "tcp4 with ecn", "udp"],
)
def test_each_offload_by_itself(made: Superframe, needed: int, offloads: int) -> None:
    kept = needed & offloads == needed
    expected = [(made.frame, made.header)] if kept else [(packet, NO_OFFLOAD) for packet in made.packets()]
    assert only([(made.frame, made.header)], offloads, Mode.TAP) == expected


def test_frames_around_a_softened_one_stay_where_they_were() -> None:
    made, small = Superframe(), (b"s" * 60, NO_OFFLOAD)
    frames = [small, (made.frame, made.header), small, (made.frame, made.header)]
    packets = [(packet, NO_OFFLOAD) for packet in made.packets()]
    assert only(frames, 0, Mode.TAP) == [small, *packets, small, *packets]


def test_what_grows_beyond_a_batch_goes_into_another() -> None:
    made = Superframe(payload=b"x" * 65_000, gso_size=100)
    batch = batch_of([(made.frame, made.header)])
    assert len(soften(batch, 0, Mode.TAP, Drops())) > 1
    assert only([(made.frame, made.header)], 0, Mode.TAP) == [(packet, NO_OFFLOAD) for packet in made.packets()]


@pytest.mark.parametrize(
    "header",
    [
        VnetHeader(NEEDS_CSUM, 0, 0, 0, 34, 5000).encode(),
        VnetHeader(NEEDS_CSUM, 3, 42, 1000, 34, 6).encode(),
        VnetHeader(NEEDS_CSUM, GSO_TCPV4, 54, 0, 34, 16).encode(),
        VnetHeader(0, GSO_TCPV4, 54, 1000, 34, 16).encode(),
    ],
)
def test_what_the_metadata_does_not_allow_is_dropped_and_counted(header: bytes) -> None:
    drops, small = Drops(), (b"s" * 60, NO_OFFLOAD)
    assert only([small, (Superframe().frame, header), small], 0, Mode.TAP, drops) == [small, small]
    assert drops == {DropReason.OFFLOAD_INVALID: 1}


def test_nothing_is_left_of_a_batch_that_was_all_dropped() -> None:
    drops = Drops()
    header = VnetHeader(NEEDS_CSUM, 3, 42, 1000, 34, 6).encode()
    assert only([(Superframe().frame, header)], 0, Mode.TAP, drops) == []
    assert drops == {DropReason.OFFLOAD_INVALID: 1}


@given(
    frames=st.lists(st.tuples(st.binary(min_size=14, max_size=100), st.binary(min_size=10, max_size=10)), max_size=6),
    offloads=st.integers(0, ALL),
    mode=st.sampled_from(Mode),
)
def test_softening_is_total(frames: list[FrameAndHeader], offloads: int, mode: Mode) -> None:
    drops = Drops()
    try:
        only(frames, offloads, mode, drops)
    except Malformed:
        pytest.fail("a bad frame is a counted drop")
    assert set(drops) <= {DropReason.OFFLOAD_INVALID, DropReason.FRAME_SHORT}
