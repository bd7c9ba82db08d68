"""Connected byte streams: a TCP socket as it is, or TLS upon one.

Outbound:  StreamLink.send -> Pipe.send -> sendmsg, or SSLObject.write -> send
and inbound:  readable -> Pipe.receive_into -> recv_into, or recv -> SSLObject.read -> StreamLink

TLS runs in memory (`ssl.MemoryBIO`), so that one system call carries many of its records of 16 KiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Final, Protocol

from caetun.errors import NetworkError
from caetun.transports.base import Context
from caetun.transports.reach import connect
from caetun.types import Buffer

# fixed by the kernel's interface
_TCP_NOTSENT_LOWAT: Final = 25
_TCP_USER_TIMEOUT: Final = 18

# chosen by us
NOTSENT_LOWAT: Final = 128 * 1024
"""Bytes the kernel keeps that it has not sent yet: two superframes, 10 ms at 100 Mbit/s."""
KEEPALIVE_IDLE: Final = 20
"""Seconds of silence before the kernel asks whether the far end is there: below the 30 s of impatient middleboxes."""
KEEPALIVE_INTERVAL: Final = 5
KEEPALIVE_COUNT: Final = 3
USER_TIMEOUT_MS: Final = 30_000
"""What was sent and is not acknowledged for so long ends the connection."""
TLS_READ: Final = 256 * 1024
"""Bytes of ciphertext taken from the socket at once."""
TLS_WRITE: Final = 256 * 1024
"""Bytes of plaintext sealed at once, and one part more: less than 330 KiB."""
TLS_KEPT: Final = 512 * 1024
"""Bytes of ciphertext kept at most: what one send leaves, and what a far end that does not read can make us say by key
updates (RFC 8446, section 4.6.3)."""
_TLS_RECORD: Final = 17 * 1024
"""Bytes that a TLS record which was not whole before may add to what a read gives."""
_LAST_READS: Final = 4
"""System calls for what has come and nobody will read."""
CONNECT_SECONDS: Final = 10.0
"""For reaching the far end, a TLS handshake included."""


class Pipe(Protocol):
    """A connected byte stream; non-blocking, by one socket."""

    def fileno(self) -> int:
        """The socket's descriptor, to be watched; -1 once closed."""

    def receive_into(self, buffer: memoryview) -> int:
        """Put bytes into `buffer` (at least 64 KiB, or nothing else waits inside), and return how many; 0 at the end.

        Raises BlockingIOError if there is nothing yet, OSError (`ssl.SSLError` too) if the stream is broken.
        """

    def acknowledge(self) -> None:
        """Have the kernel acknowledge what has come now, not some 40 ms later with something of ours (tcp(7))."""

    def send(self, parts: Sequence[Buffer]) -> int:
        """Send the parts one after the other (at most 1,024); returns how many bytes of them were taken.

        Raises BlockingIOError if none can be taken, OSError if the stream is broken.
        """

    @property
    def far(self) -> tuple[str, int]:
        """Address (IPv4 never in the form of an IPv6 one) and port of the far socket."""

    @property
    def pending(self) -> bool:
        """Whether something that was taken still has to be flushed."""

    def flush(self) -> bool:
        """Get rid of what is pending; returns whether nothing is any more. Raises OSError."""

    def close(self) -> None:
        """End the connection. May be called twice."""


class PlainPipe:
    """A connected TCP socket; fulfils `Pipe`."""

    __slots__ = ("_sock", "far")

    pending: Final = False

    def __init__(self, sock: socket.socket) -> None:
        """Takes over a connected socket, see `tune`. Raises OSError if it is not connected any more."""
        self._sock = sock
        self.far = far_of(sock)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def receive_into(self, buffer: memoryview) -> int:
        """One `recv`."""
        return self._sock.recv_into(buffer)

    def acknowledge(self) -> None:
        """Have the kernel do so now."""
        _acknowledge(self._sock)

    def send(self, parts: Sequence[Buffer]) -> int:
        """One `sendmsg`: nothing is copied on this side of the kernel."""
        return self._sock.sendmsg(parts)

    def flush(self) -> bool:
        """Nothing is ever pending."""
        return True

    def close(self) -> None:
        """End the connection."""
        _hang_up(self._sock)


