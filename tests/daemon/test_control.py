"""The control socket, and `caetun show` at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

import caetun
from caetun.cli import show
from caetun.daemon.control import MAX_CLIENTS, Control
from caetun.daemon.status import VIEWS, Status
from caetun.errors import HostError, NetworkError
from caetun.types import DropReason, Drops

SOURCES = str(Path(caetun.__file__).parents[1])
PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""


class NoNode:
    """A node with no peers and no switch."""

    peers: ClassVar[dict[bytes, object]] = {}
    board = None

    @staticmethod
    def port_names() -> dict[int, str]:
        return {}


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    drops = Drops({DropReason.LINK_FULL: 3})
    status = Status(cast(Any, NoNode()), drops, lambda: None)
    control = Control(asyncio.get_running_loop(), tmp_path / "run" / "tap0.sock", status, lambda name: 0)
    control.start()
    yield tmp_path / "run" / "tap0.sock"
    control.close()
    assert not (tmp_path / "run" / "tap0.sock").exists()


async def ask(path: Path, line: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line + b"\n")
    answer = await reader.readline()
    writer.close()
    found: dict[str, Any] = json.loads(answer)
    return found


async def test_rows_come_back(path: Path) -> None:
    assert await ask(path, b'{"show": "drops"}') == {"rows": [{"reason": "link.full", "times": 3}]}
    for what in VIEWS:
        assert "rows" in await ask(path, json.dumps({"show": what}).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"drops",
        b"[]",
        b"{}",
        b'{"show": 1}',
        b'{"show": "fdb", "from": -1}',
        b'{"show": "fdb", "from": "x"}',
        b'{"show": "all"}',
        b"[" * 3000,
    ],
)
async def test_what_is_not_understood_is_told(path: Path, line: bytes) -> None:
    assert "error" in await ask(path, line)


async def test_only_its_user_can_ask(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_endless_questions_end(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"x" * 100_000)
    with contextlib.suppress(ConnectionResetError):  # what it did not read
        assert await reader.read() == b""
    writer.close()


async def test_too_many_clients_are_turned_away(path: Path) -> None:
    clients = [await asyncio.open_unix_connection(path) for _ in range(MAX_CLIENTS + 1)]
    assert await clients[-1][0].read() == b""
    for _, writer in clients:
        writer.close()


async def test_a_socket_left_by_a_killed_tunnel_is_replaced_and_a_living_one_is_not(path: Path, tmp_path: Path) -> None:
    status = Status(cast(Any, NoNode()), Drops(), lambda: None)
    second = Control(asyncio.get_running_loop(), path, status, lambda name: 0)
    with pytest.raises(NetworkError, match=r"tap0\.sock: control socket cannot be made"):
        second.start()
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(dead))
    third = Control(asyncio.get_running_loop(), dead, status, lambda name: 0)
    third.start()
    assert "rows" in await ask(dead, b'{"show": "drops"}')
    third.close()


async def test_show_prints_a_table(path: Path) -> None:
    rows, more = await asyncio.to_thread(show.ask, path, "drops")
    assert not more
    assert show.table(rows) == "reason     times\nlink.full      3"
    assert show.table([]) == "(nothing)"


async def test_show_asks_for_one_page_after_the_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VIEWS, "drops", lambda status, now: ({"row": number} for number in range(2500)))  # type: ignore[misc]
    assert await ask(path, b'{"show": "drops", "from": 2499}') == {"rows": [{"row": 2499}]}
    rows, more = await asyncio.to_thread(show.ask, path, "drops")
    assert (len(rows), more) == (1000, True)
    rows, more = await asyncio.to_thread(show.ask, path, "drops", everything=True)
    assert (len(rows), more) == (2500, False)
    assert rows[-1] == {"row": 2499}


async def test_show_goes_on_watching_until_it_is_interrupted(path: Path) -> None:
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "caetun", "show", "drops", "--json", "--watch"),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCES, "RUNTIME_DIRECTORY": str(path.parent)},
    )
    assert watching.stdout is not None
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            assert json.loads(await watching.stdout.readline()) == [{"reason": "link.full", "times": 3}]
        watching.send_signal(signal.SIGINT)
        assert await watching.wait() == 130


async def test_show_watches_no_tunnel_that_has_ended(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def ask_once(*_: object, **__: object) -> tuple[list[dict[str, Any]], bool]:
        if asked:
            raise HostError("it is gone")
        asked.append(True)
        return [{"reason": "link.full", "times": 3}], False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(show, "ask", ask_once)
        patch.setattr(show, "find", lambda device: path)
        patch.setattr(show, "_WATCH_SECONDS", 0.0)
        with pytest.raises(HostError, match="it is gone"):
            show.main(["drops", "--watch"])
    assert capsys.readouterr().out == "reason     times\nlink.full      3\n"


async def test_show_says_in_words_why_it_cannot(path: Path, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is the tunnel running"):
        await asyncio.to_thread(show.ask, tmp_path / "nobody.sock", "drops")
    with pytest.raises(HostError, match="nothing of that name"):
        await asyncio.to_thread(show.ask, path, "all")
