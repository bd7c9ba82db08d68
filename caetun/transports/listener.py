"""One listening TCP port for every stream carrier: tells far ends of a tunnel from strangers, who find a web server.

    accept -> wire.opening:  TLS    -> handshake, then the same again inside
                             HTTP   -> an opening request for our path -> websocket.accept -> link
                             FRAMES -> link
    link   -> its first message is authentic: proven, no business of the listener any more
    else   -> decoy, until it is over

Who is not proven is a *guest*. Guests are rare or hostile: each has a task, all of them a time limit and a cap.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Final

from caetun.errors import ConfigurationError, NetworkError
from caetun.transports.base import Arrivals, Context, Reactor, Sessions, Target
from caetun.transports.decoy import make_decoy
from caetun.transports.marks import set_mark
from caetun.transports.pipes import Pipe, PlainPipe, TlsPipe, tune
from caetun.transports.reach import keep_segments_small
from caetun.transports.stream import StreamLink
from caetun.transports.talk import Local, Talk
from caetun.types import DropReason
from caetun.wire.framing import LengthCodec
from caetun.wire.http import BadRequest, HeadReader, read_path
from caetun.wire.opening import Opening, opening

if TYPE_CHECKING:
    from collections.abc import Coroutine

# chosen by us
PROOF_SECONDS: Final = 10.0
"""From accept to an authentic message, TLS handshake and HTTP head included; the decoy has time limits of its own."""
MAX_GUESTS: Final = 256
"""Connections that are not proven. One more, and the oldest goes: a flood pushes out itself."""
ACCEPTS: Final = 16
"""Connections accepted at one wake-up, before records have their turn: a TLS handshake takes us 1 ms of computing."""
BACKLOG: Final = 1024
"""Connections that the kernel keeps for us to accept."""
EXHAUSTED_SECONDS: Final = 0.5
"""Pause when the host has no more descriptors for us: the connection that waits would wake us for nothing."""
EXHAUSTED_REPORT_SECONDS: Final = 60.0
"""Between two lines of the log about it."""
_GARBAGE: Final = b"\0"
"""What the decoy gets instead of something that was no tunnel's and has been read: neither TLS nor HTTP begins so."""
_HINTS: Final = {
    errno.EADDRINUSE: "another program holds the port: choose another, or stop that one",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "no interface of this host has that address",
}


def stream_listener(where: Target, context: Context) -> StreamListener:
    """The listener at that host and port, bound at first use; raises NetworkError or ConfigurationError."""
    key = ("stream.listener", where.host, where.port)
    listener: StreamListener | None = context.shared.get(key)
    if listener is None or listener.closed:
        listener = context.shared[key] = StreamListener(where, context)
    return listener