class TlsPipe:
    """TLS upon a connected TCP socket; fulfils `Pipe` once `handshake` has returned."""

    __slots__ = ("_incoming", "_outgoing", "_rest", "_sock", "far", "tls")

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None, first: bytes = b""
    ) -> None:
        """Takes over a connected socket, see `tune`. As a server if there is no `server_name` ("": none to tell).

        `first`: what has been read from the socket already. Raises OSError if the socket is not connected any more,
        ValueError if `server_name` cannot be one.
        """
        self._sock = sock
        self.far = far_of(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._rest = memoryview(b"")
        """Ciphertext the socket has not taken yet; what is in `_outgoing` follows it."""
        self._incoming.write(first)
        server_side = server_name is None
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_name or None)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    async def handshake(self, loop: asyncio.AbstractEventLoop) -> None:
        """The TLS handshake. Raises OSError (`ssl.SSLError`). Cancelling leaves the pipe open: close it."""
        while not self.handshake_step():
            await readable(loop, self._sock)

    def handshake_step(self) -> bool:
        """Go on with the handshake as far as possible without waiting; returns whether it is over. Raises OSError."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError:
                self._flush_quietly()  # the alert
                raise
            else:
                done = True
            self.flush()
            if done:
                return True
            try:
                self._take(TLS_READ)
            except BlockingIOError:
                return False

    def _take(self, most: int) -> None:
        """Take ciphertext from the socket. Raises BlockingIOError if there is none, OSError."""
        data = self._sock.recv(most)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def receive_into(self, buffer: memoryview) -> int:
        """Open what one `recv` gives; a `buffer` of less than 64 KiB may leave something waiting inside."""
        size = len(buffer)
        try:
            self._take(max(_TLS_RECORD, min(TLS_READ, size - _TLS_RECORD)))
        except BlockingIOError:
            if not self._incoming.pending and not self.tls.pending():
                raise
        got, ended, read = 0, False, self.tls.read
        try:
            while got < size:
                count = read(size - got, buffer[got:])
                ended = not count
                if ended:
                    break
                got += int(count)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            ended = True
        except ssl.SSLError:
            self._flush_quietly()
            raise
        if self.pending and not self.flush() and len(self._rest) + self._outgoing.pending > TLS_KEPT:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the far end does not read")
        if not got and not ended:
            raise BlockingIOError
        return got

    def acknowledge(self) -> None:
        """Have the kernel do so now."""
        _acknowledge(self._sock)

    def send(self, parts: Sequence[Buffer]) -> int:
        """Seal some parts together and give them to the socket, until it takes no more."""
        if not self.flush():
            raise BlockingIOError
        write = self.tls.write
        taken = start = 0
        while start < len(parts):
            size, stop = 0, start
            while stop < len(parts) and size < TLS_WRITE:
                size += len(parts[stop])
                stop += 1
            left = memoryview(b"".join(parts[start:stop]))
            while left:
                left = left[write(left) :]
            taken += size
            start = stop
            if not self.flush():
                break
        return taken

    @property
    def pending(self) -> bool:
        """Whether ciphertext waits for the socket."""
        return bool(self._rest) or bool(self._outgoing.pending)

    def flush(self) -> bool:
        """Give the socket what it takes."""
        while True:
            if not self._rest:
                if not self._outgoing.pending:
                    return True
                self._rest = memoryview(self._outgoing.read())
            try:
                sent = self._sock.send(self._rest)
            except BlockingIOError:
                return False
            self._rest = self._rest[sent:]

    def _flush_quietly(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()

    def close(self) -> None:
        """Say so (`close_notify`, RFC 8446 section 6.1), if there is room for it, and end the connection."""
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError, ValueError):
                self.tls.unwrap()
            self._flush_quietly()
        _hang_up(self._sock)


def tune(sock: socket.socket) -> None:
    """Make a connected or accepted TCP socket fit for a link; each option is one the kernel may refuse."""
    sock.setblocking(False)
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT),
        (socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT),
    ):
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)


def _acknowledge(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _hang_up(sock: socket.socket) -> None:
    """Close a socket. What nobody has read would make the kernel send a reset, and drop what is still to be sent."""
    with contextlib.suppress(OSError):
        for _ in range(_LAST_READS):
            if not sock.recv(TLS_READ):
                break
    sock.close()


def far_of(sock: socket.socket) -> tuple[str, int]:
    """Address and port of the far end of a connected TCP socket. Raises OSError if it is not connected."""
    host, port = sock.getpeername()[:2]
    return host.removeprefix("::ffff:"), port


def describe(error: OSError) -> str:
    """What broke a connection, in words."""
    if isinstance(error, (BrokenPipeError, ssl.SSLEOFError)):
        return "closed by the far end"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or str(error)
        return f"TLS: {reason.lower().replace('_', ' ')}"
    if isinstance(error, ConnectionResetError) or error.errno == errno.ENOTCONN:
        return "connection reset"
    if isinstance(error, TimeoutError):
        return "no answer from the far end"
    # asyncio puts words of its own into `strerror`
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


async def readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Wait until a socket that nobody else watches has something to read."""
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    fd = sock.fileno()
    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def open_pipe(
    host: str, port: int, context: Context, *, tls: ssl.SSLContext | None = None, server_name: str = ""
) -> Pipe:
    """Connect, through the proxy if the options name one, and with TLS if there is a context for it.

    Raises NetworkError: why not, in words. Cancelling leaves nothing behind.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sock = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            sock = await _reach(host, port, context)
            tune(sock)
            return PlainPipe(sock) if tls is None else await _secured(sock, tls, host, server_name, context)
    except BaseException as error:
        if sock is not None:
            sock.close()
        stage = "connected, but " if sock is not None and tls is not None else ""
        if isinstance(error, TimeoutError) and not error.errno:
            raise NetworkError(f"{where}: {stage}no answer within {CONNECT_SECONDS:g} s") from None
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            # Imported here: most tunnels need no TLS.
            from caetun.transports.tls import explain

            raise NetworkError(f"{where}: {explain(error, context.options, host)}") from error
        if isinstance(error, OSError):
            raise NetworkError(f"{where}: {stage}{describe(error)}") from error
        raise


async def _secured(sock: socket.socket, tls: ssl.SSLContext, host: str, server_name: str, context: Context) -> TlsPipe:
    """TLS upon a connection, its server's certificate judged. Raises OSError, NetworkError."""
    from caetun.transports.tls import check_server

    pipe = TlsPipe(sock, tls, server_name or host)
    await pipe.handshake(context.loop)
    check_server(pipe.tls, context.options, host, context.report)
    return pipe


async def _reach(host: str, port: int, context: Context) -> socket.socket:
    """A connection to the target, whichever way leads there."""
    if not context.options.proxy:
        return await connect(host, port, context.loop, context.options.mark)
    # Imported here: most tunnels need no proxy.
    from caetun.transports import proxy

    return await proxy.connect(context.options.proxy, host, port, context.loop, context.options.mark)
