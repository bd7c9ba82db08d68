"""The WebSocket carrier beyond the contract: opening, pings, the end. The far end is a socket, or a web server."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from caetun.errors import NetworkError
from caetun.transports import websocket
from caetun.transports.base import Target
from caetun.transports.pipes import PlainPipe
from caetun.transports.websocket import SILENT_TICKS, TICK_SECONDS, WS, WSS, WebSocketLink, answer_to
from caetun.types import DropReason, Drops
from caetun.wire.http import HeadReader, Request
from caetun.wire.record import Record, encode_header
from caetun.wire.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocketCodec, decode_head, encode_head
from tests.transports.recorder import PATIENCE, Recorder
from tests.transports.stream_ends import connected, context_for

_chance = random.Random(13)
SPACE = b"\r\n\r\n"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The example of RFC 6455, section 1.3."""
ASKED = f"GET /chat HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
ASKED += "Sec-WebSocket-Version: 13\r\n\r\n"


def read_request(head: bytes) -> Request:
    request = HeadReader().feed(head)
    assert request is not None
    return request


@dataclass
class WebServer:
    """Answers every request the same way, and keeps what it was asked."""

    answer: bytes | None = b""
    """None: as a WebSocket server does."""
    behind: bytes = b""
    """What follows its answer at once."""
    heads: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether a client has left."""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(SPACE))
        answer = answer_to(read_request(self.heads[-1])) if self.answer is None else self.answer
        assert answer is not None
        writer.write(answer + self.behind)
        if answer == b"" or self.answer is None:
            while await reader.read(4096):
                pass
        writer.close()
        self.gone.set()

    @property
    def headers(self) -> dict[str, str]:
        """Of the last request, its request line under ""."""
        first, *lines = self.heads[-1].decode().removesuffix("\r\n\r\n").split("\r\n")
        return {"": first, **dict(line.split(": ", 1) for line in lines)}

    async def dial(self, path: str = "", **options: str) -> WebSocketLink:
        """A link to it."""
        context = context_for(Recorder(), Drops(), **options)
        (link,) = await WS.dial(Target("localhost", self.port, path), context)
        assert isinstance(link, WebSocketLink)
        return link

    async def refused(self) -> str:
        """Why there is no link to it."""
        with pytest.raises(NetworkError) as error:
            await self.dial()
        words = str(error.value)
        where = f"localhost:{self.port}: "
        assert words.startswith(where)
        return words.removeprefix(where)


@asynccontextmanager
async def web(answer: bytes | None = None, behind: bytes = b"") -> AsyncIterator[WebServer]:
    server = WebServer(answer, behind)
    waiting = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = waiting.sockets[0].getsockname()[1]
    async with waiting:
        yield server


class TestAsking:
    """What the client says, and makes of the answer."""

    async def test_as_a_browser_would(self) -> None:
        async with web() as server:
            link = await server.dial()
            link.close()
        asked = server.headers
        assert asked[""] == "GET / HTTP/1.1"
        assert asked["Host"] == f"localhost:{server.port}"
        assert asked["Origin"] == f"http://localhost:{server.port}"
        assert asked["User-Agent"].startswith("Mozilla/5.0 ")
        assert (asked["Connection"], asked["Upgrade"], asked["Sec-WebSocket-Version"]) == ("Upgrade", "websocket", "13")
        assert not {"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"} & set(asked)
        assert link.name == f"ws localhost:{server.port}"
        assert link.source == f"127.0.0.1 {server.port}"

    async def test_another_host_and_a_path(self) -> None:
        async with web() as server:
            (await server.dial("/secret/path?room=1&x=a b", host="hub.example")).close()
        asked = server.headers
        assert asked[""] == "GET /secret/path?room=1&x=a%20b HTTP/1.1"
        assert (asked["Host"], asked["Origin"]) == ("hub.example", "http://hub.example")

    async def test_a_path_breaks_no_line(self) -> None:
        async with web() as server:
            (await server.dial("/ü\r\nX: y")).close()
        assert server.headers[""] == "GET /%C3%BC%0D%0AX:%20y HTTP/1.1"

    async def test_what_follows_the_answer_at_once_is_not_lost(self) -> None:
        message = b"\x02early"
        async with web(behind=encode_head(BINARY, len(message)) + message) as server:
            link = await server.dial()
            arrivals = link._context.arrivals
            assert isinstance(arrivals, Recorder)
            link.send_messages([b"\x01hello"])
            await arrivals.until(lambda: arrivals.heard)
            assert arrivals.heard == [message]
            link.close()

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ("404 Not Found", "answered 404 Not Found: is the path right?"),
            ("400 Bad Request", "answered 400 Bad Request: does the proxy in front pass on Upgrade and Connection?"),
            ("401 Unauthorized", "answered 401 Unauthorized: it wants a login, which CaeTun does not have"),
            ("502 Bad Gateway", "answered 502 Bad Gateway: the proxy in front does not reach the hub behind it"),
            ("200 OK", "answered 200 OK: a web page is there: is the path right?"),
            ("418", "answered 418 instead of opening a WebSocket"),
            (
                "302 Found\r\nLocation: https://login.example/",
                "answered 302 Found: it sends us to https://login.example/, where we do not go by ourselves:"
                " connect to that",
            ),
        ],
    )
    async def test_other_answers_in_words(self, status: str, words: str) -> None:
        async with web(f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody".encode()) as server:
            assert await server.refused() == words

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "what answered is not a web server: is it the right port?"),
            (b"HTTP/1.1 200", "closed by the far end instead of an answer to the WebSocket request"),
            (b"x" * 20_000, "an endless head instead of an answer to the WebSocket request"),
        ],
    )
    async def test_what_is_no_answer(self, answer: bytes, words: str) -> None:
        async with web(answer) as server:
            assert await server.refused() == words

    @pytest.mark.parametrize(
        "headers",
        [
            "",
            "Upgrade: websocket\r\n",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        ],
    )
    async def test_an_upgrade_that_is_none(self, headers: str) -> None:
        async with web(f"HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n".encode()) as server:
            assert (await server.refused()).startswith("not a WebSocket server: ")

    async def test_an_answer_that_does_not_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(websocket, "ANSWER_SECONDS", 0.02)
        async with web(b"") as server:
            assert await server.refused() == "connected, but no answer to the WebSocket request within 0.02 s"
            await asyncio.wait_for(server.gone.wait(), PATIENCE)

    async def test_who_gives_up_leaves_nothing_behind(self) -> None:
        async with web(b"") as server:
            dialling = asyncio.ensure_future(server.dial())
            async with asyncio.timeout(PATIENCE):
                while not server.heads:
                    await asyncio.sleep(0)
                dialling.cancel()
                await server.gone.wait()
            with pytest.raises(asyncio.CancelledError):
                await dialling

    async def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as waiting:
            port = waiting.getsockname()[1]
        with pytest.raises(NetworkError, match=rf"127\.0\.0\.1:{port}: "):
            await WS.dial(Target("127.0.0.1", port), context_for(Recorder(), Drops()))

    def test_it_takes_a_round_trip(self) -> None:
        assert (WS.name, WS.default_port, WSS.name, WSS.default_port) == ("ws", 80, "wss", 443)


class TestAnswering:
    """What the server makes of a request."""

    def test_the_example_of_the_specification(self) -> None:
        answer = answer_to(read_request(ASKED.encode()))
        assert answer is not None
        first, *lines = answer.decode().split("\r\n")
        assert first == "HTTP/1.1 101 Switching Protocols"
        assert [line.partition(":")[0] for line in lines[:3]] == ["Server", "Date", "Connection"]
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
        assert answer.endswith(SPACE)

    def test_extensions_and_subprotocols_are_not_agreed_upon(self) -> None:
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        answer = answer_to(read_request(ASKED.replace("\r\n\r\n", f"\r\n{offer}").encode()))
        assert answer is not None
        assert b"deflate" not in answer
        assert b"chat" not in answer

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Upgrade: websocket\r\n", ""),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Connection: Upgrade\r\n", ""),
            ("Connection: Upgrade", "Connection: keep-alive"),
            (KEY, "short"),
            (KEY, "bm90IDE2IGJ5dGVz"),
            (f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Key: {KEY}"),
            ("Version: 13", "Version: 8"),
            ("Sec-WebSocket-Version: 13\r\n", ""),
        ],
    )
    def test_what_is_no_opening_request(self, old: str, new: str) -> None:
        assert answer_to(read_request(ASKED.replace(old, new).encode())) is None


class Conversation:
    """A link, who hears what it delivers, and the far end's socket."""

    def __init__(self, client: bool = True, proven: bool = True) -> None:
        self.core = Recorder()
        self.drops = Drops()
        self.ours, self.far = connected()
        self.far.settimeout(PATIENCE)
        self.there = WebSocketCodec(not client, _chance.randbytes)
        self.link = WebSocketLink(
            PlainPipe(self.ours),
            WebSocketCodec(client, _chance.randbytes),
            context_for(self.core, self.drops),
            name="ws far",
            proven=proven,
        )
        self.link.start()

    def say(self, content: bytes) -> None:
        """The far end sends."""
        self.far.sendall(content)

    def control(self, opcode: int, payload: bytes = b"") -> None:
        """The far end sends a control frame."""
        self.say(self.there._control(opcode, payload))

    def hear(self) -> tuple[int, bytes]:
        """The next frame that the far end gets: its type and payload; (-1, b"") at the end."""
        got = b""
        while (head := decode_head(got, 0)) is None or len(got) < head.start + head.length:
            more = self.far.recv(1)
            if not more:
                return -1, b""
            got += more
        payload = got[head.start :]
        if head.masked:
            key = got[head.start - 4 : head.start]
            payload = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
        return head.opcode, payload

    def silence(self) -> bool:
        """Whether the far end has got nothing more."""
        self.far.setblocking(False)
        try:
            return not self.far.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.far.settimeout(PATIENCE)

    def later(self) -> None:
        """A tick's time passes."""
        timer = self.link._timer
        assert timer is not None
        timer.cancel()
        self.link._tick()

    async def until_gone(self) -> str:
        """Why the link ended."""
        await self.core.until(lambda: self.core.gone)
        await asyncio.sleep(0)
        ((link, why),) = self.core.gone
        assert link is self.link
        assert self.ours.fileno() == -1
        assert self.link._timer is None
        return why

    async def heard(self) -> None:
        """The link has taken in what the far end sent."""
        async with asyncio.timeout(PATIENCE):
            while not self.link._frames.heard:
                await asyncio.sleep(0)


