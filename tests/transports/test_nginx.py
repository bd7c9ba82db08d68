"""A real nginx in front: TLS ends there, a path leads to a plain WebSocket hub. It runs what docs/nginx.md shows."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from caetun.errors import NetworkError
from caetun.lab.namespaces import program_path
from caetun.transports import websocket
from caetun.transports.base import Endpoint, Link, Target
from caetun.transports.websocket import WS, WSS, WebSocketLink
from caetun.types import Drops
from caetun.wire.record import Record
from tests.transports.recorder import PATIENCE, Recorder
from tests.transports.stream_ends import certificate, context_for

pytestmark = pytest.mark.needs("nginx")

GUIDE = Path(__file__).parents[2] / "docs" / "nginx.md"
PATH = "/2b1f/lan"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as waiting:
        port: int = waiting.getsockname()[1]
        return port


@dataclass
class Nginx:
    """One that runs the guide's `server` block, on ports of its own."""

    port: int
    hub_port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def configuration(self, old: str = "", new: str = "") -> str:
        """The guide's, with its addresses and files replaced, and `old` by `new`."""
        found = re.search(r"```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        assert found
        block = found[1]
        for pattern, replacement in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/etc/letsencrypt/live/hub.example/fullchain.pem", f"{self.folder}/cert.pem"),
            ("/etc/letsencrypt/live/hub.example/privkey.pem", f"{self.folder}/key.pem"),
            ("/var/www/html", "/nonexistent"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.hub_port}"),
            (old, new),
        ):
            assert pattern in block
            if pattern:
                block = block.replace(pattern, replacement)
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            f"daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log;"
            f" events {{}} http {{ access_log off; {temporary} {block} }}"
        )

    async def run(self, old: str = "", new: str = "") -> None:
        """Start it, and wait until it answers."""
        for name, content in zip(("cert.pem", "key.pem"), certificate(), strict=True):
            (self.folder / name).write_bytes(content)
        (self.folder / "nginx.conf").write_text(self.configuration(old, new))
        program = shutil.which("nginx", path=program_path())
        assert program
        self.process = subprocess.Popen(
            [program, "-p", str(self.folder), "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/error.log"]
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                assert self.process.poll() is None, (self.folder / "error.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.005)
                else:
                    writer.close()
                    return

    def stop(self) -> None:
        """Stop it, with its workers."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(PATIENCE)

    async def dial(self, path: str = PATH, **options: str) -> tuple[WebSocketLink, Recorder]:
        """A link through it to the hub, and who hears what comes back."""
        arrivals = Recorder()
        context = context_for(arrivals, Drops(), sni="localhost", **options)
        (link,) = await WSS.dial(Target("127.0.0.1", self.port, path), context)
        assert isinstance(link, WebSocketLink)
        return link, arrivals

    async def refused(self, path: str = PATH) -> str:
        """Why there is no link through it."""
        with pytest.raises(NetworkError) as error:
            await self.dial(path)
        return str(error.value).removeprefix(f"127.0.0.1:{self.port}: ")


class Hub(Recorder):
    """A core that answers every handshake message, and sends records back."""

    def __init__(self, port: int, path: str = PATH) -> None:
        super().__init__()
        self.drops = Drops()
        self.endpoint: Endpoint = WS.listen(Target("127.0.0.1", port, path), context_for(self, self.drops))

    def messages(self, link: Link, messages: list[bytes]) -> None:
        super().messages(link, messages)
        link.send_messages([b"\x02welcome"])

    def records(self, link: Link, records: list[Record]) -> None:
        super().records(link, records)
        link.send(self.got[-len(records) :])


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    made = Nginx(free_port(), free_port(), tmp_path)
    yield made
    made.stop()


async def greet(link: Link, arrivals: Recorder) -> None:
    """What an initiation does: make the link proven at the hub."""
    link.send_messages([b"\x01hello"])
    await arrivals.until(lambda: arrivals.heard)


class TestThroughNginx:
    async def test_records_of_every_size_go_both_ways(self, nginx: Nginx) -> None:
        await nginx.run()
        hub = Hub(nginx.hub_port)
        link, arrivals = await nginx.dial()
        await greet(link, arrivals)
        sent = [Record(7, counter, os.urandom(size)) for counter, size in enumerate([16, 1400, 20_000, 65_000] * 5)]
        for record in sent:
            link.send([record])
        await arrivals.until(lambda: len(arrivals.got) == len(sent))
        assert hub.got == sent
        assert arrivals.got == sent
        assert not hub.drops
        link.close()
        await hub.until(lambda: hub.gone)
        assert hub.gone[0][1] == "closed by the far end: it is done (WebSocket 1000)"
        hub.endpoint.close()

    async def test_a_tls_certificate_may_be_insisted_upon(self, nginx: Nginx) -> None:
        await nginx.run()
        hub = Hub(nginx.hub_port)
        link, arrivals = await nginx.dial(tls_verify="strict", tls_ca=str(nginx.folder / "cert.pem"))
        await greet(link, arrivals)
        link.close()
        with pytest.raises(NetworkError, match="does not verify"):
            await nginx.dial(tls_verify="strict")
        hub.endpoint.close()

    async def test_pings_keep_it_from_giving_up(self, nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(websocket, "TICK_SECONDS", 0.2)
        await nginx.run("proxy_read_timeout 60s;", "proxy_read_timeout 1s;")
        hub = Hub(nginx.hub_port)
        link, arrivals = await nginx.dial()
        await greet(link, arrivals)
        quiet_since = asyncio.get_running_loop().time()
        looks = 0
        tick = link._tick

        def count() -> None:
            nonlocal looks
            looks += 1
            tick()
            arrivals.news.set()

        monkeypatch.setattr(link, "_tick", count)
        await arrivals.until(lambda: looks == 12 or link.ended)
        assert asyncio.get_running_loop().time() - quiet_since > 2
        assert not link.ended
        await greet(link, arrivals)
        link.close()
        hub.endpoint.close()

    async def test_without_pings_it_does(self, nginx: Nginx) -> None:
        await nginx.run("proxy_read_timeout 60s;", "proxy_read_timeout 1s;")
        hub = Hub(nginx.hub_port)
        link, arrivals = await nginx.dial()
        await greet(link, arrivals)
        await arrivals.until(lambda: arrivals.gone)
        assert arrivals.gone == [(link, "closed by the far end")]
        hub.endpoint.close()

    async def test_a_hub_that_goes_is_told_of(self, nginx: Nginx) -> None:
        await nginx.run()
        hub = Hub(nginx.hub_port)
        link, arrivals = await nginx.dial()
        await greet(link, arrivals)
        hub.endpoint.close()
        await arrivals.until(lambda: arrivals.gone)
        assert arrivals.gone == [(link, "closed by the far end: it is done (WebSocket 1000)")]


class TestTrouble:
    """What the guide says of each."""

    async def test_no_hub(self, nginx: Nginx) -> None:
        await nginx.run()
        said = await nginx.refused()
        assert said == "answered 502 Bad Gateway: the proxy in front does not reach the hub behind it"
        assert said in GUIDE.read_text()

    async def test_another_path(self, nginx: Nginx) -> None:
        await nginx.run()
        hub = Hub(nginx.hub_port)
        said = "answered 404 Not Found: is the path right?"
        assert said in GUIDE.read_text()
        assert await nginx.refused("/lan") == said
        assert await nginx.refused("/2b1f/other") == said
        hub.endpoint.close()

    async def test_a_path_cut_off(self, nginx: Nginx) -> None:
        await nginx.run(f"127.0.0.1:{nginx.hub_port};", f"127.0.0.1:{nginx.hub_port}/;")
        hub = Hub(nginx.hub_port, "/lan")
        link, arrivals = await nginx.dial()
        await greet(link, arrivals)
        link.close()
        hub.endpoint.close()

    @pytest.mark.parametrize(
        "header", ["proxy_set_header Upgrade $http_upgrade;", 'proxy_set_header Connection "upgrade";']
    )
    async def test_no_upgrade(self, nginx: Nginx, header: str) -> None:
        await nginx.run(header)
        hub = Hub(nginx.hub_port)
        assert (await nginx.refused()).startswith("answered 404 Not Found: is the path right?")
        hub.endpoint.close()
