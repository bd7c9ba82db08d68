"""The event loop looks names up without anybody having to wait for the resolver at the end."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from caetun.daemon import loop as loops
from caetun.daemon.loop import MAX_LOOKUPS


class Resolver:
    """Answers when it is told to, as a DNS server that is far away."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.asked = threading.Semaphore(0)
        self.names: list[str] = []

    def __call__(self, host: str, *_: Any) -> list[Any]:
        self.names.append(host)
        self.asked.release()
        self.answering.wait()
        if host == "nobody":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [host]


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    """One of each kind."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = loops.new_loop()
    assert request.param in [base.__module__.partition(".")[0] for base in type(loop).__mro__]
    yield loop
    if not loop.is_closed():
        loops.close(loop)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.answering.set()


def test_names_and_addresses_are_looked_up(loop: asyncio.AbstractEventLoop) -> None:
    found = loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 4500, type=socket.SOCK_DGRAM))
    assert found == socket.getaddrinfo("127.0.0.1", 4500, type=socket.SOCK_DGRAM)


def test_what_is_not_found_is_an_error(loop: asyncio.AbstractEventLoop, resolver: Resolver) -> None:
    resolver.answering.set()
    with pytest.raises(socket.gaierror, match="not known"):
        loop.run_until_complete(loop.getaddrinfo("nobody", 4500))


def test_a_loop_that_is_closed_waits_for_no_answer(loop: asyncio.AbstractEventLoop, resolver: Resolver) -> None:
    task = loop.create_task(loop.getaddrinfo("far", 4500))
    loop.call_soon(loop.stop)
    loop.run_forever()
    resolver.asked.acquire()
    loops.close(loop)
    assert (loop.is_closed(), task.cancelled()) == (True, True)


def test_threads_have_a_cap_and_a_look_up_that_is_given_up_counts(
    loop: asyncio.AbstractEventLoop, resolver: Resolver
) -> None:
    async def story() -> list[list[Any]]:
        given_up = [asyncio.create_task(loop.getaddrinfo(f"dead {number}", 1)) for number in range(MAX_LOOKUPS)]
        while len(resolver.names) < MAX_LOOKUPS:
            await asyncio.sleep(0)
        for task in given_up:
            task.cancel()
        await asyncio.wait(given_up)
        waiting = [asyncio.create_task(loop.getaddrinfo(f"far {number}", 1)) for number in range(3)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(resolver.names) == MAX_LOOKUPS
        resolver.answering.set()
        return await asyncio.gather(*waiting)

    assert loop.run_until_complete(story()) == [["far 0"], ["far 1"], ["far 2"]]


def test_tasks_that_do_not_end_are_left(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "END_SECONDS", 0.01)

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    task = loop.create_task(stubborn())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loops.close(loop)
    assert (loop.is_closed(), task.done()) == (True, False)