class _Guest:
    """A connection that is not proven."""

    __slots__ = ("due", "link", "pipe", "secure", "task", "timer", "upgraded")

    def __init__(self, pipe: Pipe, due: float) -> None:
        self.pipe = pipe
        self.due = due
        """Loop time by which it has to be proven, or be the decoy's."""
        self.secure = False
        """Whether within TLS."""
        self.upgraded = False
        """Whether a WebSocket has been opened."""
        self.link: StreamLink | None = None
        """Once there are messages to be heard."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        """Runs while the link does."""


class StreamListener:
    """Fulfils `Endpoint` for the schemes that are enabled."""

    def __init__(self, where: Target, context: Context) -> None:
        """Binds, and listens from the next turn of the loop on. Raises NetworkError or ConfigurationError."""
        self._context = context
        self._decoy = make_decoy(context.options)
        self._kinds: dict[str, set[bytes]] = {}
        """Schemes that are served, with the paths of those that have any."""
        self._tls: ssl.SSLContext | None = None
        self._guests: dict[_Guest, None] = {}
        """Oldest first."""
        self._links: set[StreamLink] = set()
        """Proven ones."""
        self.closed = False
        self._sock = _bind(where.host, where.port, context.options.mark)
        self.address: tuple[str, int] = self._sock.getsockname()[:2]
        self._paused: asyncio.TimerHandle | None = None
        self._exhausted_at = -EXHAUSTED_REPORT_SECONDS
        context.loop.add_reader(self._sock.fileno(), self._acceptable)

    @property
    def name(self) -> str:
        """For people: `tcp+wss [::]:443`."""
        host, port = self.address
        return f"{'+'.join(self._kinds) or 'stream'} {f'[{host}]' if ':' in host else host}:{port}"

    @property
    def guests(self) -> int:
        """How many connections are not proven."""
        return len(self._guests)

    def enable(self, kind: str, path: str = "") -> StreamListener:
        """Serve tcp, tls, ws or wss here; `path` of a WebSocket ("": the root). Returns the listener itself.

        Raises ConfigurationError or NetworkError about the certificate.
        """
        assert kind in ("tcp", "tls", "ws", "wss")
        paths = {_own_path(path)} if kind in ("ws", "wss") else set()
        if kind in ("tls", "wss") and self._tls is None:
            # Imported here: most tunnels need no TLS.
            from caetun.transports.tls import server_context

            shared, options = self._context.shared, self._context.options
            if "tls.server" not in shared:
                shared["tls.server"] = server_context(options, self._context.report)
            self._tls = shared["tls.server"]
        self._kinds.setdefault(kind, set()).update(paths)
        return self

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        """Nothing: it has been listening since it was made."""

    def close(self) -> None:
        """End everything that came in here."""
        if self.closed:
            return
        self.closed = True
        if self._paused is not None:
            self._paused.cancel()
        self._context.loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for guest in list(self._guests):
            self._dismiss(guest)
        for link in list(self._links):
            link.close()

    # accept

    def _acceptable(self) -> None:
        """Take in who is waiting, bounded."""
        for _ in range(ACCEPTS):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(error)
                return
            try:
                tune(sock)
                pipe = PlainPipe(sock)
            except OSError:  # gone already
                self._context.drops.count(DropReason.STREAM_STRANGER)
                sock.close()
                continue
            if len(self._guests) >= MAX_GUESTS:
                self._context.drops.count(DropReason.STREAM_CROWDED)
                self._dismiss(next(iter(self._guests)))
            guest = _Guest(pipe, self._context.loop.time() + PROOF_SECONDS)
            self._guests[guest] = None
            self._employ(guest, self._receive(guest, sock))

    def _pause(self, error: OSError) -> None:
        loop = self._context.loop
        loop.remove_reader(self._sock.fileno())
        self._paused = loop.call_later(EXHAUSTED_SECONDS, loop.add_reader, self._sock.fileno(), self._acceptable)
        if loop.time() - self._exhausted_at > EXHAUSTED_REPORT_SECONDS:
            self._exhausted_at = loop.time()
            text = (
                f"{self.name}: cannot accept: {error.strerror}: raise the limit of open files (LimitNOFILE, ulimit -n)"
            )
            self._context.report("warning", "listen.exhausted", text)
        if self._guests:
            self._dismiss(next(iter(self._guests)))

    def _employ(self, guest: _Guest, work: Coroutine[None, None, None]) -> None:
        """Let a task look after the guest. Whatever ends it, the connection is closed then, or a link's."""
        guest.task = self._context.loop.create_task(work)
        guest.task.add_done_callback(lambda task: self._unemployed(guest, task))

    def _unemployed(self, guest: _Guest, task: asyncio.Task[None]) -> None:
        if guest.link is None and guest.task is task:
            self._forget(guest)
            guest.pipe.close()

    def _dismiss(self, guest: _Guest) -> None:
        """Close a guest's connection without a word."""
        self._forget(guest)
        if guest.link is not None:
            guest.link.close()
        elif guest.task is not None:
            # It closes the connection, not we: the number of its descriptor must not be another's while it is watched.
            guest.task.cancel()

    # tell apart

    async def _receive(self, guest: _Guest, sock: socket.socket) -> None:
        """From accept to a link or the decoy. Never raises."""
        drops = self._context.drops
        try:
            async with asyncio.timeout_at(guest.due):
                talk = await self._greet(guest, sock)
        except TimeoutError:  # of this module, or the network's
            drops.count(DropReason.STREAM_TIMEOUT)
        except ssl.SSLError:
            drops.count(DropReason.STREAM_TLS)
            await Talk(guest.pipe, self._context.loop).finish()  # the alert is on its way
        except OSError:
            drops.count(DropReason.STREAM_STRANGER)
        else:
            if talk is not None:
                drops.count(DropReason.STREAM_STRANGER)
                await self._entertain(guest, talk)

    async def _greet(self, guest: _Guest, sock: socket.socket) -> Talk | None:
        """Make the guest a link if it looks like a far end of ours; else how to talk to it. Raises OSError."""
        loop = self._context.loop
        talk = Talk(guest.pipe, loop)
        first = await talk.receive()
        if self._tls is not None and opening(first) is Opening.TLS:
            guest.pipe = pipe = TlsPipe(sock, self._tls, None, first)
            guest.secure = True
            await pipe.handshake(loop)
            talk = Talk(pipe, loop)
            first = await talk.receive()
        what = opening(first)
        kind = "tls" if guest.secure else "tcp"
        if what is Opening.FRAMES and kind in self._kinds:
            self._welcome(guest, self._framed_link(guest.pipe, kind, first))
            return None
        kind = "wss" if guest.secure else "ws"
        talk.put_back(first)
        if what is Opening.HTTP and kind in self._kinds:
            link = await self._web_link(talk, kind)
            if link is not None:
                guest.upgraded = True
                self._welcome(guest, link)
                return None
        return talk

    def _framed_link(self, pipe: Pipe, kind: str, first: bytes) -> StreamLink:
        return StreamLink(pipe, LengthCodec(), self._context, name=_name(pipe, kind), first=first)

    async def _web_link(self, talk: Talk, kind: str) -> StreamLink | None:
        """The link that a request asks for; None, with everything put back, if it is for the web site."""
        reader, held, request = HeadReader(), b"", None
        while request is None and (data := await talk.receive()):
            held += data
            try:
                request = reader.feed(data)
            except BadRequest:
                break
        if request is not None and request.path in self._kinds[kind] and "websocket" in request.tokens("upgrade"):
            # Imported here: it needs a package that only WebSocket does.
            from caetun.transports.websocket import accept

            name = _name(talk.pipe, kind)
            link = accept(talk.pipe, request, self._context, name=name, first=reader.rest)
            if link is not None:
                return link
        talk.put_back(held)
        return None

    # far ends of ours, as it seems

    def _welcome(self, guest: _Guest, link: StreamLink) -> None:
        """Let the core hear it: it knows whether it is one."""
        if link.ended:
            return
        guest.link = link
        guest.timer = self._context.loop.call_at(guest.due, self._too_late, guest)
        link.on_proven = lambda link: self._proven(guest, link)
        link.on_end = lambda link: self._ended(guest, link)
        link.on_stranger = lambda _link: self._estranged(guest)
        link.start()

    def _proven(self, guest: _Guest, link: StreamLink) -> None:
        self._forget(guest)
        self._links.add(link)

    def _ended(self, guest: _Guest, link: StreamLink) -> None:
        if guest in self._guests:
            self._context.drops.count(DropReason.STREAM_STRANGER)
        self._forget(guest)
        self._links.discard(link)

    def _forget(self, guest: _Guest) -> None:
        self._guests.pop(guest, None)
        if guest.timer is not None:
            guest.timer.cancel()
            guest.timer = None

    def _too_late(self, guest: _Guest) -> None:
        self._context.drops.count(DropReason.STREAM_TIMEOUT)
        self._dismiss(guest)

    def _estranged(self, guest: _Guest) -> None:
        """What looked like a message was none."""
        guest.link = None
        if self.closed:
            guest.pipe.close()
            return
        self._guests[guest] = None
        talk = Talk(guest.pipe, self._context.loop, _GARBAGE)
        # Who has found the path and lacks the key has opened a WebSocket that is of no use: HTTP is over there.
        self._employ(guest, talk.finish() if guest.upgraded else self._entertain(guest, talk))

    # strangers

    async def _entertain(self, guest: _Guest, talk: Talk) -> None:
        """Let the decoy have it. Never raises."""
        with contextlib.suppress(OSError):  # TimeoutError too
            await self._decoy.serve(talk, Local(self.address[1], guest.secure))
            await talk.finish()


