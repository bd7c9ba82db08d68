"""Two ends of a byte stream over loopback, for tests of what is built on one."""

from __future__ import annotations

import asyncio
import datetime
import functools
import socket
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from caetun.transports.base import Arrivals, Context, Options, Reactor, Sessions
from caetun.transports.pipes import Pipe, PlainPipe, TlsPipe, tune
from caetun.transports.stream import StreamLink
from caetun.types import Buffer, Drops
from caetun.wire.framing import Codec, LengthCodec


class StreamSocket(socket.socket):
    """A socket that takes nothing while it is `stuck`, and at most `pace` bytes at once if there is one."""

    stuck = False
    pace: int | None = None

    def sendmsg(self, buffers: Sequence[Any], *rest: Any) -> int:  # type: ignore[override]
        if self.pace is not None:
            return self.send(b"".join(buffers))
        if self.stuck:
            raise BlockingIOError
        return super().sendmsg(buffers, *rest)

    def send(self, data: Buffer, flags: int = 0) -> int:  # type: ignore[override]
        if self.stuck:
            raise BlockingIOError
        return super().send(data[: self.pace], flags)


def connected(family: socket.AddressFamily = socket.AF_INET) -> tuple[StreamSocket, StreamSocket]:
    """A connected pair, the caller's side first, ready for links. Raises OSError without that family."""
    with socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as waiting:
        caller = socket.create_connection(waiting.getsockname()[:2])
        answerer, _ = waiting.accept()
    pair = StreamSocket(fileno=caller.detach()), StreamSocket(fileno=answerer.detach())
    for sock in pair:
        tune(sock)
    return pair


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for `localhost`, and its key (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), secret


def server_tls() -> ssl.SSLContext:
    """Shows that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(b"".join(certificate()))
        context.load_cert_chain(file.name)
    return context


def client_tls() -> ssl.SSLContext:
    """Trusts that certificate and no other."""
    return ssl.create_default_context(cadata=certificate()[0].decode())


def tls_pair(near: socket.socket, far: socket.socket) -> tuple[TlsPipe, TlsPipe]:
    """Both pipes after their handshake: loopback delivers at once, so that they can take turns."""
    pipes = TlsPipe(near, client_tls(), "localhost"), TlsPipe(far, server_tls())
    for _ in range(10):
        over = [pipe.handshake_step() for pipe in pipes]
        if all(over):
            return pipes
    raise AssertionError("the handshake does not end")


def pipe_pair(kind: str, near: socket.socket, far: socket.socket) -> tuple[Pipe, Pipe]:
    """Two pipes, with TLS for `tls` and `wss`."""
    return tls_pair(near, far) if kind in ("tls", "wss") else (PlainPipe(near), PlainPipe(far))


def context_for(arrivals: Arrivals, drops: Drops, sessions: Sessions = (7, 8), **options: Any) -> Context:
    """What a shell lends; lines for the log go nowhere."""
    loop = asyncio.get_running_loop()
    return Context(loop, arrivals, sessions, drops, Options(**options), lambda level, event, text: None)


class StreamEnd:
    """Fulfils `Endpoint` with one proven link."""

    def __init__(
        self,
        kind: str,
        pipe: Pipe,
        local: tuple[Any, ...],
        drops: Drops,
        codec: Callable[[], Codec] = LengthCodec,
        link: type[StreamLink] = StreamLink,
    ) -> None:
        """`local`: address and port of our socket."""
        self.kind = kind
        self.name = self._name(*local[:2])
        self._pipe = pipe
        self._drops = drops
        self._codec = codec
        self._link = link

    def _name(self, host: str, port: int) -> str:
        return f"{self.kind} {f'[{host}]' if ':' in host else host}:{port}"

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        host, port = self._pipe.far
        context = context_for(arrivals, self._drops, sessions)
        self.link = self._link(self._pipe, self._codec(), context, name=self._name(host, port), proven=True)
        self.link.start()

    def close(self) -> None:
        self.link.close()
