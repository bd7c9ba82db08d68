"""WebSocket (RFC 6455), plain or within TLS: what passes where only the web does, through reverse proxies and CDNs.

Opening:   WebSocketTransport.dial -> open_pipe -> request, answer -> WebSocketLink
Accepting: listener -> accept -> WebSocketLink

The opening handshake is the `websockets` package's, without its sockets. Frames are `wire.websocket`'s: to write and
read a message of 64 KiB costs 8 us at both ends together, against 18 by the package, which also has a buffer of its own
to be filled, and would keep what a link that is full has to drop.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final
from urllib.parse import quote

from websockets import http11
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from caetun.errors import NetworkError
from caetun.transports.base import Context, Link, Options, Target
from caetun.transports.pipes import Pipe, describe
from caetun.transports.site import SERVER
from caetun.transports.stream import StreamLink
from caetun.transports.talk import Talk
from caetun.transports.tcp import StreamTransport
from caetun.wire.http import Request
from caetun.wire.websocket import POLICY, Answer, WebSocketCodec, read_answer

# fixed by the specification
_HEAD_END: Final = b"\r\n\r\n"
_SWITCHING: Final = 101
_PATH: Final = "/%:@!$&'()*+,;="
"""What a URL's path holds as it is, beside letters and digits (RFC 3986, section 3.3)."""
_QUERY: Final = f"{_PATH}?"

# chosen by us
TICK_SECONDS: Final = 12.0
"""Between two looks at a link: one that has sent nothing since the last one pings. So no middlebox ever waits for more
than 24 s: nginx gives up after 60 s, the impatient after 30 s."""
SILENT_TICKS: Final = 4
"""Looks without having heard anything, pings unanswered, after which the far end is taken for gone: 48 s."""
ANSWER_SECONDS: Final = 10.0
"""For the answer to the opening request: a reverse proxy may have to connect first."""
MAX_HEAD: Final = 16 * 1024
"""Bytes of an HTTP answer's head: CDNs add a dozen headers, none of them long."""
_USER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
"""A browser's: CDNs refuse requests that name none, or a library."""
_HINTS: Final = {
    200: "a web page is there: is the path right?",
    400: "does the proxy in front pass on Upgrade and Connection?",
    401: "it wants a login, which CaeTun does not have",
    403: "it does not let us in: are path and host right?",
    404: "is the path right?",
    405: "is the path right?",
    407: "it is a proxy that wants a login: give it with --proxy",
    421: "it serves another host: are --sni and --host right?",
    426: "it does not speak this WebSocket: does the proxy in front pass on Upgrade and Connection?",
    429: "too many attempts, it wants us to wait",
    502: "the proxy in front does not reach the hub behind it",
    503: "the proxy in front does not reach the hub behind it",
    504: "the proxy in front had no answer from the hub behind it",
}
"""What to do about an HTTP status, by RFC 9110 section 15 and what proxies mean by it."""


