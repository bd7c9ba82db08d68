"""The person at the terminal: a real one, of which the test holds the other end."""

from __future__ import annotations

import os
import select
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from caetun.daemon import terminal as terminals
from caetun.daemon.terminal import Terminal
from caetun.errors import ConfigurationError
from caetun.wire.authentication import Field

USER, PASSWORD, CODE = Field("user", False), Field("password", True), Field("code", False)
PATIENCE: Final = 20.0


class Screen:
    """A terminal, and a thread in which somebody is asked at it."""

    def __init__(self) -> None:
        self.keys, self.line = os.openpty()
        self.terminal = Terminal()
        self.seen = ""
        self._pool = ThreadPoolExecutor(2)

    def ask(self, *fields: Field) -> Future[Any]:
        return self._pool.submit(self.terminal.ask, "hub", fields)

    def await_text(self, text: str) -> None:
        """Until it is on the screen."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready = select.select([self.keys], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"{text!r} is not in {self.seen!r}"
            self.seen += os.read(self.keys, 4096).decode()

    def type(self, text: bytes) -> None:
        os.write(self.keys, text)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.line)[3] & termios.ECHO)

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self.keys)
        os.close(self.line)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    made = Screen()
    monkeypatch.setattr(terminals, "_TERMINAL", os.ttyname(made.line))
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_secret_is_not_shown(screen: Screen) -> None:
    asked = screen.ask(USER, PASSWORD, CODE)
    screen.await_text("user for hub: ")
    assert screen.echoes
    screen.type(b"alice\n")
    screen.await_text("password for hub: ")
    assert not screen.echoes
    screen.type(b"sesame\n")
    screen.await_text("code for hub: ")
    assert screen.echoes
    screen.type(b"123456\n")
    assert asked.result(PATIENCE) == {"user": "alice", "password": "sesame", "code": "123456"}
    screen.await_text("123456")
    assert "alice" in screen.seen
    assert "sesame" not in screen.seen


def test_a_hub_that_was_started_again_meanwhile_does_not_have_it_typed_twice(screen: Screen) -> None:
    first, second = screen.ask(USER, PASSWORD), screen.ask(USER, PASSWORD)
    screen.await_text("user for hub: ")
    screen.type(b"alice\n")
    screen.await_text("password for hub: ")
    screen.type(b"sesame\n")
    assert first.result(PATIENCE) == second.result(PATIENCE) == {"user": "alice", "password": "sesame"}
    assert screen.seen.count("password for hub: ") == 1
    again = screen.ask(USER, CODE)
    screen.await_text("code for hub: ")
    screen.type(b"1\n")
    assert again.result(PATIENCE) == {"user": "alice", "code": "1"}
    last = screen.ask(CODE)
    until(lambda: screen.terminal._lock.locked())
    screen.type(b"2\n")
    assert last.result(PATIENCE) == {"code": "2"}, "a code is good once"


def test_an_end_before_anything_was_typed_shows_again_what_is_typed(screen: Screen) -> None:
    asked = screen.ask(PASSWORD)
    screen.await_text("password for hub: ")
    assert not screen.echoes
    screen.terminal.restore()
    assert screen.echoes
    screen.terminal.restore()
    screen.type(b"\n")
    asked.result(PATIENCE)
    assert screen.echoes


@pytest.mark.parametrize("field", [USER, PASSWORD])
def test_nobody_types(screen: Screen, field: Field) -> None:
    asked = screen.ask(field)
    screen.await_text(f"{field.name} for hub: ")
    screen.type(b"\x04")
    words = f"--credentials: no {field.name} was typed: start again, or give a file with it"
    with pytest.raises(ConfigurationError) as caught:
        asked.result(PATIENCE)
    assert str(caught.value) == words
    assert screen.echoes


def test_bytes_that_are_no_text_are_a_wrong_answer_and_no_more(screen: Screen) -> None:
    asked = screen.ask(USER)
    screen.await_text("user for hub: ")
    screen.type(b"\xff\xfe\n")
    assert set(asked.result(PATIENCE)["user"]) == {"\ufffd"}


def test_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "_TERMINAL", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError) as caught:
        Terminal().ask("hub", (USER, PASSWORD))
    assert str(caught.value) == (
        "--credentials: hub asks for user, password, and there is no terminal to ask at: give a file with them"
    )
