"""People who come to a listening port and are no far end of a tunnel: what they say, and what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

from caetun.transports import registry
from caetun.transports.base import Link, Target
from caetun.transports.listener import StreamListener, stream_listener
from caetun.types import Drops
from tests.transports.recorder import PATIENCE, Recorder
from tests.transports.stream_ends import context_for

KINDS: Final = ("tcp", "tls", "ws", "wss")
PATH: Final = "/secret/path"
RIGHT, WRONG = b"\x01\0\x01right", b"\x01\0\x01wrong"
DOUBTED: Final = b"\x01\0\x01doubted"
NOT_FOUND: Final = b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE: Final = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Reply(NamedTuple):
    """An answer as HTTP has it."""

    head: str
    """Without the date, which differs."""
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*)$", self.head, re.MULTILINE)
        return found[1] if found else None


class Stranger:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, *words: bytes) -> None:
        self.writer.write(b"".join(words))

    async def hears(self, method: str = "GET") -> Reply:
        """The next answer; raises IncompleteReadError if the connection ends instead."""
        async with asyncio.timeout(PATIENCE):
            raw = await self._reader.readuntil(b"\r\n\r\n")
            head = re.sub(r"Date: .*\n", "", raw.decode().replace("\r\n", "\n")).strip()
            reply = Reply(head, b"")
            size = int(reply.header("Content-Length") or 0) if method != "HEAD" else 0
            return reply._replace(body=await self._reader.readexactly(size))

    async def everything(self) -> bytes:
        """All that is said until the connection ends."""
        got = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                while piece := await self._reader.read(1 << 16):
                    got += piece
        return got


class House:
    """A listener, and who may come."""

    def __init__(self, *kinds: str, path: str = "", sessions: Any = (7, 8), **options: Any) -> None:
        """Serves these kinds on a free port of the loopback interface."""
        self.drops = Drops()
        self.arrivals = Recorder()
        self.reports: list[tuple[str, str, str]] = []
        self.context = context_for(self.arrivals, self.drops, sessions, **options)
        self.context.report = lambda *line: self.reports.append(line)
        self.listener: StreamListener = stream_listener(Target("127.0.0.1", 0), self.context)
        for kind in kinds:
            self.listener.enable(kind, path if kind in ("ws", "wss") else "")
        self.port = self.listener.address[1]

    @contextlib.asynccontextmanager
    async def stranger(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Stranger]:
        async with visit("127.0.0.1", self.port, tls) as stranger:
            yield stranger

    async def until(self, condition: Callable[[], object]) -> None:
        """Let things happen until the condition holds; TimeoutError if it does not come to that."""
        await until(condition)

    async def close(self) -> None:
        """Everything is over when this returns."""
        self.listener.close()
        await until(lambda: not self.listener.guests)
        await asyncio.sleep(0)


class Core(Recorder):
    """Answers as the core does: at once, and only what is authentic. Demands a cookie of those in doubt."""

    def messages(self, link: Link, messages: list[bytes]) -> None:
        super().messages(link, messages)
        if DOUBTED in messages:
            link.send_messages([b"\x03\0\x01cookie"])
        if RIGHT in messages:
            link.send_messages([b"\x02\0\x01answer"])


class Hub(House):
    """A house with a tunnel behind it, and who calls it."""

    def __init__(self, *kinds: str, **options: Any) -> None:
        super().__init__(*kinds, path=PATH, **options)
        self.core = self.context.arrivals = Core()
        self.caller = Recorder()

    async def dial(self, kind: str, path: str = PATH) -> Link:
        """A link from a far end of ours."""
        context = self.context
        here = type(context)(context.loop, self.caller, {7}, self.drops, context.options, context.report)
        target = Target("127.0.0.1", self.port, path if kind.startswith("ws") else "")
        (link,) = await registry.find(kind).dial(target, here)
        return link

    async def join(self, kind: str) -> tuple[Link, Link]:
        """A link that is proven: its near and far side."""
        near = await self.dial(kind)
        heard = len(self.caller.heard)
        near.send_messages([RIGHT])
        await self.caller.until(lambda: len(self.caller.heard) > heard)
        return near, self.core.links[-1]


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds; TimeoutError if it does not come to that."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            # What is waited for goes through the kernel: a turn without anything ready would spin.
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def visit(host: str, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Stranger]:
    """Connect; `tls`: what to trust."""
    reader, writer = await asyncio.open_connection(
        host, port, ssl=tls, server_hostname="localhost" if tls is not None else None
    )
    try:
        yield Stranger(reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def visit_unix(path: str) -> AsyncIterator[Stranger]:
    """Connect to a socket in the file system."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Stranger(reader, writer)
    finally:
        writer.transport.abort()


@functools.cache
def careless() -> ssl.SSLContext:
    """Trusts everybody, as probes do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    """The first thing a TLS client says."""
    outgoing = ssl.MemoryBIO()
    client = careless().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