@pytest.fixture(params=["client", "server"])
async def talk(request: pytest.FixtureRequest) -> AsyncIterator[Conversation]:
    made = Conversation(request.param == "client")
    yield made
    made.link.close()
    made.far.close()


class TestPings:
    async def test_a_link_that_says_nothing_pings_at_every_look(self, talk: Conversation) -> None:
        for _ in range(3):
            talk.control(PONG)
            await talk.heard()
            talk.later()
            assert talk.hear() == (PING, b"")

    async def test_one_that_talks_and_hears_does_not(self, talk: Conversation) -> None:
        talk.link.send([Record(7, 1, b"x" * 40)])
        assert talk.hear() == (BINARY, encode_header(0, 1, 7, 1) + b"x" * 40)
        talk.control(PONG)
        await talk.heard()
        talk.later()
        assert talk.silence()

    async def test_one_that_talks_and_hears_nothing_asks(self, talk: Conversation) -> None:
        talk.link.send_messages([b"\x01hello"])
        talk.later()
        assert talk.hear() == (BINARY, b"\x01hello")
        assert talk.hear() == (PING, b"")

    async def test_pings_are_answered_and_an_answer_is_saying_something(self, talk: Conversation) -> None:
        talk.control(PING, b"there?")
        await talk.heard()
        assert talk.hear() == (PONG, b"there?")
        talk.later()
        assert talk.silence()

    async def test_a_far_end_that_never_answers_is_gone(self, talk: Conversation) -> None:
        for _ in range(SILENT_TICKS - 1):
            talk.later()
            assert talk.hear() == (PING, b"")
        talk.later()
        assert await talk.until_gone() == f"no answer to pings for {SILENT_TICKS * TICK_SECONDS:g} s"

    async def test_one_that_answers_at_last_is_not(self, talk: Conversation) -> None:
        for _ in range(3):
            for _ in range(SILENT_TICKS - 1):
                talk.later()
            talk.control(PONG)
            await talk.heard()
        talk.later()
        assert not talk.link.ended

    async def test_a_look_comes_in_time_for_proxies(self, talk: Conversation) -> None:
        timer = talk.link._timer
        assert timer is not None
        assert 0 < timer.when() - asyncio.get_running_loop().time() <= TICK_SECONDS
        assert 2 * TICK_SECONDS < 25

    async def test_pings_wait_for_nobody(self, talk: Conversation) -> None:
        talk.ours.stuck = True
        talk.link.send([Record(7, 1, b"x" * 40)])
        assert talk.link.full
        talk.later()
        talk.later()
        assert len(talk.link._queue) <= 3


