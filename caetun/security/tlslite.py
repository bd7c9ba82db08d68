"""A second TLS library: tlslite-ng, in Python alone. It does not know authorities: `Trust` sees to chain and times.

It takes some hundred milliseconds of a core for a handshake, which is why it is not the default; it shows that a
library can be exchanged, and that nothing in the protocol leans on OpenSSL.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from caetun.errors import ConfigurationError
from caetun.security.alerts import words
from caetun.security.credentials import Credentials
from caetun.session.engine import TlsFailure

# fixed by the specification
_TLS_1_3: Final = (3, 4)

# chosen by us
_READ_SIZE: Final = 16_384


class Library:
    """Makes engines (`session.engine.TlsLibrary`)."""

    verifies = False

    def __init__(self, credentials: Credentials) -> None:
        """Raises ConfigurationError if the library is not installed, or does not take the files."""
        try:
            from tlslite.api import X509, HandshakeSettings, X509CertChain, parsePEMKey
        except ImportError:
            raise ConfigurationError(
                "--tls-library: tlslite is not installed: pip install 'caetun[tlslite]', or use openssl"
            ) from None
        self.certificate = credentials.chain[0]
        self.chain_size = sum(map(len, credentials.chain))
        try:
            self._key = parsePEMKey(Path(credentials.key_file).read_text(), private=True)
            certificates = [X509() for _ in credentials.chain]
            for certificate, content in zip(certificates, credentials.chain, strict=True):
                certificate.parseBinary(bytearray(content))
            self._chain = X509CertChain(certificates)
        except (SyntaxError, ValueError, OSError, TypeError) as error:
            raise credentials.unusable(Path(credentials.certificate_file), error) from None
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = _TLS_1_3
        settings.versions = [_TLS_1_3]
        settings.eccCurves = [curve for curve in settings.eccCurves if not curve.startswith("brainpool")]
        # As a client it compresses its certificate if itself would take a compressed one, whatever the server takes.
        settings.certificate_compression_send = settings.certificate_compression_receive = []
        self._settings = settings

    def client(self) -> Engine:
        """The side that begins."""
        return Engine(self, server=False)

    def server(self) -> Engine:
        """The side that is called."""
        return Engine(self, server=True)

    def begin(self, connection: Any, *, server: bool) -> Iterator[int]:
        """The handshake of a connection: a generator that stops wherever it lacks bytes."""
        if server:
            steps: Iterator[int] = connection.handshakeServerAsync(
                certChain=self._chain, privateKey=self._key, reqCert=True, settings=self._settings
            )
        else:
            steps = connection.handshakeClientCert(
                certChain=self._chain, privateKey=self._key, settings=self._settings, async_=True
            )
        return steps


class _Wire:
    """A socket that is two buffers."""

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = bytearray()

    def recv(self, size: int) -> bytes:
        """What has come in; raises BlockingIOError if there is nothing."""
        if not self.incoming:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing there")
        taken = bytes(self.incoming[:size])
        del self.incoming[:size]
        return taken

    def send(self, data: bytes) -> int:
        """Takes everything."""
        self.outgoing += data
        return len(data)

    sendall = send

    def close(self) -> None:
        """There is nothing to close."""

    def take(self) -> bytes:
        """What is to be sent."""
        taken = bytes(self.outgoing)
        self.outgoing.clear()
        return taken


class Engine:
    """One end of one connection (`session.engine.TlsEngine`)."""

    def __init__(self, library: Library, *, server: bool) -> None:
        from tlslite.api import TLSConnection

        self._wire = _Wire()
        self._connection: Any = TLSConnection(self._wire)
        self._connection.closeSocket = False
        self._server = server
        self._steps = library.begin(self._connection, server=server)
        self.ready = False

    @property
    def certificates(self) -> Sequence[bytes]:
        """All that the far end has shown."""
        session = self._connection.session
        chain = session.clientCertChain if self._server else session.serverCertChain
        return [bytes(each.bytes) for each in chain.x509List]

    def step(self, records: bytes) -> bytes:
        """Take in records; returns those to send. Raises TlsFailure."""
        self._wire.incoming += records
        if not self.ready and self._advance(self._steps) is None:
            session = self._connection.session
            if session is None:
                raise TlsFailure("TLS: the handshake has failed already")
            if self._server and (session.clientCertChain is None or not session.clientCertChain.x509List):
                raise TlsFailure("it has shown no certificate", certificate=True, flight=self._wire.take())
            self.ready = True
        return self._wire.take()

    def read(self) -> bytes:
        """Application data that has come in. Raises TlsFailure."""
        found = b""
        while self._wire.incoming or not found:
            data = self._advance(self._connection.readAsync(max=_READ_SIZE, min=1))
            if not isinstance(data, (bytes, bytearray)) or not data:
                break
            found += bytes(data)
        return found

    def write(self, data: bytes) -> bytes:
        """The records for application data. Raises TlsFailure."""
        self._advance(self._connection.writeAsync(bytearray(data)))
        return self._wire.take()

    def _advance(self, steps: Iterator[Any]) -> Any:
        """Go on as far as there are bytes: 0 if more are wanted, what came out, or None at the end."""
        from tlslite.errors import TLSLocalAlert, TLSRemoteAlert

        try:
            for result in steps:
                if isinstance(result, (bytes, bytearray)) or result == 0:
                    return result
        except TLSRemoteAlert as error:
            said = words(str(error.description) if isinstance(error.description, str) else _alert_name(error))
            if said is not None:
                raise TlsFailure(said, theirs=True, certificate=True, flight=self._wire.take()) from None
            raise TlsFailure(f"TLS: {error}", flight=self._wire.take()) from None
        except TLSLocalAlert as error:
            raise TlsFailure(f"TLS: {error}", flight=self._wire.take()) from None
        except Exception as error:  # whatever its parsers raise of garbage
            raise TlsFailure(f"TLS: {error}", flight=self._wire.take()) from None
        return None


def _alert_name(error: Any) -> str:
    from tlslite.constants import AlertDescription

    return str(AlertDescription.toStr(error.description))
