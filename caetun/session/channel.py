"""The control channel: messages arrive whole, once and in order, unless the far end is started again before.

    send    -> parts -> poll -> control elements               -> ...
            ... ->            received -> message  -> (kind, body)
                              acknowledged <- ... <- poll

It outlives keys, links and silences: both ends number their parts for as long as they know each other. Who has
forgotten (a process started again, a peer that was taken away and added again) says so in its hello, by another
incarnation; then both begin at 0, and whoever uses the channel is told that the far end was met (docs/wire.md, 5.2).

Pure: `now` is monotonic seconds.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from caetun.types import DropReason, Drops
from caetun.wire.control import ACKNOWLEDGED_BEYOND, MAX_PART, Part, PartAcknowledgement, encode

# fixed by the specification
MAX_MESSAGE: Final = 16 * 1024
"""Bytes of one message."""


class Kind(enum.IntEnum):
    """Who a message is for. 128..255 are for experiments and other packages."""

    CONFIGURATION = 1
    AUTHENTICATION = 2
    MESH = 3
    ENROLMENT = 4


MET: Final = 0
"""Instead of a kind, without a body: a far end was met that knows nothing of what was said before."""
DEAF: Final = -1
"""The same for a far end that has no control channel."""

# chosen by us
WINDOW: Final = 16
"""Parts under way at a time; an acknowledgement names up to 33."""
MAX_QUEUED: Final = 256 * 1024
"""Bytes of messages that wait: sixteen of the longest."""
RETRY_SECONDS: Final = 0.5
"""Until a part is sent again; twice as long each time. A path that takes longer than that gets some of them twice."""
RETRY_LIMIT: Final = 4.0
RETRIES_AT_ONCE: Final = 4
"""Parts sent again in one go: if the first of them are acknowledged, so perhaps were those behind them."""


@dataclass(slots=True)
class _Sent:
    """A part under way."""

    part: Part
    due: float
    pause: float = RETRY_SECONDS
    arrived: bool = False


class Channel:
    """One end of it."""

    __slots__ = (
        "_acknowledge",
        "_ahead",
        "_drops",
        "_expected",
        "_incoming",
        "_incoming_size",
        "_next",
        "_queue",
        "_queued",
        "_under_way",
        "far",
    )

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self.far: int | None = None
        """The far end's incarnation; None before it was met, 0 if it has no control channel."""
        self._begin()

    def _begin(self) -> None:
        self._queue: deque[Part] = deque()
        self._queued = 0
        """Bytes in it."""
        self._under_way: deque[_Sent] = deque()
        """By sequence number, without gaps."""
        self._next = 0
        self._expected = 0
        self._ahead: dict[int, Part] = {}
        """What came before its turn: fewer than the parts that an acknowledgement names."""
        self._incoming: list[bytes] = []
        """Of the message that is coming in."""
        self._incoming_size = 0
        self._acknowledge = False

    @property
    def open(self) -> bool:
        """Whether there is somebody to speak to, if perhaps not at the moment."""
        return bool(self.far)

    @property
    def idle(self) -> bool:
        """Whether the far end has got everything that was said."""
        return not self._queue and not self._under_way

    def meet(self, incarnation: int) -> int | None:
        """The far end says who it is: MET or DEAF if that is somebody else than before.

        What was not acknowledged is forgotten then: it was for somebody who is not there any more.
        """
        if incarnation == self.far:
            return None
        self.far = incarnation
        self._begin()
        return MET if incarnation else DEAF

    def forget(self) -> None:
        """Whoever was met is somebody new when met again."""
        self.far = None
        self._begin()

    # outbound

    def send(self, kind: int, body: bytes) -> bool:
        """Queue a message for `poll`; False if nobody has been met, or (counted) too much waits already.

        Raises ValueError for a kind that is not 1..255, or a body of more than `MAX_MESSAGE` bytes.
        """
        if not 0 < kind < 256 or len(body) > MAX_MESSAGE:
            raise ValueError(f"a message of kind {kind} and {len(body)} bytes")
        if not self.open:
            return False
        if self._queued + len(body) > MAX_QUEUED:
            self._drops.count(DropReason.CHANNEL_FULL)
            return False
        for at in range(0, max(1, len(body)), MAX_PART):
            end = at + MAX_PART
            self._queue.append(Part(self._next, kind, end >= len(body), body[at:end]))
            self._next += 1
        self._queued += len(body)
        return True

    def poll(self, now: float) -> list[bytes]:
        """Control elements to be sent now, each short enough for any link."""
        elements = []
        if self._acknowledge:
            self._acknowledge = False
            beyond = sum(1 << (sequence - self._expected - 1) for sequence in self._ahead)
            elements.append(encode(PartAcknowledgement(self._expected, beyond)))
        late = [sent for sent in self._under_way if not sent.arrived and now >= sent.due]
        for sent in late[:RETRIES_AT_ONCE]:
            sent.pause = min(2 * sent.pause, RETRY_LIMIT)
            sent.due = now + sent.pause
            elements.append(encode(sent.part))
        for sent in late[RETRIES_AT_ONCE:]:
            sent.due = now + RETRY_SECONDS
        while self._queue and len(self._under_way) < WINDOW:
            part = self._queue.popleft()
            self._queued -= len(part.body)
            self._under_way.append(_Sent(part, now + RETRY_SECONDS))
            elements.append(encode(part))
        return elements

    def hurry(self, now: float) -> None:
        """The way there is another one now: what is under way may have been lost with the last one."""
        for sent in self._under_way:
            sent.due, sent.pause = now, RETRY_SECONDS

    def acknowledged(self, answer: PartAcknowledgement) -> None:
        """The far end has got some."""
        under_way = self._under_way
        while under_way and under_way[0].part.sequence < answer.expected:
            under_way.popleft()
        for sent in under_way:
            ahead = sent.part.sequence - answer.expected - 1
            if ahead >= 0 and answer.beyond >> ahead & 1:
                sent.arrived = True

    # inbound

    def received(self, part: Part) -> list[tuple[int, bytes]]:
        """Take in a part; returns the messages, (kind, body), that are whole with it."""
        self._acknowledge = True
        ahead = part.sequence - self._expected
        if ahead < 0 or part.sequence in self._ahead:
            self._drops.count(DropReason.CHANNEL_DUPLICATE)
            return []
        if ahead > ACKNOWLEDGED_BEYOND:
            self._drops.count(DropReason.CHANNEL_WINDOW)
            return []
        messages = []
        self._ahead[part.sequence] = part
        while (turn := self._ahead.pop(self._expected, None)) is not None:
            self._expected += 1
            message = self._join(turn)
            if message is not None:
                messages.append(message)
        return messages

    def _join(self, part: Part) -> tuple[int, bytes] | None:
        """The next part in order; a message that is too long is left out, and counted."""
        self._incoming_size += len(part.body)
        if self._incoming_size <= MAX_MESSAGE:
            self._incoming.append(part.body)
        else:
            self._incoming.clear()
        if not part.last:
            return None
        body, size = b"".join(self._incoming), self._incoming_size
        self._incoming.clear()
        self._incoming_size = 0
        if size > MAX_MESSAGE:
            self._drops.count(DropReason.CHANNEL_OVERSIZE)
            return None
        return part.kind, body

    # time

    def next_deadline(self, now: float) -> float | None:
        """When `poll` next has something to do; `now` if it has."""
        if self._acknowledge or (self._queue and len(self._under_way) < WINDOW):
            return now
        return min((sent.due for sent in self._under_way if not sent.arrived), default=None)
