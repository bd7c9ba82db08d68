"""TLS as an outer layer: the contexts of both sides, and what is asked of the server's certificate.

Nothing depends on it for secrecy or identity: the inner handshake authenticates both ends. It is there to pass where
only HTTPS does, so by default (`--tls-verify auto`) a certificate that does not verify is reported, not refused.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import ipaddress
import os
import ssl
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from caetun.errors import ConfigurationError, NetworkError
from caetun.transports.base import Options

if TYPE_CHECKING:
    from cryptography import x509

# fixed by the specification
_ENCODING_DER: Final = 2
"""What the ssl module calls that inside (Modules/_ssl.h, PY_SSL_ENCODING_DER)."""

# chosen by us
ALPN: Final = ("http/1.1",)
"""What both sides announce: WebSocket over HTTP/2 (RFC 8441) is another protocol."""
SELF_SIGNED_DAYS: Final = 3650
"""As long as `openssl req` examples and Debian's ssl-cert say: nobody renews these."""
EXPIRY_DAYS: Final = 14
"""Before the end of a certificate's life that is worth a warning: shorter than what renewal programs leave."""
SELF_SIGNED_FILE: Final = "tls-self-signed.pem"
"""In `Options.state`: key and certificate together, so that they cannot be of two makings."""
MAX_REPORTED: Final = 64
"""Certificates remembered as reported; beyond that the oldest is reported once more."""

_SELF_SIGNED: Final = "self-signed certificate"

Report: TypeAlias = Callable[[str, str, str], None]


def fingerprint(der: bytes) -> str:
    """How `--tls-pin` names a certificate, given as DER."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


# server


def server_context(options: Options, report: Report) -> ssl.SSLContext:
    """What a listener shows: the certificate of the options, or a self-signed one that is made on first use and kept.

    Reports its fingerprint. Raises ConfigurationError (files of the user), NetworkError (no place to keep it).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(ALPN))
    with _server_files(options) as files:
        _load(context, files)
        _announce(files, report)
    return context


def server_pem(options: Options, report: Report) -> tuple[bytes, bytes]:
    """The certificate chain of `server_context` and its private key as PEM, for who does TLS without the ssl module.

    Reports and raises as `server_context` does.
    """
    with _server_files(options) as files:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)  # for its judgement
        _announce(files, report)
        certificate = files.certificate.read_bytes()
        return certificate, certificate if files.key is None else files.key.read_bytes()


class _Files(NamedTuple):
    """Where a server's certificate and key are."""

    certificate: Path
    key: Path | None
    """None: in the same file."""
    option: str
    """What a person knows them by, in messages."""
    what: str
    """The same where the certificate is announced."""


@contextlib.contextmanager
def _server_files(options: Options) -> Iterator[_Files]:
    """Those of the options, or self-signed ones, made now if they are not there. Raises NetworkError."""
    if options.tls_cert is not None:
        yield _Files(options.tls_cert, options.tls_key, "--tls-cert", str(options.tls_cert))
    elif options.state is not None:
        path = options.state / SELF_SIGNED_FILE
        _make_once(path, _own_name(options))
        yield _Files(path, None, _SELF_SIGNED, f"self-signed, {path}")
    else:
        with tempfile.TemporaryDirectory(prefix="caetun-") as directory:
            path = Path(directory) / SELF_SIGNED_FILE
            _make_once(path, _own_name(options))
            yield _Files(path, None, _SELF_SIGNED, "self-signed, for this run only")


def _load(context: ssl.SSLContext, wanted: _Files) -> None:
    """Let a context show them. Raises ConfigurationError."""
    certificate, key, option, _ = wanted

    def refuse() -> str:
        # Without this OpenSSL would ask at the terminal.
        raise ConfigurationError(f"{option}: {key or certificate}: the key is encrypted: give it without a password")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        files = f"{certificate} and {key}" if key else str(certificate)
        ours = option == _SELF_SIGNED
        advice = f"delete {files}" if ours else "give a PEM certificate chain and its unencrypted key"
        raise ConfigurationError(f"{option}: {files}: {reason}: {advice}") from error
    except OSError as error:
        where = _unreadable(certificate, key)
        raise ConfigurationError(f"{option}: {where}: cannot be read: {error.strerror or error}") from error


def _unreadable(*paths: Path | None) -> Path | None:
    """The first file that cannot be read: the ssl module does not say which."""
    return next((path for path in paths if path and not os.access(path, os.R_OK)), paths[0])


def _announce(files: _Files, report: Report) -> None:
    """Tell the fingerprint, and whether the end is near."""
    from cryptography import x509

    what = files.what
    try:
        certificate = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    except (ValueError, OSError):
        return  # OpenSSL takes it, so it serves; we just cannot say what is in it
    digest = fingerprint(_der(certificate))
    report("info", "tls.certificate", f"certificate ({what}): clients may insist on it with --tls-pin {digest}")
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left < datetime.timedelta(days=EXPIRY_DAYS):
        when = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        report("warning", "tls.expiry", f"certificate ({what}): ends on {when}: renew it, and start CaeTun again")


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _own_name(options: Options) -> str:
    """What a self-signed certificate is for: nothing that the user did not say in the clear anyway."""
    return options.host.partition(":")[0] or options.sni or "localhost"


def _make_once(path: Path, name: str) -> None:
    """Make a self-signed certificate unless it is there; raises NetworkError."""
    if path.exists():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_self_signed(name))
            # Another tunnel may be doing the same: the first one's stays, and nobody sees half of it.
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            os.unlink(fresh)
    except OSError as error:
        raise NetworkError(
            f"{path}: the self-signed certificate cannot be kept there: {error.strerror}:"
            " make that directory writable, or give --tls-cert and --tls-key"
        ) from error


