"""Certificates on top of Noise: the chain, and what the signature binds."""

from __future__ import annotations

import base64
import dataclasses
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from caetun.auth.base import Claim
from caetun.auth.certificate import Certificate, encode_chain, is_signed, sign, signed
from caetun.security import credentials
from caetun.security.credentials import read_certificates, read_private_key
from caetun.security.trust import Trust
from tests.auth.claims import claim, denied
from tests.security.authority import NOW, WALL, authority

if TYPE_CHECKING:
    from caetun.security.credentials import SigningKey


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    authority(path, "alice", "bob")
    return path


def method(pki: Path, *, shown: bool = False) -> Certificate:
    return Certificate(
        Trust(credentials.load(pki / "ca.crt", pki / "bob.crt", pki / "bob.key").authorities), shown=shown
    )


def answer(certificate: bytes, key: SigningKey, *, nonce: bytes = b"n" * 32, of: bytes = b"k" * 32) -> Claim:
    signature = base64.b64encode(sign(key, signed(nonce, b"t" * 32, of))).decode()
    values = {"certificate": encode_chain([certificate]), "signature": signature}
    return dataclasses.replace(claim(wall=WALL), values=values)


def of(pki: Path, name: str) -> tuple[bytes, SigningKey]:
    certificate = read_certificates(pki / f"{name}.crt", "")[0].public_bytes(Encoding.DER)
    return certificate, read_private_key(pki / f"{name}.key")


def test_a_certificate_with_its_key(pki: Path) -> None:
    assert method(pki).check(answer(*of(pki, "alice"))) == "alice"


def test_a_signature_is_of_no_use_to_anybody_else(pki: Path) -> None:
    certificate, key = of(pki, "alice")
    unsigned = "the signature is not that of the certificate"
    assert denied(method(pki), answer(certificate, key, nonce=bytes(32))).why == unsigned
    assert denied(method(pki), answer(certificate, key, of=bytes(32))).why == unsigned
    assert denied(method(pki), answer(certificate, of(pki, "bob")[1])).why == unsigned


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_keys_of_other_kinds(pki: Path, kind: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
    issuer, issuer_key = of(pki, "ca")
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, kind)]))
        .issuer_name(x509.load_der_x509_certificate(issuer).subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(issuer_key, SHA256())  # type: ignore[arg-type]
        .public_bytes(Encoding.DER)
    )
    assert is_signed(made, answer(made, key))
    assert not is_signed(made, answer(made, key, nonce=bytes(32)))


@pytest.mark.parametrize("values", [{}, {"certificate": "!"}, {"certificate": ""}, {"certificate": "AAAA"}])
def test_garbage(pki: Path, values: dict[str, str]) -> None:
    why = denied(method(pki), dataclasses.replace(claim(wall=WALL), values=values)).why
    assert why in ("no certificate was shown", "its certificate is damaged")


def test_another_authority(pki: Path, tmp_path: Path) -> None:
    authority(tmp_path, "alice")
    assert denied(method(pki), answer(*of(tmp_path, "alice"))).why.startswith("its certificate is of an unknown")


def test_one_that_the_handshake_has_shown(pki: Path) -> None:
    shown = method(pki, shown=True)
    assert list(shown.fields) == []
    assert shown.check(dataclasses.replace(claim(wall=WALL), certificate=of(pki, "bob")[0])) == "bob"
