"""Compression of containers, outbound: whether to try, how much to put into a record, and when to leave it.

    batch -> pack (more than a record holds, as far as experience goes) -> deflate each -> what fits is sealed

Each container is compressed for itself, as records may be lost. Data that does not shrink is looked at ever more
rarely, and then only a sample of it. A container that became no smaller is sent as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from caetun.session.packing import FrameCutter, pack
from caetun.types import Buffer
from caetun.wire.compressed import MAX_INFLATED, OVERHEAD, encode
from caetun.wire.record import TAG_SIZE

if TYPE_CHECKING:
    from caetun.compression.base import Method
    from caetun.wire.container import Batch
    from caetun.wire.hello import Hello

# chosen by us
WORTH: Final = 15 / 16
"""A container must shrink to this share at least: inflating it costs the far end something, too."""
LEAST: Final = 128
"""Bytes of a container that is worth a try: a bare acknowledgement has nothing to save."""
SAMPLE: Final = 4096
"""Bytes from its middle that say whether data has become compressible again."""
MIN_SKIP: Final = 1 << 14
MAX_SKIP: Final = 1 << 21
"""Bytes between two tries on data that does not shrink: first, and after eight failures. A try takes some 20 us, to
seal and send as many bytes more than 2,500 us; on 20 Mbit/s they last 0.8 s."""
MARGIN: Final = 0.9
"""Of what the last batch shrank to, the next one is expected to differ by so much."""
WORTH_WIDENING: Final = 1.15
"""Putting more into a record than it holds pays if it is at least so much more."""


class Deflater:
    """Compresses what is sent under one key pair."""

    __slots__ = ("_factor", "_interval", "_method", "_most", "_number", "_skip", "deflated", "plain")

    def __init__(self, method: Method, number: int, hello: Hello) -> None:
        """`number`: the method's place in the far end's `hello`, which also says how long a record may be."""
        self._method = method
        self._number = number
        self._most = min(MAX_INFLATED, hello.max_record - TAG_SIZE)
        self._factor = 1.0
        """How many times a record's room may be filled, as the last batch has shown."""
        self._skip = 0
        self._interval = 0
        self.plain = self.deflated = 0
        """Bytes of containers that were compressed, and what became of them."""

    @property
    def name(self) -> str:
        """The method's."""
        return self._method.name

    def rests(self, batch: Batch) -> bool:
        """Whether to leave this batch alone: it is short, or those before did not shrink. Hot: once a batch."""
        if batch.end < LEAST:
            return True
        if self._skip > 0:
            self._skip -= batch.end
            return True
        return self._interval > 0 and batch.end > SAMPLE and not self._sample(batch)

    def containers(self, batch: Batch, room: int, cutter: FrameCutter) -> list[Buffer]:
        """Containers of at most `room` bytes that carry the batch's frames in order. May be views on the batch."""
        wide = min(self._most, int(room * self._factor))
        if batch.end > room and wide > room * WORTH_WIDENING:
            plain = pack(batch, wide, cutter, pad=False)
            small = self._deflate(plain)
            if max(map(len, small)) <= room:
                self._learn(plain, small)
                return small
        plain = pack(batch, room, cutter, pad=False)
        small = self._deflate(plain)
        self._learn(plain, small)
        return small

    def _deflate(self, containers: Sequence[Buffer]) -> list[Buffer]:
        """The same, each as small as it gets."""
        return [self._smaller(container) for container in containers]

    def _smaller(self, container: Buffer) -> Buffer:
        length = len(container)
        if length < LEAST:
            return container
        packed = self._method.deflate(container)
        if len(packed) + OVERHEAD > length * WORTH:
            return container
        return encode(self._number, length, packed)

    def _sample(self, batch: Batch) -> bool:
        """Whether data that did not shrink last time is worth another try."""
        middle = (batch.end - SAMPLE) // 2
        if len(self._method.deflate(batch.view[middle : middle + SAMPLE])) < SAMPLE * WORTH:
            return True
        self._failed()
        return False

    def _learn(self, plain: Sequence[Buffer], small: Sequence[Buffer]) -> None:
        """What became of a batch says what to expect of the next one."""
        before, after = sum(map(len, plain)), sum(map(len, small))
        if before < LEAST:
            return
        self.plain += before
        self.deflated += after
        if after > before * WORTH:
            self._failed()
            return
        self._interval = 0
        # The last one is short, and shrinks less.
        pairs = list(zip(plain, small, strict=True))
        worst = min(len(one) / len(other) for one, other in pairs[: max(1, len(pairs) - 1)])
        self._factor = max(1.0, worst * MARGIN)

    def _failed(self) -> None:
        self._factor = 1.0
        self._interval = min(MAX_SKIP, self._interval * 2 or MIN_SKIP)
        self._skip = self._interval


def deflater(ours: Sequence[Method], hello: Hello) -> Deflater | None:
    """For the first of our methods that the far end takes; None if there is none."""
    for method in ours:
        if method.name in hello.compression:
            return Deflater(method, hello.compression.index(method.name), hello)
    return None
