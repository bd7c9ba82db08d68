"""One port for all stream carriers: far ends become links, however many strangers come."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from caetun.errors import ConfigurationError, NetworkError
from caetun.transports import listener as listening
from caetun.transports import registry
from caetun.transports.base import Target
from caetun.transports.listener import stream_listener
from caetun.types import DropReason
from caetun.wire.record import Record
from tests.transports.strangers import DOUBTED, KINDS, NOT_FOUND, PATH, RIGHT, UPGRADE, Hub, careless, client_hello


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub(*KINDS)
    yield made
    await made.close()


class TestFarEnds:
    """Who has the key."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_link_both_ways(self, hub: Hub, kind: str) -> None:
        near, far = await hub.join(kind)
        assert hub.core.heard == [RIGHT]
        assert hub.caller.heard == [b"\x02\0\x01answer"]
        assert far.name.startswith(f"{kind} 127.0.0.1:")
        assert far.source.startswith("127.0.0.1 ")
        bulk = Record(7, 1, os.urandom(60_000))
        near.send([bulk])
        await hub.core.until(lambda: hub.core.got)
        far.send([bulk])
        await hub.caller.until(lambda: hub.caller.got)
        assert hub.core.got == hub.caller.got == [bulk]
        assert hub.listener.guests == 0
        near.close()
        await hub.core.until(lambda: hub.core.gone)
        assert [link for link, _ in hub.core.gone] == [far]
        assert not hub.drops

    async def test_all_at_one_port(self, hub: Hub) -> None:
        for kind in KINDS * 3:
            await hub.join(kind)
        assert len({link.name for link in hub.core.links}) == 12
        assert hub.listener.guests == 0

    async def test_a_proven_link_is_not_timed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listening, "PROOF_SECONDS", 0.2)
        hub = Hub("tcp")
        near, _ = await hub.join("tcp")
        async with hub.stranger() as stranger:
            assert await stranger.everything() == b""  # it has run out of time, and came later
        near.send([Record(7, 1, b"still here" * 3)])
        await hub.core.until(lambda: hub.core.got)
        assert hub.drops == {DropReason.STREAM_TIMEOUT: 1}
        await hub.close()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_who_is_asked_for_a_cookie_may_go_on_and_is_timed(
        self, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.setattr(listening, "PROOF_SECONDS", 0.5)
        hub = Hub(kind)
        idler, near = await hub.dial(kind), await hub.dial(kind)
        for link in (idler, near):
            link.send_messages([DOUBTED])
        await hub.caller.until(lambda: len(hub.caller.heard) == 2)
        assert hub.listener.guests == 2
        near.send_messages([RIGHT])
        await hub.caller.until(lambda: len(hub.caller.heard) == 3)
        assert hub.listener.guests == 1
        await hub.caller.until(lambda: hub.caller.gone)
        assert [link for link, _ in hub.caller.gone] == [idler]
        assert hub.drops == {DropReason.STREAM_TIMEOUT: 1}
        await hub.close()

    async def test_close_ends_links_without_telling(self, hub: Hub) -> None:
        await hub.join("tcp")
        await hub.join("wss")
        hub.listener.close()
        hub.listener.close()
        await hub.caller.until(lambda: len(hub.caller.gone) == 2)
        assert not hub.core.gone

    async def test_what_is_not_enabled_is_not_there(self) -> None:
        hub = Hub("wss")
        async with hub.stranger() as stranger:
            stranger.say(struct.pack(">I", len(RIGHT)), RIGHT)
            assert (await stranger.hears()).status == 400
        async with hub.stranger() as stranger:
            stranger.say(UPGRADE % PATH.encode())
            assert (await stranger.hears()).status == 404
        async with hub.stranger(careless()) as stranger:
            stranger.say(struct.pack(">I", len(RIGHT)), RIGHT)
            assert (await stranger.hears()).status == 400
        assert not hub.core.heard
        await hub.join("wss")
        await hub.close()

    async def test_without_tls_a_hello_is_garbage(self) -> None:
        hub = Hub("tcp", "ws")
        async with hub.stranger() as stranger:
            stranger.say(client_hello())
            assert (await stranger.hears()).status == 400
        await hub.close()


class PoorSocket(socket.socket):
    """Accepts nobody while the host is out of descriptors."""

    poor = True
    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.poor:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


class TestListener:
    """The socket."""

    async def test_carriers_of_one_address_share_it(self, hub: Hub) -> None:
        where = Target("127.0.0.1", 0)
        endpoints = [registry.find(kind).listen(where, hub.context) for kind in KINDS]
        assert all(endpoint is hub.listener for endpoint in endpoints)
        assert hub.listener.name == f"tcp+tls+ws+wss 127.0.0.1:{hub.port}"
        assert [event for _, event, _ in hub.reports] == ["tls.certificate"]
        assert stream_listener(Target("127.0.0.2", hub.port), hub.context) is not hub.listener

    async def test_every_address_is_of_both_families(self) -> None:
        hub = Hub("tcp")
        listener = stream_listener(Target("", 0), hub.context).enable("tcp")
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, listener.address[1])) as sock:
                sock.sendall(struct.pack(">I", len(RIGHT)) + RIGHT)
                await hub.until(lambda: len(hub.core.links) > 0)
                link = hub.core.links.pop()
                assert link.source == f"{host} {sock.getsockname()[1]}"
        listener.close()
        await hub.close()

    async def test_a_port_that_is_taken(self, hub: Hub) -> None:
        for host in ("127.0.0.1", ""):
            with pytest.raises(NetworkError, match=f":{hub.port}: cannot be bound: Address already in use: another"):
                stream_listener(Target(host, hub.port), hub.context)

    async def test_a_name_is_no_address(self, hub: Hub) -> None:
        with pytest.raises(ConfigurationError, match=r"'hub\.example' is a name: give an address"):
            stream_listener(Target("hub.example", 443), hub.context)

    async def test_a_path_that_nobody_can_ask_for(self, hub: Hub) -> None:
        with pytest.raises(ConfigurationError, match="cannot be asked for"):
            hub.listener.enable("ws", "/a/../..")

    async def test_it_can_be_opened_again(self, hub: Hub) -> None:
        await hub.join("tcp")
        hub.listener.close()
        again = stream_listener(Target("127.0.0.1", hub.port), hub.context)
        assert again is not hub.listener
        again.close()

    async def test_out_of_descriptors(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listening, "EXHAUSTED_SECONDS", 0.05)
        poor = PoorSocket(fileno=hub.listener._sock.detach())
        poor.setblocking(False)
        hub.listener._sock = poor
        async with hub.stranger() as stranger:
            stranger.say(NOT_FOUND)
            await hub.until(lambda: poor.asked > 2)
            assert [event for _, event, _ in hub.reports if event.startswith("listen")] == ["listen.exhausted"]
            poor.poor = False
            assert (await stranger.hears()).status == 404
        assert poor.asked < 20
