"""`caetun show WHAT`: asks a running tunnel on this host, and prints a table."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from caetun.cli.flags import Parser
from caetun.errors import ConfigurationError, HostError
from caetun.runtime import SUFFIX, socket_path, sockets

# chosen by us
WHAT: Final = (
    "peers", "links", "ports", "fdb", "mdb", "routers", "querier", "bindings", "neighbours",
    "routes", "mesh", "leases", "members", "config", "drops", "mangle",
)  # fmt: skip
_WATCH_SECONDS: Final = 1.0
_PATIENCE: Final = 5.0
"""Seconds for an answer."""
_CLEAR: Final = "\x1b[H\x1b[J"

_EXAMPLES: Final = """\
examples:
  caetun show fdb                  which address is behind which port
  caetun show mdb --watch          which group is wanted where, every second
  caetun show ports                which ports are up or muted, and why
  caetun show routes               which prefix leads to which peer
  caetun show links --json         every carrier and why it is not used, for programs
"""


def main(argv: list[str]) -> int:
    """Print what a tunnel tells; returns the exit status. Raises CaeTunError."""
    parser = Parser("caetun show", "Ask a running tunnel on this host.", epilog=_EXAMPLES)
    parser.add_argument("what", metavar="WHAT", choices=WHAT, help=", ".join(WHAT))
    parser.add_argument("--dev", metavar="NAME", help="the tunnel's device, if several tunnels run")
    parser.add_argument("--json", action="store_true", help="one line of JSON with all rows instead of a table")
    parser.add_argument("--all", action="store_true", help="all rows; without, a long table ends after 1,000")
    parser.add_argument("--watch", action="store_true", help="again every second, until interrupted")
    arguments = parser.read(argv)
    path = find(arguments.dev)
    while True:
        rows, more = ask(path, arguments.what, everything=arguments.all or arguments.json)
        text = json.dumps(rows) if arguments.json else table(rows)
        if more:
            text += f"\n(the first {len(rows):,}: --all shows the others, too)"
        if arguments.watch and sys.stdout.isatty():
            text = _CLEAR + text
        print(text, flush=True)
        if not arguments.watch:
            return 0
        time.sleep(_WATCH_SECONDS)


def find(device: str | None) -> Path:
    """The socket of a device's tunnel, or of the only one. Raises CaeTunError."""
    if device is not None:
        return socket_path(device)
    found = sockets()
    if not found:
        raise HostError("no tunnel of this user is running here: start one, or ask as the user it runs as")
    if len(found) > 1:
        names = ", ".join(path.name.removesuffix(SUFFIX) for path in found)
        raise ConfigurationError(f"--dev: several tunnels are running: name one of {names}")
    return found[0]


def ask(path: Path, what: str, everything: bool = False) -> tuple[list[dict[str, Any]], bool]:
    """The rows that a tunnel answers with, page by page, and whether there are more. Raises HostError."""
    rows: list[dict[str, Any]] = []
    while True:
        answer = question(path, {"show": what, "from": len(rows)})
        rows += answer["rows"]
        more = bool(answer.get("more"))
        if not (more and everything):
            return rows, more


def question(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What a tunnel answers: `rows`, and whether there are `more`. Raises HostError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(str(path))
            sock.sendall(json.dumps(asked).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline() or b"{}")
    except OSError as error:
        why = error.strerror or "no answer"
        raise HostError(f"{path}: {why}: is the tunnel running, and is this its user?") from None
    except ValueError:
        raise HostError(f"{path}: answers something else than a tunnel does") from None
    if "rows" not in answer:
        raise HostError(f"{path}: {answer.get('error', 'no answer')}")
    return answer


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Columns under their headings; numbers to the right."""
    if not rows:
        return "(nothing)"
    heads = list(rows[0])
    cells = [[_cell(row.get(head, "")) for head in heads] for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in cells)) for at, head in enumerate(heads)]
    right = [all(isinstance(row.get(head), int | float) for row in rows) for head in heads]

    def line(row: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(heads), *(line(row) for row in cells)])
