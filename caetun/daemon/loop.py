"""The event loop: uvloop's where it is installed, with look-ups of names that nobody has to wait for at the end.

The system's resolver cannot be interrupted, and takes up to 40 s where the DNS server is dead. Threads of asyncio's
executor are waited for by the interpreter's end, those of uvloop by its `close`: a tunnel that was told to end would
stay for so long. Our own threads are daemons (`threading`), which end with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

# chosen by us
MAX_LOOKUPS: Final = 8
"""Threads that look names up at the same time, given up or not; further look-ups wait for one to end."""
END_SECONDS: Final = 0.5
"""For tasks to give back what they hold, once they have been cancelled."""


def new_loop() -> asyncio.AbstractEventLoop:
    """A new loop, of the faster kind."""
    try:
        import uvloop
    except ImportError:
        return _loop_of(asyncio.SelectorEventLoop)
    return _loop_of(uvloop.Loop)


def use_resolver(loop: asyncio.AbstractEventLoop, resolver: Callable[..., list[Any]]) -> None:
    """Look names up by something else than `socket.getaddrinfo`, which it stands for; on a loop of `new_loop`."""
    assert isinstance(loop, _Lookups)
    loop.resolver = resolver


def close(loop: asyncio.AbstractEventLoop) -> None:
    """End all tasks of a loop, and close it."""
    loop.run_until_complete(_end_tasks())
    loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_SECONDS)


def _loop_of(kind: type[asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = type(kind.__name__, (_Lookups, kind), {})()
    return loop


class _Lookups:
    """What a loop does in place of its own `getaddrinfo`."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self.resolver: Callable[..., list[Any]] | None = None
        """What is asked, on a thread, instead of `socket.getaddrinfo`; see `use_resolver`."""

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """As `asyncio.loop.getaddrinfo`; raises OSError. If cancelled, its thread goes on until there is an answer."""
        loop = asyncio.get_running_loop()
        resolver = self.resolver or socket.getaddrinfo
        await self._lookups.acquire()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def done(found: list[Any] | Exception) -> None:
            self._lookups.release()
            if answer.cancelled():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: list[Any] | Exception
            try:
                found = resolver(host, port, family, type, proto, flags)
            except Exception as error:  # handed on, as by any call
                found = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                loop.call_soon_threadsafe(done, found)

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        return await answer
