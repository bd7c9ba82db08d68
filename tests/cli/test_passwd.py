"""`caetun passwd`: a file of users."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from caetun.auth import users as users_module
from caetun.auth.totp import decode_secret
from caetun.auth.users import hash_password, is_password, read_users
from caetun.cli.main import main


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "hash_password", lambda password, entropy: hash_password(password, entropy, 64))


def passwd(monkeypatch: pytest.MonkeyPatch, *arguments: object, password: str = "sesame") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["passwd", *map(str, arguments)])


def test_a_new_file_and_its_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    assert passwd(monkeypatch, path, "alice", "--stdin") == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(f"# people\n{path.read_text()}")
    assert passwd(monkeypatch, path, "bob", "--stdin", password="open") == 0
    users, warning = read_users(path)
    assert (list(users), warning) == (["alice", "bob"], None)
    assert is_password("sesame", users["alice"].phc)
    assert passwd(monkeypatch, path, "alice", "--stdin", password="other") == 0
    users = read_users(path)[0]
    assert is_password("other", users["alice"].phc)
    assert is_password("open", users["bob"].phc)
    assert path.read_text().startswith("# people\n")


def test_codes_and_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users"
    assert passwd(monkeypatch, path, "alice", "--stdin", "--totp") == 0
    secret, uri = capsys.readouterr().out.splitlines()
    assert read_users(path)[0]["alice"].secret == decode_secret(secret.removeprefix("secret "))
    assert uri.startswith("otpauth://totp/CaeTun:alice?secret=")
    assert passwd(monkeypatch, path, "alice", "--stdin", password="new") == 0
    assert read_users(path)[0]["alice"].secret is not None  # a new password leaves it alone
    assert passwd(monkeypatch, path, "alice", "--delete") == 0
    assert read_users(path)[0] == {}


@pytest.mark.parametrize(
    ("arguments", "password", "told"),
    [
        (["a b", "--stdin"], "x", "'a b': cannot be a user's name"),
        (["a:b", "--stdin"], "x", "'a:b': cannot be a user's name"),
        (["alice", "--stdin"], "", "a password has 1 to 1024 characters: nothing was changed"),
        (["alice", "--stdin"], "x" * 1025, "a password has 1 to 1024 characters: nothing was changed"),
        (["alice"], "x", "standard input is no terminal: give the password by --stdin"),
        (["alice", "--delete", "--totp"], "x", "--delete: goes with neither --totp nor --stdin"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    password: str,
    told: str,
) -> None:
    assert passwd(monkeypatch, tmp_path / "users", *arguments, password=password) == 2
    err = capsys.readouterr().err
    assert (err.startswith(f"caetun: {told}"), err.count("\n")) == (True, 1)
    assert not (tmp_path / "users").exists()


def test_nobody_to_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "users").write_text("")
    assert passwd(monkeypatch, tmp_path / "users", "alice", "--delete") == 2
    assert "there is no alice: nothing was changed" in capsys.readouterr().err
