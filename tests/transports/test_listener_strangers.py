"""Who comes to a listener and is no far end finds a web server, and gives everything back."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from caetun.errors import NetworkError
from caetun.transports import listener as listening
from caetun.transports.listener import MAX_GUESTS
from caetun.types import DropReason
from caetun.wire.record import Record
from tests.transports.strangers import KINDS, NOT_FOUND, PATH, UPGRADE, WRONG, House, Hub, careless, client_hello


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub(*KINDS)
    yield made
    await made.close()


class TestStrangers:
    """Who has not."""

    @pytest.mark.parametrize("kind", ["tcp", "tls"])
    async def test_a_message_that_is_not_authentic_gets_what_garbage_gets(self, hub: Hub, kind: str) -> None:
        trust = careless() if kind == "tls" else None
        answers = []
        for words in (struct.pack(">I", len(WRONG)) + WRONG, b"\0\0\0\xff\x04" + bytes(255), b"\0\xff", b"\x01\x02"):
            async with hub.stranger(trust) as stranger:
                stranger.say(words)
                answers.append((await stranger.hears(), await stranger.everything()))
        assert answers[0][0].status == 400
        assert answers == answers[:1] * 4
        assert hub.core.heard == [WRONG]
        await hub.until(lambda: not hub.listener.guests)

    @pytest.mark.parametrize("kind", ["ws", "wss"])
    async def test_one_who_knows_the_path_and_no_more(self, hub: Hub, kind: str) -> None:
        near = await hub.dial(kind)
        near.send_messages([WRONG])
        await hub.caller.until(lambda: hub.caller.gone)
        assert hub.core.heard == [WRONG]
        assert hub.caller.heard == []
        await hub.until(lambda: not hub.listener.guests)

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
    async def test_an_upgrade_elsewhere_is_a_request_like_any_other(self, hub: Hub, secure: bool) -> None:
        other = House("tls")
        answers = []
        for house in (hub, other):
            async with house.stranger(careless() if secure else None) as stranger:
                for path in (b"/", b"/secret", b"/secret/path/", b"/secret/path2", b"/Secret/Path", b"/nope"):
                    stranger.say(UPGRADE % path)
                    answers.append(await stranger.hears())
        assert {answer.status for answer in answers} == {404}
        assert answers[:6] == answers[6:]
        with pytest.raises(NetworkError, match="404"):
            await hub.dial("wss" if secure else "ws", "/secret")
        await other.close()

    async def test_the_path_alone_shows_nothing(self, hub: Hub) -> None:
        async with hub.stranger() as stranger:
            for words in (b"GET /secret/path HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND):
                stranger.say(words)
                assert (await stranger.hears()).status == 404
            stranger.say((UPGRADE % PATH.encode()).replace(b"Version: 13", b"Version: 12"))
            assert (await stranger.hears()).status == 404

    async def test_the_path_may_be_written_in_other_ways(self, hub: Hub) -> None:
        for path in (b"/secret/%70ath?x=y", b"/./secret//path"):
            async with hub.stranger() as stranger:
                stranger.say(UPGRADE % path)
                assert (await stranger.hears()).status == 101

    async def test_plain_and_tls_show_the_same(self, hub: Hub) -> None:
        answers = []
        for trust in (None, careless()):
            async with hub.stranger(trust) as stranger:
                for words in (NOT_FOUND, NOT_FOUND, b"\r\nDELETE / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff"):
                    stranger.say(words)
                    answers.append(await stranger.hears())
        assert [answer.status for answer in answers[:4]] == [404, 404, 405, 400]
        assert answers[:4] == answers[4:]

    async def test_a_head_without_end(self, hub: Hub) -> None:
        async with hub.stranger() as stranger:
            stranger.say(b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 4000)
            assert b"Request Header Or Cookie Too Large" in await stranger.everything()

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
    async def test_slowness_is_answered_with_silence(self, monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
        monkeypatch.setattr(listening, "PROOF_SECONDS", 0.15)
        hub = Hub(*KINDS)
        beginnings = [
            b"",
            b"GET / HT",
            NOT_FOUND[:-2],
            struct.pack(">I", len(WRONG)) + WRONG[:-1],
            UPGRADE % PATH.encode(),
        ]
        beginnings += [] if secure else [client_hello()[:100], b"\x16"]
        for words in beginnings:
            async with hub.stranger(careless() if secure else None) as stranger:
                stranger.say(words)
                said = await stranger.everything()
                assert not said or said.startswith(b"HTTP/1.1 101 ")
        assert hub.drops == {DropReason.STREAM_TIMEOUT: len(beginnings)}
        assert hub.listener.guests == 0
        await hub.close()

    async def test_coming_and_going(self, hub: Hub) -> None:
        hello = client_hello()
        visits = (b"", b"G", b"\x16", hello, hello[:50], b"\0\0\0\x20\x01", UPGRADE % PATH.encode())
        for words in visits:
            for reset in (False, True):
                sock = socket.create_connection(("127.0.0.1", hub.port))
                sock.sendall(words)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
        await hub.join("tcp")
        await hub.until(lambda: not hub.listener.guests)
        assert not hub.core.gone
        assert hub.drops.total() == 2 * len(visits)

    async def test_hellos_of_all_kinds(self, hub: Hub) -> None:
        chance, hello = random.Random(1), client_hello()
        near, _ = await hub.join("tls")
        for number in range(150):
            mutated = bytearray(hello)
            for _ in range(chance.randrange(1, 5)):
                mutated[chance.randrange(2, len(hello))] = chance.randrange(256)
            if number % 5 == 0:
                mutated = mutated[: chance.randrange(2, len(hello))]
            async with hub.stranger() as stranger:
                stranger.say(bytes(mutated))
                stranger.writer.write_eof()
                said = await stranger.everything()
                assert not said or said[0] in (0x15, 0x16)  # an alert, or the server's part of a handshake
        near.send([Record(7, 1, bytes(32))])
        await hub.core.until(lambda: hub.core.got)
        await hub.until(lambda: not hub.listener.guests)
        assert hub.drops[DropReason.STREAM_TLS]

    @staticmethod
    async def come(port: int) -> socket.socket:
        """Connect and say nothing."""
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return sock

    async def test_a_crowd(self, hub: Hub) -> None:
        near, far = await hub.join("tcp")
        crowd = [await self.come(hub.port) for _ in range(300)]
        most = 0

        def all_seen() -> bool:
            nonlocal most
            most = max(most, hub.listener.guests)
            return hub.drops[DropReason.STREAM_CROWDED] == 300 - MAX_GUESTS

        await hub.until(all_seen)
        assert most == MAX_GUESTS
        for counter in range(50):
            near.send([Record(7, counter, bytes(1000))])
            far.send([Record(7, counter, bytes(1000))])
        await hub.core.until(lambda: len(hub.core.got) == 50)
        await hub.caller.until(lambda: len(hub.caller.got) == 50)
        # the oldest had to go, the others are still listened to, and one more far end finds its way
        for sock in crowd[:40]:
            sock.settimeout(5)
            assert sock.recv(1) == b""
        await hub.join("wss")
        crowd[-1].sendall(b"\xff")
        assert (await asyncio.get_running_loop().sock_recv(crowd[-1], 100)).startswith(b"HTTP/1.1 400")
        assert not hub.core.gone
        for sock in crowd:
            sock.close()
        await hub.until(lambda: not hub.listener.guests)

    async def test_a_crowd_of_talkers_gives_everything_back(self, hub: Hub) -> None:
        near, _ = await hub.join("tls")
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        chance = random.Random(2)

        async def one(number: int) -> None:
            try:
                async with hub.stranger(careless() if number % 3 == 0 else None) as stranger:
                    stranger.say(
                        chance.choice([NOT_FOUND, b"\0", b"\0\0\0\x20\x01", UPGRADE % PATH.encode(), b"\x16\x03"])
                    )
                    if number % 2:
                        await stranger.hears()
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                pass

        async with asyncio.timeout(30):
            await asyncio.gather(*(asyncio.wait_for(one(number), 2) for number in range(300)), return_exceptions=True)
        near.send([Record(7, 1, bytes(32))])
        await hub.core.until(lambda: hub.core.got)
        await hub.until(lambda: not hub.listener.guests)
        await hub.until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


class TestOrdinaryClients:
    """Programs that everybody has."""

    @staticmethod
    async def run(*command: str) -> str:
        nothing = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, stdin=nothing, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        return said.decode()

    @pytest.mark.needs("curl")
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_curl(self, scheme: str, tmp_path: Any) -> None:
        (tmp_path / "index.html").write_text("welcome")
        hub = Hub(*KINDS, decoy=str(tmp_path))
        url = f"{scheme}://127.0.0.1:{hub.port}/"
        said = await self.run(
            "curl", "--no-progress-meter", "--insecure", "--include", url, f"{url}nope", "--next", "--head", url
        )
        assert "welcome" in said
        assert "HTTP/1.1 404 Not Found" in said
        await hub.close()

    @pytest.mark.needs("openssl")
    async def test_openssl(self, hub: Hub) -> None:
        where = f"127.0.0.1:{hub.port}"
        for version in ("-tls1_2", "-tls1_3"):
            said = await self.run("openssl", "s_client", "-connect", where, version, "-alpn", "h2,http/1.1")
            assert "CN = localhost" in said
            assert "ALPN protocol: http/1.1" in said
        said = await self.run("openssl", "s_client", "-connect", where, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert "alert protocol version" in said
