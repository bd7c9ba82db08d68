"""A program decides: the contract, and programs that do not keep it."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import pytest

from caetun.auth.base import WRONG, Claim
from caetun.auth.command import OUT_OF_ORDER, Command
from caetun.errors import ConfigurationError
from tests.auth.claims import claim, denied


def given(user: str = "alice", password: str = "sesame", **more: str) -> Claim:
    return dataclasses.replace(claim(), values={"user": user, "password": password, **more})


def program(path: Path, text: str, timeout: float = 10.0) -> Command:
    path = path / "program"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o700)
    return Command(path, timeout=timeout)


def shell(path: Path, text: str, timeout: float = 10.0) -> Command:
    path = path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return Command(path, timeout=timeout)


def test_what_it_is_asked(tmp_path: Path) -> None:
    method = shell(tmp_path, f"cat > {tmp_path}/asked; env > {tmp_path}/environment; pwd > {tmp_path}/where")
    assert method.check(given(code="123456")) == "alice"
    asked = json.loads((tmp_path / "asked").read_text())
    assert asked == {
        "version": 1,
        "user": "alice",
        "password": "sesame",
        "code": "123456",
        "address": "192.0.2.7",
        "key": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",
        "certificate": "",
    }
    environment = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert environment <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}
    assert (tmp_path / "where").read_text() == "/\n"


def test_who_was_found_before_is_who_it_is_asked_about(tmp_path: Path) -> None:
    method = shell(tmp_path, f"cat > {tmp_path}/asked")
    assert method.check(dataclasses.replace(given(user="mallory"), user="alice")) == "alice"
    assert json.loads((tmp_path / "asked").read_text())["user"] == "alice"


def test_it_may_name_the_user(tmp_path: Path) -> None:
    assert shell(tmp_path, """echo '{"user": "bob", "more": 1}'""").check(given()) == "bob"


def test_it_need_not_read(tmp_path: Path) -> None:
    assert shell(tmp_path, "exit 0").check(given(password="x" * 10_000)) == "alice"


def test_it_refuses(tmp_path: Path) -> None:
    verdict = denied(shell(tmp_path, "echo 'not on\x1b a Sunday' >&2; echo more >&2; exit 1"), given())
    assert (verdict.why, verdict.note) == (WRONG, "the command refuses: not on? a Sunday")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("exit 3", "ended with status 3"),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo nonsense", "says something else than JSON"),
        ("echo '[]'", "says something else than JSON"),
        ("yes", "took longer than 10 s, or said more than 4096 bytes"),
        ("yes >&2", "took longer than 10 s, or said more than 4096 bytes"),
    ],
)
def test_out_of_order(tmp_path: Path, text: str, note: str) -> None:
    verdict = denied(shell(tmp_path, text), given())
    assert verdict.why == OUT_OF_ORDER
    assert note in verdict.note


def test_names_that_it_must_not_give(tmp_path: Path) -> None:
    for name in ('"a b"', '""', "1", '"../x"'):
        assert denied(shell(tmp_path, f"echo '{{\"user\": {name}}}'"), given()).why == WRONG
    assert denied(shell(tmp_path, "exit 0"), given(user="")).why == WRONG


def test_time_is_up_for_it_and_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    verdict = denied(shell(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; sleep 60", timeout=0.3), given())
    assert verdict.why == OUT_OF_ORDER
    assert time.monotonic() - started < 5
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_children_do_not_outlive_an_answer(tmp_path: Path) -> None:
    """A child that keeps the output open keeps the answer waiting, and no longer than the time there is."""
    assert denied(shell(tmp_path, "sleep 60 & exit 0", timeout=0.3), given()).why == OUT_OF_ORDER
    assert shell(tmp_path, "sleep 60 > /dev/null 2>&1 & exit 0", timeout=5.0).check(given()) == "alice"


def test_what_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    for path in (tmp_path / "none", tmp_path / "text", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be run: name a program"):
            Command(path)
    (tmp_path / "text").chmod(0o700)
    assert denied(Command(tmp_path / "text"), given()).why == OUT_OF_ORDER


def test_in_python(tmp_path: Path) -> None:
    text = "import json, sys\nsys.exit(json.load(sys.stdin)['password'] != 'sesame')"
    assert program(tmp_path, text).check(given()) == "alice"
    assert denied(program(tmp_path, text), given(password="simsim")).why == WRONG
