"""The control socket: a line of JSON asks, a line of JSON answers. Only the user the tunnel runs as can reach it.

{"show": "fdb"}    ->    {"rows": [{"vlan": 0, "address": "02:00:00:00:00:01", ...}]}    or    {"error": "..."}

An answer has at most `status.PAGE` rows; with "more": true there are others: {"show": "fdb", "from": 1000}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from caetun.daemon.status import VIEWS, Status
from caetun.errors import NetworkError

# chosen by us
_LINE_LIMIT: Final = 4096
"""Bytes of a question."""
_IDLE_SECONDS: Final = 60.0
"""A client that asks nothing for so long is let go."""
MAX_CLIENTS: Final = 16


class Control:
    """Answers on a Unix socket."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: Path, status: Status, revoke: Callable[[str], int]
    ) -> None:
        """`revoke`: shuts out a user or peer, and tells how many sessions that ended."""
        self._revoke = revoke
        self._loop = loop
        self._path = path
        self._status = status
        self._listener: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to answer. Raises NetworkError if the socket cannot be made."""
        path = self._path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            _remove_dead(path)
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            listener.listen(MAX_CLIENTS)
        except OSError as error:
            raise NetworkError(f"{path}: control socket cannot be made: {error.strerror}") from error
        self._listener = listener
        self._task = self._loop.create_task(self._accept(listener))

    def close(self) -> None:
        """Answer no more, and leave nothing behind."""
        for task in (self._task, *self._clients):
            if task is not None:
                task.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            if len(self._clients) >= MAX_CLIENTS:
                client.close()
                continue
            task = self._loop.create_task(self._serve(client))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, client: socket.socket) -> None:
        rest = b""
        with client, contextlib.suppress(OSError, TimeoutError):
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    more = await self._loop.sock_recv(client, _LINE_LIMIT)
                if not more:
                    return
                *lines, rest = (rest + more).split(b"\n")
                for line in lines:
                    await self._loop.sock_sendall(client, json.dumps(self._answer(line)).encode() + b"\n")
                if len(rest) > _LINE_LIMIT:
                    return

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = json.loads(line)
            if isinstance(question.get("revoke"), str):
                return {"rows": [{"revoked": question["revoke"], "sessions": self._revoke(question["revoke"])}]}
            what, start = question["show"], question.get("from", 0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {"error": 'not understood: write {"show": "..."}'}
        if type(start) is not int or not 0 <= start < 1 << 32:
            return {"error": '"from" is the number of a row'}
        page = self._status.ask(what, time.monotonic(), start) if isinstance(what, str) else None
        if page is None:
            return {"error": f"nothing of that name: there are {', '.join(VIEWS)}"}
        return {"rows": page.rows, "more": True} if page.more else {"rows": page.rows}


def _remove_dead(path: Path) -> None:
    """Take away the socket of a tunnel that was killed; one that answers stays, and binding will fail."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
