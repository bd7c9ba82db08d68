"""The transports `tcp` and `tls`: waiting, dialling, and a conversation between both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from caetun.errors import NetworkError
from caetun.transports.base import Context, Endpoint, Link, Target, Transport
from caetun.transports.tcp import TCP, TLS
from caetun.types import Drops
from caetun.wire.record import Record
from tests.transports.recorder import Recorder
from tests.transports.stream_ends import context_for


class Answering(Recorder):
    """Answers every handshake message within the call, as the core does to an authentic one."""

    def messages(self, link: Link, messages: list[bytes]) -> None:
        super().messages(link, messages)
        if messages[-1].startswith(b"\x01"):
            link.send_messages([b"\x02welcome"])


class Hub:
    """Somebody who waits."""

    def __init__(self, transport: Transport, host: str, state: Path) -> None:
        self.arrivals = Answering()
        self.drops = Drops()
        self.context: Context = context_for(self.arrivals, self.drops, state=state)
        self.endpoint: Endpoint = transport.listen(Target(host, 0), self.context)
        host, _, port = self.endpoint.name.rpartition(" ")[2].rpartition(":")
        self.target = Target(host.strip("[]"), int(port))


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def caller(**options: Any) -> tuple[Recorder, Context]:
    arrivals = Recorder()
    return arrivals, context_for(arrivals, Drops(), **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", [TCP, TLS], ids=lambda transport: transport.name)
async def test_a_conversation(transport: Transport, host: str, closing: ExitStack, tmp_path: Path) -> None:
    hub = Hub(transport, host, tmp_path)
    closing.callback(hub.endpoint.close)
    arrivals, context = caller()

    assert transport.dial_now(hub.target, context) is None
    (link,) = await transport.dial(hub.target, context)
    closing.callback(link.close)
    shown = f"[{host}]" if ":" in host else host
    assert link.name == f"{transport.name} {shown}:{hub.target.port}"
    assert link.source == f"{host} {hub.target.port}"

    link.send_messages([b"\x01hello"])
    await arrivals.until(lambda: arrivals.heard)
    assert arrivals.heard == [b"\x02welcome"]
    assert arrivals.links == [link]

    record = Record(7, 1, bytes(link.max_record))
    link.send([record])
    await hub.arrivals.until(lambda: hub.arrivals.got)
    assert hub.arrivals.got == [record]
    back = hub.arrivals.links[0]
    assert back.name.startswith(f"{transport.name} {shown}:")

    link.close()
    await hub.arrivals.until(lambda: hub.arrivals.gone)
    assert hub.arrivals.gone == [(back, "closed by the far end")]
    assert arrivals.gone == []


async def test_a_hub_that_closes_is_noticed(closing: ExitStack, tmp_path: Path) -> None:
    hub = Hub(TCP, "127.0.0.1", tmp_path)
    arrivals, context = caller()
    (link,) = await TCP.dial(hub.target, context)
    closing.callback(link.close)
    link.send_messages([b"\x01hello"])
    await arrivals.until(lambda: arrivals.heard)
    hub.endpoint.close()
    await arrivals.until(lambda: arrivals.gone)
    assert arrivals.gone == [(link, "closed by the far end")]


async def test_one_port_serves_both(closing: ExitStack, tmp_path: Path) -> None:
    hub = Hub(TCP, "127.0.0.1", tmp_path)
    closing.callback(hub.endpoint.close)
    assert TLS.listen(Target("127.0.0.1", 0), hub.context) is hub.endpoint
    for transport in (TCP, TLS):
        arrivals, context = caller()
        (link,) = await transport.dial(hub.target, context)
        closing.callback(link.close)
        link.send_messages([b"\x01hello"])
        await arrivals.until(lambda arrivals=arrivals: arrivals.heard)


async def test_nobody_there(refused: tuple[str, int]) -> None:
    _, context = caller()
    with pytest.raises(NetworkError, match=rf"^127\.0\.0\.3:{refused[1]}: connection refused$"):
        await TCP.dial(Target(*refused), context)


async def test_a_pin_of_another_certificate(closing: ExitStack, tmp_path: Path) -> None:
    hub = Hub(TLS, "127.0.0.1", tmp_path)
    closing.callback(hub.endpoint.close)
    _, context = caller(tls_pin=("sha256:" + "0" * 64,))
    with pytest.raises(NetworkError, match="not one given by --tls-pin"):
        await TLS.dial(hub.target, context)


async def test_tls_where_something_else_answers(listening: socket.socket) -> None:
    async def answer() -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(listening)
        sock.send(b"SSH-2.0-OpenSSH_9.9\r\n")
        return sock

    answering = asyncio.ensure_future(answer())
    _, context = caller()
    with pytest.raises(NetworkError, match=r"TLS: wrong version number: what answers there does not speak TLS"):
        await TLS.dial(Target(*listening.getsockname()), context)
    (await answering).close()


@pytest.mark.parametrize("transport", [TCP, TLS], ids=lambda transport: transport.name)
def test_the_port_is_that_of_the_web(transport: Transport) -> None:
    assert transport.default_port == 443
