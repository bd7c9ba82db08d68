"""Records on byte streams: one link is one connection, be it TCP, TLS or WebSocket.

Outbound:  StreamLink.send -> Codec.frame -> Pipe.send
and inbound:  readable -> Pipe.receive_into -> Codec.feed -> wire.framing.read_record -> Arrivals

A stream that takes no more is `full`: what was being sent is kept, and the device is not read until it is on its way.

An accepted link is *unproven* until the core answers on it, which it does at once, from within `Arrivals`, if the first
message is authentic; to demand a cookie is no answer. If it does not, a stranger is there, and whoever accepted the
connection gets it back.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from caetun.errors import Malformed
from caetun.transports.base import SEND_QUEUE, Context
from caetun.transports.pipes import Pipe, describe
from caetun.types import Buffer, DropReason
from caetun.wire.framing import MAX_BODY, MAX_MESSAGE, Codec, Decoded, FirstWords, read_record
from caetun.wire.record import Record, encode_header

# chosen by us
RECEIVE_ROOM: Final = 1 << 20
"""Bytes taken from a stream at one wake-up, at most, before other descriptors have their turn."""
MAX_REST: Final = MAX_MESSAGE + 1024
"""Bytes kept of a message that is not whole yet, with what a codec has in front of it."""
MAX_STRANGER_REST: Final = 4096
"""The same while the link is unproven: handshake messages and probes are shorter."""
ACKNOWLEDGED_AT_ONCE: Final = 32 * 1024
"""Bytes: a read of less is acknowledged at once. Many proxies do not pass the next small message on before that
(RFC 896): pings through tinyproxy take 1 ms instead of 16."""
_PARTS: Final = 1000
"""Buffers given to one system call; the kernel takes 1,024 (UIO_MAXIOV)."""
_ROOM_KEY: Final = "stream.room"


class _Room:
    """The memory that all streams of one tunnel receive into: one is read at a time, and only rests stay."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(RECEIVE_ROOM))
        self.owner: StreamLink | None = None
        """Whose rest lies at the beginning."""


