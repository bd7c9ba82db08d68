"""Streams through a proxy: `http://user:password@host:port` (CONNECT) and `socks5://...`, where a firewall wants it so.

1. `proxy_from_environment` finds the proxy, if no option names one; `parse_proxy` reads its URL.
2. `connect` reaches the proxy, over whichever of its addresses answers first, ...
3. ... asks it for the target (`_ask_http`, `_ask_socks`), whose name the proxy looks up, ...
4. ... and hands over the socket at the first byte of the stream: nothing behind the proxy's answer is read.

Written on `wire/proxy.py` and not on a package: it is two requests and their answers, and the package there is
(python-socks) takes one read for one answer, so that a head cut in two by the network ends up in the stream.

A password is never in a message, a `repr` or a log.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote_to_bytes

from caetun.errors import NetworkError
from caetun.transports import reach
from caetun.wire import proxy as wire

# -- fixed by the specification --
_DEFAULT_PORTS: Final = {"http": 80, "socks5": 1080}
"""Of the scheme (RFC 9110 section 4.2.1), and by convention (RFC 1928 section 3)."""
_PORT_LIMIT: Final = 65535
_SAME_AS: Final = {"socks5h": "socks5", "socks": "socks5"}
"""How curl and desktop settings write SOCKS5 whose proxy looks up names, as it does here."""
_AUTHENTICATION: Final = (407, 401)
"""Proxy Authentication Required; and Unauthorized, by which tinyproxy answers to a wrong password."""
_FORBIDDEN: Final = 403
_CANNOT_REACH: Final = (502, 503, 504)
"""Bad Gateway, Service Unavailable, Gateway Timeout (RFC 9110 section 15.6)."""
_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""By custom, the small ones first (curl(1), ENVIRONMENT)."""

