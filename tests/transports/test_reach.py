"""Names with several addresses: the first that answers, soon, and nothing left behind."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from caetun.errors import NetworkError
from caetun.transports import reach
from caetun.transports.reach import connect
from tests.transports.places import descriptors
from tests.transports.recorder import PATIENCE


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses."""

    async def getaddrinfo(host: str, port: int, **rest: Any) -> list[Any]:
        return [(socket.AF_INET6 if ":" in one[0] else socket.AF_INET, 1, 6, "", one) for one in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


class TestConnect:
    async def test_the_next_address_is_tried_at_once_after_a_refusal(
        self, monkeypatch: pytest.MonkeyPatch, listening: socket.socket, refused: tuple[str, int]
    ) -> None:
        monkeypatch.setattr(reach, "STAGGER_SECONDS", PATIENCE)
        resolve_to(monkeypatch, refused, refused, listening.getsockname())
        sock = await connect("hub.example", 443, asyncio.get_running_loop())
        with sock:
            assert sock.getpeername() == listening.getsockname()

    async def test_and_soon_without_an_answer(
        self, monkeypatch: pytest.MonkeyPatch, listening: socket.socket, silent: tuple[str, int]
    ) -> None:
        monkeypatch.setattr(reach, "STAGGER_SECONDS", 0.01)
        resolve_to(monkeypatch, silent, silent, listening.getsockname())
        before = descriptors()
        sock = await connect("hub.example", 443, asyncio.get_running_loop())
        with sock:
            assert sock.getpeername() == listening.getsockname()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert descriptors() == before

    async def test_if_none_answers_the_reason_is_the_last_one_s(
        self, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, int]
    ) -> None:
        resolve_to(monkeypatch, refused, refused)
        with pytest.raises(ConnectionRefusedError):
            await connect("hub.example", 443, asyncio.get_running_loop())

    async def test_cancelling_leaves_nothing_behind(
        self, monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int]
    ) -> None:
        monkeypatch.setattr(reach, "STAGGER_SECONDS", 0)
        resolve_to(monkeypatch, silent, silent)
        before = descriptors()
        attempt = asyncio.ensure_future(connect("hub.example", 443, asyncio.get_running_loop()))
        async with asyncio.timeout(PATIENCE):
            while descriptors() < before + 2:
                await asyncio.sleep(0)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        for _ in range(3):
            await asyncio.sleep(0)
        assert descriptors() == before

    async def test_a_name_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        with pytest.raises(NetworkError, match=r"^hub\.example cannot be resolved: Name or service not known"):
            await connect("hub.example", 443, loop)

    def test_families_take_turns(self) -> None:
        four, six = socket.AF_INET, socket.AF_INET6
        given = [(six, 1), (six, 2), (six, 3), (four, 4), (four, 5)]
        assert reach._interleave(given) == [(six, 1), (four, 4), (six, 2), (four, 5), (six, 3)]
        assert reach._interleave([]) == []
        assert len(reach._interleave([(four, number) for number in range(99)])) == reach.MAX_ADDRESSES
