"""Slow work beside the event loop: a few threads and a bounded queue. They end with the process, whatever they do."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

# chosen by us
THREADS: Final = 2
"""At work at a time: a password takes 64 MiB and, in other threads of its own, 100 ms of several cores."""
MAX_WAITING: Final = 32


class Worker:
    """Does jobs one after the other, and tells the outcome in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.Queue[tuple[Callable[[], Any], Callable[[Any], None]]] = queue.Queue(MAX_WAITING)
        self._threads = 0

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> bool:
        """Have `job` done, and `done` called with its outcome, or the exception it raised; False if too much waits."""
        try:
            self._jobs.put_nowait((job, done))
        except queue.Full:
            return False
        if self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name="worker", daemon=True).start()
        return True

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                outcome = job()
            except Exception as error:  # handed on: a thread that dies would leave its peer waiting
                outcome = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                self._loop.call_soon_threadsafe(done, outcome)
