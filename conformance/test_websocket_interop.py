"""The `websockets` package as the other end, with its own sockets: a server we call, and a client that calls us."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from caetun.transports import websocket
from caetun.transports.base import Link, Target
from caetun.transports.listener import StreamListener
from caetun.transports.websocket import WS
from caetun.types import DropReason, Drops
from caetun.wire.framing import MAX_BODY
from caetun.wire.record import Record, encode_header
from tests.transports.recorder import PATIENCE, Recorder
from tests.transports.stream_ends import context_for

SIZES = (16, 100, 125, 126, 1400, 65_000, MAX_BODY)


def messages_of(records: list[Record]) -> list[bytes]:
    return [encode_header(0, 1, one.session, one.counter) + bytes(one.body) for one in records]


class Core(Recorder):
    """Answers handshake messages, and sends records back."""

    def messages(self, link: Link, messages: list[bytes]) -> None:
        super().messages(link, messages)
        if messages[-1].startswith(b"\x01"):
            link.send_messages([b"\x02welcome"])

    def records(self, link: Link, records: list[Record]) -> None:
        super().records(link, records)
        link.send(self.got[-len(records) :])


@asynccontextmanager
async def their_server(behaviour: str = "echo") -> AsyncIterator[int]:
    """Its port. What it does: `echo`, or close with a code."""

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            if behaviour != "echo":
                await connection.close(int(behaviour), "as it is written")
                return
            if len(message) > 1000:
                # in three frames
                await connection.send([message[:10], message[10:500], message[500:]])
            else:
                await connection.send(message)

    # Its default offers compression, keeps to 1 MiB, and pings: all as a stranger's server would.
    async with serve(handle, "127.0.0.1", 0, ping_interval=0.05) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def call(port: int) -> tuple[Link, Recorder]:
    arrivals = Recorder()
    (link,) = await WS.dial(Target("127.0.0.1", port, "/any"), context_for(arrivals, Drops()))
    return link, arrivals


@asynccontextmanager
async def our_hub() -> AsyncIterator[tuple[str, Core, Drops]]:
    """Its URL, its core, and what it dropped."""
    core, drops = Core(), Drops()
    hub = WS.listen(Target("127.0.0.1", 0, "/here"), context_for(core, drops))
    assert isinstance(hub, StreamListener)
    yield f"ws://127.0.0.1:{hub.address[1]}/here", core, drops
    hub.close()


class TestTheirServer:
    async def test_what_we_send_comes_back_in_frames_of_theirs(self) -> None:
        async with their_server() as port:
            link, arrivals = await call(port)
            sent = [Record(7, counter, os.urandom(size)) for counter, size in enumerate(SIZES)]
            link.send(sent)
            await arrivals.until(lambda: len(arrivals.got) == len(sent))
            assert arrivals.got == sent
            link.close()

    async def test_their_pings_are_answered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pinged = asyncio.Event()
        answer = websocket.WebSocketCodec._pong

        def watched(codec: websocket.WebSocketCodec, asked: bytes | None) -> object:
            if asked is not None:
                pinged.set()
            return answer(codec, asked)

        monkeypatch.setattr(websocket.WebSocketCodec, "_pong", watched)
        async with their_server() as port, asyncio.timeout(PATIENCE):
            link, arrivals = await call(port)
            link.send([Record(7, 1, b"x" * 40)])
            for _ in range(3):
                pinged.clear()
                await pinged.wait()
            assert arrivals.gone == []
            link.close()

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (1000, "it is done"),
            (1001, "it is going away"),
            (1008, "it refuses us by its policy"),
            (1011, "it met an error of its own"),
            (1012, "it restarts"),
            (1013, "it is overloaded, try again later"),
            (4000, "it gives a reason of its own"),
        ],
    )
    async def test_they_say_why_they_close(self, code: int, words: str) -> None:
        async with their_server(str(code)) as port:
            link, arrivals = await call(port)
            link.send([Record(7, 1, b"x" * 40)])
            await arrivals.until(lambda: arrivals.gone)
            why = f"closed by the far end: {words} (WebSocket {code}): as it is written"
            assert arrivals.gone == [(link, why)]


class TestTheirClient:
    async def greeted(self, url: str, **how: object) -> ClientConnection:
        client = await connect(url, **how)  # type: ignore[arg-type]
        await client.send(b"\x01hello")
        assert await client.recv() == b"\x02welcome"
        return client

    async def test_what_they_send_comes_back(self) -> None:
        async with our_hub() as (url, core, drops):
            client = await self.greeted(url)
            assert client.protocol.extensions == []
            sent = messages_of([Record(7, counter, os.urandom(size)) for counter, size in enumerate(SIZES)])
            for message in sent:
                await client.send(message)
            assert [await client.recv() for _ in sent] == sent
            await client.close()
            await core.until(lambda: core.gone)
            assert core.gone[0][1] == "closed by the far end: it is done (WebSocket 1000)"
            assert not drops

    async def test_fragments_with_a_ping_among_them(self) -> None:
        async with our_hub() as (url, _core, _drops):
            client = await self.greeted(url)
            (message,) = messages_of([Record(7, 1, os.urandom(40_000))])
            await client.send([message[:1], b"", message[1:20_000], message[20_000:]])
            await (await client.ping(b"there?"))
            assert await client.recv() == message
            await client.close()

    async def test_our_goodbye_reaches_them(self) -> None:
        async with our_hub() as (url, core, _drops):
            client = await self.greeted(url)
            core.links[0].close()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1000

    @pytest.mark.parametrize(
        ("message", "code", "reason"),
        [
            ("text", 1003, DropReason.STREAM_MALFORMED),
            (bytes(100_000), 1009, DropReason.STREAM_MALFORMED),
        ],
    )
    async def test_what_we_do_not_take_they_are_told(self, message: bytes | str, code: int, reason: DropReason) -> None:
        async with our_hub() as (url, core, drops):
            client = await self.greeted(url)
            await client.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code
            await core.until(lambda: core.gone)
            assert drops == {reason: 1}

    async def test_a_stranger_that_knows_the_path(self) -> None:
        async with our_hub() as (url, core, drops):
            client = await connect(url)
            await client.send(b"let me in")
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            assert core.gone == []
            assert drops[DropReason.STREAM_STRANGER] == 1

    async def test_a_stranger_that_does_not(self) -> None:
        async with our_hub() as (url, _core, _drops):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{url}/not")
            assert refused.value.response.status_code == 404
