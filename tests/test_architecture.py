"""The shape of the code as tests: imports go one way, and the core asks nobody for time, chance or bytes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = (
    *("wire", "offload", "session", "l2", "l3", "mesh", "board.py", "notices.py", "output.py", "way.py", "ways.py"),
    *("journey.py", "caller.py", "conversation.py", "upkeep.py", "outbound.py", "peers.py", "node.py"),
    "transports/ladder.py",
    *("mangle/frame.py", "mangle/steps.py", "mangle/nat.py", "mangle/conditions.py", "mangle/pipeline.py"),
)

IMPURE_MODULES = {
    *("asyncio", "datetime", "importlib", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("select", "selectors", "socket", "subprocess", "sys", "tempfile", "threading", "time", "uuid"),
}
IMPURE_BUILTINS = {"open", "print", "input", "eval", "exec", "__import__"}
# The libraries' own makers of keys: they ask the system for entropy, which is an argument in the core.
ENTROPY = {"generate", "generate_key"}


def impurities(tree: ast.AST) -> Iterator[str]:
    """Yield what in `tree` reaches for the clock, chance, the network or the file system."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
                yield from (f"imports {name}" for name in names if name.partition(".")[0] in IMPURE_MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in IMPURE_MODULES:
                yield f"imports {module}"
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_BUILTINS:
                yield f"calls {name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)) if name in ENTROPY:
                yield f"calls {owner}.{name}"


def core_files() -> list[Path]:
    """Every file of the core."""
    paths = [ROOT / "caetun" / part for part in CORE]
    return sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py")))


def test_imports_go_one_way() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_is_pure(path: Path) -> None:
    assert list(impurities(ast.parse(path.read_text()))) == []


def test_the_core_is_there() -> None:
    assert {path.relative_to(ROOT / "caetun").parts[0] for path in core_files()} >= {"wire", "offload", "session"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import time", "imports time"),
        ("def f():\n    from os import urandom", "imports os"),
        ("import os.path as p", "imports os.path"),
        ("key = X25519PrivateKey.generate()", "calls X25519PrivateKey.generate"),
        ("data = open('/etc/passwd').read()", "calls open"),
    ],
)
def test_impurity_is_seen(text: str, complaint: str) -> None:
    assert list(impurities(ast.parse(text))) == [complaint]


def test_purity_is_not_complained_about() -> None:
    text = (
        "import struct\nfrom collections import deque\ndef f(now: float, record: bytes) -> float:\n    return now + 1\n"
    )
    assert list(impurities(ast.parse(text))) == []
