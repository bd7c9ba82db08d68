"""The TLS library of the Python interpreter: OpenSSL through `ssl`, by memory BIOs.

It checks the chain and the times of the far end's certificate itself, and ends the handshake with the alert that fits.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from caetun.security.alerts import words
from caetun.security.credentials import Credentials
from caetun.session.engine import TlsFailure

# fixed by the specification
_ISSUER_CODES: Final = frozenset((2, 18, 19, 20, 21, 24))
"""X509_V_ERR_*: no issuer, or one that is none of ours (openssl-verification-options(1))."""
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_SIGNATURE: Final = 7
_PURPOSE: Final = 26

# chosen by us
_READ_SIZE: Final = 16_384


class Library:
    """Makes engines (`session.engine.TlsLibrary`)."""

    verifies = True

    def __init__(self, credentials: Credentials) -> None:
        """Raises ConfigurationError if OpenSSL does not take the files."""
        self.certificate = credentials.chain[0]
        self.chain_size = sum(map(len, credentials.chain))
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
        self._server = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
        self._server.num_tickets = 0

    def client(self) -> Engine:
        """The side that begins."""
        return Engine(self._client, server=False)

    def server(self) -> Engine:
        """The side that is called."""
        return Engine(self._server, server=True)


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    pem = "".join(map(ssl.DER_cert_to_PEM_cert, credentials.authorities))
    context.load_verify_locations(cadata=pem)
    try:
        context.load_cert_chain(credentials.certificate_file, credentials.key_file)
    except (ssl.SSLError, OSError) as error:
        raise credentials.unusable(Path(credentials.certificate_file), error) from None
    return context


class Engine:
    """One end of one connection (`session.engine.TlsEngine`)."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self.ready = False

    @property
    def certificates(self) -> Sequence[bytes]:
        """The far end's own: the rest of the chain OpenSSL has seen to."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate is not None  # CERT_REQUIRED
        return (certificate,)

    def step(self, records: bytes) -> bytes:
        """Take in records; returns those to send. Raises TlsFailure."""
        self._incoming.write(records)
        if not self.ready:
            try:
                self._tls.do_handshake()
                self.ready = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise self._failure(error) from None
        return self._outgoing.read()

    def read(self) -> bytes:
        """Application data that has come in. Raises TlsFailure."""
        found = b""
        try:
            while more := self._tls.read(_READ_SIZE):
                found += more
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise self._failure(error) from None
        return found

    def write(self, data: bytes) -> bytes:
        """The records for application data. Raises TlsFailure."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise self._failure(error) from None
        return self._outgoing.read()

    def _failure(self, error: ssl.SSLError) -> TlsFailure:
        flight = self._outgoing.read()
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsFailure(_verdict(error), certificate=True, flight=flight)
        reason = (error.reason or "").lower()
        if reason == "peer_did_not_return_a_certificate":
            return TlsFailure("it has shown no certificate", certificate=True, flight=flight)
        alert = words(reason.partition("_alert_")[2])
        if alert is not None:
            return TlsFailure(alert, theirs=True, certificate=True, flight=flight)
        return TlsFailure(f"TLS: {reason or error}", flight=flight)


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    """What OpenSSL has against a certificate."""
    code = error.verify_code
    if code in _ISSUER_CODES or code == _SIGNATURE:
        return "its certificate is of an unknown authority: compare --ca of both sides"
    known = {_NOT_YET: "is not valid yet: compare the clocks", _EXPIRED: "has expired", _PURPOSE: "is not for this use"}
    return f"its certificate {known.get(code, f'is not good: {error.verify_message}')}"
