"""A web server of static files that answers byte for byte as nginx 1.22 with `server_tokens off` would.

    bytes -> wire.http.HeadReader -> Request -> Site._answer -> Answer -> _send

tests/transports/test_site.py holds it against a real one.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Final, NamedTuple
from urllib.parse import quote

from caetun.transports.talk import Local, Talk
from caetun.wire.http import HEADERS_TOO_LARGE, BadRequest, BodySkimmer, HeadReader, Request, first_range

# fixed by what is imitated (nginx 1.22)
SERVER: Final = "nginx"
HEAD_SECONDS: Final = 10.0
"""For a head, from its first byte on. nginx has 60 s by default; servers under attack are set to 10."""
KEEPALIVE_SECONDS: Final = 75.0
"""For the next request to begin."""
SEND_SECONDS: Final = 60.0
"""For the far end to take what is sent, READ_SIZE at a time."""
BODY_SECONDS: Final = 30.0
"""For a body that nobody wants."""
MAX_BODY: Final = 1 << 20
"""Bytes of a request's body."""
_PHRASES: Final = {
    200: "OK",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    416: "Requested Range Not Satisfiable",
    501: "Not Implemented",
    502: "Bad Gateway",
    505: "HTTP Version Not Supported",
}
_CLOSING: Final = frozenset((400, 413, 414, HEADERS_TOO_LARGE, 501, 505))
"""Errors after which the connection is of no use."""
_TYPES: Final = {
    extension: kind
    for kind, extensions in (
        ("text/html", "html htm shtml"),
        ("text/css", "css"),
        ("text/xml", "xml"),
        ("text/plain", "txt"),
        ("image/gif", "gif"),
        ("image/jpeg", "jpeg jpg"),
        ("image/png", "png"),
        ("image/webp", "webp"),
        ("image/svg+xml", "svg svgz"),
        ("image/x-icon", "ico"),
        ("application/javascript", "js"),
        ("application/json", "json"),
        ("application/pdf", "pdf"),
        ("application/zip", "zip"),
        ("application/wasm", "wasm"),
        ("application/atom+xml", "atom"),
        ("application/rss+xml", "rss"),
        ("font/woff", "woff"),
        ("font/woff2", "woff2"),
        ("audio/mpeg", "mp3"),
        ("audio/ogg", "ogg"),
        ("video/mp4", "mp4"),
        ("video/webm", "webm"),
    )
    for extension in extensions.split()
}
"""By file name extension: the better known ones of nginx's mime.types."""
_DEFAULT_TYPE: Final = "application/octet-stream"
_PATH: Final = "/!$&'()*+,:;=@~[]"
"""What stays as it is in the path of a Location header, beside letters, digits and `-._`."""

# chosen by us
READ_SIZE: Final = 64 * 1024
"""Bytes of a file in our memory at a time."""


class Answer(NamedTuple):
    """What a request gets. The connection's headers are added when it is sent."""

    status: int
    early: tuple[tuple[str, str], ...] = ()
    """Headers in front of Connection."""
    late: tuple[tuple[str, str], ...] = ()
    """Headers behind it."""
    file: int = -1
    """Descriptor of the file whose bytes are the content; -1 for a page that says what went wrong."""
    start: int = 0
    size: int = 0
    """Bytes of the file from `start` on."""


class Site:
    """A web server of static files."""

    def __init__(self, root: str, always: int = 0) -> None:
        """`root`: directory; "" for a server that has nothing. `always`: status that every request gets, if not 0."""
        self._root = os.fsencode(root)
        self._always = always

    async def serve(self, talk: Talk, local: Local) -> None:
        """Answers requests one after the other, until one of both sides wants to close."""
        patience = HEAD_SECONDS
        while True:
            try:
                request = await _next_request(talk, patience)
            except BadRequest as bad:
                await _send(talk, None, Answer(bad.status), keep=False)
                return
            if request is None:
                return
            if not await self._reply(talk, request, local) or not await _skim(talk, BodySkimmer(request.length)):
                return
            patience = KEEPALIVE_SECONDS

    async def _reply(self, talk: Talk, request: Request, local: Local) -> bool:
        """Answer one request; whether the connection stays."""
        if (request.length or 0) > MAX_BODY:
            await _send(talk, request, Answer(413), keep=False)
            return False
        if "100-continue" in request.tokens("expect") and request.version >= (1, 1):
            async with asyncio.timeout(SEND_SECONDS):
                await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        answer = self._answer(request, local)
        keep = request.keep_alive and answer.status not in _CLOSING and request.method not in ("TRACE", "CONNECT")
        try:
            await _send(talk, request, answer, keep)
        finally:
            if answer.file >= 0:
                os.close(answer.file)
        return keep

    def _answer(self, request: Request, local: Local) -> Answer:
        if self._always:
            return Answer(self._always)
        if request.method not in ("GET", "HEAD", "POST"):
            return Answer(405)
        if not self._root:
            return Answer(404)
        path = self._root + request.path
        if path.endswith(b"/"):
            if not os.path.isdir(path):
                return Answer(404)
            path += b"index.html"
            if not os.path.exists(path):
                return Answer(403)
        try:
            # Not blocking: it might be a pipe that nobody writes to.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except PermissionError:
            return Answer(403)
        except OSError:
            return Answer(404)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and request.method != "POST":
            return _file_answer(request, path, descriptor, status)
        os.close(descriptor)
        if stat.S_ISDIR(status.st_mode):
            return Answer(301, (("Location", _absolute(request, local)),))
        return Answer(405 if stat.S_ISREG(status.st_mode) else 404)


