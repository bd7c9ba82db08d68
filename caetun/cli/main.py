"""The `caetun` command: finds the command meant, runs it, and turns errors into one line and an exit status."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from caetun.errors import CaeTunError, ConfigurationError

# fixed by the specification: shells report 128 + signal number (POSIX, Shell Command Language 2.8.2)
_EXIT_INTERRUPTED: Final = 128 + 2
_EXIT_PIPE: Final = 128 + 13

# chosen by us
_GC_THRESHOLD: Final = 50_000
"""Objects made between two looks for cycles: what a start makes is modules and classes, which stay."""


class Command(NamedTuple):
    """A command: the module, which is imported only when it is meant, its function `(argv) -> int`, and its purpose."""

    module: str
    function: str
    purpose: str


COMMANDS: Final = {
    "run": Command("caetun.cli.run", "main", "run a tunnel (the default)"),
    "genkey": Command("caetun.cli.keys", "genkey", "print a new private key"),
    "pubkey": Command("caetun.cli.keys", "pubkey", "read a private key, print its public key"),
    "gensecret": Command("caetun.cli.keys", "gensecret", "make a secret for both ends to share"),
    "pki": Command("caetun.cli.pki", "main", "keep a small certificate authority"),
    "passwd": Command("caetun.cli.passwd", "main", "set a user's password in a file"),
    "revoke": Command("caetun.cli.revoke", "main", "shut a user or peer out of a running tunnel"),
    "show": Command(
        "caetun.cli.show",
        "main",
        "ask a running tunnel: peers, links, ports, fdb, routes, leases, members, config, drops, ...",
    ),
    "check": Command("caetun.cli.check", "main", "check a configuration file, and tell what it does"),
    "invite": Command("caetun.cli.invite", "invite", "let a new host join this hub: prints a line, good once"),
    "join": Command("caetun.cli.invite", "join", "join a hub by such a line: writes a configuration file"),
    "expel": Command("caetun.cli.invite", "expel", "take away a host that has joined"),
    "ttun": Command("caetun.cli.ttun", "main", "join an existing device to a far end"),
    "undo": Command("caetun.cli.undo", "main", "undo what a tunnel that was killed has left on this host"),
    "demo": Command("caetun.cli.main", "demo", "show a tunnel between two hosts made up on this machine"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own); returns the exit status. Any traceback is a bug."""
    gc.set_threshold(_GC_THRESHOLD)
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except CaeTunError as error:
        line = " ".join(str(error).split())
        # Some of it may be a far end's words: they say nothing to the terminal.
        print("caetun:", "".join(each if each.isprintable() else "?" for each in line), file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`caetun --help | head -1`). The interpreter flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_PIPE
    return status


def demo(argv: list[str]) -> int:
    """Run the demonstration; returns the exit status."""
    from caetun.cli import demo as demonstration
    from caetun.cli.flags import Parser

    parser = Parser("caetun demo", COMMANDS["demo"].purpose)
    demonstration.add_arguments(parser)
    return demonstration.run(parser.read(argv))


def _dispatch(argv: list[str]) -> int:
    """Flags without a command mean `run`."""
    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("run", argv)
    if name not in COMMANDS:
        import difflib  # here: most have no need of it

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
        raise ConfigurationError(f"{name}: no such command: {advice}")
    command = COMMANDS[name]
    function: Callable[[list[str]], int] = getattr(importlib.import_module(command.module), command.function)
    try:
        return function(rest)
    except SystemExit as stop:
        # argparse has printed the help or the version; its errors are ConfigurationErrors here.
        return stop.code if isinstance(stop.code, int) else 0
