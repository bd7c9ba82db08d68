"""Heads of HTTP/1.x requests, and where their bodies end (RFC 9112), as strict as an ordinary web server.

    GET /secret/path?query HTTP/1.1          request line
    Host: hub.example                        header lines, each ended by CR LF or a bare LF
                                             empty line
    body: Content-Length bytes, or chunked

Where the RFC leaves a choice, nginx 1.22 is followed, whose answers strangers get (`transports/decoy.py`): what it
refuses is refused here with the same status, and nothing else.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import DropReason

# fixed by the specification
BAD_REQUEST: Final = 400
URI_TOO_LONG: Final = 414
NOT_IMPLEMENTED: Final = 501
VERSION_NOT_SUPPORTED: Final = 505
HEADERS_TOO_LARGE: Final = 494
"""Not of the RFC: what nginx calls this within, and answers as 400 with words of its own."""
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")

# chosen by us
MAX_HEAD: Final = 16 * 1024
"""Bytes of a head: twice what browsers send at worst."""
MAX_LINE: Final = 8 * 1024
"""Bytes of one line of a head, as nginx's `large_client_header_buffers`."""
_MAX_CHUNK_LINE: Final = 1024
"""Bytes of the line in front of a chunk, its extensions included, and of each line behind the last."""
_MAX_TRAILERS: Final = 64
"""Lines behind the last chunk."""

