"""Asks the person at the terminal, from a thread: the tunnel goes on meanwhile, and may end.

The process's own terminal is meant, whatever its standard input is. What is secret is not shown while it is typed;
`restore` shows it again if the process ends before anything was (signals end the loop, and threads with it).
"""

from __future__ import annotations

import contextlib
import os
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

from caetun.errors import ConfigurationError
from caetun.wire.authentication import Field

# chosen by us
_TERMINAL: Final = "/dev/tty"
_LOCAL_MODES: Final = 3
"""Where `termios.tcgetattr` has them."""


class Terminal:
    """Asked for one thing at a time; remembers what need not be typed again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._typed: dict[str, str] = {}
        self._before: tuple[int, list[Any]] | None = None
        """A descriptor of the terminal and how it was, while it is set otherwise."""

    def ask(self, peer: str, fields: Sequence[Field]) -> Mapping[str, str]:
        """What is typed for these fields, or was before; one-time codes are asked for each time.

        Raises ConfigurationError if there is no terminal, or nobody at it.
        """
        with self._lock:
            missing = [field for field in fields if field.name not in self._typed]
            typed = self._prompt(peer, missing) if missing else {}
            known = {field.name: self._typed[field.name] for field in fields if field.name in self._typed}
            self._typed.update({name: text for name, text in typed.items() if name != "code"})
            return {**known, **typed}

    def restore(self) -> None:
        """Show again what is typed, and begin a line of one's own."""
        before, self._before = self._before, None
        if before is not None:
            descriptor, attributes = before
            with contextlib.suppress(OSError, termios.error):  # the terminal is gone
                termios.tcsetattr(descriptor, termios.TCSAFLUSH, attributes)
                os.write(descriptor, b"\n")

    # in a thread

    def _prompt(self, peer: str, fields: Sequence[Field]) -> dict[str, str]:
        names = ", ".join(field.name for field in fields)
        try:
            descriptor = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            raise ConfigurationError(
                f"--credentials: {peer} asks for {names}, and there is no terminal to ask at: give a file with them"
            ) from None
        with open(descriptor, encoding="utf-8", errors="replace") as source:
            return {field.name: self._line(f"{field.name} for {peer}: ", field, source) for field in fields}

    def _line(self, words: str, field: Field, source: TextIO) -> str:
        descriptor = source.fileno()
        try:
            with self._hidden(descriptor) if field.secret else contextlib.nullcontext():
                os.write(descriptor, words.encode())
                line = source.readline()
        except (OSError, termios.error):
            line = ""  # it was hung up
        if not line:
            raise ConfigurationError(f"--credentials: no {field.name} was typed: start again, or give a file with it")
        return line.rstrip("\n")

    @contextlib.contextmanager
    def _hidden(self, descriptor: int) -> Iterator[None]:
        attributes = termios.tcgetattr(descriptor)
        self._before = descriptor, attributes
        quiet = [*attributes]
        quiet[_LOCAL_MODES] &= ~termios.ECHO
        # What was typed before the question is no answer to it.
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, quiet)
        try:
            yield
        finally:
            self.restore()
