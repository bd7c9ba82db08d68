"""Links on byte streams, beyond the contract: how streams are cut, strangers, and the end. The far end is a socket."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from caetun.transports.base import SEND_QUEUE, Link
from caetun.transports.pipes import PlainPipe
from caetun.transports.stream import MAX_REST, MAX_STRANGER_REST, RECEIVE_ROOM, StreamLink
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.framing import MAX_BODY, MAX_MESSAGE, Decoded, LengthCodec
from caetun.wire.record import INITIATION, Record, encode_header
from tests.transports.recorder import PATIENCE, Recorder
from tests.transports.stream_ends import StreamSocket, connected, context_for

_chance = random.Random(5)


def record(counter: int, size: int = 100, session: int = 7) -> Record:
    return Record(session, counter, _chance.randbytes(size))


def framed(*messages: Record | bytes) -> bytes:
    """The bytes that carry them."""
    contents = [
        encode_header(0, 1, one.session, one.counter) + one.body if isinstance(one, Record) else one for one in messages
    ]
    return b"".join(struct.pack(">I", len(content)) + content for content in contents)


class Core(Recorder):
    """Arrivals that answer handshake messages beginning with `answers`, within the call, as the core does."""

    answers = b"?"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[Record]] = []
        """Records of each call."""
        self.then: Callable[[Link], object] | None = None
        """What else is done when something has come."""

    def records(self, link: Link, records: list[Record]) -> None:
        super().records(link, records)
        self.calls.append(self.got[-len(records) :])
        if self.then:
            self.then(link)

    def messages(self, link: Link, messages: list[bytes]) -> None:
        super().messages(link, messages)
        if messages[-1].startswith(self.answers):
            link.send_messages([b"\x02welcome"])
        if self.then:
            self.then(link)


@dataclass
class Conversation:
    """A link, its core, and the far end's socket."""

    core: Core = field(default_factory=Core)
    drops: Drops = field(default_factory=Drops)
    happened: list[str] = field(default_factory=list)
    """What the link has told whoever accepted it."""

    def __post_init__(self) -> None:
        self.context = context_for(self.core, self.drops)
        self.sockets: list[socket.socket] = []
        self.links: list[StreamLink] = []

    def link(self, *, first: bytes = b"", proven: bool = True, codec: LengthCodec | None = None) -> StreamLink:
        """A started link to a far end of its own, which is `self.far` from now on."""
        ours, self.far = connected()
        self.ours: StreamSocket = ours
        self.sockets += ours, self.far
        link = StreamLink(
            PlainPipe(ours),
            codec or LengthCodec(),
            self.context,
            name="tcp far",
            first=first,
            proven=proven,
        )
        link.on_proven = lambda _: self.happened.append("proven")
        link.on_stranger = lambda _: self.happened.append("stranger")
        link.on_end = lambda _: self.happened.append("end")
        link.start()
        self.links.append(link)
        return link

    def close(self) -> None:
        """Give everything back."""
        for link in self.links:
            link.close()
        for sock in self.sockets:
            sock.close()

    def say(self, content: bytes) -> None:
        """The far end sends."""
        self.far.setblocking(True)
        self.far.sendall(content)

    async def hear(self, size: int) -> bytes:
        """What the far end gets."""
        self.far.setblocking(False)
        loop, heard = asyncio.get_running_loop(), b""
        async with asyncio.timeout(PATIENCE):
            while len(heard) < size:
                piece = await loop.sock_recv(self.far, size - len(heard))
                if not piece:
                    break
                heard += piece
        return heard

    async def turns(self, count: int = 5) -> None:
        """Let happen what is about to."""
        for _ in range(count):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let things happen until the condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0)


@pytest.fixture
async def talk() -> AsyncIterator[Conversation]:
    made = Conversation()
    yield made
    made.close()


