"""Certificates on disk: ours with its key, the authorities we trust, and their revocation lists. PEM files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import TypeAlias

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    SigningKey: TypeAlias = EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey | RSAPrivateKey

# chosen by us
FILE_LIMIT: Final = 1 << 20
"""Bytes of a file with certificates: more is surely the wrong file. A revocation list may have 20,000 entries."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we show, and whom we trust. Holds the name of the key file, not the key."""

    certificate_file: Path
    key_file: Path
    chain: Sequence[bytes]
    """DER, ours first."""
    authorities: Sequence[bytes]
    """DER; at least one with `--security tls`."""
    warnings: tuple[str, ...] = field(default=())

    @staticmethod
    def unusable(path: Path, error: Exception) -> ConfigurationError:
        """For what a library refuses."""
        reason = getattr(error, "reason", None) or str(error)
        return ConfigurationError(
            f"{path}: cannot be used: {str(reason).lower().replace('_', ' ')}: does --cert-key belong to it, and is it "
            "without a password?"
        )


def load(authorities: Path | None, certificate: Path, key: Path) -> Credentials:
    """Read the files; `authorities` may be left out by who only shows a certificate. Raises ConfigurationError."""
    from cryptography.hazmat.primitives.serialization import Encoding

    chain = read_certificates(certificate, "--cert")
    trusted = [] if authorities is None else read_certificates(authorities, "--ca")
    private = read_private_key(key)
    if private.public_key() != chain[0].public_key():
        raise ConfigurationError(f"{key}: is not the key of the certificate in {certificate}: give the two that belong")
    warnings: tuple[str, ...] = ()
    mode = key.stat().st_mode
    if stat.S_ISREG(mode) and mode & _OTHERS:
        shown = f"{stat.S_IMODE(mode):04o}"
        warnings = (f"{key}: other users can read this key (mode {shown}): chmod 600 {key}",)
    der = Encoding.DER
    return Credentials(
        certificate, key, [each.public_bytes(der) for each in chain], [each.public_bytes(der) for each in trusted],
        warnings,
    )  # fmt: skip


def read(path: Path, advice: str, limit: int = FILE_LIMIT) -> bytes:
    """A file's content, up to `limit` bytes. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}: {advice}") from None
    if len(content) > limit:
        raise ConfigurationError(f"{path}: is larger than {limit} bytes: is it the right file?")
    return content


def read_certificates(path: Path, flag: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one. Raises ConfigurationError."""
    from cryptography import x509

    content = read(path, f"check {flag}, or make one with caetun pki")
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ConfigurationError(
            f"{path}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----): check {flag}"
        ) from None


def read_private_key(path: Path) -> SigningKey:
    """The private key of a PEM file. Raises ConfigurationError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read(path, "check --cert-key, or make one with caetun pki")
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise ConfigurationError(
            f"{path}: is locked with a password: store it without, in a file of mode 600"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path}: holds no private key in PEM form: check --cert-key") from None
    kinds = (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey, rsa.RSAPrivateKey)
    if not isinstance(key, kinds):
        raise ConfigurationError(f"{path}: a key of this kind cannot sign: use an EC, Ed25519 or RSA key")
    return key


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file of mode 600, whole or not at all; an existing one only with `replace`. Raises ConfigurationError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not replace and path.exists():
            raise ConfigurationError(f"{path}: exists: will not overwrite it: choose another name")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}: choose another place") from None