class WebSocketLink(StreamLink):
    """A stream link that pings when nothing else is sent, and ends when nothing at all is heard."""

    def __init__(
        self,
        pipe: Pipe,
        codec: WebSocketCodec,
        context: Context,
        *,
        name: str,
        first: bytes = b"",
        proven: bool = False,
    ) -> None:
        """As a StreamLink, once the opening handshake is over."""
        super().__init__(pipe, codec, context, name=name, first=first, proven=proven)
        # What is unmasked is an object of its own, of up to 64 KiB: in plain TCP there are none, see heap.py.
        self._frames = codec
        self._loop = context.loop
        self._silent = 0
        """Looks since something was heard."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to read, and to ping."""
        super().start()
        if self._timer is None and not self.ended:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        frames = self._frames
        self._silent = 0 if frames.heard else self._silent + 1
        if self._silent >= SILENT_TICKS:
            self._fail(f"no answer to pings for {SILENT_TICKS * TICK_SECONDS:g} s")
            return
        if self._silent or not frames.spoke:
            self.send_bytes(frames.ping())
        frames.heard = frames.spoke = False
        if not self.ended:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _estrange(self) -> None:
        """A web site would be an odd answer within a WebSocket: a Close frame, and no more, is one."""
        self.send_bytes(self._frames.farewell(POLICY))
        self._detach()
        self.pipe.close()

    def _detach(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super()._detach()


class WebSocketTransport(StreamTransport):
    """Fulfils `transports.base.Transport` for the schemes `ws` and `wss`."""

    async def dial(self, target: Target, context: Context) -> list[Link]:
        """One link, to the address that answered first, after the opening handshake. Raises NetworkError."""
        pipe = await self._connect(target, context)
        where = f"{f'[{target.host}]' if ':' in target.host else target.host}:{target.port}"
        try:
            first = await self._open(pipe, target, where, context)
        except BaseException:
            pipe.close()
            raise
        codec = WebSocketCodec(client=True, entropy=secrets.token_bytes)
        link = WebSocketLink(pipe, codec, context, name=f"{self.name} {where}", first=first, proven=True)
        return [link]

    async def _open(self, pipe: Pipe, target: Target, where: str, context: Context) -> bytes:
        """The opening handshake; returns what came behind the answer. Raises NetworkError."""
        protocol = ClientProtocol(_uri(self.name, target))
        request = _as_a_browser(protocol.connect(), self.name, context.options)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                head, rest = await _ask(pipe, request.serialize(), context.loop)
        except TimeoutError as late:
            if late.errno:
                raise NetworkError(f"{where}: {describe(late)}") from late
            words = f"connected, but no answer to the WebSocket request within {ANSWER_SECONDS:g} s"
            raise NetworkError(f"{where}: {words}") from None
        except OSError as error:
            raise NetworkError(f"{where}: {describe(error)} instead of an answer to the WebSocket request") from error
        answer = read_answer(head)
        if answer is None:
            raise NetworkError(f"{where}: what answered is not a web server: is it the right port?")
        if answer.status != _SWITCHING:
            raise NetworkError(f"{where}: {refusal(answer)}")
        protocol.receive_data(head)
        failure = protocol.handshake_exc
        if failure is not None or not any(isinstance(event, http11.Response) for event in protocol.events_received()):
            raise NetworkError(f"{where}: not a WebSocket server: {failure}")
        return rest


WS = WebSocketTransport("ws")
WSS = WebSocketTransport("wss")


def accept(pipe: Pipe, request: Request, context: Context, *, name: str, first: bytes) -> WebSocketLink | None:
    """The link, unproven and not started, that an opening request asks for; None if it does not ask rightly.

    `first`: what was read behind the request. The answer is on its way when this returns.
    """
    answer = answer_to(request)
    if answer is None:
        return None
    codec = WebSocketCodec(client=False, entropy=secrets.token_bytes)
    link = WebSocketLink(pipe, codec, context, name=name, first=first)
    link.send_bytes(answer)
    return link


def answer_to(request: Request) -> bytes | None:
    """The answer that accepts an opening request; None if that is not one (RFC 6455, section 4.2.1).

    Path, Host and Origin are not looked at. No subprotocol and no extension is agreed upon. Its headers come in the
    order of nginx as a reverse proxy, which strangers take us for (site.py).
    """
    if request.method != "GET" or request.version < (1, 1):
        return None
    answer = ServerProtocol().accept(http11.Request(request.target, Headers(request.headers)))
    if answer.status_code != _SWITCHING:
        return None
    given = answer.headers
    answer.headers = Headers(
        {
            "Server": SERVER,
            "Date": given["Date"],
            "Connection": "upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Accept": given["Sec-WebSocket-Accept"],
        }
    )
    return answer.serialize()


def refusal(answer: Answer) -> str:
    """What an HTTP answer that is not the one hoped for means to the user."""
    said = f"answered {answer.status} {answer.reason}".rstrip()
    if answer.location and 300 <= answer.status < 400:
        return f"{said}: it sends us to {answer.location}, where we do not go by ourselves: connect to that"
    hint = _HINTS.get(answer.status)
    return f"{said}: {hint}" if hint else f"{said} instead of opening a WebSocket"


def _uri(name: str, target: Target) -> WebSocketURI:
    """The package's form of a target. What a URL may not hold is escaped, so that nothing breaks a line of ours."""
    path, _, query = target.path.partition("?")
    return WebSocketURI(name == "wss", target.host, target.port, quote(path, safe=_PATH), quote(query, safe=_QUERY))


def _as_a_browser(request: http11.Request, name: str, options: Options) -> http11.Request:
    """The request with the headers that a page of that host would send with it."""
    headers = request.headers
    if options.host:
        del headers["Host"]
        headers["Host"] = options.host
    scheme = "https" if name == "wss" else "http"
    headers["Origin"] = f"{scheme}://{headers['Host']}"
    headers["User-Agent"] = _USER_AGENT
    headers["Pragma"] = headers["Cache-Control"] = "no-cache"
    return request


async def _ask(pipe: Pipe, request: bytes, loop: asyncio.AbstractEventLoop) -> tuple[bytes, bytes]:
    """Send a request; the head of the answer, empty line included, and what came behind it. Raises OSError."""
    talk = Talk(pipe, loop)
    await talk.send(request)
    got = b""
    while (end := got.find(_HEAD_END)) < 0:
        if len(got) > MAX_HEAD:
            raise OSError("an endless head")
        more = await talk.receive()
        if not more:
            raise BrokenPipeError
        got += more
    end += len(_HEAD_END)
    return got[:end], got[end:]
