"""Whose certificates are good."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from caetun.errors import ConfigurationError, Refused
from caetun.security.credentials import read_certificates
from caetun.security.trust import Trust
from tests.security.authority import NOW, WALL, authority

DAY = 86_400.0


def der(path: Path) -> bytes:
    return read_certificates(path, "--cert")[0].public_bytes(Encoding.DER)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    authority(tmp_path, "alice", "bob@example.org")
    return Trust([der(tmp_path / "ca.crt")])


def refused(trust: Trust, certificate: bytes, wall: float = WALL) -> str:
    with pytest.raises(Refused) as caught:
        trust.names([certificate], verified=False, wall=wall)
    return caught.value.detail


def test_names(trust: Trust, tmp_path: Path) -> None:
    assert trust.names([der(tmp_path / "alice.crt")], verified=False, wall=WALL) == ("alice",)
    assert trust.names([der(tmp_path / "bob@example.org.crt")], verified=True, wall=WALL) == ("bob@example.org",)


def test_times(trust: Trust, tmp_path: Path) -> None:
    alice = der(tmp_path / "alice.crt")
    until = (NOW + datetime.timedelta(days=30)).strftime("%Y-%m-%d")
    assert refused(trust, alice, WALL + 31 * DAY) == f"its certificate has expired on {until}"
    assert refused(trust, alice, WALL - DAY) == "its certificate is not valid yet: compare the clocks"


def test_another_authority_of_the_same_name(trust: Trust, tmp_path: Path) -> None:
    authority(tmp_path / "other", "alice")
    unknown = "its certificate is of an unknown authority: compare --ca of both sides"
    assert refused(trust, der(tmp_path / "other" / "alice.crt")) == unknown


def test_a_certificate_that_its_holder_has_made(trust: Trust, tmp_path: Path) -> None:
    """A host's certificate is no authority's."""
    issuer = read_certificates(tmp_path / "alice.crt", "")[0]
    key = ec.generate_private_key(ec.SECP256R1())
    forged = (
        x509.CertificateBuilder()
        .subject_name(issuer.subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(key, SHA256())
        .public_bytes(Encoding.DER)
    )
    with pytest.raises(Refused, match="unknown authority"):
        trust.names([forged, issuer.public_bytes(Encoding.DER)], verified=False, wall=WALL)


@pytest.mark.parametrize("certificate", [b"", b"x", bytes(2000)])
def test_garbage(trust: Trust, certificate: bytes) -> None:
    assert refused(trust, certificate) == "its certificate is damaged"


def test_no_certificate(trust: Trust) -> None:
    with pytest.raises(Refused, match="damaged"):
        trust.names([], verified=False, wall=WALL)


def test_revocation_and_its_reload(tmp_path: Path) -> None:
    made = authority(tmp_path, "alice", "bob")
    trust = Trust([der(tmp_path / "ca.crt")], tmp_path / "crl.pem")
    alice = der(tmp_path / "alice.crt")
    trust.check_revoked(alice, WALL)
    made.revoke("alice")
    trust.check_revoked(alice, WALL)
    trust.reload()
    assert refused(trust, alice) == "its certificate is revoked"
    with pytest.raises(Refused, match="is revoked"):
        trust.check_revoked(alice, WALL)
    trust.check_revoked(der(tmp_path / "bob.crt"), WALL)
    with pytest.raises(Refused, match="has expired"):
        trust.check_revoked(der(tmp_path / "bob.crt"), WALL + 31 * DAY)


def test_a_list_that_is_out_of_date_lets_nobody_in(tmp_path: Path) -> None:
    made = authority(tmp_path, at=NOW - datetime.timedelta(days=3649))
    made.issue("alice", 4000)
    trust = Trust([der(tmp_path / "ca.crt")], tmp_path / "crl.pem")
    with pytest.raises(Refused, match=r"the revocation list .*crl\.pem is out of date: get a new one"):
        trust.names([der(tmp_path / "alice.crt")], verified=True, wall=WALL + 2 * DAY)


def test_lists_that_are_of_no_use(tmp_path: Path) -> None:
    authority(tmp_path)
    authority(tmp_path / "other")
    ours = [der(tmp_path / "ca.crt")]
    bad = tmp_path / "bad.pem"
    for content, why in (
        (b"", "holds no revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "damaged"),
        ((tmp_path / "other" / "crl.pem").read_bytes(), "is signed by no certificate in --ca"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ConfigurationError, match=why):
            Trust(ours, bad)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        Trust(ours, tmp_path / "none.pem")