class StreamLink:
    """One connection; fulfils the link contract."""

    datagram: Final = 0
    datagram_ceiling: Final = None
    unit: Final = MAX_BODY
    max_record: Final = MAX_BODY

    def __init__(
        self,
        pipe: Pipe,
        codec: Codec,
        context: Context,
        *,
        name: str,
        first: bytes = b"",
        proven: bool = False,
    ) -> None:
        """Takes over a connected pipe. `first`: what was read from it before. `proven`: we have called the far end."""
        self.pipe = pipe
        self.name = name
        self.source = "{} {}".format(*pipe.far)
        self.proven = proven
        """Whether the core has ever answered here, or called."""
        self.full = False
        self.ended = False
        """Whether the link is of no use any more, whoever ended it."""
        self.on_proven: Callable[[StreamLink], object] | None = None
        self.on_stranger: Callable[[StreamLink], object] | None = None
        """Called once when a stranger is there. The link has ended, but its `pipe` is open and nobody watches it: the
        callee answers as it likes, and closes it. Without a callee it is closed."""
        self.on_end: Callable[[StreamLink], object] | None = None
        """Called once when the link ends, whoever ended it (before `on_stranger`)."""
        self._codec = codec
        self._context = context
        self._arrivals = context.arrivals
        self._started = False
        self._closed = False
        self._queue: deque[Buffer] = deque()
        """What the pipe has not taken."""
        self._kept = 0
        """Messages added to the queue since the link became full."""
        self._rest = first
        """The beginning of a message that is not whole yet, unless it lies in the room."""
        self._have = len(first)
        """Bytes of it."""
        self._first_words = FirstWords()
        """What an unproven far end has said, and how much more it may say before it is a stranger."""
        if _ROOM_KEY not in context.shared:
            context.shared[_ROOM_KEY] = _Room()
        self._room: _Room = context.shared[_ROOM_KEY]

    def start(self) -> None:
        """Begin to read, soon. A link we have dialled starts when it is first sent on: whoever asked for it shall know
        it before it can end, and nobody answers before."""
        if self._started or self.ended:
            return
        self._started = True
        loop = self._context.loop
        loop.add_reader(self.pipe.fileno(), self._readable)
        # What came together with a handshake is not waiting in the socket any more.
        loop.call_soon(self._begin)

    # outbound

    def resize(self, datagram: int) -> None:
        """Nothing: a stream has no datagrams."""

    def send(self, records: Sequence[Record]) -> None:
        """Send records, in order, with as few system calls as possible."""
        self._send([(encode_header(0, 1, session, counter), body) for session, counter, body in records])

    def probe(self, record: Record) -> None:
        """Send a record as any other."""
        self.send([record])

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Send handshake messages. Who only gets challenges is as much a stranger as before, and has as little time."""
        proves = self.proven or self._first_words.answered(messages)
        self._send([(message,) for message in messages], proves=proves)

    def _send(self, messages: Sequence[Sequence[Buffer]], *, proves: bool = True) -> None:
        """Hot: one turn a record."""
        drops, frame = self._context.drops, self._codec.frame
        if self.ended:
            drops.count(DropReason.LINK_REFUSED, len(messages))
            return
        if proves and not self.proven:
            self._prove()
        if not self._started:
            self.start()
        parts: list[Buffer] = []
        for message in messages:
            if len(message[-1]) > MAX_BODY:
                drops.count(DropReason.LINK_OVERSIZE)
            elif not self.full:
                parts += frame(message)
                if len(parts) >= _PARTS:
                    self._push(parts)
                    parts = []
            elif self._kept >= SEND_QUEUE:
                drops.count(DropReason.LINK_FULL)
            else:
                self._kept += 1
                self._queue += frame(message)
        if parts:
            self._push(parts)

    def send_bytes(self, content: Buffer) -> None:
        """Put bytes on the stream between two messages: what a codec's own rules demand (pings), not the core.

        Dropped while the link is full: whatever fills it shows that the link is in use.
        """
        if not self.full and not self.ended:
            self._push([content])

    def _prove(self) -> None:
        self.proven = True
        if self.on_proven is not None:
            self.on_proven(self)

    def _push(self, parts: list[Buffer]) -> None:
        """Give parts to the pipe; what it does not take waits."""
        try:
            taken = self.pipe.send(parts)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self._fail(describe(error))
            return
        if taken < sum(map(len, parts)):
            self._queue += parts
            self._strike(taken)
        elif not self.pipe.pending:
            return
        self.full = True
        self._kept = 0
        self._context.loop.add_writer(self.pipe.fileno(), self._writable)

    def _strike(self, taken: int) -> None:
        """Take so many bytes off the queue."""
        queue = self._queue
        while taken:
            part = queue.popleft()
            if len(part) > taken:
                queue.appendleft(memoryview(part)[taken:])
                return
            taken -= len(part)

    def _writable(self) -> None:
        """Go on with what waits; bounded, as nothing is added meanwhile."""
        if self.ended:
            return
        pipe, queue = self.pipe, self._queue
        try:
            while pipe.flush():
                if not queue:
                    self._drained()
                    return
                parts = list(islice(queue, _PARTS))
                taken = pipe.send(parts)
                self._strike(taken)
                if taken < sum(map(len, parts)):
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(describe(error))

    def _drained(self) -> None:
        self.full = False
        self._context.loop.remove_writer(self.pipe.fileno())
        self._arrivals.drained()

    # inbound

    def _begin(self) -> None:
        """Look at what was read before the link was, and at what the pipe may hold."""
        if self._have and not self.ended:
            self._take_room()
            self._received(self._have)
        if not self.ended:
            self._readable()

    def _take_room(self) -> None:
        """Make the room ours, with our rest at its beginning."""
        room = self._room
        before = room.owner
        if before is not None:
            before._rest = bytes(room.view[: before._have])
        room.view[: self._have] = self._rest
        self._rest = b""
        room.owner = self

    def _readable(self) -> None:
        """Take what is waiting, bounded. Hot: once a wake-up."""
        if self._room.owner is not self:
            self._take_room()
        have = self._have
        try:
            count = self.pipe.receive_into(self._room.view[have:])
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(describe(error))
            return
        if not count:
            self._fail("closed by the far end")
            return
        self._received(have + count)
        if count < ACKNOWLEDGED_AT_ONCE and not self.ended:
            self.pipe.acknowledge()

    def _received(self, stop: int) -> None:
        """The room holds so many bytes of this stream."""
        view = self._room.view
        decoded = self._codec.feed(view[:stop])
        if decoded.messages:
            if self.proven:
                self._deliver(decoded.messages)
            else:
                self._deliver_unproven(decoded.messages)
        if not self.ended:
            taken = decoded.taken
            self._have = rest = stop - taken
            if taken and rest:
                view[:rest] = view[taken:stop]
            if decoded.answer:
                self.send_bytes(decoded.answer)
            if decoded.ended or rest > (MAX_REST if self.proven else MAX_STRANGER_REST):
                self._end_of_stream(decoded)
        if decoded.messages:
            self._arrivals.burst_end()

    def _deliver(self, messages: Sequence[Buffer]) -> None:
        """Hand over whole messages, records in runs. Hot: one turn a message."""
        arrivals, sessions = self._arrivals, self._context.sessions
        records: list[Record] = []
        heard: list[bytes] = []
        for message in messages:
            try:
                record = read_record(message)
            except Malformed as bad:
                self._context.drops.count(bad.reason)
                continue
            if record is None:
                if records:
                    arrivals.records(self, records)
                    records = []
                heard.append(bytes(message))
                continue
            if heard:
                # Before the session is looked up: the message may be what makes it known.
                arrivals.messages(self, heard)
                heard = []
            if record.session in sessions:
                records.append(record)
            else:
                self._context.drops.count(DropReason.RECORD_UNKNOWN_SESSION)
        if self.ended:
            return  # closed by the core, because of what it was given here
        if records:
            arrivals.records(self, records)
        elif heard:
            arrivals.messages(self, heard)

    def _deliver_unproven(self, messages: Sequence[Buffer]) -> None:
        """Hand over messages one by one until the core answers; if it should have by now, a stranger is there."""
        for number, message in enumerate(messages):
            self._first_words.heard(message)
            self._deliver([message])
            if self.ended:
                return
            if self.proven:
                self._deliver(messages[number + 1 :])
                return
            if self._first_words.over:
                self._estrange()
                return

    # the end

    def _end_of_stream(self, decoded: Decoded) -> None:
        """The codec can make nothing of what follows."""
        if self.ended:
            return
        if decoded.malformed or not decoded.ended:
            self._context.drops.count(DropReason.STREAM_MALFORMED)
            if not self.proven:
                self._estrange()
                return
        self._fail(decoded.ended or "a message that is too long")

    def _estrange(self) -> None:
        """Give the connection of a stranger back to whoever accepted it."""
        self._detach()
        if self.on_stranger is not None:
            self.on_stranger(self)
        else:
            self.pipe.close()

    def _detach(self) -> None:
        """Take no further part in the loop, and free what is kept."""
        self.ended = True
        self.full = False
        self._queue.clear()
        self._rest = b""
        self._have = 0
        if self._room.owner is self:
            self._room.owner = None
        fd = self.pipe.fileno()
        if fd >= 0:
            self._context.loop.remove_reader(fd)
            self._context.loop.remove_writer(fd)
        if self.on_end is not None:
            self.on_end(self)

    def _fail(self, why: str) -> None:
        """The far end or the network has ended the connection. Told later: this may be within a call by the core."""
        if self.ended:
            return
        was_full = self.full
        self._detach()
        self.pipe.close()
        if self.proven:
            self._context.loop.call_soon(self._tell, was_full, why)

    def _tell(self, was_full: bool, why: str) -> None:
        if was_full:
            self._arrivals.drained()  # nobody waits for this link any more
        if not self._closed:
            self._arrivals.closed(self, why)

    def close(self) -> None:
        """End the connection; what has not been sent is lost."""
        self._closed = True
        if self.ended:
            return
        was_full = self.full
        farewell = self._codec.farewell()
        if farewell and not was_full:
            with contextlib.suppress(OSError):
                self.pipe.send([farewell])
        self._detach()
        self.pipe.close()
        if was_full:
            self._context.loop.call_soon(self._arrivals.drained)
