"""A small certificate authority in a directory: `caetun pki init|issue|revoke`.

    DIR/ca.crt  ca.key  crl.pem      the authority, and what it has revoked
    DIR/NAME.crt  NAME.key           what it has issued

Keys are on the curve P-256, which every TLS library has; all files are of mode 600, the directory of mode 700.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from caetun.errors import ConfigurationError
from caetun.security.credentials import read_certificates, read_private_key, write_private

# chosen by us
CA_DAYS: Final = 3650
DAYS: Final = 825
"""Days a certificate lasts: the most that some systems accept."""
CLOCK_SKEW: Final = datetime.timedelta(hours=1)
"""Certificates are good from so long ago: clocks differ."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_RESERVED: Final = frozenset(("ca", "crl"))


class Authority:
    """One directory. Every method raises ConfigurationError."""

    def __init__(self, directory: Path, clock: Callable[[], datetime.datetime]) -> None:
        """`clock`: what time it is, with its zone."""
        self._directory = directory
        self._clock = clock

    def create(self, name: str, days: int = CA_DAYS) -> Path:
        """Make the authority; returns the file of its certificate."""
        directory = self._directory
        if (directory / "ca.key").exists():
            raise ConfigurationError(f"{directory}: holds an authority already: choose another directory")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{directory}: cannot be made: {error.strerror}: choose another place") from None
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        builder = self._builder(subject, subject, key, days)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(_usage(authority=True), critical=True)
        certificate = self._identified(builder, key, key).sign(key, SHA256())
        write_private(directory / "ca.key", _key_bytes(key))
        write_private(directory / "ca.crt", certificate.public_bytes(Encoding.PEM))
        self._write_crl(certificate, key, [])
        return directory / "ca.crt"

    def issue(self, name: str, days: int = DAYS) -> tuple[Path, Path]:
        """Make a key and a certificate of that name; returns their files: certificate, key."""
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ConfigurationError(
                f"{name!r}: cannot be the name of a certificate: use 1 to 64 letters, digits, '.', '-', '_' and '@', "
                "neither ca nor crl"
            )
        issuer, issuer_key = self._load()
        certificate_file, key_file = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        for file in (certificate_file, key_file):
            if file.exists():
                raise ConfigurationError(f"{file}: exists: revoke {name} first, then move both files away")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_named(name), issuer.subject, key, days)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(authority=False), critical=True)
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        certificate = self._identified(builder, key, issuer_key).sign(issuer_key, SHA256())
        write_private(key_file, _key_bytes(key))
        write_private(certificate_file, certificate.public_bytes(Encoding.PEM))
        return certificate_file, key_file

    def revoke(self, name: str) -> Path:
        """Revoke the certificate of that name; returns the file of the revocation list."""
        issuer, key = self._load()
        path = self._directory / f"{name}.crt"
        if not path.is_file():
            raise ConfigurationError(f"{path}: no such certificate: name one that was issued here")
        serial = read_certificates(path, "the name")[0].serial_number
        revoked = list(self._revoked())
        if any(each.serial_number == serial for each in revoked):
            raise ConfigurationError(f"{name}: is revoked already: nothing was changed")
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self._clock()).build()
        self._write_crl(issuer, key, [*revoked, entry])
        return self._directory / "crl.pem"

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        path = self._directory / "ca.key"
        if not path.exists():
            raise ConfigurationError(f"{self._directory}: holds no authority: make one with caetun pki init")
        key = read_private_key(path)
        certificate = read_certificates(self._directory / "ca.crt", "the directory")[0]
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigurationError(f"{path}: does not belong to ca.crt beside it: restore both from a backup")
        return certificate, key

    def _revoked(self) -> x509.CertificateRevocationList | tuple[()]:
        path = self._directory / "crl.pem"
        try:
            return x509.load_pem_x509_crl(path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValueError):
            raise ConfigurationError(f"{path}: is not a revocation list: restore it from a backup") from None

    def _write_crl(
        self, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, revoked: list[x509.RevokedCertificate]
    ) -> None:
        """Good as long as the authority: whoever wants it renewed more often has other tools."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(self._clock())
        builder = builder.next_update(issuer.not_valid_after_utc)
        for entry in revoked:
            builder = builder.add_revoked_certificate(entry)
        crl = builder.sign(key, SHA256())
        write_private(self._directory / "crl.pem", crl.public_bytes(Encoding.PEM), replace=True)

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        now = self._clock()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    @staticmethod
    def _identified(
        builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
        return builder.add_extension(own, critical=False).add_extension(of_issuer, critical=False)


def _named(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError:
        raise ConfigurationError(f"{name!r}: cannot be the name of an authority: use 1 to 64 characters") from None


def _general_name(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
