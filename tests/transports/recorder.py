"""Somebody who hears what comes in, and keeps it: the arrivals of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from caetun.transports.base import Link
from caetun.wire.record import Record

PATIENCE: Final = 10.0
"""Seconds after which something that should have happened has not; far more than it takes on an idle machine."""


class Recorder:
    """Fulfils `transports.base.Arrivals`. Copies what it is given, as views end with the call."""

    def __init__(self) -> None:
        self.got: list[Record] = []
        self.heard: list[bytes] = []
        self.links: list[Link] = []
        """Where each call's content came from."""
        self.drains = 0
        self.ends = 0
        """How often a burst has ended."""
        self.unended = False
        """Whether something has come in since a burst last ended."""
        self.refused: list[tuple[Link, int]] = []
        self.gone: list[tuple[Link, str]] = []
        """Links that were closed, and why."""
        self.crowds: set[Link] = set()
        """Links of which enough waits."""
        self.news = asyncio.Event()

    def records(self, link: Link, records: list[Record]) -> None:
        self.got += [record._replace(body=bytes(record.body)) for record in records]
        self._came_from(link)

    def messages(self, link: Link, messages: list[bytes]) -> None:
        self.heard += messages
        self._came_from(link)

    def _came_from(self, link: Link) -> None:
        self.links.append(link)
        self.unended = True
        self.news.set()

    def drained(self) -> None:
        self.drains += 1
        self.news.set()

    def burst_end(self) -> bool:
        self.ends += 1
        self.unended = False
        self.news.set()
        return bool(self.crowds)

    def crowded(self, link: Link) -> bool:
        return link in self.crowds

    def too_big(self, link: Link, datagram: int) -> None:
        self.refused.append((link, datagram))
        self.news.set()

    def closed(self, link: Link, why: str) -> None:
        self.gone.append((link, why))
        self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for news until the condition holds; TimeoutError if it does not come to that."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.news.clear()
                await self.news.wait()
