"""Batches: frames lie in them as container elements, and come out as they went in."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.types import Buffer
from caetun.wire.container import (
    BATCH_ROOM,
    MAX_BATCH_FRAMES,
    MAX_FRAME,
    OFFLOAD_CHECKSUM,
    OFFLOAD_TSO4,
    OFFLOAD_TSO6,
    OFFLOAD_USO,
    Batch,
)
from caetun.wire.virtio_net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    VnetHeader,
)

FD = 42


def header(flags: int, gso_type: int = GSO_NONE, start: int = 0, offset: int = 0, size: int = 0) -> bytes:
    return VnetHeader(flags, gso_type, 54 if gso_type else 0, size, start, offset).encode()


TCP4 = header(NEEDS_CSUM, GSO_TCPV4, 34, 16, 1448)
TCP4_ECN = header(NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 34, 16, 1448)
TCP6 = header(NEEDS_CSUM, GSO_TCPV6, 54, 16, 1428)
USO = header(NEEDS_CSUM, GSO_UDP_L4, 34, 6, 1472)
CHECKSUM_TCP = header(NEEDS_CSUM, start=34, offset=16)
CHECKSUM_UDP = header(NEEDS_CSUM, start=34, offset=6)
CHECKSUM_FAR = header(NEEDS_CSUM, start=300, offset=16)
VERIFIED = header(DATA_VALID)

headers = st.sampled_from(
    [NO_OFFLOAD, CHECKSUM_TCP, CHECKSUM_TCP, CHECKSUM_UDP, CHECKSUM_FAR, TCP4, TCP4_ECN, TCP6, USO, VERIFIED]
) | st.binary(min_size=10, max_size=10)
batches = st.lists(st.tuples(st.binary(min_size=14, max_size=80), headers), max_size=30)


def kept(header: bytes) -> bytes:
    """What of a header crosses: a mere checksum's place, a superframe's all, nothing of a frame that is complete."""
    flags, gso_type, _, _, start, offset = struct.unpack("<BBHHHH", header)
    if not flags & NEEDS_CSUM and not gso_type:
        return NO_OFFLOAD
    if not gso_type & ~GSO_ECN and start < 256 and offset < 256:
        return struct.pack("<BBHHHH", NEEDS_CSUM, GSO_NONE, 0, 0, start, offset)
    return header


def relied_on(header: bytes) -> int:
    """The offloads a header makes use of."""
    if kept(header) == NO_OFFLOAD:
        return 0
    return OFFLOAD_CHECKSUM | {1: OFFLOAD_TSO4, 4: OFFLOAD_TSO6, 5: OFFLOAD_USO}.get(header[1] & ~GSO_ECN, 0)


def content(batch: Batch) -> list[tuple[bytes, bytes]]:
    return [(bytes(frame), header) for frame, header in batch.frames()]


class Device:
    """A descriptor that gives these frames, then nothing more for now."""

    def __init__(self, waiting: Iterable[tuple[bytes, bytes]]) -> None:
        self.waiting = list(waiting)

    def readv(self, fd: int, buffers: list[Buffer]) -> int:
        assert fd == FD
        if not self.waiting:
            raise BlockingIOError
        frame, header = self.waiting.pop(0)
        for buffer, part in zip(buffers, (header, frame), strict=True):
            view = memoryview(buffer)
            assert len(view) >= len(part)
            view[: len(part)] = part
        return len(header) + len(frame)


def filled(waiting: Iterable[tuple[bytes, bytes]], batch: Batch | None = None) -> Batch:
    batch = Batch() if batch is None else batch
    with pytest.raises(BlockingIOError):
        batch.fill(Device(waiting).readv, FD)
    return batch


# -- layout --


@pytest.mark.parametrize(
    ("header", "element"),
    [
        (NO_OFFLOAD, b"\x01\0\0\x05frame"),
        (VERIFIED, b"\x01\0\0\x05frame"),
        (CHECKSUM_TCP, b"\x02\0\0\x07frame" + bytes((34, 16))),
        (CHECKSUM_FAR, b"\x03\0\0\x0fframe" + CHECKSUM_FAR),
        (TCP4, b"\x03\0\0\x0fframe" + TCP4),
        (USO, b"\x03\0\0\x0fframe" + USO),
    ],
)
def test_bytes_on_the_wire(header: bytes, element: bytes) -> None:
    batch = Batch()
    batch.append(b"frame", header)
    assert bytes(batch.view[: batch.end]) == element
    assert list(batch.spans()) == [(0, len(element))]


@given(batches)
def test_frames_come_out_as_they_went_in(frames: list[tuple[bytes, bytes]]) -> None:
    batch = Batch()
    for frame, header in frames:
        batch.append(frame, header)
    assert content(batch) == [(frame, kept(header)) for frame, header in frames]
    assert len(batch) == len(frames)
    assert [start for start, _ in batch.spans()] == batch.starts
    expected = 0
    for _, header in frames:
        expected |= relied_on(header)
    assert batch.offloads == expected


def test_a_cleared_batch_is_as_good_as_new() -> None:
    batch = Batch()
    batch.append(b"frame", TCP4)
    batch.clear()
    assert (len(batch), batch.end, batch.offloads, content(batch)) == (0, 0, 0, [])
    batch.append(b"another", CHECKSUM_UDP)
    assert batch.offloads == OFFLOAD_CHECKSUM
    assert content(batch) == [(b"another", CHECKSUM_UDP)]


# -- filling --


@given(frames=batches, before=batches)
def test_filling_is_appending(frames: list[tuple[bytes, bytes]], before: list[tuple[bytes, bytes]]) -> None:
    plain, hot = Batch(), Batch()
    filled(before, hot)
    hot.clear()
    for frame, header in frames:
        plain.append(frame, header)
    filled(frames, hot)
    assert bytes(hot.view[: hot.end]) == bytes(plain.view[: plain.end])
    assert (hot.starts, hot.end, hot.offloads) == (plain.starts, plain.end, plain.offloads)


@pytest.mark.parametrize(
    "kinds",
    [
        [NO_OFFLOAD, CHECKSUM_TCP] * 20,
        [CHECKSUM_TCP] * 10 + [CHECKSUM_UDP] * 10 + [CHECKSUM_TCP] * 10,
        [CHECKSUM_TCP, TCP4] * 10,
        [CHECKSUM_UDP, USO, NO_OFFLOAD, TCP6] * 10,
        [USO] * 20,
    ],
)
def test_kinds_of_header_take_turns(kinds: list[bytes]) -> None:
    frames = [(b"%14d" % number, header) for number, header in enumerate(kinds)]
    assert content(filled(frames)) == frames


def test_a_batch_of_checksums_only_still_says_so_after_it_was_cleared() -> None:
    batch = filled([(bytes(60), CHECKSUM_TCP)])
    batch.clear()
    filled([(bytes(60), CHECKSUM_TCP)], batch)
    assert batch.offloads == OFFLOAD_CHECKSUM


def test_filling_ends_with_the_frame_that_reaches_the_limit() -> None:
    device = Device([(bytes(100), NO_OFFLOAD)] * 10)
    batch = Batch(limit=250)
    batch.fill(device.readv, FD)
    assert batch.full
    assert (len(batch), len(device.waiting)) == (3, 7)
    batch.fill(device.readv, FD)
    assert len(batch) == 3


@pytest.mark.parametrize("header", [NO_OFFLOAD, CHECKSUM_TCP, TCP4])
def test_filling_takes_no_more_frames_than_asked(header: bytes) -> None:
    device = Device([(bytes(14), header)] * (MAX_BATCH_FRAMES + 5))
    batch = Batch()
    batch.fill(device.readv, FD, most=1)
    assert len(batch) == 1
    batch.clear()
    batch.fill(device.readv, FD)
    assert len(batch) == MAX_BATCH_FRAMES
    assert batch.full
    assert len(device.waiting) == 4


@pytest.mark.parametrize("header", [NO_OFFLOAD, CHECKSUM_TCP, TCP4])
def test_the_largest_frame_fits_behind_a_batch_that_is_all_but_full(header: bytes) -> None:
    nearly = [(bytes(MAX_FRAME - 4), NO_OFFLOAD)]
    batch = Batch()
    batch.fill(Device([*nearly, (b"\xaa" * MAX_FRAME, header)]).readv, FD)
    assert batch.full
    assert content(batch)[1] == (b"\xaa" * MAX_FRAME, header)
    assert batch.end <= BATCH_ROOM == len(batch.buffer)


def test_what_was_read_before_an_error_is_kept() -> None:
    device = Device([(b"first", CHECKSUM_TCP), (b"second", CHECKSUM_TCP)])

    def readv(fd: int, buffers: list[Buffer]) -> int:
        if not device.waiting:
            raise OSError("deleted")
        return device.readv(fd, buffers)

    batch = Batch()
    with pytest.raises(OSError, match="deleted"):
        batch.fill(readv, FD)
    assert content(batch) == [(b"first", CHECKSUM_TCP), (b"second", CHECKSUM_TCP)]


def test_elements_that_are_kept_move_together() -> None:
    batch = Batch()
    some = [
        (bytes([number]) * 30 * number, header) for number, header in enumerate((NO_OFFLOAD, CHECKSUM_TCP, TCP4) * 2, 1)
    ]
    for frame, header in some:
        batch.append(frame, header)
    spans = list(batch.spans())
    batch.keep([spans[0], spans[2], spans[5]])
    assert content(batch) == [some[0], some[2], some[5]]
    batch.append(b"another", CHECKSUM_TCP)
    assert content(batch)[3] == (b"another", CHECKSUM_TCP)
    batch.keep([])
    assert (len(batch), batch.end) == (0, 0)