class TestReceiving:
    async def test_a_run_of_records_is_one_call_and_messages_keep_their_place(self, talk: Conversation) -> None:
        talk.link()
        one, two, three = record(1), record(2), record(3)
        talk.say(framed(one, two, b"\x01hello", three))
        await talk.until(lambda: len(talk.core.got) == 3)
        assert talk.core.calls == [[one, two], [three]]
        assert talk.core.heard == [b"\x01hello"]
        assert talk.core.ends == 1

    async def test_a_stream_may_come_in_any_pieces(self, talk: Conversation) -> None:
        talk.link()
        sent = [record(number, _chance.choice([1, 100, 3000, MAX_BODY])) for number in range(12)]
        stream, at = framed(*sent), 0
        while at < len(stream):
            size = _chance.choice([1, 3, 17, 1000, 30_000])
            talk.say(stream[at : at + size])
            at += size
            await talk.turns(2)
        await talk.until(lambda: len(talk.core.got) == 12)
        assert talk.core.got == sent

    async def test_links_share_the_memory_but_not_what_they_have_begun(self, talk: Conversation) -> None:
        one, two = record(1, 50_000), record(2, 40_000)
        pairs = []
        for whole in (one, two):
            link = talk.link()
            pairs.append((link, talk.far, framed(whole)))
        for start in range(0, 50_100, 10_000):
            for _link, far, stream in pairs:
                far.sendall(stream[start : start + 10_000])
                await talk.turns(3)
        await talk.until(lambda: len(talk.core.got) == 2)
        assert {got.counter: got for got in talk.core.got} == {1: one, 2: two}
        assert len(talk.context.shared) == 1

    async def test_what_was_read_before_comes_first(self, talk: Conversation) -> None:
        one, two = record(1), record(2)
        stream = framed(one, two)
        talk.link(first=stream[:150])
        await talk.until(lambda: talk.core.got)
        talk.say(stream[150:])
        await talk.until(lambda: len(talk.core.got) == 2)
        assert talk.core.got == [one, two]

    async def test_one_turn_takes_a_bounded_part_of_what_waits(self, talk: Conversation) -> None:
        link = talk.link()
        taken: list[int] = []
        receive = link.pipe.receive_into

        class Watched(PlainPipe):
            def receive_into(self, buffer: memoryview) -> int:
                taken.append(receive(buffer))
                return taken[-1]

        await talk.turns()
        link.pipe = Watched(talk.ours)
        talk.say(framed(record(1, 1000)))
        talk.say(framed(record(2, 1000)))
        link._readable()
        assert len(taken) == 1
        assert max(taken) <= RECEIVE_ROOM

    async def test_what_is_wrong_inside_a_message_is_counted_and_the_stream_goes_on(self, talk: Conversation) -> None:
        talk.link()
        pieces, right = encode_header(0, 2, 7, 1) + b"half", record(2)
        talk.say(framed(b"\x04", pieces, record(1, session=99), right))
        await talk.until(lambda: talk.core.got)
        assert talk.core.got == [right]
        assert talk.drops == {
            DropReason.DATAGRAM_SHORT: 1,
            DropReason.RECORD_MALFORMED: 1,
            DropReason.RECORD_UNKNOWN_SESSION: 1,
        }


class TestSending:
    async def test_bytes_on_the_wire(self, talk: Conversation) -> None:
        link = talk.link()
        one, two = record(1), record(2, 5000)
        link.send([one, two])
        link.send_messages([b"\x01hello"])
        link.probe(two)
        expected = framed(one, two, b"\x01hello", two)
        assert await talk.hear(len(expected)) == expected

    @pytest.mark.parametrize("pace", [1, 7, 23, 1000, 70_000])
    async def test_a_socket_that_takes_little_at_once_gets_everything_in_order(
        self, talk: Conversation, pace: int
    ) -> None:
        link = talk.link()
        talk.ours.pace = pace
        sent = [record(number, min(pace, 40_000)) for number in range(10)]
        link.send(sent[:5])
        assert link.full
        for one in sent[5:]:
            link.send([one])
        expected = framed(*sent)
        assert await talk.hear(len(expected)) == expected
        await talk.until(lambda: not link.full)
        assert talk.core.drains == 1

    async def test_what_is_kept_while_full_is_bounded(self, talk: Conversation) -> None:
        link = talk.link()
        talk.ours.stuck = True
        link.send([record(number) for number in range(2000)])
        kept = 2000 - talk.drops[DropReason.LINK_FULL]
        assert kept <= 500 + SEND_QUEUE
        talk.ours.stuck = False
        assert len(await talk.hear(kept * 120)) == kept * 120

    async def test_a_link_is_full_while_the_far_end_reads_nothing(self, talk: Conversation) -> None:
        link = talk.link()
        sent = []
        while not link.full:
            sent.append(record(len(sent), 60_000))
            link.send(sent[-1:])
        assert talk.core.drains == 0
        expected = framed(*sent)
        assert await talk.hear(len(expected)) == expected
        await talk.until(lambda: talk.core.drains)
        assert not link.full

    async def test_other_bytes_are_left_out_while_full(self, talk: Conversation) -> None:
        link = talk.link()
        link.send_bytes(b"ping")
        talk.ours.stuck = True
        one = record(1)
        link.send([one])
        link.send_bytes(b"ping")
        talk.ours.stuck = False
        await talk.until(lambda: not link.full)
        link.send_bytes(b"pong")
        expected = b"ping" + framed(one) + b"pong"
        assert await talk.hear(len(expected)) == expected

    async def test_a_link_we_have_called_reads_from_its_first_message_on(self, talk: Conversation) -> None:
        ours, far = connected()
        talk.sockets += ours, far
        link = StreamLink(PlainPipe(ours), LengthCodec(), talk.context, name="tcp far", proven=True)
        far.close()
        await talk.turns()
        assert talk.core.gone == []
        link.send_messages([b"\x01hello"])
        await talk.until(lambda: talk.core.gone)
        assert talk.core.gone[0][0] is link