def _absolute(request: Request, local: Local) -> str:
    """The URL of a directory that was asked for without the slash at its end."""
    scheme, usual = ("https", 443) if local.secure else ("http", 80)
    port = "" if local.port == usual else f":{local.port}"
    query = request.target.partition("#")[0].partition("?")
    return f"{scheme}://{request.host or 'localhost'}{port}{quote(request.path, safe=_PATH)}/{query[1]}{query[2]}"


def _file_answer(request: Request, path: bytes, descriptor: int, status: os.stat_result) -> Answer:
    """The file, a part of it, or that it has not changed (RFC 9110, sections 13 and 14)."""
    seconds = int(status.st_mtime)
    modified, tag = formatdate(seconds, usegmt=True), f'"{seconds:x}-{status.st_size:x}"'
    tags = request.tokens("if-none-match")
    unchanged = (
        not tags.isdisjoint((tag, f"W/{tag}".lower(), "*")) if tags else request.header("if-modified-since") == modified
    )
    if unchanged:
        os.close(descriptor)
        return Answer(304, (("Last-Modified", modified),), (("ETag", tag),))
    size = status.st_size
    dot, extension = os.path.basename(path).rpartition(b".")[1:]
    kind = _TYPES.get(extension.decode("latin-1").lower(), _DEFAULT_TYPE) if dot else _DEFAULT_TYPE
    wanted = first_range(request.header("range"), size) if request.version >= (1, 0) else None
    if wanted is None or request.header("if-range") not in ("", tag, modified):
        late = (("ETag", tag), ("Accept-Ranges", "bytes"))
        early = (("Content-Type", kind), ("Content-Length", str(size)), ("Last-Modified", modified))
        return Answer(200, early, late, descriptor, 0, size)
    start, stop = wanted
    if start >= stop:
        os.close(descriptor)
        return Answer(416, (), (("Content-Range", f"bytes */{size}"),))
    early = (("Content-Type", kind), ("Content-Length", str(stop - start)), ("Last-Modified", modified))
    late = (("ETag", tag), ("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
    return Answer(206, early, late, descriptor, start, stop - start)


async def _next_request(talk: Talk, patience: float) -> Request | None:
    """The next head; None if the far end has enough. Raises BadRequest, OSError (TimeoutError too)."""
    reader = HeadReader()
    async with asyncio.timeout(patience) as limit:
        while data := await talk.receive():
            begun = reader.started
            request = reader.feed(data)
            if request is not None:
                if reader.rest:
                    talk.put_back(reader.rest)
                return request
            if reader.started and not begun:
                limit.reschedule(talk.loop.time() + HEAD_SECONDS)
    return None


async def _skim(talk: Talk, body: BodySkimmer) -> bool:
    """Throw a body away; whether it came to its end."""
    left = MAX_BODY
    async with asyncio.timeout(BODY_SECONDS):
        while not body.ended:
            data = await talk.receive()
            left -= len(data)
            if not data or left < 0:
                return False
            try:
                rest = body.feed(data)
            except BadRequest:
                return False
            if rest:
                talk.put_back(rest)
    return True


async def _send(talk: Talk, request: Request | None, answer: Answer, keep: bool) -> None:
    """Send an answer, its file in pieces. `request`: None if it could not be read."""
    page = b"" if answer.file >= 0 or answer.status == 304 else _page(answer.status)
    early = list(answer.early)
    if page:
        early[:0] = [("Content-Type", "text/html"), ("Content-Length", str(len(page)))]
    status = 400 if answer.status == HEADERS_TOO_LARGE else answer.status
    lines = [
        f"HTTP/1.1 {status} {_PHRASES[status]}",
        f"Server: {SERVER}",
        f"Date: {formatdate(time.time(), usegmt=True)}",
    ]
    connection = ("Connection", "keep-alive" if keep else "close")
    lines += [f"{name}: {value}" for name, value in (*early, connection, *answer.late)]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if request is not None and request.version == (0, 9):
        head = b""
    if request is not None and request.method == "HEAD":
        page, answer = b"", answer._replace(size=0)
    pieces = _pieces(answer) if answer.file >= 0 else iter((page,))
    piece = head + next(pieces, b"")
    while piece:
        async with asyncio.timeout(SEND_SECONDS):
            await talk.send(piece)
        piece = next(pieces, b"")


def _pieces(answer: Answer) -> Iterator[bytes]:
    """The file's bytes; ends early if it has become shorter, and then nobody waits for the rest."""
    at, stop = answer.start, answer.start + answer.size
    while at < stop:
        piece = os.pread(answer.file, min(READ_SIZE, stop - at), at)
        if not piece:
            raise BrokenPipeError  # the announced length cannot be kept: only closing says so
        at += len(piece)
        yield piece


def _page(status: int) -> bytes:
    """What a person would read."""
    if status == HEADERS_TOO_LARGE:
        title, words = (
            "400 Request Header Or Cookie Too Large",
            "<center>Request Header Or Cookie Too Large</center>\r\n",
        )
        heading = "400 Bad Request"
    else:
        title = heading = f"{status} {_PHRASES[status]}"
        words = ""
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n{words}"
        f"<hr><center>{SERVER}</center>\r\n</body>\r\n</html>\r\n"
    ).encode()
