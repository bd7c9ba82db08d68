"""What QUIC imports only when certificates are to be verified by aioquic."""

from __future__ import annotations

import subprocess
import sys

LATE = ("OpenSSL", "certifi", "service_identity")


def run(program: str) -> str:
    """In an interpreter of its own: here others may have imported all of it."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_they_are_not_imported_with_quic() -> None:
    assert run(f"import sys, caetun.transports.quic; print([name for name in {LATE} if name in sys.modules])") == "[]"


def test_they_are_when_something_of_them_is_asked_for() -> None:
    said = run(
        "import caetun.transports.quic\n"
        "from aioquic import tls\n"
        "store = tls.crypto.X509Store()\n"
        "store.load_locations(tls.certifi.where())\n"
        "error = tls.service_identity.CertificateError\n"
        "import OpenSSL.crypto, certifi, service_identity\n"
        "print(type(store) is OpenSSL.crypto.X509Store, error is service_identity.CertificateError)\n"
    )
    assert said == "True True"


def test_who_has_imported_them_keeps_them() -> None:
    assert run("import certifi as before, caetun.transports.quic, certifi; print(certifi is before)") == "True"