# -- chosen by us --
HEAD_LIMIT: Final = 16 * 1024
"""Bytes of an HTTP proxy's answer, interim answers included; squid's own limit is 64 KiB, its answers have some 300."""
_READ: Final = 4096
"""Bytes of it looked at together."""
_FORMS: Final = "write http://[USER:PASSWORD@]HOST:PORT or socks5://[USER:PASSWORD@]HOST:PORT"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL, read."""

    scheme: str
    """http or socks5."""
    host: str
    """Name or address, without brackets."""
    port: int
    credentials: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """User and password."""

    def __str__(self) -> str:
        """For people: without user and password."""
        return f"{self.scheme} proxy {wire.authority(self.host, self.port)}"


# 1. which proxy


def proxy_from_environment(environ: Mapping[str, str], host: str) -> str:
    """The URL of the proxy that the environment wants for streams to `host`; "" for none.

    HTTPS_PROXY, then ALL_PROXY, unless NO_PROXY names the host: a name stands for itself and all below it (with or
    without a dot in front), an address for itself, a prefix for its addresses, * for everything. A value without a
    scheme is an HTTP proxy. The URL is not checked: it may have been meant for other programs.
    """
    url = next((environ[name] for name in _VARIABLES if environ.get(name)), "")
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if not url or any(_exempts(entry, host.lower().rstrip(".")) for entry in re.split(r"[\s,]+", exempt) if entry):
        return ""
    return url if "://" in url else f"http://{url}"


def _exempts(entry: str, host: str) -> bool:
    """Whether one entry of NO_PROXY names this host; a port behind it is taken for every port."""
    if entry == "*":
        return True
    if entry.count(":") == 1 or "]:" in entry:
        entry = entry.rpartition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        name = entry.lower().removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return address in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # the entry is a name
        return False


def parse_proxy(text: str) -> Proxy:
    """Read a proxy's URL, its user and password percent-encoded as needed.

    Raises ValueError (why, what to do), which repeats nothing of the URL but the scheme: a password may be anywhere in
    what is not understood.
    """
    form = re.fullmatch(r"([A-Za-z][A-Za-z0-9]{0,9})://(.*)", text, re.DOTALL)
    if form is None:
        raise ValueError(f"the proxy has no scheme: {_FORMS}")
    scheme = _SAME_AS.get(form[1].lower(), form[1].lower())
    if scheme == "https":
        raise ValueError(
            "a proxy that is itself spoken to by TLS (https://) is not supported: use its http:// port;"
            " what crosses it is sealed all the same"
        )
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{scheme}:// is neither an HTTP nor a SOCKS5 proxy: {_FORMS}")
    login, at, place = form[2].removesuffix("/").rpartition("@")
    host, port = _parse_place(place, _DEFAULT_PORTS[scheme])
    return Proxy(scheme, host, port, _parse_login(login, scheme) if at else None)


def _parse_place(place: str, default_port: int) -> tuple[str, int]:
    """Host and port."""
    form = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", place)
    if form is None:
        raise ValueError(f"the proxy's URL does not end in a host and a port: {_FORMS}")
    host, port = form[1] or form[2], int(form[3] or default_port)
    if not 0 < port <= _PORT_LIMIT:
        raise ValueError(f"the proxy's port is not 1..{_PORT_LIMIT}")
    if form[1]:
        try:
            host = str(IPv6Address(host))
        except ValueError:
            raise ValueError("the proxy's address in brackets is no IPv6 address") from None
    return host, port


def _parse_login(login: str, scheme: str) -> tuple[bytes, bytes]:
    """User and password, decoded; the messages name neither."""
    user, password = (unquote_to_bytes(part) for part in login.partition(":")[::2])
    if scheme == "socks5":
        wire.encode_credentials(user, password)  # for the ValueError, if they are too long or empty
    elif b":" in user:
        raise ValueError("the proxy's user name has a colon in it, which HTTP's Basic authentication cannot carry")
    return user, password


# 2. to the proxy, and through it


async def connect(proxy: str, host: str, port: int, loop: asyncio.AbstractEventLoop, mark: int = 0) -> socket.socket:
    """Return a non-blocking socket whose stream leads through the proxy to `host`; the caller closes it.

    `mark`: the socket's, see `transports.marks`.
    Takes as long as it takes, cancelling leaves nothing behind. Raises NetworkError (which proxy, why, what to do).
    """
    try:
        way = parse_proxy(proxy)
    except ValueError as error:
        raise NetworkError(str(error)) from None  # not from it: a cause's frames hold the URL
    stream = None
    try:
        stream = await reach.connect(way.host, way.port, loop, mark)
        ask = _ask_http if way.scheme == "http" else _ask_socks
        await ask(_Conversation(stream, loop), way, host, port)
    except BaseException as error:
        if stream is not None:
            stream.close()
        if isinstance(error, (OSError, NetworkError, ValueError, _Refusal)):
            stage = "cannot be reached: " if stream is None and isinstance(error, OSError) else ""
            raise NetworkError(f"{way}: {stage}{_words(error)}") from None
        raise  # cancelled
    return stream


def _words(error: BaseException) -> str:
    """Why it failed. asyncio puts words of its own in the place of the system's."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


class _Refusal(Exception):
    """The proxy does not do it; the words go behind its name."""


