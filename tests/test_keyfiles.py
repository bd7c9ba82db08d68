"""Key files: read, written, and never shown."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from caetun.errors import ConfigurationError
from caetun.keyfiles import Secret, load_keys, read_key, write_key
from caetun.session.identity import encode_key, public_key
from caetun.sources import load

KEY = bytes(range(32))
TEXT = encode_key(KEY)


def key_file(folder: Path, name: str = "s.key", key: bytes = KEY, mode: int = 0o600) -> Path:
    path = folder / name
    write_key(path, encode_key(key))
    path.chmod(mode)
    return path


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "s.key"
    write_key(path, TEXT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == f"{TEXT}\n"
    secret, warning = read_key(path)
    assert secret.reveal() == KEY
    assert warning is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_others_who_can_read_it_are_warned_of(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    _, warning = read_key(path)
    assert warning == f"{path}: other users can read this key (mode {mode:04o}): chmod 600 {path}"


def test_a_pipe_has_no_lax_mode(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o644)
    writer = threading.Thread(target=path.write_text, args=(TEXT,))
    writer.start()
    secret, warning = read_key(path)
    writer.join()
    assert (secret.reveal(), warning) == (KEY, None)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"secret", TEXT.encode()[:-2], f"{TEXT}\n{TEXT}".encode(), b"\xff" * 44]
)
def test_a_file_without_a_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.key"
    path.write_bytes(content)
    with pytest.raises(
        ConfigurationError, match="holds no key: expected one line, 32 bytes in Base64: make one"
    ) as caught:
        read_key(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory: make one with caetun gensecret"):
        read_key(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="Is a directory: check"):
        read_key(tmp_path)


def test_a_private_key_that_is_not_there_is_made_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="make one with caetun genkey -o FILE"):
        read_key(tmp_path / "none", own=True)
    settings = load(
        {"mode": "tap", "listen": ":4500", "key": str(tmp_path / "none"), "peer": [encode_key(public_key(KEY))]}
    )
    with pytest.raises(ConfigurationError, match="make one with caetun genkey -o FILE"):
        load_keys(settings)


def test_a_key_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    path = key_file(tmp_path, mode=0o644)
    other = encode_key(bytes(32))
    with pytest.raises(ConfigurationError, match="exists: will not overwrite a key: use --force"):
        write_key(path, other)
    assert path.read_text().strip() == TEXT

    write_key(path, other, replace=True)
    assert path.read_text().strip() == other
    assert path.stat().st_mode & 0o777 == 0o600, "the old file's mode is not inherited"
    assert [each.name for each in tmp_path.iterdir()] == ["s.key"]


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    target = key_file(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        write_key(link, TEXT, replace=True)
    with pytest.raises(ConfigurationError, match="exists"):
        write_key(link, TEXT)
    assert link.is_symlink()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: No such file or directory"):
        write_key(tmp_path / "missing" / "s.key", TEXT)


def test_a_secret_shows_a_fingerprint_only() -> None:
    secret = Secret(KEY)
    shown = [repr(secret), str(secret), f"{secret}", repr([secret])]
    assert all(secret.fingerprint in each for each in shown)
    for text in shown:
        assert TEXT not in text
        assert KEY.hex()[:8] not in text
        assert repr(KEY)[2:10] not in text
    assert secret.fingerprint != Secret(bytes(32)).fingerprint


def test_secrets_compare_by_value() -> None:
    assert Secret(KEY) == Secret(bytes(KEY))
    assert hash(Secret(KEY)) == hash(Secret(bytes(KEY)))
    assert Secret(KEY) != Secret(bytes(32))
    assert Secret(KEY) != KEY


def test_keys_of_a_shared_secret(tmp_path: Path) -> None:
    path = key_file(tmp_path, mode=0o644)
    keys = load_keys(load({"listen": ":4500", "secret_file": str(path)}))
    assert keys.secret == Secret(KEY)
    assert (keys.private, keys.peers, keys.psk) == (None, (), None)
    assert len(keys.warnings) == 1


def test_keys_of_two_ends(tmp_path: Path) -> None:
    ours, psk = bytes([1] * 32), bytes([2] * 32)
    flags = {
        "listen": ":4500",
        "key": str(key_file(tmp_path, "a.key", ours)),
        "peer": [encode_key(public_key(KEY))],
        "peer_psk_file": str(key_file(tmp_path, "psk", psk)),
    }
    keys = load_keys(load(flags))
    assert (keys.private, keys.psk, keys.secret) == (Secret(ours), Secret(psk), None)
    assert keys.peers == (public_key(KEY),)
    assert keys.warnings == ()