class TestStrangers:
    async def test_whoever_is_answered_is_none(self, talk: Conversation) -> None:
        link = talk.link(proven=False)
        talk.say(framed(b"?hello", record(1), record(2)))
        await talk.until(lambda: talk.core.got)
        assert talk.happened == ["proven"]
        assert link.proven
        assert [got.counter for got in talk.core.got] == [1, 2]
        assert await talk.hear(12) == framed(b"\x02welcome")[:12]

    async def test_whoever_is_not_answered_at_once_is_one(self, talk: Conversation) -> None:
        link = talk.link(proven=False)
        talk.say(framed(b"\x01who is there", b"?hello"))
        await talk.until(lambda: talk.happened)
        assert talk.happened == ["end", "stranger"]
        assert talk.core.heard == [b"\x01who is there"]
        assert link.ended
        assert link.pipe.send([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
        assert (await talk.hear(12)) == b"HTTP/1.1 400"
        link.close()
        await talk.turns()
        assert talk.core.gone == []

    async def test_a_handshake_message_in_pieces_is_waited_for(self, talk: Conversation) -> None:
        talk.link(proven=False)
        talk.core.answers = b"\x01\x01"
        talk.say(framed(bytes([INITIATION, 0, 2])))
        await talk.until(lambda: talk.core.heard)
        await talk.turns()
        assert talk.happened == []
        talk.say(framed(bytes([INITIATION, 1, 2])))
        await talk.until(lambda: talk.happened)
        assert talk.happened == ["proven"]

    async def test_who_is_asked_for_a_cookie_may_say_it_all_again_and_no_more(self, talk: Conversation) -> None:
        link = talk.link(proven=False)
        pieces = [bytes([INITIATION, number, 3]) for number in range(3)]
        asked = iter([True])
        talk.core.then = lambda link: link.send_messages([b"\x03cookie"]) if next(asked, False) else None
        talk.say(framed(*pieces, *pieces[:-1]))
        assert await talk.hear(11) == framed(b"\x03cookie")
        await talk.until(lambda: len(talk.core.heard) == 5)
        assert not link.proven
        assert talk.happened == []
        talk.say(framed(pieces[-1]))
        await talk.until(lambda: talk.happened)
        assert talk.happened == ["end", "stranger"]

    async def test_but_not_for_more_pieces_than_it_has(self, talk: Conversation) -> None:
        talk.link(proven=False)
        talk.say(framed(*[bytes([INITIATION, 0, 4])] * 9))
        await talk.until(lambda: talk.happened)
        assert talk.happened == ["end", "stranger"]
        assert len(talk.core.heard) == 4

    @pytest.mark.parametrize(
        "garbage",
        [bytes(4), b"\xff" * 40, framed(bytes(MAX_MESSAGE))[: 4 + MAX_STRANGER_REST], b"\0\x01\xff\xff"],
        ids=["zeros", "ones", "a long message not yet whole", "too long a length"],
    )
    async def test_garbage_is_a_stranger(self, talk: Conversation, garbage: bytes) -> None:
        talk.link(proven=False)
        talk.say(garbage)
        await talk.until(lambda: talk.happened)
        assert talk.happened == ["end", "stranger"]
        assert talk.core.heard == []
        assert talk.drops == {DropReason.STREAM_MALFORMED: 1}

    async def test_nothing_can_be_sent_to_one(self, talk: Conversation) -> None:
        link = talk.link(proven=False)
        talk.say(bytes(4))
        await talk.until(lambda: talk.happened)
        link.send([record(1), record(2)])
        assert talk.happened == ["end", "stranger"]
        assert talk.drops[DropReason.LINK_REFUSED] == 2

    async def test_one_that_leaves_is_not_told_of(self, talk: Conversation) -> None:
        talk.link(proven=False)
        talk.far.close()
        await talk.until(lambda: talk.happened)
        assert talk.happened == ["end"]
        await talk.turns()
        assert talk.core.gone == []

    async def test_without_anybody_who_cares_the_connection_is_closed(self, talk: Conversation) -> None:
        link = talk.link(proven=False)
        link.on_stranger = None
        talk.say(bytes(4))
        assert await talk.hear(1) == b""
        assert link.ended


class TestTheEnd:
    async def test_a_far_end_that_closes(self, talk: Conversation) -> None:
        link = talk.link()
        talk.say(framed(record(1)) + b"\0\0")
        talk.far.close()
        await talk.until(lambda: talk.core.gone)
        await talk.turns()
        assert talk.core.gone == [(link, "closed by the far end")]
        assert len(talk.core.got) == 1
        assert talk.happened == ["end"]
        assert talk.ours.fileno() == -1

    async def test_a_far_end_that_resets(self, talk: Conversation) -> None:
        link = talk.link()
        talk.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        talk.far.close()
        await talk.until(lambda: talk.core.gone)
        assert talk.core.gone == [(link, "connection reset")]

    async def test_a_far_end_that_breaks_the_rules(self, talk: Conversation) -> None:
        link = talk.link()
        right = record(1)
        talk.say(framed(right) + bytes(4))
        await talk.until(lambda: talk.core.gone)
        assert talk.core.got == [right]
        assert talk.core.gone == [(link, "a message of 0 bytes")]
        assert talk.drops == {DropReason.STREAM_MALFORMED: 1}

    async def test_it_is_told_after_the_call_in_which_it_is_noticed(self, talk: Conversation) -> None:
        link = talk.link()
        talk.ours.shutdown(socket.SHUT_WR)
        link.send([record(1)])
        assert talk.core.gone == []
        link.send([record(2)])
        assert talk.drops == {DropReason.LINK_REFUSED: 1}
        await talk.until(lambda: talk.core.gone)
        assert talk.core.gone == [(link, "closed by the far end")]

    async def test_who_closes_is_not_told(self, talk: Conversation) -> None:
        link = talk.link()
        link.close()
        link.close()
        link.send([record(1)])
        talk.far.close()
        await talk.turns()
        assert talk.core.gone == []
        assert talk.happened == ["end"]

    async def test_not_even_if_the_far_end_was_quicker(self, talk: Conversation) -> None:
        link = talk.link()
        talk.ours.shutdown(socket.SHUT_WR)
        link.send([record(1)])
        link.close()
        await talk.turns()
        assert talk.core.gone == []

    async def test_a_core_may_close_while_it_is_given_something(self, talk: Conversation) -> None:
        link = talk.link()
        talk.core.then = lambda link: link.close()
        talk.say(framed(record(1), b"\x01hello", record(2)))
        await talk.until(lambda: link.ended)
        await talk.turns()
        assert len(talk.core.got) == 1
        assert talk.core.gone == []

    @pytest.mark.parametrize("who", ["we", "the far end"])
    async def test_nobody_waits_for_a_link_that_is_gone(self, talk: Conversation, who: str) -> None:
        link = talk.link()
        talk.ours.stuck = True
        link.send([record(1)])
        assert link.full
        if who == "we":
            link.close()
        else:
            talk.far.close()
        await talk.until(lambda: talk.core.drains)
        assert not link.full
        assert [gone for gone, _ in talk.core.gone] == ([] if who == "we" else [link])

    async def test_what_was_sent_before_closing_arrives(self, talk: Conversation) -> None:
        link = talk.link()
        goodbye = record(1)
        link.send([goodbye])
        link.close()
        assert await talk.hear(1000) == framed(goodbye)


class Chatty(LengthCodec):
    """A codec with rules of its own: `!` at the front is answered, `.` is the end, and closing says so."""

    __slots__ = ()

    def feed(self, view: memoryview) -> Decoded:
        if view[:1] == b"!":
            return Decoded([], 1, answer=b"!!")
        if view[:1] == b".":
            return Decoded([], 1, ended="the far end said so")
        return super().feed(view)

    def farewell(self) -> bytes:
        return b"bye"

    def frame(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return [b"#", *parts]


class TestCodec:
    async def test_what_it_demands_is_sent_and_proves_nothing(self, talk: Conversation) -> None:
        talk.link(codec=Chatty(), proven=False)
        talk.say(b"!")
        assert await talk.hear(2) == b"!!"
        assert talk.happened == []

    async def test_it_frames_and_says_goodbye(self, talk: Conversation) -> None:
        link = talk.link(codec=Chatty())
        link.send_messages([b"hello"])
        link.close()
        assert await talk.hear(100) == b"#hellobye"

    async def test_it_ends_the_stream(self, talk: Conversation) -> None:
        link = talk.link(codec=Chatty())
        talk.say(b".")
        await talk.until(lambda: talk.core.gone)
        assert talk.core.gone == [(link, "the far end said so")]
        assert not talk.drops

    async def test_it_may_not_let_the_link_keep_more_than_a_message(self, talk: Conversation) -> None:
        class Greedy(LengthCodec):
            __slots__ = ()

            def feed(self, view: memoryview) -> Decoded:
                return Decoded([], 0)

        link = talk.link(codec=Greedy())
        talk.say(bytes(MAX_REST + 1))
        await talk.until(lambda: talk.core.gone)
        assert talk.core.gone == [(link, "a message that is too long")]