class _Conversation:
    """What is said with a proxy by one socket, never reading more than belongs to it."""

    def __init__(self, stream: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop

    async def say(self, data: bytes) -> None:
        """Send it."""
        await self._loop.sock_sendall(self._stream, data)

    async def exactly(self, size: int) -> bytes:
        """Receive so many bytes."""
        data = b""
        while len(data) < size:
            data += await self._receive(size - len(data))
        return data

    async def head(self, limit: int) -> bytes:
        """Receive a head of HTTP with its empty line, at most `limit` bytes, and nothing of what is behind it."""
        data = b""
        while True:
            seen = await self._receive(_READ, socket.MSG_PEEK)
            end = wire.find_head_end(data + seen, len(seen))
            # What was peeked at is taken only as far as the head goes.
            data += self._stream.recv(len(seen) if end is None else end - len(data))
            if len(data) > limit:
                raise _Refusal(f"its answer does not end within {limit} bytes: this is no HTTP proxy")
            if end is not None:
                return data

    async def _receive(self, size: int, flags: int = 0) -> bytes:
        """What has arrived, at least a byte of it."""
        while True:
            try:
                data = self._stream.recv(size, flags)
            except BlockingIOError:
                await self._readable()
                continue
            if not data:
                raise _Refusal("closes the connection instead of an answer")
            return data

    async def _readable(self) -> None:
        """Wait for something to receive; the event loop's own `sock_recv` cannot peek."""
        readable = self._loop.create_future()
        number = self._stream.fileno()
        self._loop.add_reader(number, lambda: None if readable.done() else readable.set_result(None))
        try:
            await readable
        finally:
            self._loop.remove_reader(number)


# 3. what is asked


async def _ask_http(proxy: _Conversation, way: Proxy, host: str, port: int) -> None:
    """CONNECT (RFC 9110 section 9.3.6). Raises _Refusal."""
    await proxy.say(wire.encode_connect(host, port, way.credentials))
    left = HEAD_LIMIT
    while True:
        head = await proxy.head(left)
        left -= len(head)
        answer = wire.decode_head(head)
        if answer is None:
            raise _Refusal("does not answer as an HTTP proxy: is it a SOCKS one?")
        if answer.status >= 300:
            raise _Refusal(_http_refusal(answer, way, wire.authority(host, port)))
        if answer.status >= 200:
            return
        # RFC 9110 section 15.2: any number of interim answers may come before the final one


def _http_refusal(answer: wire.HttpAnswer, way: Proxy, target: str) -> str:
    """Why there is no stream, in words."""
    if answer.status in _AUTHENTICATION:
        names = [name.lower() for name in answer.challenges]
        if names and "basic" not in names:
            return (
                f"wants authentication by {' or '.join(answer.challenges)} ({answer.status}): only Basic is supported"
            )
        if way.credentials is None:
            return f"wants a user name and a password ({answer.status}): give http://USER:PASSWORD@HOST:PORT"
        return f"does not take the user name and password ({answer.status})"
    told = f"{answer.status} {answer.phrase}".rstrip()
    if answer.status == _FORBIDDEN:
        return f"forbids connections to {target} ({told})"
    if answer.status in _CANNOT_REACH:
        return f"cannot reach {target} ({told})"
    return f"refuses to connect to {target} ({told})"


async def _ask_socks(proxy: _Conversation, way: Proxy, host: str, port: int) -> None:
    """SOCKS5 CONNECT (RFC 1928 section 4), with user and password (RFC 1929) if wanted. Raises _Refusal."""
    request = wire.encode_request(host, port)
    await proxy.say(wire.encode_greeting(way.credentials is not None))
    method = wire.decode_choice(await proxy.exactly(wire.CHOICE_SIZE))
    if method is None:
        raise _Refusal("does not answer as a SOCKS5 proxy: is it an HTTP one?")
    if method == wire.USER_PASSWORD and way.credentials is not None:
        await proxy.say(wire.encode_credentials(*way.credentials))
        verdict = wire.decode_verdict(await proxy.exactly(wire.VERDICT_SIZE))
        if not verdict:
            raise _Refusal("answers no SOCKS5" if verdict is None else "does not take the user name and password")
    elif method == wire.NONE_ACCEPTABLE and way.credentials is None:
        raise _Refusal("wants a user name and a password: give socks5://USER:PASSWORD@HOST:PORT")
    elif method != wire.NO_AUTHENTICATION:
        raise _Refusal("wants authentication that is not supported: only user and password, or none, are")
    await proxy.say(request)
    code = wire.decode_reply(await proxy.exactly(wire.REPLY_SIZE))
    if code is None:
        raise _Refusal("answers no SOCKS5")
    if code != wire.SUCCEEDED:
        why = wire.REPLIES.get(code, f"reply {code}")
        raise _Refusal(f"does not connect to {wire.authority(host, port)}: {why}")
    rest = wire.decode_bound(await proxy.exactly(wire.BOUND_SIZE))
    if rest is None:
        raise _Refusal("answers no SOCKS5")
    await proxy.exactly(rest)
