"""Where a running tunnel can be asked: one Unix socket for each device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# chosen by us
SYSTEM_RUNTIME: Final = Path("/run/caetun")
"""Root's sockets (Filesystem Hierarchy Standard, section 3.15)."""
SUFFIX: Final = ".sock"
JOURNAL: Final = ".undo"
"""Of state files: what a tunnel has changed of its host."""


def runtime_directory(environ: Mapping[str, str], user: int) -> Path:
    """systemd's RuntimeDirectory=, root's place, or the user's own."""
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if user == 0:
        return SYSTEM_RUNTIME
    return Path(environ.get("XDG_RUNTIME_DIR") or f"/tmp/caetun-{user}") / "caetun"


def socket_path(device: str) -> Path:
    """The socket of the tunnel on a device."""
    return runtime_directory(os.environ, os.geteuid()) / f"{device}{SUFFIX}"


def sockets() -> list[Path]:
    """Those there are, of this user."""
    return sorted(runtime_directory(os.environ, os.geteuid()).glob(f"*{SUFFIX}"))


def journals() -> list[Path]:
    """The state files of this user's tunnels that change their host (`caetun/gateway/`), running or not."""
    return sorted(runtime_directory(os.environ, os.geteuid()).glob(f"[!.]*{JOURNAL}"))
