"""What a test sees of a running end: which carrier it uses, what it holds open; and waiting for it to change."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.tunnel.ends import PATIENCE, End

# chosen by us
_POLL: Final = 0.02
"""Seconds between two looks."""
_UP: Final = re.compile(r"^up via ([a-z]+) ")


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> float:
    """Wait for something to come true; returns how many seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds:g} s: {what}"
        time.sleep(_POLL)
    return time.monotonic() - began


def way(client: End) -> str:
    """The transport that a client uses, by what it said last: `wss`; "" if there is no session.

    Its ladder tells every move, whereas `peer.moved` is told once a minute at most.
    """
    said = client.events("peer.up", "ladder", "peer.down")
    ways = ["" if event["event"] == "peer.down" else _UP.findall(event["message"]) for event in said]
    last = next((found for found in reversed(ways) if found != []), "")
    return last[0] if last else ""


def descriptors(end: End) -> dict[str, str]:
    """What it holds open: number and name."""
    found = {}
    for entry in Path(f"/proc/{end.process.pid}/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:  # closed meanwhile
            continue
    return found
