"""Slow work beside the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from caetun.daemon.worker import MAX_WAITING, THREADS, Worker


async def test_outcomes_come_back_in_the_loops_thread() -> None:
    loop = asyncio.get_running_loop()
    worker, outcomes = Worker(loop), asyncio.Queue[Any]()
    here = threading.get_ident()

    def done(outcome: Any) -> None:
        outcomes.put_nowait((outcome, threading.get_ident()))

    assert worker.submit(threading.get_ident, done)
    outcome, thread = await outcomes.get()
    assert outcome != here
    assert thread == here
    assert worker.submit(lambda: 1 // 0, done)
    assert isinstance((await outcomes.get())[0], ZeroDivisionError)
    assert worker.submit(lambda: "still there", done)
    assert (await outcomes.get())[0] == "still there"


async def test_too_much_work_is_not_taken() -> None:
    worker, busy, begun = Worker(asyncio.get_running_loop()), threading.Event(), threading.Semaphore(0)
    outcomes: list[Any] = []

    def job() -> None:
        begun.release()
        busy.wait(10)

    for _ in range(THREADS):
        assert worker.submit(job, outcomes.append)
    for _ in range(THREADS):
        await asyncio.to_thread(begun.acquire)
    taken = [worker.submit(job, outcomes.append) for _ in range(MAX_WAITING + 3)]
    assert taken == [True] * MAX_WAITING + [False] * 3
    busy.set()
    while len(outcomes) < THREADS + MAX_WAITING:
        await asyncio.sleep(0.01)