_REQUEST_LINE: Final = re.compile(
    rb"([A-Z_-]+) +([^\x00-\x20\x7f]+)(?: +HTTP/([1-9][0-9]{0,2})\.([0-9]{1,3}) *)?", re.DOTALL
)
_REQUEST_LINE_SO_FAR: Final = re.compile(rb"[A-Z_-]*|[A-Z_-]+ .*", re.DOTALL)
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)([/?].*)?", re.DOTALL)
_FIELD: Final = re.compile(rb"([^\x00-\x20\x7f:]+):([^\x00\r]*)", re.DOTALL)
_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9-]+")
_HOST: Final = re.compile(rb"[^\x00-\x20\x7f/]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE | re.ASCII)
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?")


class BadRequest(Malformed):
    """A request that a web server answers with an error. `status`: which one."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(DropReason.STREAM_MALFORMED, detail)
        self.status = status


class Request(NamedTuple):
    """A request's head."""

    method: str
    target: str
    """As it came, printable ASCII and bytes from 128 on as in latin-1."""
    path: bytes
    """The target's path: decoded, without query, double slashes, `.` and `..`; begins with a slash."""
    version: tuple[int, int]
    """(1, 1), (1, 0), ...; (0, 9) for a request line without version, which has no headers."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, values without spaces around them, in latin-1."""
    host: str
    """Of the target or the Host header, in lower case, without port; "" if there is none."""
    length: int | None
    """Bytes of the body; None if it is chunked."""

    def header(self, name: str) -> str:
        """The first value of a header (name in lower case), "" if it is absent."""
        return next((value for given, value in self.headers if given == name), "")

    def tokens(self, name: str) -> set[str]:
        """The elements of a header that is a list, of all its lines, in lower case."""
        values = ",".join(value for given, value in self.headers if given == name)
        return {token.strip().lower() for token in values.split(",")} - {""}

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants to use the connection again (RFC 9112, section 9.3)."""
        options = self.tokens("connection")
        if self.version < (1, 1):
            return self.version > (0, 9) and "keep-alive" in options
        return "close" not in options


class HeadReader:
    """Collects the head of one request, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._line_at = 0
        self._seen = 0
        """Bytes in which no further end of a line is."""
        self._line: tuple[str, str, bytes, tuple[int, int], str] | None = None
        self._headers: list[tuple[str, str]] = []

    @property
    def started(self) -> bool:
        """Whether anything but empty lines has come."""
        return bool(self._held)

    @property
    def rest(self) -> bytes:
        """Once the head is whole: what came behind it."""
        return bytes(self._held[self._line_at :])

    def feed(self, data: bytes) -> Request | None:
        """Take more bytes; the head once it is whole. Raises BadRequest as soon as that is clear; both are the end."""
        self._held += data
        if self._line is None and not self._line_at:
            # RFC 9112, section 2.2: empty lines before a request are ignored
            self._held = self._held.lstrip(b"\r\n")
        while (end := self._held.find(b"\n", self._seen)) >= 0:
            line = bytes(self._held[self._line_at : end]).removesuffix(b"\r")
            self._check_line(len(line))
            self._line_at = self._seen = end + 1
            if self._line is None:
                self._line = _read_request_line(line)
                if self._line[3] == (0, 9):
                    return self._whole()
            elif line:
                self._take_header(line)
            else:
                return self._whole()
        self._seen = len(self._held)
        self._check_line(self._seen - self._line_at)
        if self._line is None and not _REQUEST_LINE_SO_FAR.fullmatch(self._held):
            raise BadRequest(BAD_REQUEST, "method")
        return None

    def _check_line(self, size: int) -> None:
        if size > MAX_LINE or self._line_at + size > MAX_HEAD:
            if self._line is None:
                raise BadRequest(URI_TOO_LONG, "request line")
            raise BadRequest(HEADERS_TOO_LARGE, "headers")

    def _take_header(self, line: bytes) -> None:
        found = _FIELD.fullmatch(line)
        if not found:
            raise BadRequest(BAD_REQUEST, "header line")
        name, value = found.groups()
        if _FIELD_NAME.fullmatch(name):  # others mean nothing here, and are ignored
            self._headers.append((name.decode().lower(), value.strip(b" \t").decode("latin-1")))

    def _whole(self) -> Request:
        assert self._line is not None
        method, target, path, version, host = self._line
        headers = tuple(self._headers)
        host = _read_host(headers, version, host)
        length = _read_length(headers, version)
        return Request(method, target, path, version, headers, host, length)


def _read_request_line(line: bytes) -> tuple[str, str, bytes, tuple[int, int], str]:
    """Method, target, path, version and the target's host; raises BadRequest."""
    found = _REQUEST_LINE.fullmatch(line)
    if not found:
        raise BadRequest(BAD_REQUEST, "request line")
    method, target, major, minor = found.groups()
    version = (0, 9) if major is None else (int(major), int(minor))
    host, local = b"", target
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if not absolute:
            raise BadRequest(BAD_REQUEST, "target")
        host, local = absolute[1], absolute[2] or b"/"
        if not local.startswith(b"/"):
            local = b"/" + local
    if version >= (2, 0):
        raise BadRequest(VERSION_NOT_SUPPORTED, "version")
    return method.decode(), target.decode("latin-1"), read_path(local), version, _bare_host(host) if host else ""


def read_path(target: bytes) -> bytes:
    """The path in a target that begins with a slash: decoded and normal (RFC 3986, 6.2.2); raises BadRequest."""
    decoded = _percent_decoded(re.split(rb"[?#]", target, maxsplit=1)[0])
    parts: list[bytes] = []
    pieces = decoded.split(b"/")[1:]
    for piece in pieces:
        if piece == b"..":
            if not parts:
                raise BadRequest(BAD_REQUEST, "path leads out")
            parts.pop()
        elif piece not in (b"", b"."):
            parts.append(piece)
    ends_open = bool(parts) and pieces[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(parts) + (b"/" if ends_open else b"")


def _percent_decoded(text: bytes) -> bytes:
    first, *rest = text.split(b"%")
    decoded = bytearray(first)
    for part in rest:
        digits = part[:2]
        if len(digits) < 2 or not _HEX.issuperset(digits):
            raise BadRequest(BAD_REQUEST, "percent encoding")
        decoded += bytes((int(digits, 16),)) + part[2:]
    if b"\0" in decoded:
        raise BadRequest(BAD_REQUEST, "zero in path")
    return bytes(decoded)


def _read_host(headers: tuple[tuple[str, str], ...], version: tuple[int, int], of_target: str) -> str:
    """RFC 9112, section 3.2: exactly one Host from version 1.1 on; that of an absolute target goes first."""
    given = [value for name, value in headers if name == "host"]
    if len(given) > 1 or (not given and version >= (1, 1)):
        raise BadRequest(BAD_REQUEST, "Host")
    host = _bare_host(given[0].encode("latin-1")) if given else ""
    return of_target or host


def _bare_host(host: bytes) -> str:
    """Without port and last dot, in lower case; raises BadRequest."""
    if not _HOST.fullmatch(host) or b".." in host:
        raise BadRequest(BAD_REQUEST, "Host")
    end = host.find(b"]") + 1 if host.startswith(b"[") else host.find(b":")
    bare = host[:end] if end > 0 else host
    return bare.removesuffix(b".").decode("latin-1").lower()


def _read_length(headers: tuple[tuple[str, str], ...], version: tuple[int, int]) -> int | None:
    """RFC 9112, section 6.3: bytes of the body, None if chunked. What could be read in two ways is refused."""
    lengths = [value.encode("latin-1") for name, value in headers if name == "content-length"]
    codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    if codings:
        if lengths or version < (1, 1) or len(codings) > 1:
            raise BadRequest(BAD_REQUEST, "Transfer-Encoding and Content-Length")
        if codings[0] != "chunked":
            raise BadRequest(NOT_IMPLEMENTED, "Transfer-Encoding")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadRequest(BAD_REQUEST, "Content-Length")
    return int(lengths[0])


class BodySkimmer:
    """Finds the end of a request's body, and keeps nothing of it."""

    def __init__(self, length: int | None) -> None:
        """`length`: of the body in bytes, None if it is chunked (RFC 9112, section 7.1)."""
        self.ended = length == 0
        self._chunked = length is None
        self._left = length or 0
        """Bytes of the body or chunk that are still to come."""
        self._line = bytearray()
        """The beginning of a line in front of a chunk, or behind the last."""
        self._behind_chunk = False
        """Whether the next line is the empty one behind a chunk's bytes."""
        self._trailers: int | None = None
        """Lines behind the last chunk so far; None before it."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes; what is behind the body comes back. Raises BadRequest."""
        at = 0
        while not self.ended and at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                self.ended = not self._left and not self._chunked
                continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end
            if len(self._line) + stop - at > _MAX_CHUNK_LINE:
                raise BadRequest(BAD_REQUEST, "chunk")
            self._line += data[at:stop]
            at = stop
            if end >= 0:
                at += 1
                line = bytes(self._line)
                self._line.clear()
                self._take_line(line)
        return data[at:] if self.ended else b""

    def _take_line(self, line: bytes) -> None:
        if self._trailers is not None:
            self._trailers += 1
            self.ended = line in (b"", b"\r")
            if self._trailers > _MAX_TRAILERS:
                raise BadRequest(BAD_REQUEST, "trailers")
            return
        if self._behind_chunk:
            self._behind_chunk = False
            if line not in (b"", b"\r"):
                raise BadRequest(BAD_REQUEST, "chunk")
            return
        found = _CHUNK_SIZE.fullmatch(line)
        if not found:
            raise BadRequest(BAD_REQUEST, "chunk size")
        self._left = int(found[1], 16)
        self._behind_chunk = bool(self._left)
        if not self._left:
            self._trailers = 0


def first_range(header: str, size: int) -> tuple[int, int] | None:
    """Start and stop of the bytes that a Range header asks for, of `size` (RFC 9110, section 14.1.2).

    None: it asks for nothing that is understood (several ranges neither), so everything is to be sent; start >= stop:
    for nothing that is there.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found:
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < size and (not last or int(last) >= start) else (size, size)
