"""The outer layer as a user sets it up: certificates and who insists on them, and what strangers find at the port."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from caetun.lab import Lab
from tests.tunnel.ends import End, endpoint, write
from tests.tunnel.street import Street, await_port, start, stop
from tests.tunnel.watch import until, way

pytestmark = pytest.mark.needs("namespaces", "tun", "ip")

# chosen by us
_SECURE: Final = ("tls", "wss", "quic")
_WRONG: Final = f"sha256:{'0' * 64}"
_CERTIFICATE: Final = "/run/caetun-state/tls-self-signed.pem"
"""Where the hub keeps what it has made; its host alone sees it."""
_PAGE: Final = "<h1>Nothing to see here</h1>"
_WEB_PORT: Final = 8088


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with Lab() as lab:
        yield Street(lab)


@pytest.fixture
def hub(street: Street) -> Iterator[End]:
    """Listens by all that have TLS, and has made a certificate for it."""
    end = street.listen("--listen", ":443", "--transport", ",".join(_SECURE))
    yield end
    stop(end)


def pin_of(hub: End) -> str:
    """The fingerprint that it prints."""
    (told,) = hub.events("tls.certificate")
    assert told["message"].startswith(f"certificate (self-signed, {_CERTIFICATE}): ")
    return str(told["message"].rpartition(" ")[2])


def certificate_of(street: Street) -> str:
    """The file in which it is kept, less the key, as the client has it."""
    assert street.hub.run(["stat", "-c", "%a", _CERTIFICATE]).strip() == "600"
    _, begin, end = street.hub.run(["cat", _CERTIFICATE]).partition("-----BEGIN CERTIFICATE-----")
    return write(street.client, "/run/hub.pem", begin + end)


def refused(street: Street, carrier: str, *arguments: str) -> str:
    """What a client says that does not get through."""
    client = start(street.client, *street.near, "--connect", f"{carrier}://{street.address}:443", *arguments)
    lines: list[str] = []
    until(lambda: lines.extend(event["message"] for event in client.events("ladder")) or lines, "it gives a reason")
    assert client.stop() == 0
    return lines[0]


@pytest.mark.parametrize("carrier", _SECURE)
def test_by_default_a_certificate_is_reported_once_and_a_pin_or_an_issuer_settles_it(
    street: Street, hub: End, carrier: str
) -> None:
    url = f"{carrier}://{street.address}:443"
    client = street.call_url(url)
    (told,) = client.events("tls.unverified")
    assert "self-signed" in told["message"]
    assert f"--tls-pin {pin_of(hub)}" in told["message"]
    assert client.stop() == 0
    issuer = ["--tls-verify", "strict", "--tls-ca", certificate_of(street), "--sni", "localhost"]
    for settled in (["--tls-pin", pin_of(hub)], issuer, ["--tls-verify", "off"]):
        client = street.call_url(url, *settled)
        assert way(client) == carrier
        assert not client.events("tls.unverified")
        assert client.stop() == 0


@pytest.mark.parametrize("carrier", _SECURE)
def test_who_insists_is_not_satisfied_by_any_certificate(street: Street, hub: End, carrier: str) -> None:
    said = refused(street, carrier, "--tls-pin", _WRONG)
    assert "not one given by --tls-pin" in said
    assert pin_of(hub) in said
    strict = refused(street, carrier, "--tls-verify", "strict", "--sni", "localhost")
    assert "self-signed" in strict or "self signed" in strict or "unable to get local issuer" in strict


def test_the_certificate_is_kept(street: Street) -> None:
    pins = []
    for _ in range(2):
        hub = street.listen("--listen", ":443", "--transport", "wss")
        pins.append(pin_of(hub))
        stop(hub)
    assert pins[0] == pins[1]


def test_names_of_the_outer_layer_are_as_asked(street: Street) -> None:
    hub = street.listen("--listen", "quic://:443", "--alpn", "doq")
    assert "no_application_protocol" in refused(street, "quic").replace(" ", "_").lower()
    client = street.call_url(f"quic://{street.address}:443", "--alpn", "doq", "--sni", "hub.example")
    assert way(client) == "quic"
    stop(client, hub)


# what strangers find


def page(street: Street, *, secure: bool, path: str = "/") -> tuple[int, str]:
    """What a browser gets: status and content."""
    sock = street.proxy.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(10)
    sock.connect((street.address, 443))
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    browser = http.client.HTTPConnection("hub")
    browser.sock = sock
    browser.request("GET", path)
    answer = browser.getresponse()
    content = answer.read().decode()
    browser.close()
    return answer.status, content


@pytest.mark.parametrize("kind", ["a directory", "a web server"])
def test_a_decoy_is_what_strangers_see(street: Street, kind: str) -> None:
    street.hub.run(["mkdir", "-p", "/run/www"])
    write(street.hub, "/run/www/index.html", _PAGE, mode=0o644)
    decoy = "/run/www"
    web = None
    if kind == "a web server":
        command = [
            sys.executable,
            "-m",
            "http.server",
            str(_WEB_PORT),
            "--directory",
            "/run/www",
            "--bind",
            "127.0.0.1",
        ]
        web = street.hub.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_port(street.hub, "127.0.0.1", _WEB_PORT)
        decoy = f"http://127.0.0.1:{_WEB_PORT}"
    hub = street.listen("--listen", "wss://:443/2b1f", "--listen", "ws://:443/2b1f", "--decoy", decoy)
    for secure in (False, True):
        assert page(street, secure=secure) == (200, _PAGE)
        assert page(street, secure=secure, path="/2b1f")[0] == 404, "nothing that is not asked for rightly"
    client = street.call_url(f"wss://{endpoint(street.address, 443)}/2b1f")
    assert way(client) == "wss"
    stop(client, hub)
    if web is not None:
        web.terminate()
        web.wait()
