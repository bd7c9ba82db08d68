"""The outer certificates: what a server shows, and what a client makes of it."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from caetun.errors import ConfigurationError, NetworkError
from caetun.transports import tls
from caetun.transports.base import Options
from caetun.transports.tls import SELF_SIGNED_FILE, check_server, client_context, explain, fingerprint, server_context

NOW = datetime.datetime.now(datetime.UTC)


class Log(list[tuple[str, str, str]]):
    """Lines that were reported."""

    def __hash__(self) -> int:
        return id(self)

    def __call__(self, level: str, event: str, text: str) -> None:
        self.append((level, event, text))

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self]


@pytest.fixture
def log() -> Iterator[Log]:
    yield Log()
    client_context.cache_clear()


class Authority:
    """Somebody who signs certificates."""

    def __init__(self, name: str, above: Authority | None = None, days: float = 30) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            True, *[False] * 4, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
        )
        self.certificate = self._sign(above or self, days, [(x509.BasicConstraints(True, None), True), (usage, True)])

    def _sign(self, by: Authority, days: float, extensions: list[tuple[x509.ExtensionType, bool]]) -> x509.Certificate:
        public = self.key.public_key()
        builder = (
            x509.CertificateBuilder(by.name, self.name, public, x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(NOW + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(by.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


class Server(Authority):
    """Somebody with a certificate for a name, from an authority."""

    def __init__(self, name: str, above: Authority, days: float = 30) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
        self.certificate = self._sign(above, days, [(names, False), (usage, False)])

    def pem_key(self, encryption: KeySerializationEncryption | None = None) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())

    def options(self, directory: Path, chain: bytes = b"", **more: Any) -> Options:
        """For a server that shows it."""
        (directory / "cert.pem").write_bytes(self.pem + chain)
        (directory / "key.pem").write_bytes(self.pem_key())
        return Options(tls_cert=directory / "cert.pem", tls_key=directory / "key.pem", **more)


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's side after a handshake in memory. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0]


def meet(server: ssl.SSLContext, options: Options, log: Log, host: str = "hub.example") -> ssl.SSLObject:
    """A client with these options calls. Raises ssl.SSLError, NetworkError."""
    met = shake(server, client_context(options, log), options.sni or host)
    check_server(met, options, host, log)
    return met


class TestServer:
    """What is shown."""

    def test_a_certificate_is_made_once_and_kept(self, tmp_path: Path, log: Log) -> None:
        options = Options(state=tmp_path / "new" / "state", host="hub.example:8443")
        met = meet(server_context(options, log), Options(tls_verify="off"), log)
        again = meet(server_context(options, log), Options(tls_verify="off"), log)
        der = met.getpeercert(binary_form=True)
        assert der is not None
        assert der == again.getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(der)
        assert certificate.subject.rfc4514_string() == "CN=hub.example"
        path = tmp_path / "new" / "state" / SELF_SIGNED_FILE
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [one.name for one in path.parent.iterdir()] == [path.name]
        digest = f"sha256:{hashlib.sha256(der).hexdigest()}"
        assert [(level, event, digest in text) for level, event, text in log] == [("info", "tls.certificate", True)] * 2

    @pytest.mark.parametrize(
        ("options", "subject"),
        [({}, "CN=localhost"), ({"sni": "a.example"}, "CN=a.example"), ({"host": "192.0.2.1"}, "CN=192.0.2.1")],
    )
    def test_it_says_no_more_than_the_user_did(self, log: Log, options: dict[str, str], subject: str) -> None:
        met = meet(server_context(Options(**options), log), Options(tls_verify="off"), log)
        certificate = x509.load_der_x509_certificate(met.getpeercert(binary_form=True) or b"")
        assert certificate.subject.rfc4514_string() == subject
        assert certificate.issuer == certificate.subject

    def test_what_both_speak(self, log: Log) -> None:
        context = server_context(Options(), log)
        met = meet(context, Options(tls_verify="off"), log)
        assert met.selected_alpn_protocol() == "http/1.1"
        assert met.version() == "TLSv1.3"
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2

    def test_a_certificate_that_was_given(self, tmp_path: Path, log: Log) -> None:
        server = Server("hub.example", Authority("Root"))
        met = meet(server_context(server.options(tmp_path), log), Options(tls_verify="off"), log)
        assert met.getpeercert(binary_form=True) == server.certificate.public_bytes(Encoding.DER)
        assert log.events == ["tls.certificate"]

    def test_one_that_ends_soon_is_worth_a_warning(self, tmp_path: Path, log: Log) -> None:
        server_context(Server("hub.example", Authority("Root"), days=5).options(tmp_path), log)
        assert log.events == ["tls.certificate", "tls.expiry"]

    def test_files_that_do_not_serve(self, tmp_path: Path, log: Log) -> None:
        authority = Authority("Root")
        options = Server("hub.example", authority).options(tmp_path)
        assert options.tls_key is not None
        other = Server("other.example", authority)
        secret = other.pem_key(BestAvailableEncryption(b"secret"))
        for content, why in [
            (other.pem_key(), "key values mismatch: give a PEM"),
            (secret, "the key is encrypted: give it without"),
            (b"", r"pem lib.*: give a PEM"),
        ]:
            options.tls_key.write_bytes(content)
            with pytest.raises(ConfigurationError, match=rf"--tls-cert: .*key\.pem: .*{why}"):
                server_context(options, log)
        options.tls_key.unlink()
        with pytest.raises(ConfigurationError, match=r"key\.pem: cannot be read: No such file"):
            server_context(options, log)

    def test_a_kept_certificate_that_was_damaged(self, tmp_path: Path, log: Log) -> None:
        (tmp_path / SELF_SIGNED_FILE).write_text("damaged")
        with pytest.raises(ConfigurationError, match=r"self-signed certificate: .*: delete"):
            server_context(Options(state=tmp_path), log)

    def test_no_place_to_keep_one(self, tmp_path: Path, log: Log) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(NetworkError, match=r"cannot be kept there: .*: make that directory writable"):
            server_context(Options(state=tmp_path / "file"), log)


class TestClient:
    """What is accepted."""

    @pytest.fixture
    def good(self, tmp_path: Path, log: Log) -> ssl.SSLContext:
        """A server with a certificate that verifies by way of another one."""
        root = Authority("Root")
        middle = Authority("Middle", root)
        (tmp_path / "root.pem").write_bytes(root.pem)
        context = server_context(Server("hub.example", middle).options(tmp_path, chain=middle.pem), log)
        log.clear()
        return context

    def test_auto_reports_a_certificate_once_and_goes_on(self, log: Log) -> None:
        server, other = server_context(Options(), log), server_context(Options(), log)
        log.clear()
        for context in (server, server, other, server, other):
            meet(context, Options(), log)
        assert log.events == ["tls.unverified"] * 2
        assert "hub.example: the outer certificate does not verify (self-signed)" in log[0][2]

    def test_the_next_call_uses_the_same_context(self, log: Log) -> None:
        assert client_context(Options(), log) is client_context(Options(), log)
        assert client_context(Options(), log) is not client_context(Options(sni="x"), log)

    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_a_certificate_that_verifies(self, good: ssl.SSLContext, tmp_path: Path, log: Log, mode: str) -> None:
        meet(good, Options(tls_ca=tmp_path / "root.pem", tls_verify=mode), log)
        assert not log

    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_a_certificate_that_is_trusted_itself(self, tmp_path: Path, log: Log, mode: str) -> None:
        server = server_context(Options(state=tmp_path, host="hub.example"), log)
        log.clear()
        meet(server, Options(tls_ca=tmp_path / SELF_SIGNED_FILE, tls_verify=mode), log)
        assert not log

    def test_another_name_or_issuer_is_reported(self, good: ssl.SSLContext, tmp_path: Path, log: Log) -> None:
        meet(good, Options(tls_ca=tmp_path / "root.pem"), log, "other.example")
        meet(good, Options(), log)
        assert log.events == ["tls.unverified"] * 2

    def test_the_name_is_the_one_that_was_sent(self, good: ssl.SSLContext, tmp_path: Path, log: Log) -> None:
        meet(good, Options(tls_ca=tmp_path / "root.pem", sni="hub.example"), log, "192.0.2.1")
        assert not log

    def test_strict_refuses_in_words(self, good: ssl.SSLContext, tmp_path: Path, log: Log) -> None:
        for options, host, why in [
            (Options(tls_verify="strict"), "hub.example", "unable to get|self-signed"),
            (Options(tls_verify="strict", tls_ca=tmp_path / "root.pem"), "other.example", "Hostname mismatch"),
        ]:
            with pytest.raises(ssl.SSLCertVerificationError) as refused:
                meet(good, options, log, host)
            words = explain(refused.value, options, host)
            assert words.startswith(f"TLS: the certificate for {host} does not verify: ")
            assert any(part in words for part in why.split("|"))
            assert "--tls-ca" in words

    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_a_pin_settles_it(self, tmp_path: Path, log: Log, mode: str) -> None:
        server = server_context(Options(state=tmp_path), log)
        log.clear()
        der = x509.load_pem_x509_certificate((tmp_path / SELF_SIGNED_FILE).read_bytes()).public_bytes(Encoding.DER)
        wrong = "sha256:" + "0" * 64
        meet(server, Options(tls_pin=(wrong, fingerprint(der)), tls_verify=mode), log)
        assert not log
        with pytest.raises(NetworkError, match=f"hub.example: TLS: .*{fingerprint(der)}.* --tls-pin: "):
            meet(server, Options(tls_pin=(wrong,), tls_verify=mode), log)

    def test_off_does_not_look(self, log: Log) -> None:
        server = server_context(Options(), log)
        log.clear()
        meet(server, Options(tls_verify="off"), log)
        assert not log

    def test_what_is_remembered_is_bounded(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "MAX_REPORTED", 3)
        server = server_context(Options(), log)
        for number in range(10):
            meet(server, Options(), log, f"hub{number}.example")
        assert len(client_context(Options(), log).reported) == 3

    def test_issuers_that_cannot_be_read(self, tmp_path: Path, log: Log) -> None:
        (tmp_path / "empty.pem").write_text("")
        for name, why in [("none.pem", "cannot be read"), ("empty.pem", "holds no certificates")]:
            with pytest.raises(ConfigurationError, match=f"--tls-ca: .*{name}: {why}"):
                client_context(Options(tls_ca=tmp_path / name, tls_verify="strict"), log)

    def test_what_does_not_speak_tls(self, log: Log) -> None:
        client = client_context(Options(), log)
        answer = ssl.MemoryBIO()
        answer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError) as refused:
            client.wrap_bio(answer, ssl.MemoryBIO(), server_hostname="x").do_handshake()
        assert "does not speak TLS" in explain(refused.value, Options(), "x")