class TestTheEnd:
    async def test_we_say_goodbye(self, talk: Conversation) -> None:
        talk.link.close()
        assert talk.link._timer is None
        assert talk.hear() == (CLOSE, b"\x03\xe8")
        assert talk.hear() == (-1, b"")
        await asyncio.sleep(0)
        assert talk.core.gone == []

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            (b"\x03\xe8", "it is done (WebSocket 1000)"),
            (b"\x03\xe9bye", "it is going away (WebSocket 1001): bye"),
            (b"\x03\xf5", "it is overloaded, try again later (WebSocket 1013)"),
            (b"", "it gives no reason (WebSocket 1005)"),
        ],
    )
    async def test_the_far_end_says_why(self, talk: Conversation, payload: bytes, words: str) -> None:
        talk.control(CLOSE, payload)
        assert await talk.until_gone() == f"closed by the far end: {words}"
        assert talk.hear() == (CLOSE, payload[:2])
        assert talk.hear() == (-1, b"")
        assert not talk.drops

    async def test_the_far_end_leaves_without_a_word(self, talk: Conversation) -> None:
        talk.far.close()
        assert await talk.until_gone() == "closed by the far end"

    async def test_the_far_end_breaks_the_rules(self, talk: Conversation) -> None:
        talk.control(TEXT, b"hello")
        assert await talk.until_gone() == "WebSocket: text"
        assert talk.hear() == (CLOSE, b"\x03\xeb")
        assert talk.drops == {DropReason.STREAM_MALFORMED: 1}

    async def test_a_stranger_is_told_no_more_than_that_it_is_one(self) -> None:
        talk = Conversation(client=False, proven=False)
        talk.say(encode_head(BINARY, 5, bytes(4)) + b"hello")
        async with asyncio.timeout(PATIENCE):
            while not talk.link.ended:
                await asyncio.sleep(0)
        assert talk.link._timer is None
        assert talk.hear() == (CLOSE, b"\x03\xf0")
        assert talk.hear() == (-1, b"")
        assert talk.core.gone == []
        assert not talk.drops, "whoever accepted the link counts it"
        talk.far.close()
