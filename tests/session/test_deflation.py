"""Compression between two sessions: agreed on or not, what it saves, when it rests, and what a liar gets."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.compression.base import Method
from caetun.compression.registry import find
from caetun.session.deflation import MAX_SKIP, SAMPLE
from caetun.session.session import Session
from caetun.types import DropReason, Drops, Iovec, Mode
from caetun.wire import compressed
from caetun.wire.container import Batch
from caetun.wire.element import COMPRESSED, FRAME, HEAD
from caetun.wire.record import Record
from tests.offload.superframes import Superframe
from tests.session.established import HELLO, established

UNIT = 1440
LONG = 64 * 1024
BOTH = (find("zstd"), find("lz4"))
TEXT = b"Wer reitet so spaet durch Nacht und Wind? Es ist der Vater mit seinem Kind. "
RANDOM = random.Random(7)


class Ends:
    """A, who compresses, and B, who takes `taken`."""

    def __init__(self, methods: tuple[Method, ...] = BOTH, taken: tuple[Method, ...] = BOTH, span: int = 0) -> None:
        self.drops = Drops()
        self.a = Session(Mode.TAP, self.drops, span, compression=methods)
        self.b = Session(Mode.TAP, self.drops, span, compression=taken)
        a_side, b_side = established(0)
        a_hello, b_hello = (
            dataclasses.replace(HELLO, offloads=15, compression=tuple(method.name for method in some))
            for some in (methods, taken)
        )
        self.a.install(dataclasses.replace(a_side, hello=b_hello), 0.0)
        self.b.install(dataclasses.replace(b_side, hello=a_hello), 0.0)
        self.b.confirm(self.b.unconfirmed[0], 0.0)

    def send(self, *frames: bytes, header: bytes = bytes(10)) -> list[Record]:
        batch = Batch()
        for content in frames:
            batch.append(content, header)
        return self.a.seal_batch(batch, UNIT, LONG)

    def deliver(self, records: list[Record]) -> list[bytes]:
        """B opens A's records; returns the frames."""
        assert self.b.current is not None
        frames: list[Iovec] = []
        for record in records:
            self.b.open(self.b.current, record, 0.0, frames, [])
        self.b.burst_end(0.0, frames)
        return [b"".join(iovec)[10:] for iovec in frames]

    def forge(self, container: bytes) -> list[bytes]:
        """B gets what A sealed on purpose."""
        assert self.a.current is not None
        return self.deliver([self.a.current.seal(container)])


def text(size: int) -> bytes:
    """A frame that has been seen before."""
    return (bytes(14) + TEXT * (size // len(TEXT) + 1))[:size]


def noise(size: int) -> bytes:
    return RANDOM.randbytes(size)


def element(kind: int, body: bytes) -> bytes:
    return HEAD.pack(kind << 24 | len(body)) + body


@given(
    frames=st.lists(st.tuples(st.integers(28, 9000), st.booleans()), min_size=1, max_size=12),
    span=st.sampled_from([1, 4, 44]),
)
def test_frames_of_any_kind_arrive_whole_and_in_order(frames: list[tuple[int, bool]], span: int) -> None:
    ends = Ends(span=span)
    for _ in range(3):
        sent = [text(size) if plain else noise(size) for size, plain in frames]
        records = ends.send(*sent)
        assert all(len(record.body) <= span * UNIT for record in records)
        assert ends.deliver(records) == sent
    assert ends.drops == {}


def test_ours_is_the_order_and_theirs_the_choice() -> None:
    lz4, zstd = find("lz4"), find("zstd")
    for methods, taken, expected in (((lz4, zstd), (zstd, lz4), "lz4"), ((lz4, zstd), (zstd,), "zstd")):
        ends = Ends(methods, taken)
        assert ends.a.current is not None
        assert ends.a.current.deflater is not None
        assert ends.a.current.deflater.name == expected
        assert ends.deliver(ends.send(text(1400))) == [text(1400)]


def test_an_end_without_gets_none() -> None:
    ends = Ends(taken=())
    (record,) = ends.send(text(1400))
    assert len(record.body) == 4 + 1400 + 16
    assert ends.deliver([record]) == [text(1400)]


def test_what_shrinks_takes_fewer_bytes() -> None:
    (record,) = Ends().send(text(1400))
    assert len(record.body) < 200


@pytest.mark.parametrize("span", [1, 4])
def test_a_superframe_takes_fewer_datagrams_as_soon_as_it_is_known_to_shrink(span: int) -> None:
    ends = Ends(span=span)
    words = [bytes(RANDOM.choices(b"abcdefghij", k=8)) for _ in range(4096)]
    whole = Superframe(payload=b" ".join(RANDOM.choices(words, k=6000)), gso_size=1448)
    plain = -(-len(whole.frame) // UNIT)
    needed = []
    for _ in range(3):
        records = ends.send(whole.frame, header=whole.header)
        needed.append(sum(-(-len(record.body) // UNIT) for record in records))
        assert ends.deliver(records) == [whole.frame]
    assert needed[-1] <= 0.75 * plain, needed


def test_random_data_is_left_alone_soon_and_looked_at_again() -> None:
    counting = Counting()
    ends = Ends((counting,), (counting,), span=44)
    batches = 10 * MAX_SKIP // 60000
    for _ in range(batches):
        assert len(ends.send(noise(60000))) == 1
    assert counting.calls <= 8 + 10
    assert counting.bytes <= 61000 + 18 * SAMPLE  # only samples, after the first
    before = counting.bytes
    for _ in range(MAX_SKIP // 60000 + 2):
        ends.send(text(60000))
    assert counting.bytes - before > 60000


class Counting:
    """Says how often it was asked."""

    name = "zstd"

    def __init__(self) -> None:
        self.calls = self.bytes = 0

    def deflate(self, plain: bytes) -> bytes:
        self.calls += 1
        self.bytes += len(plain)
        return find("zstd").deflate(plain)

    def inflate(self, packed: bytes, length: int) -> bytes:
        return find("zstd").inflate(packed, length)


# what a far end may make up


def test_not_announced_not_taken() -> None:
    ends = Ends(taken=())
    assert ends.forge(compressed.encode(0, 104, find("zstd").deflate(element(FRAME, text(100))))) == []
    assert ends.drops == {DropReason.COMPRESSION_UNWANTED: 1}


def test_one_run_in_a_record_and_none_within_another() -> None:
    ends = Ends()
    inner = compressed.encode(0, 104, find("zstd").deflate(element(FRAME, text(100))))
    assert ends.forge(inner + inner) == [text(100)]
    assert ends.drops == {DropReason.COMPRESSION_UNWANTED: 1}
    assert ends.forge(compressed.encode(0, len(inner), find("zstd").deflate(inner))) == []
    assert ends.drops == {DropReason.COMPRESSION_UNWANTED: 2}


@pytest.mark.parametrize(
    "container",
    [
        compressed.encode(2, 104, b"no such method"),
        compressed.encode(0, 104, b"not zstd"),
        compressed.encode(1, 65520, find("lz4").deflate(bytes(65521))),
        element(COMPRESSED, b""),
    ],
)
def test_a_bad_run_is_counted_and_the_rest_is_taken(container: bytes) -> None:
    ends = Ends()
    assert ends.forge(container + element(FRAME, text(100))) == [text(100)]
    assert sum(ends.drops.values()) == 1
    assert next(iter(ends.drops)).startswith("compression.")
