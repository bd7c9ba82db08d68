"""Byte streams, plain and in TLS, and how they are reached."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from caetun.errors import NetworkError
from caetun.transports import pipes
from caetun.transports.pipes import TLS_KEPT, PlainPipe, TlsPipe, describe, open_pipe, tune
from caetun.transports.reach import connect
from caetun.types import Drops
from tests.transports.places import descriptors
from tests.transports.recorder import Recorder
from tests.transports.stream_ends import StreamSocket, client_tls, connected, context_for, server_tls, tls_pair

_chance = random.Random(11)
ROOM = 1 << 20


@pytest.fixture
def near_and_far() -> Iterator[tuple[StreamSocket, StreamSocket]]:
    pair = connected()
    yield pair
    for sock in pair:
        sock.close()


@pytest.fixture
def tls(near_and_far: tuple[StreamSocket, StreamSocket]) -> tuple[TlsPipe, TlsPipe]:
    return tls_pair(*near_and_far)


def received(pipe: pipes.Pipe, size: int = ROOM) -> bytes:
    """What one call gives."""
    room = memoryview(bytearray(size))
    return bytes(room[: pipe.receive_into(room)])


def carried(near: pipes.Pipe, far: pipes.Pipe, content: list[bytes], room: int = ROOM, before: int = 0) -> bytes:
    """Send parts and whatever is left of them, and receive in turn, until all is there, with what was sent before."""
    left, got, total = b"".join(content), b"", before + sum(map(len, content))
    parts: list[Any] = list(content)
    for _ in range(20_000):
        try:
            left = left[near.send(parts) :]
            parts = [left] if left else []
        except BlockingIOError:
            near.flush()
        try:
            got += received(far, room)
        except BlockingIOError:
            if len(got) == total and not near.pending:
                return got
    raise AssertionError("it never ends")


class TestPlain:
    def test_parts_are_one_after_the_other(self, near_and_far: tuple[StreamSocket, StreamSocket]) -> None:
        near, far = map(PlainPipe, near_and_far)
        assert near.send([b"one ", bytearray(b"two "), memoryview(b"three")]) == 13
        assert received(far) == b"one two three"
        assert near.flush()
        assert not near.pending

    def test_nothing_yet_and_nothing_any_more(self, near_and_far: tuple[StreamSocket, StreamSocket]) -> None:
        near, far = map(PlainPipe, near_and_far)
        with pytest.raises(BlockingIOError):
            received(far)
        near.close()
        near.close()
        assert (near.fileno(), received(far)) == (-1, b"")

    def test_it_knows_its_far_end(self, near_and_far: tuple[StreamSocket, StreamSocket]) -> None:
        assert PlainPipe(near_and_far[0]).far == near_and_far[1].getsockname()

    def test_an_ipv4_far_end_of_an_ipv6_socket_is_one(self) -> None:
        with (
            socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as waiting,
            socket.create_connection(("127.0.0.1", waiting.getsockname()[1])) as caller,
            waiting.accept()[0] as accepted,
        ):
            assert PlainPipe(accepted).far == caller.getsockname()


class TestTls:
    @pytest.mark.parametrize("pace", [None, 100, 5000, 60_000])
    @pytest.mark.parametrize("room", [1 << 16, ROOM])
    def test_bytes_survive(
        self,
        near_and_far: tuple[StreamSocket, StreamSocket],
        tls: tuple[TlsPipe, TlsPipe],
        pace: int | None,
        room: int,
    ) -> None:
        for sock in near_and_far:
            sock.pace = pace
        content = [_chance.randbytes(size) for size in (1, 20, 65_000, 3, 16_384, 16_385, 40_000)]
        for sender, receiver in (tls, tls[::-1]):
            assert carried(sender, receiver, content, room) == b"".join(content)

    def test_much_at_once_is_taken_as_far_as_the_socket_takes_it(
        self, near_and_far: tuple[StreamSocket, StreamSocket], tls: tuple[TlsPipe, TlsPipe]
    ) -> None:
        near, far = tls
        near_and_far[0].stuck = True
        content = [_chance.randbytes(65_000) for _ in range(40)]
        taken = near.send(content)
        assert 0 < taken < 65_000 * 6
        assert near.pending
        with pytest.raises(BlockingIOError):
            near.send(content)
        near_and_far[0].stuck = False
        whole = b"".join(content)
        assert carried(near, far, [whole[taken:]], before=taken) == whole

    def test_what_came_with_the_handshake_is_not_forgotten(
        self, near_and_far: tuple[StreamSocket, StreamSocket]
    ) -> None:
        near, far = TlsPipe(near_and_far[0], client_tls(), "localhost"), TlsPipe(near_and_far[1], server_tls())
        assert not near.handshake_step()
        assert not far.handshake_step()
        assert near.handshake_step()
        near.send([b"at once"])
        assert far.handshake_step()
        assert received(far) == b"at once"

    def test_what_was_read_before_belongs_to_it(self, near_and_far: tuple[StreamSocket, StreamSocket]) -> None:
        near = TlsPipe(near_and_far[0], client_tls(), "localhost")
        near.handshake_step()
        first = near_and_far[1].recv(100)
        far = TlsPipe(near_and_far[1], server_tls(), first=first)
        assert not far.handshake_step()
        assert near.handshake_step()
        assert far.handshake_step()

    def test_the_end_is_the_end_however_it_is_said(self, tls: tuple[TlsPipe, TlsPipe]) -> None:
        near, far = tls
        near.send([b"last words"])
        near.close()
        near.close()
        assert received(far) == b"last words"
        assert received(far) == b""

    def test_an_end_without_goodbye_is_one_too(
        self, near_and_far: tuple[StreamSocket, StreamSocket], tls: tuple[TlsPipe, TlsPipe]
    ) -> None:
        near_and_far[0].shutdown(socket.SHUT_WR)
        assert received(tls[1]) == b""

    def test_half_a_record_is_nothing_yet(
        self, near_and_far: tuple[StreamSocket, StreamSocket], tls: tuple[TlsPipe, TlsPipe]
    ) -> None:
        near, far = tls
        near_and_far[0].pace = 10
        near_and_far[0].stuck = True
        near.send([b"hello"])
        near_and_far[0].stuck = False
        near_and_far[0].send(near._rest[:10])
        with pytest.raises(BlockingIOError):
            received(far)

    @pytest.mark.parametrize("garbage", [b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\0\x20" + bytes(32)])
    def test_garbage_in_a_session_breaks_it(
        self, near_and_far: tuple[StreamSocket, StreamSocket], tls: tuple[TlsPipe, TlsPipe], garbage: bytes
    ) -> None:
        near_and_far[0].send(garbage)
        with pytest.raises(ssl.SSLError) as broken:
            received(tls[1])
        assert describe(broken.value).startswith("TLS: ")

    def test_a_far_end_that_only_talks_cannot_make_us_keep_much(
        self, near_and_far: tuple[StreamSocket, StreamSocket], tls: tuple[TlsPipe, TlsPipe]
    ) -> None:
        near, far = tls
        near_and_far[1].stuck = True
        far._rest = memoryview(bytes(TLS_KEPT + 1))  # as many answers to key updates make it
        near.send([b"and another one"])
        with pytest.raises(ssl.SSLError, match="does not read"):
            received(far)

    def test_one_full_send_is_not_much(
        self, near_and_far: tuple[StreamSocket, StreamSocket], tls: tuple[TlsPipe, TlsPipe]
    ) -> None:
        near, far = tls
        near_and_far[1].stuck = True
        far.send([bytes(66_000)] * 8)
        near.send([b"hello"])
        assert received(far) == b"hello"

    def test_a_handshake_with_garbage_fails_in_words(self, near_and_far: tuple[StreamSocket, StreamSocket]) -> None:
        near = TlsPipe(near_and_far[0], client_tls(), "localhost")
        near.handshake_step()
        near_and_far[1].send(b"SSH-2.0-OpenSSH_9.9\r\n")
        with pytest.raises(ssl.SSLError) as broken:
            near.handshake_step()
        assert describe(broken.value) == "TLS: wrong version number"


class TestTune:
    def test_options_are_set(self, near_and_far: tuple[StreamSocket, StreamSocket]) -> None:
        sock = near_and_far[0]
        tune(sock)
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == pipes.KEEPALIVE_IDLE
        assert sock.getsockopt(socket.IPPROTO_TCP, 25) == pipes.NOTSENT_LOWAT
        assert sock.getsockopt(socket.IPPROTO_TCP, 18) == pipes.USER_TIMEOUT_MS

    def test_a_kernel_without_them_is_no_obstacle(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            tune(ours)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError(errno.ECONNRESET, "x"), "connection reset"),
        (BrokenPipeError(errno.EPIPE, "x"), "closed by the far end"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "no answer from the far end"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
        (ssl.SSLEOFError(8, "x"), "closed by the far end"),
        (ssl.SSLError(1, "something"), "TLS: something"),
        (OSError("odd"), "odd"),
    ],
)
def test_errors_in_words(error: OSError, words: str) -> None:
    assert describe(error) == words


# reaching a far end


async def opened(target: tuple[str, int], *, tls: ssl.SSLContext | None = None, **options: Any) -> pipes.Pipe:
    context = context_for(Recorder(), Drops(), **options)
    return await open_pipe(*target, context, tls=tls, server_name="localhost")


class TestOpenPipe:
    async def test_plain(self, listening: socket.socket) -> None:
        pipe = await opened(listening.getsockname())
        assert pipe.far == listening.getsockname()
        pipe.close()

    async def test_with_tls(self, listening: socket.socket) -> None:
        async def answer() -> TlsPipe:
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            tune(sock)
            pipe = TlsPipe(sock, server_tls())
            await pipe.handshake(asyncio.get_running_loop())
            return pipe

        near, far = await asyncio.gather(opened(listening.getsockname(), tls=client_tls()), answer())
        near.send([b"hello"])
        assert received(far) == b"hello"
        near.close()
        far.close()

    async def test_nobody_there(self, refused: tuple[str, int]) -> None:
        with pytest.raises(NetworkError, match=rf"^127\.0\.0\.3:{refused[1]}: connection refused$"):
            await opened(refused)

    async def test_no_answer(self, silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pipes, "CONNECT_SECONDS", 0.05)
        before = descriptors()
        with pytest.raises(NetworkError, match=r": no answer within 0\.05 s$"):
            await opened(silent)
        await asyncio.sleep(0)
        assert descriptors() == before

    async def test_a_server_that_does_not_answer_in_tls(
        self, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipes, "CONNECT_SECONDS", 0.05)
        before = descriptors()
        with pytest.raises(NetworkError, match=r": connected, but no answer within 0\.05 s$"):
            await opened(listening.getsockname(), tls=client_tls())
        assert descriptors() == before

    async def test_a_server_that_resets(self, listening: socket.socket) -> None:
        async def answer() -> None:
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

        answering = asyncio.ensure_future(answer())
        with pytest.raises(NetworkError, match=r": connected, but connection reset$"):
            await opened(listening.getsockname(), tls=client_tls())
        await answering

    async def test_through_a_proxy(self, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, str, int]] = []

        async def proxied(url: str, host: str, port: int, loop: asyncio.AbstractEventLoop, mark: int) -> socket.socket:
            assert not mark
            asked.append((url, host, port))
            return await connect(*listening.getsockname(), loop)

        monkeypatch.setattr("caetun.transports.proxy.connect", proxied)
        pipe = await opened(("hub.example", 443), proxy="http://proxy:3128")
        assert asked == [("http://proxy:3128", "hub.example", 443)]
        assert os.get_blocking(pipe.fileno()) is False
        pipe.close()