def _self_signed(name: str) -> bytes:
    """Key and certificate as PEM, with what `openssl req -x509` would put into it."""
    # Imported here: what needs no certificate need not load this.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem_key + certificate.public_bytes(Encoding.PEM)


def _general_name(name: str) -> x509.DNSName | x509.IPAddress:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii"))


# client


class ClientContext(ssl.SSLContext):
    """What a client dials with; remembers which certificates have been reported."""

    reported: dict[tuple[str, str], None]


@functools.lru_cache(maxsize=4)
def client_context(options: Options, report: Report) -> ClientContext:
    """What to dial with: the same object for the same options, as reading the system's certificates takes a while.

    `check_server` is to be asked after the handshake. Raises ConfigurationError.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.reported = {}
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(ALPN))
    if options.tls_verify != "strict" or options.tls_pin:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.tls_ca is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(options.tls_ca)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(f"--tls-ca: {options.tls_ca}: {_ca_trouble(error)}") from error
    return context


def check_server(tls: ssl.SSLObject, options: Options, host: str, report: Report) -> None:
    """Judge what a server has shown in a TLS handshake; `host`: whom we called. Raises NetworkError."""
    der = tls.getpeercert(binary_form=True)
    chain = [] if der is None else [der, *(each for each in _chain(tls) if each != der)]
    check_certificate(chain, options, host, report)


def check_certificate(chain: Sequence[bytes], options: Options, host: str, report: Report) -> None:
    """Judge the certificates that a server has shown, as DER, its own first. Raises NetworkError.

    `strict` has been judged during the handshake, unless there are pins: they settle it in every mode.
    """
    if not chain:
        raise NetworkError(f"{host}: TLS: the server shows no certificate")
    der, *others = chain
    digest = fingerprint(der)
    if options.tls_pin:
        if digest not in options.tls_pin:
            raise NetworkError(
                f"{host}: TLS: the server's certificate is {digest}, not one given by --tls-pin: is somebody in"
                " between, or has it been renewed? Ask the server's owner, and give the new one"
            )
        return
    if options.tls_verify != "auto":
        return
    name = options.sni or host
    reported = client_context(options, report).reported
    if (name, digest) in reported:
        return
    why = _distrust(der, others, name, options)
    while len(reported) >= MAX_REPORTED:
        del reported[next(iter(reported))]
    reported[name, digest] = None
    if why:
        report(
            "warning",
            "tls.unverified",
            f"{name}: the outer certificate does not verify ({why}): accepted, as the tunnel has keys of its own;"
            f" to insist on it, give --tls-pin {digest}",
        )


def explain(error: ssl.SSLError, options: Options, host: str) -> str:
    """What a failed handshake means to the user, without the target's name in front."""
    if isinstance(error, ssl.SSLCertVerificationError):
        name = options.sni or host
        return (
            f"TLS: the certificate for {name} does not verify: {error.verify_message}: trust its issuer with --tls-ca,"
            " or the certificate with --tls-pin, or let the tunnel's own keys do with --tls-verify auto"
        )
    reason = error.reason or str(error)
    words = reason.lower().replace("_", " ")
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"):
        return f"TLS: {words}: what answers there does not speak TLS: is the port right, or the transport tcp or ws?"
    return f"TLS: {words}"


def _chain(tls: ssl.SSLObject) -> list[bytes]:
    """Certificates the server has sent, as DER; empty if this Python does not tell."""
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return list(public())
    # Before Python 3.13 the same function is there, one level down.
    inner = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    return [one.public_bytes(_ENCODING_DER) for one in inner() or ()] if inner is not None else []


def _distrust(der: bytes, others: Iterable[bytes], name: str, options: Options) -> str:
    """Why a server's certificate does not verify by the `others` it has sent, in words; "" if it does."""
    from cryptography import x509
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

    try:
        leaf = x509.load_der_x509_certificate(der)
        if leaf.issuer == leaf.subject and options.tls_ca is None:
            return "self-signed"
        trusted = _trusted(options.tls_ca)
        if leaf in trusted:
            return ""
        between = [x509.load_der_x509_certificate(each) for each in others]
        builder = PolicyBuilder().store(Store(trusted))
        builder.build_server_verifier(_general_name(name)).verify(leaf, between)
    except (VerificationError, ValueError, UnicodeError, OSError) as error:
        return " ".join(str(error).split())[:200] or "not understood"
    return ""


def _trusted(ca: Path | None) -> list[x509.Certificate]:
    """Certificates of issuers: of the user's file, or the system's. Raises OSError (ssl.SSLError), ValueError."""
    from cryptography import x509

    bundles = [ca] if ca is not None else [path for path in _bundles() if path.exists()]
    if not bundles:
        raise ValueError("this host has no list of issuers to trust")
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reader.load_verify_locations(bundles[0])
    found = []
    with warnings.catch_warnings():
        # Some old roots bend the rules (a serial number of 0); nobody who reads our log can do anything about it.
        warnings.simplefilter("ignore")
        for der in reader.get_ca_certs(binary_form=True):
            with contextlib.suppress(ValueError):
                found.append(x509.load_der_x509_certificate(der))
    return found


def _bundles() -> list[Path]:
    """Where systems keep them in one file."""
    usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
    return [Path(name) for name in (ssl.get_default_verify_paths().cafile, *usual) if name]


def _ca_trouble(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "holds no certificates: give a PEM file with those of the issuers to trust"
    return f"cannot be read: {error.strerror}"
