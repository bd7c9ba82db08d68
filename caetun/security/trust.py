"""Whose certificate is good: issuer, time, revocation, and the names in it (`session.engine.Judge`).

Chains are built and checked by `cryptography.x509.verification`, with its rules for the chain and any extension in a
certificate of a person or host: small authorities make what they make.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.errors import ConfigurationError, Refused
from caetun.security.credentials import read
from caetun.types import DropReason

if TYPE_CHECKING:
    from cryptography import x509

# chosen by us
MAX_NAMES: Final = 64
"""Names looked at in one certificate."""
MAX_CHAIN: Final = 8


class Trust:
    """Authorities and their revocation lists."""

    def __init__(self, authorities: Sequence[bytes], revocations: Path | None = None) -> None:
        """`authorities`: DER; `revocations`: a PEM file. Raises ConfigurationError."""
        from cryptography import x509

        self._authorities = [x509.load_der_x509_certificate(each) for each in authorities]
        self._path = revocations
        self._revoked: dict[bytes, tuple[frozenset[int], float | None]] = {}
        """Serial numbers and when a newer list is due, by issuer."""
        self.reload()

    def reload(self) -> None:
        """Read the revocation lists again. Raises ConfigurationError, and then nothing has changed."""
        if self._path is not None:
            self._revoked = self._read(self._path)

    def _read(self, path: Path) -> dict[bytes, tuple[frozenset[int], float | None]]:
        from cryptography import x509

        marker = b"-----BEGIN X509 CRL-----"
        content = read(path, "check --crl, or make one with caetun pki")
        found: dict[bytes, tuple[frozenset[int], float | None]] = {}
        for part in content.split(marker)[1:]:
            try:
                crl = x509.load_pem_x509_crl(marker + part)
                signed = [each for each in self._authorities if _signed(crl, each)]
            except ValueError:
                raise ConfigurationError(f"{path}: holds a damaged revocation list: get it again") from None
            if not signed:
                raise ConfigurationError(f"{path}: is signed by no certificate in --ca: get the list of that authority")
            due = crl.next_update_utc
            serials = frozenset(revoked.serial_number for revoked in crl)
            found[crl.issuer.public_bytes()] = serials, None if due is None else due.timestamp()
        if not found:
            raise ConfigurationError(f"{path}: holds no revocation list in PEM form (-----BEGIN X509 CRL-----)")
        return found

    def names(self, chain: Sequence[bytes], *, verified: bool, wall: float) -> tuple[str, ...]:
        """The names the first certificate of a chain is good for, the common name first; raises Refused."""
        from cryptography import x509

        try:
            certificates = [x509.load_der_x509_certificate(each) for each in chain[:MAX_CHAIN]]
            subject = certificates[0]
            if not verified:
                self._check_time(subject, wall)
                self._check_chain(certificates, wall)
            self._check_revoked(subject, wall)
            return _names(subject)
        except (ValueError, IndexError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
            raise Refused(DropReason.HANDSHAKE_CERTIFICATE, "its certificate is damaged") from None

    @staticmethod
    def names_of(certificate: bytes) -> tuple[str, ...]:
        """The names in a certificate (DER) that was good."""
        from cryptography import x509

        return _names(x509.load_der_x509_certificate(certificate))

    def check_revoked(self, certificate: bytes, wall: float) -> None:
        """Raises Refused if a certificate (DER) that was good before is good no more."""
        from cryptography import x509

        subject = x509.load_der_x509_certificate(certificate)
        self._check_time(subject, wall)
        self._check_revoked(subject, wall)

    @staticmethod
    def _check_time(certificate: x509.Certificate, wall: float) -> None:
        if wall < certificate.not_valid_before_utc.timestamp():
            raise _unfit("its certificate is not valid yet: compare the clocks")
        if wall > certificate.not_valid_after_utc.timestamp():
            raise _unfit(f"its certificate has expired on {certificate.not_valid_after_utc:%Y-%m-%d}")

    def _check_chain(self, certificates: Sequence[x509.Certificate], wall: float) -> None:
        from cryptography.x509 import verification

        when = datetime.datetime.fromtimestamp(wall, datetime.UTC)
        builder = (
            verification.PolicyBuilder()
            .store(verification.Store(self._authorities))
            .time(when)
            .extension_policies(
                ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=verification.ExtensionPolicy.permit_all(),
            )
        )
        try:
            builder.build_client_verifier().verify(certificates[0], list(certificates[1:]))
        except verification.VerificationError:
            raise _unfit("its certificate is of an unknown authority: compare --ca of both sides") from None

    def _check_revoked(self, certificate: x509.Certificate, wall: float) -> None:
        if not self._revoked:
            return
        found = self._revoked.get(certificate.issuer.public_bytes())
        if found is None:
            return
        serials, due = found
        if certificate.serial_number in serials:
            raise _unfit("its certificate is revoked")
        if due is not None and wall > due:
            raise _unfit(f"the revocation list {self._path} is out of date: get a new one")


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """Whether an authority has made a list."""
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:
        return False


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Common name, DNS names and mail addresses, each once."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    found = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        found += others.get_values_for_type(x509.DNSName) + others.get_values_for_type(x509.RFC822Name)
    return tuple(dict.fromkeys(found[:MAX_NAMES]))


def _unfit(why: str) -> Refused:
    return Refused(DropReason.HANDSHAKE_CERTIFICATE, why)
