"""Which decoy the options mean, and the one that passes strangers on to a real web server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from caetun.errors import ConfigurationError
from caetun.transports import decoy
from caetun.transports.base import Options
from caetun.transports.decoy import Relay, make_decoy
from caetun.transports.site import Site
from caetun.transports.talk import Talk
from tests.transports.strangers import House, careless, until

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
PAGE = b"HTTP/1.1 200 OK\r\nServer: other\r\nContent-Length: 3\r\n\r\nyes"


class Behind:
    """A web server of few words behind a house."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = False
        self.reads = True
        self.answer = PAGE

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers whatever comes, and closes when the other side does."""
        with contextlib.suppress(ConnectionError):
            while self.reads and (data := await reader.read(1 << 16)):
                self.heard += data
                writer.write(self.answer)
                await writer.drain()
            if not self.reads:
                await asyncio.Event().wait()
        self.ended = True
        writer.close()


@contextlib.asynccontextmanager
async def serving(behind: Behind, *kinds: str, **options: Any) -> AsyncIterator[House]:
    """A house in front of it."""
    server = await asyncio.start_server(behind.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    house = House(*kinds, decoy=f"http://127.0.0.1:{port}", **options)
    yield house
    await house.close()
    server.close()


class TestRelay:
    """Bytes both ways."""

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
    async def test_a_stranger_talks_to_the_web_server_behind(self, secure: bool) -> None:
        behind = Behind()
        async with serving(behind, "tls", "tcp") as house, house.stranger(careless() if secure else None) as stranger:
            for words in (b"GET / HTTP/1.1\r\nHost: hub.example\r\n\r\n", b"POST /x HTTP/1.1\r\n\r\n"):
                stranger.say(words)
                reply = await stranger.hears()
                assert (reply.header("Server"), reply.body) == ("other", b"yes")
                assert behind.heard.endswith(words)

    @pytest.mark.parametrize("garbage", [b"\x01\x02\x03", b"\0", b"\0\0\0\x04\x01abc", b"SSH-2.0-x\r\n"])
    async def test_garbage_is_for_the_web_server_too(self, garbage: bytes) -> None:
        behind = Behind()
        async with serving(behind, "tcp") as house, house.stranger() as stranger:
            stranger.say(garbage)
            assert (await stranger.hears()).header("Server") == "other"

    async def test_much_goes_through(self) -> None:
        behind = Behind()
        body = bytes(range(256)) * 20_000
        behind.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        async with serving(behind, "tls") as house, house.stranger(careless()) as stranger:
            stranger.say(b"GET / HTTP/1.1\r\n\r\n")
            assert (await stranger.hears()).body == body
            behind.answer = b""
            stranger.say(body)
            await until(lambda: behind.heard.endswith(body))

    async def test_when_one_side_ends_the_other_is_told(self) -> None:
        behind = Behind()
        async with serving(behind) as house:
            async with house.stranger() as stranger:
                stranger.say(b"x")
                await stranger.hears()
                stranger.writer.write_eof()
                assert await stranger.everything() == b""
            assert behind.ended
            behind.ended = False
            async with house.stranger() as stranger:
                stranger.say(b"x")
                await stranger.hears()
            await until(lambda: behind.ended and not house.listener.guests)

    async def test_what_the_web_server_does_not_take_stays_outside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoy, "RELAY_IDLE_SECONDS", 0.3)
        behind = Behind()
        behind.reads = False
        taken = 0
        receive = Talk.receive

        async def counted(talk: Talk) -> bytes:
            nonlocal taken
            data = await receive(talk)
            taken += len(data)
            return data

        monkeypatch.setattr(Talk, "receive", counted)
        async with serving(behind) as house, house.stranger() as stranger:
            stranger.say(bytes(64 << 20))
            await until(lambda: not house.listener.guests)
        # the kernel's buffers, and not more than READ_SIZE of ours
        assert 0 < taken < 32 << 20

    async def test_silence_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoy, "RELAY_IDLE_SECONDS", 0.05)
        behind = Behind()
        async with serving(behind) as house, house.stranger() as stranger:
            stranger.say(b"x")
            assert await stranger.everything() == PAGE

    async def test_a_web_server_that_is_away(self) -> None:
        house = House(decoy="http://127.0.0.1:1")
        for words, status in [(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 502), (b"\x01", 400)]:
            async with house.stranger() as stranger:
                stranger.say(words)
                assert (await stranger.hears()).status == status
        await house.close()


class TestChoice:
    """--decoy"""

    def test_nothing_a_directory_or_a_server(self, tmp_path: Any) -> None:
        assert isinstance(make_decoy(Options()), Site)
        assert isinstance(make_decoy(Options(decoy=str(tmp_path))), Site)
        assert isinstance(make_decoy(Options(decoy="http://127.0.0.1:8080/")), Relay)
        assert isinstance(make_decoy(Options(decoy="http://[::1]")), Relay)

    @pytest.mark.parametrize(
        "wanted",
        ["/does/not/exist", "http://", "http://x/path", "http://x?y", "http://x:y", "http://u:p@x", "http://[::1"],
    )
    def test_what_cannot_be(self, wanted: str) -> None:
        with pytest.raises(ConfigurationError, match=r"--decoy: .*: .*: "):
            make_decoy(Options(decoy=wanted))
