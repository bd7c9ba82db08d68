"""Certificates and keys on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from caetun.errors import ConfigurationError
from caetun.security import credentials
from caetun.security.credentials import write_private
from tests.security.authority import authority


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    authority(tmp_path, "alice", "bob")
    return tmp_path


def test_what_belongs_together(pki: Path) -> None:
    found = credentials.load(pki / "ca.crt", pki / "alice.crt", pki / "alice.key")
    assert (len(found.chain), len(found.authorities), found.warnings) == (1, 1, ())
    assert credentials.load(None, pki / "alice.crt", pki / "alice.key").authorities == []


def test_a_key_that_others_can_read(pki: Path) -> None:
    (pki / "alice.key").chmod(0o644)
    (warning,) = credentials.load(pki / "ca.crt", pki / "alice.crt", pki / "alice.key").warnings
    assert warning == f"{pki}/alice.key: other users can read this key (mode 0644): chmod 600 {pki}/alice.key"


def refused(pki: Path, why: str, ca: str = "ca.crt", cert: str = "alice.crt", key: str = "alice.key") -> None:
    with pytest.raises(ConfigurationError, match=why):
        credentials.load(pki / ca, pki / cert, pki / key)


def test_what_does_not(pki: Path) -> None:
    refused(pki, "is not the key of the certificate in", key="bob.key")
    refused(pki, "cannot be read: No such file or directory: check --cert, or make one with caetun pki", cert="none")
    refused(pki, "holds no certificate in PEM form .* check --ca", ca="alice.key")
    refused(pki, "holds no private key in PEM form: check --cert-key", key="alice.crt")


def test_keys_of_other_kinds(pki: Path) -> None:
    locked = ec.generate_private_key(ec.SECP256R1())
    encoded = locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (pki / "locked.key").write_bytes(encoded)
    refused(pki, "is locked with a password: store it without", key="locked.key")
    other = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (pki / "other.key").write_bytes(other)
    refused(pki, "a key of this kind cannot sign", key="other.key")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_private(tmp_path / "new", b"1")
    with pytest.raises(ConfigurationError, match="exists: will not overwrite it"):
        write_private(tmp_path / "new", b"2")
    write_private(tmp_path / "new", b"3", replace=True)
    assert (tmp_path / "new").read_bytes() == b"3"
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_private(tmp_path / "folder", b"4", replace=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "new"]
