"""What a running tunnel of a Lab tells about itself: the rows of `caetun show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caetun.cli.show import ask
from caetun.runtime import SUFFIX
from tests.tunnel.ends import End


def show(end: End, what: str, device: str = "tap0") -> list[dict[str, Any]]:
    """The rows of a view."""
    rows, _ = end.host.inside(lambda: ask(Path("/run/caetun", device + SUFFIX), what, everything=True))
    return rows
