"""What a plain tunnel loads before it starts: nothing that it does not use. A start to the first ping is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

PLAIN: Final = """
import sys
from caetun.cli.run import _parser, given, load
load(given(_parser().read(["--mode", "tap", "--transport", "udp", "--connect", "127.0.0.1:9", "--secret-file", "s"])))
import caetun.daemon.run
print(*sys.modules, sep="\\n")
"""
UNUSED: Final = (
    *("caetun.auth", "caetun.gateway", "caetun.l2", "caetun.l3", "caetun.lab", "caetun.mangle", "caetun.mesh"),
    *("caetun.negotiation", "caetun.security", "caetun.compression.registry", "caetun.session.tls", "caetun.wire.tls"),
    *(
        "caetun.session.deflation",
        "caetun.session.inflation",
        "caetun.wire.compressed",
        "caetun.daemon.worker",
        "caetun.daemon.turns",
        "caetun.wire.authentication",
    ),
    *("caetun.configfile", "caetun.conffile", "caetun.daemon.hostnet", "caetun.daemon.linuxbridge"),
    *("caetun.transports.stream", "caetun.transports.quic", "caetun.transports.tls", "caetun.transports.websocket"),
    *("aioquic", "cryptography.x509", "difflib", "json", "lz4", "msgspec", "pyroute2", "sqlite3", "tlslite", "tomllib"),
    *("websockets", "zstandard"),
)
"""What a tunnel by UDP with a shared secret needs none of, or not before its first datagram has left. Not
`ssl`: asyncio loads it in any case."""


def loaded(program: str) -> set[str]:
    """The modules in an interpreter of its own."""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.fixture(scope="module")
def plain() -> set[str]:
    """The modules of a plain tunnel."""
    return loaded(PLAIN)


@pytest.mark.parametrize("unused", UNUSED)
def test_a_plain_tunnel_loads_nothing_that_it_does_not_use(plain: set[str], unused: str) -> None:
    assert not {name for name in plain if f"{name}.".startswith(f"{unused}.")}


def test_what_it_does_use_is_seen(plain: set[str]) -> None:
    assert plain >= {"asyncio", "caetun.daemon.pump", "caetun.session.session", "caetun.settings"}


def test_help_loads_the_options_and_no_tunnel() -> None:
    program = "import sys; from caetun.cli.main import main; main(['--version']); print(*sys.modules)"
    assert not {
        name for name in loaded(program) if name.startswith(("asyncio", "caetun.daemon", "caetun.session", "ssl"))
    }
