"""Making keys on the command line."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from caetun.cli.main import main
from caetun.session.identity import decode_key, encode_key, public_key

# RFC 7748 section 6.1: Alice's private key and public key
PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")


@pytest.mark.parametrize("command", ["genkey", "gensecret"])
def test_a_new_key_each_time(capfd: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command]) == 0
    assert main([command]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert decode_key(first) != decode_key(second)


def test_pubkey(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{encode_key(PRIVATE)}\n"))
    assert main(["pubkey"]) == 0
    assert decode_key(capfd.readouterr().out.strip()) == PUBLIC


def test_genkey_and_pubkey_belong_together(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["genkey"]) == 0
    private = capfd.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(private))
    assert main(["pubkey"]) == 0
    assert decode_key(capfd.readouterr().out.strip()) == public_key(decode_key(private))


@pytest.mark.parametrize("given", ["", "secret", encode_key(PRIVATE)[:-4], "é" * 44])
def test_pubkey_of_no_key(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert main(["pubkey"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("caetun: standard input: holds no key: ")


@pytest.mark.parametrize("command", ["genkey", "gensecret"])
def test_to_a_file(capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    path = tmp_path / "s.key"
    assert main([command, "-o", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    first = decode_key(path.read_text())
    assert capfd.readouterr() == ("", "")

    assert main([command, "-o", str(path)]) == 2
    assert capfd.readouterr().err == f"caetun: {path}: exists: will not overwrite a key: use --force, or another name\n"
    assert decode_key(path.read_text()) == first

    assert main([command, "-o", str(path), "--force"]) == 0
    assert decode_key(path.read_text()) != first


def test_force_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["gensecret", "--force"]) == 2
    assert capfd.readouterr() == ("", "caetun: --force: there is no file to replace: give -o FILE too\n")


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o600, False)])
def test_a_key_redirected_to_a_lax_file(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, warned: bool
) -> None:
    path = tmp_path / "s.key"
    path.touch(mode)
    path.chmod(mode)
    with path.open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert main(["genkey"]) == 0
        monkeypatch.undo()
    assert len(decode_key(path.read_text())) == 32
    assert ("other users can read the file" in capfd.readouterr().err) is warned
