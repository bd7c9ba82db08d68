"""What the settings and the environment say about outer layers, in the form that transports take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.transports.base import Options

if TYPE_CHECKING:
    from caetun.settings import Settings

# chosen by us
SYSTEM_STATE: Final = Path("/var/lib/caetun")
"""What root keeps between runs (Filesystem Hierarchy Standard, section 5.8)."""


def outer_options(settings: Settings, mark: int = 0) -> Options:
    """The options of `settings` that concern transports. `mark`: of every outer socket."""
    return Options(
        proxy=settings.proxy,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        tls_ca=settings.tls_ca,
        tls_pin=settings.tls_pin,
        tls_verify=settings.tls_verify,
        sni=settings.sni,
        host=settings.host,
        alpn=settings.alpn,
        decoy=settings.decoy,
        mark=mark,
        state=state_directory(os.environ, os.geteuid()),
    )


def state_directory(environ: Mapping[str, str], user: int) -> Path:
    """Where to keep what is made on first use: systemd's StateDirectory=, root's place, or the user's own."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if user == 0:
        return SYSTEM_STATE
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    return Path(home) / "caetun"