def _own_path(path: str) -> bytes:
    """As requests for it are read."""
    try:
        return read_path(path.encode() or b"/")
    except BadRequest as bad:
        raise ConfigurationError(f"--listen: {path!r} cannot be asked for ({bad}): give another path") from None


def _name(pipe: Pipe, kind: str) -> str:
    """Of a link upon a pipe, for people."""
    host, port = pipe.far
    return f"{kind} {f'[{host}]' if ':' in host else host}:{port}"


def _bind(host: str, port: int, mark: int) -> socket.socket:
    """A listening socket; for every local address, IPv6 and IPv4, if there is no host. Raises as `stream_listener`."""
    if not host:
        try:
            return _open("::", port, mark)
        except NetworkError:
            # No IPv6 on this host: IPv4 alone serves. A port that is taken fails again, with its reason.
            return _open("0.0.0.0", port, mark)
    try:
        return _open(str(ipaddress.ip_address(host)), port, mark)
    except ValueError:
        raise ConfigurationError(
            f"--listen: {host!r} is a name: give an address of this host, or :PORT for all of them"
        ) from None


def _open(host: str, port: int, mark: int) -> socket.socket:
    sock = None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        set_mark(sock, mark)  # what it accepts inherits the mark
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        keep_segments_small(sock)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        return sock
    except OSError as error:
        if sock is not None:
            sock.close()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        hint = _HINTS.get(error.errno or 0, "check the address")
        raise NetworkError(f"tcp {where}: cannot be bound: {error.strerror}: {hint}") from error
