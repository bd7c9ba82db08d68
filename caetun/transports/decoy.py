"""What strangers see: an ordinary web server. No answer may depend on whether a tunnel is behind it.

`Site` (site.py) is one by itself: the files of a directory, or an empty server. `Relay` passes everything on to a real
web server, garbage too, so that whatever is characteristic of that server shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Final, Protocol
from urllib.parse import urlsplit

from caetun.errors import ConfigurationError
from caetun.transports.base import Options
from caetun.transports.site import Site
from caetun.transports.talk import Local, Talk

# chosen by us
READ_SIZE: Final = 64 * 1024
"""Bytes in our memory at a time, for each direction."""
RELAY_CONNECT_SECONDS: Final = 5.0
RELAY_IDLE_SECONDS: Final = 75.0
"""Without a byte in either direction: what keeps a connection longer is the tunnel, not a web site."""


class Decoy(Protocol):
    """Whoever answers strangers."""

    async def serve(self, talk: Talk, local: Local) -> None:
        """Answer until the conversation is over. The caller closes. Raises OSError (TimeoutError too)."""


def make_decoy(options: Options) -> Decoy:
    """The decoy of the options; raises ConfigurationError."""
    wanted = options.decoy
    if not wanted.startswith("http://"):
        if wanted and not os.path.isdir(wanted):
            raise ConfigurationError(f"--decoy: {wanted}: no such directory: make it, or give http://HOST:PORT")
        return Site(wanted)
    try:
        url = urlsplit(wanted)
        host, port = url.hostname, url.port or 80
    except ValueError:
        host, port = None, 0
    if not host or url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise ConfigurationError(f"--decoy: {wanted}: is not a web server as a whole: write http://HOST:PORT")
    return Relay(host, port)


class Relay:
    """Connects strangers to a web server and passes bytes both ways, as they are."""

    def __init__(self, host: str, port: int) -> None:
        """Of the web server; it hears requests unchanged, with the Host the stranger sent."""
        self._host = host
        self._port = port

    async def serve(self, talk: Talk, local: Local) -> None:
        """Ends when the web server closes, or nothing has passed for RELAY_IDLE_SECONDS."""
        try:
            async with asyncio.timeout(RELAY_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port, limit=READ_SIZE)
        except OSError:  # TimeoutError too
            # What nginx as a reverse proxy says when the server behind it is away; garbage it refuses by itself.
            await Site("", always=502).serve(talk, local)
            return
        up = None
        try:
            async with asyncio.timeout(RELAY_IDLE_SECONDS) as idle:
                up = asyncio.ensure_future(_pass_up(talk, writer, idle))
                while data := await reader.read(READ_SIZE):
                    _postpone(idle, talk)
                    await talk.send(data)
        except TimeoutError:
            return
        finally:
            if up is not None:
                up.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await up
            writer.close()


async def _pass_up(talk: Talk, writer: asyncio.StreamWriter, idle: asyncio.Timeout) -> None:
    writer.transport.set_write_buffer_limits(high=READ_SIZE)
    try:
        while data := await talk.receive():
            _postpone(idle, talk)
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):  # RuntimeError: `write_eof` on a connection that is just closing
        writer.transport.abort()


def _postpone(idle: asyncio.Timeout, talk: Talk) -> None:
    if not idle.expired():
        idle.reschedule(talk.loop.time() + RELAY_IDLE_SECONDS)
