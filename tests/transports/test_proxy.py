"""Streams through proxies: real ones behind a firewall, and ones that misbehave."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import pytest

from caetun.errors import NetworkError
from caetun.transports.proxy import HEAD_LIMIT, Proxy, connect, parse_proxy, proxy_from_environment

SECRET: Final = "s3cr3t:/@%"
ENCODED: Final = "s3cr3t%3A%2F%40%25"
TARGET: Final = ("hub.example", 443)
PATIENCE: Final = 10.0
"""Seconds after which something that should have happened has not."""

# -- URLs --


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("http://proxy.example", Proxy("http", "proxy.example", 80)),
        ("HTTP://10.0.0.1:8080/", Proxy("http", "10.0.0.1", 8080)),
        (f"http://me:{ENCODED}@proxy:3128", Proxy("http", "proxy", 3128, (b"me", SECRET.encode()))),
        ("http://me:a@b:c@proxy:3128", Proxy("http", "proxy", 3128, (b"me", b"a@b:c"))),
        ("http://me@proxy:3128", Proxy("http", "proxy", 3128, (b"me", b""))),
        ("socks5://[2001:DB8::1]", Proxy("socks5", "2001:db8::1", 1080)),
        ("socks5h://m%C3%A4x:%FF@[::1]:9050", Proxy("socks5", "::1", 9050, ("mäx".encode(), b"\xff"))),
    ],
)
def test_a_url_is_read(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"proxy:3128:{SECRET}", "no scheme: write http://"),
        (f"me:{SECRET}@proxy://x", "no scheme"),
        (f"https://me:{SECRET}@proxy:443", "by TLS .* not supported"),
        (f"socks4://me:{SECRET}@proxy:1080", "neither an HTTP nor a SOCKS5 proxy"),
        (f"http://me:{SECRET}@proxy:99999", r"port is not 1\.\.65535"),
        (f"http://me:{SECRET}@proxy:0", r"port is not 1\.\.65535|host and a port"),
        (f"http://me:{SECRET}@", "host and a port"),
        (f"http://me:{SECRET}@2001:db8::1:80", "host and a port"),
        (f"http://me:{SECRET}@[1:2]:80", "no IPv6 address"),
        (f"http://me:{SECRET}", "host and a port"),
        (f"http://me:{ENCODED}@proxy:80\r\nX: y", "host and a port"),
        (f"http://m%3Ae:{ENCODED}@proxy:80", "colon"),
        (f"socks5://me:{ENCODED}{'x' * 255}@proxy:80", r"1\.\.255 bytes"),
        ("socks5://me@proxy:80", r"1\.\.255 bytes"),
    ],
)
def test_what_is_no_such_url_is_told_without_its_password(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        parse_proxy(text)
    assert "s3cr3t" not in str(error.value)


def test_a_proxy_is_shown_without_its_password() -> None:
    proxy = parse_proxy(f"socks5://somebody:{ENCODED}@[::1]:1080")
    assert str(proxy) == "socks5 proxy [::1]:1080"
    assert "s3cr3t" not in repr(proxy)
    assert "somebody" not in repr(proxy)


# -- the environment --

HTTP, SOCKS = "http://proxy:3128", "socks5://proxy:1080"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, ""),
        ({"HTTP_PROXY": HTTP}, ""),
        ({"HTTPS_PROXY": HTTP, "ALL_PROXY": SOCKS}, HTTP),
        ({"https_proxy": SOCKS, "HTTPS_PROXY": HTTP}, SOCKS),
        ({"HTTPS_PROXY": "", "all_proxy": SOCKS}, SOCKS),
        ({"HTTPS_PROXY": "proxy:3128"}, HTTP),
    ],
)
def test_the_environment_names_a_proxy(environ: dict[str, str], found: str) -> None:
    assert proxy_from_environment(environ, "hub.example") == found


@pytest.mark.parametrize(
    ("exempt", "host"),
    [
        ("*", "hub.example"),
        ("a.example, hub.example", "hub.example"),
        ("a.example hub.example:443", "HUB.example."),
        (".hub.example", "hub.example"),
        ("*.example", "hub.example"),
        ("example", "a.b.example"),
        ("192.0.2.0/24", "192.0.2.77"),
        ("192.0.2.77", "192.0.2.77"),
        ("2001:db8::/32", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8:0::1"),
    ],
)
def test_no_proxy_exempts(exempt: str, host: str) -> None:
    assert proxy_from_environment({"HTTPS_PROXY": HTTP, "NO_PROXY": exempt}, host) == ""
    assert proxy_from_environment({"ALL_PROXY": SOCKS, "no_proxy": exempt}, host) == ""


@pytest.mark.parametrize(
    ("exempt", "host"),
    [
        ("ample", "hub.example"),
        ("a.hub.example", "hub.example"),
        (",. ,", "hub.example"),
        ("192.0.2.0/24", "192.0.3.1"),
        ("2.77", "192.0.2.77"),
        ("2001:db8::/32", "192.0.2.1"),
        ("999.0.0.0/99", "192.0.2.1"),
    ],
)
def test_no_proxy_exempts_nothing_else(exempt: str, host: str) -> None:
    assert proxy_from_environment({"HTTPS_PROXY": HTTP, "NO_PROXY": exempt}, host) == HTTP


# -- proxies that play a part --

Part: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def proxy_that(part: Part, scheme: str = "http") -> AsyncIterator[str]:
    """Play a proxy on the loopback interface; yields its URL. It hangs up after its part."""
    parts: list[asyncio.Task[None]] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await part(reader, writer)
        except ConnectionError:
            pass  # the other side had enough
        finally:
            writer.close()

    server = await asyncio.start_server(lambda r, w: parts.append(asyncio.ensure_future(play(r, w))), "127.0.0.1", 0)
    try:
        yield f"{scheme}://me:{ENCODED}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in parts:
            task.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


async def through(proxy: str) -> socket.socket:
    """Connect to the target, in good time."""
    async with asyncio.timeout(PATIENCE):
        return await connect(proxy, *TARGET, asyncio.get_running_loop())


async def refusal(proxy: str) -> str:
    """Why a proxy gives no stream; the password is not in it, nor in what led to it."""
    with pytest.raises(NetworkError) as caught:
        await through(proxy)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cr3t" not in repr(error)
        error = error.__cause__
    return str(caught.value)


def answering(*answers: bytes) -> Part:
    """Read something, say something, and so on; then wait for the other side to hang up."""

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(4096)
            writer.write(answer)
        while await reader.read(4096):
            pass

    return part


def trickling(*answers: bytes) -> Part:
    """The same, each byte in a segment of its own."""

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(4096)
            for byte in answer:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)  # let the other side see it
        await reader.read()

    return part


HTTP_OPEN: Final = b"HTTP/1.1 200 OK\r\nVia: a\r\n\r\n"
SOCKS_OPEN: Final = (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x03\x04name\x00\x50")


@pytest.mark.parametrize("manner", [answering, trickling])
@pytest.mark.parametrize(("scheme", "answers"), [("http", (HTTP_OPEN,)), ("socks5", SOCKS_OPEN)])
async def test_the_stream_begins_right_behind_the_answer(
    manner: Callable[..., Part], scheme: str, answers: tuple[bytes, ...]
) -> None:
    async with proxy_that(manner(*answers[:-1], answers[-1] + b"first words"), scheme) as proxy:
        stream = await through(proxy)
        with stream:
            assert not stream.getblocking()
            said = b""
            while len(said) < 11:
                said += await asyncio.get_running_loop().sock_recv(stream, 100)
            assert said == b"first words"


async def test_interim_answers_are_passed_over() -> None:
    async with proxy_that(answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\n\r\n" + HTTP_OPEN)) as proxy:
        (await through(proxy)).close()


async def test_the_request_is_as_it_should_be() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HTTP_OPEN)

    async with proxy_that(part) as proxy:
        (await through(proxy)).close()
    request = (await heard).decode()
    assert request.startswith("CONNECT hub.example:443 HTTP/1.1\r\n")
    assert "\r\nProxy-Authorization: Basic bWU6czNjcjN0Oi9AJQ==\r\n" in request


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", "does not take the user name and password (407)"),
        (b"HTTP/1.1 407 No\r\n\r\n", "does not take the user name and password (407)"),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "wants authentication by Negotiate or NTLM (407): only Basic is supported",
        ),
        (b"HTTP/1.1 403 Filtered\r\n\r\n", "forbids connections to hub.example:443 (403 Filtered)"),
        (b"HTTP/1.0 502\r\n\r\n", "cannot reach hub.example:443 (502)"),
        (b"HTTP/1.0 504 Too Late\r\n\r\n", "cannot reach hub.example:443 (504 Too Late)"),
        (b"HTTP/1.1 302 Login\r\nLocation: x\r\n\r\n", "refuses to connect to hub.example:443 (302 Login)"),
        (b"\x05\xff\r\n\r\n", "does not answer as an HTTP proxy: is it a SOCKS one?"),
    ],
)
async def test_an_http_proxys_refusal_is_told(answer: bytes, why: str) -> None:
    async with proxy_that(answering(answer)) as proxy:
        assert await refusal(proxy) == f"http proxy 127.0.0.1:{proxy.rpartition(':')[2]}: {why}"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b"HT"], "does not answer as a SOCKS5 proxy: is it an HTTP one?"),
        ([b"\x05\xff"], "wants authentication that is not supported"),
        ([b"\x05\x01"], "wants authentication that is not supported"),
        ([b"\x05\x02", b"\x01\x01"], "does not take the user name and password"),
        ([b"\x05\x02", b"\x07\x00"], "answers no SOCKS5"),
        ([b"\x05\x00", b"\x04\x00"], "answers no SOCKS5"),
        ([b"\x05\x00", b"\x05\x02"], "does not connect to hub.example:443: connection not allowed by ruleset"),
        ([b"\x05\x00", b"\x05\x04\x00\x01"], "does not connect to hub.example:443: host unreachable"),
        ([b"\x05\x00", b"\x05\x08"], "does not connect to hub.example:443: address type not supported"),
        ([b"\x05\x00", b"\x05\x63"], "does not connect to hub.example:443: reply 99"),
        ([b"\x05\x00", b"\x05\x00\x00\x09\x00"], "answers no SOCKS5"),
    ],
)
async def test_a_socks_proxys_refusal_is_told(answers: list[bytes], why: str) -> None:
    async with proxy_that(answering(*answers), "socks5") as proxy:
        told = await refusal(proxy)
        assert told.startswith(f"socks5 proxy 127.0.0.1:{proxy.rpartition(':')[2]}: ")
        assert why in told


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_hangs_up_is_told(scheme: str) -> None:
    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"\x05")

    async with proxy_that(part, scheme) as proxy:
        assert (await refusal(proxy)).endswith(": closes the connection instead of an answer")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_connection_reset_is_told(scheme: str) -> None:
    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)  # the rest is left unread, and closing is then a reset
        writer.transport.abort()

    async with proxy_that(part, scheme) as proxy:
        assert "proxy 127.0.0.1" in await refusal(proxy)


@pytest.mark.parametrize("endless", [b"x", b"A: b\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", bytes(range(64))])
async def test_an_endless_answer_ends(endless: bytes) -> None:
    async def part(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(endless * 100)
            await writer.drain()

    async with proxy_that(part) as proxy:
        told = await refusal(proxy)
    assert "does not end within" in told or "does not answer as an HTTP proxy" in told


async def test_an_answer_just_within_the_limit_is_taken() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: "
    whole = head + b"y" * (HEAD_LIMIT - len(head) - 4) + b"\r\n\r\n"
    async with proxy_that(answering(whole + b"first words")) as proxy:
        with await through(proxy) as stream:
            assert await asyncio.get_running_loop().sock_recv(stream, 100) == b"first words"
    async with proxy_that(answering(b"HTTP/1.1 100 x\r\n\r\n" + whole)) as proxy:
        assert "does not end within" in await refusal(proxy)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_nothing_is_left_of_a_dial_given_up(scheme: str) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def part(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        asked.set()
        await reader.read()
        hung_up.set()

    async with proxy_that(part, scheme) as proxy:
        before = len(os.listdir("/proc/self/fd"))
        dial = asyncio.ensure_future(through(proxy))
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            dial.cancel()
            await asyncio.wait([dial])
            await hung_up.wait()
        assert dial.cancelled()
    assert len(os.listdir("/proc/self/fd")) <= before


# -- proxies that are not there --


def free_port() -> int:
    """A port of the loopback interface where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_proxy_that_is_not_there_is_told() -> None:
    port = free_port()
    told = await refusal(f"http://me:{ENCODED}@127.0.0.1:{port}")
    assert told == f"http proxy 127.0.0.1:{port}: cannot be reached: Connection refused"


async def test_a_proxy_without_an_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody)
    told = await refusal(f"socks5://me:{ENCODED}@proxy.invalid:1080")
    assert told.startswith(
        "socks5 proxy proxy.invalid:1080: proxy.invalid cannot be resolved: Name or service not known"
    )


async def test_a_url_from_the_environment_that_cannot_be_used_is_told() -> None:
    assert "not supported" in await refusal(f"https://me:{ENCODED}@proxy:443")
