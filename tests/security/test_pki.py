"""A small authority, by the command: files, and a line for each mistake."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from caetun.cli.main import main


def pki(*arguments: object) -> int:
    return main(["pki", *map(str, arguments)])


def test_from_nothing_to_a_revoked_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pki"
    assert pki("init", path, "our lab") == 0
    assert pki("issue", path, "alice", "--days", 90) == 0
    assert pki("revoke", path, "alice") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"made an authority: {path}/ca.crt",
        f"issued {path}/alice.crt with its key {path}/alice.key",
        f"revoked alice: {path}/crl.pem",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {file.name for file in path.iterdir()} == {"ca.crt", "ca.key", "crl.pem", "alice.crt", "alice.key"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


@pytest.mark.needs("openssl")
def test_openssl_takes_what_is_made(tmp_path: Path) -> None:
    assert pki("init", tmp_path / "pki") == pki("issue", tmp_path / "pki", "alice") == 0

    def verify(*more: str) -> str:
        command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", *more, "alice.crt"]
        found = subprocess.run(command, cwd=tmp_path / "pki", capture_output=True, text=True, check=False)
        return found.stdout + found.stderr

    for purpose in ("sslclient", "sslserver"):
        assert verify("-purpose", purpose) == "alice.crt: OK\n"
    assert pki("revoke", tmp_path / "pki", "alice") == 0
    assert "certificate revoked" in verify("-crl_check", "-CRLfile", "crl.pem")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fly", "DIR"], "action: invalid choice: 'fly'"),
        (["issue", "DIR"], "NAME: not given: whom to issue a certificate"),
        (["issue", "DIR", "a b"], "'a b': cannot be the name of a certificate"),
        (["issue", "DIR", "ca"], "'ca': cannot be the name of a certificate"),
        (["issue", "DIR", "../alice"], "'../alice': cannot be the name of a certificate"),
        (["issue", "DIR", "alice"], "DIR/alice.crt: exists: revoke alice first"),
        (["issue", "DIR", "bob", "--days", "0"], "--days: '0' is not a number of days: give 1..36500"),
        (["issue", "EMPTY", "bob"], "EMPTY: holds no authority: make one with caetun pki init"),
        (["init", "DIR"], "DIR: holds an authority already"),
        (["init", "DIR/ca.crt/x"], "DIR/ca.crt/x: cannot be made: Not a directory"),
        (["init", "EMPTY", "x" * 65], f"'{'x' * 65}': cannot be the name of an authority"),
        (["revoke", "DIR", "bob"], "DIR/bob.crt: no such certificate"),
        (["revoke", "DIR", "alice", "--days", "1"], "--days: what is revoked is revoked for ever"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    made, empty = tmp_path / "made", tmp_path / "empty"
    assert pki("init", made) == pki("issue", made, "alice") == 0
    capsys.readouterr()
    words = {"DIR": str(made), "EMPTY": str(empty)}

    def meant(text: str) -> str:
        for word, path in words.items():
            text = text.replace(word, path)
        return text

    assert pki(*map(meant, arguments)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"caetun: {meant(told)}")


def test_to_revoke_twice_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pki("init", tmp_path) == pki("issue", tmp_path, "alice") == pki("revoke", tmp_path, "alice") == 0
    before = (tmp_path / "crl.pem").read_bytes()
    assert pki("revoke", tmp_path, "alice") == 2
    assert "alice: is revoked already: nothing was changed" in capsys.readouterr().err
    assert (tmp_path / "crl.pem").read_bytes() == before
