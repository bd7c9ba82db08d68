"""A pipe for coroutines: accepting, and answering strangers. Rare work; records go another way (`stream.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from caetun.transports.pipes import Pipe

# chosen by us
READ_ROOM: Final = 64 * 1024
"""Bytes read at once: what a pipe asks for, so that nothing stays inside it."""
LINGER_SECONDS: Final = 2.0
"""For the far end to read the last answer: closing before it has, with something of its own unread, would reset it."""
LINGER_LIMIT: Final = 1 << 20
"""Bytes thrown away meanwhile."""

_room: Final = memoryview(bytearray(READ_ROOM))
"""Shared by all: what is read is copied out at once."""


class Local(NamedTuple):
    """Where a far end has come in."""

    port: int
    secure: bool
    """Whether within TLS."""


class Talk:
    """Reads and writes a pipe that nobody else watches. What has been read too far can be put back."""

    def __init__(self, pipe: Pipe, loop: asyncio.AbstractEventLoop, first: bytes = b"") -> None:
        """`first`: what has been read already."""
        self.pipe = pipe
        self.loop = loop
        self._first = first

    def put_back(self, data: bytes) -> None:
        """The next `receive` gives this."""
        self._first = data + self._first

    async def receive(self) -> bytes:
        """What has come, 1..64 KiB (and what was put back at once); b"" at the end. Raises OSError."""
        if self._first:
            first, self._first = self._first, b""
            return first
        while True:
            try:
                return bytes(_room[: self.pipe.receive_into(_room)])
            except BlockingIOError:
                await self._until(self.loop.add_reader, self.loop.remove_reader)

    async def send(self, data: bytes) -> None:
        """Returns once the kernel has all of it. Raises OSError."""
        left = memoryview(data)
        while left or not self.pipe.flush():
            try:
                if left:
                    left = left[self.pipe.send([left]) :]
                    continue
            except BlockingIOError:
                pass
            await self._until(self.loop.add_writer, self.loop.remove_writer)

    async def finish(self) -> None:
        """Close, with everything sent arriving: the far end has LINGER_SECONDS to read it."""
        with contextlib.suppress(OSError):
            twin = socket.fromfd(self.pipe.fileno(), socket.AF_INET, socket.SOCK_STREAM)
            with twin:
                self.pipe.close()
                twin.setblocking(False)
                twin.shutdown(socket.SHUT_WR)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_SECONDS):
                        left = LINGER_LIMIT
                        while left > 0 and (gone := len(await self.loop.sock_recv(twin, READ_ROOM))):
                            left -= gone

    async def _until(
        self, watch: Callable[[int, Callable[[], None]], object], unwatch: Callable[[int], object]
    ) -> None:
        """Wait until the socket is ready."""
        ready: asyncio.Future[None] = self.loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        fd = self.pipe.fileno()
        watch(fd, wake)
        try:
            await ready
        finally:
            unwatch(fd)
