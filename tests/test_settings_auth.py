"""What is said about certificates and authentication goes together, or is told in one line."""

from __future__ import annotations

import base64

import pytest

from caetun.session.engine import peer_id
from caetun.sources import load
from tests.test_settings import refusal

KEY = base64.b64encode(b"\1" * 32).decode()
TLS = {"listen": ":4500", "security": "tls", "ca": "ca.crt", "cert": "hub.crt", "cert_key": "hub.key"}
NAMED = {**TLS, "peer": ["cn:alice"]}
NOISE = {"listen": ":4500", "key": "hub.key"}
KNOWN = {**NOISE, "peer": [KEY]}


def test_a_peer_by_the_name_in_its_certificate() -> None:
    (peer,) = load({**TLS, "peer": ["cn:alice@example.org,name=alice"]}).peer
    assert (peer.key, peer.certificate_name, peer.port.name) == (
        peer_id("alice@example.org"),
        "alice@example.org",
        "alice",
    )


def test_guests_need_no_peer() -> None:
    assert load({**NOISE, "auth": ["password"], "users": "users"}).peer == ()
    assert load({**TLS, "auth": ["certificate"]}).peer == ()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (TLS, "--peer: none given: name the far end's certificate: --peer cn:NAME"),
        ({**NAMED, "cert": None}, "--cert: not given: --security tls wants --ca, --cert and --cert-key"),
        ({**NAMED, "key": "k"}, "--key: --security tls has certificates instead of keys"),
        ({**NAMED, "secret_file": "s"}, "--secret-file: --security tls has certificates instead of keys"),
        ({**TLS, "peer": [KEY]}, "--peer: a public key is given, but --security tls knows names: give cn:NAME"),
        ({**TLS, "peer": ["cn:a", "cn:a,name=b"], "mode": "tap"}, "--peer: one certificate is named twice"),
        ({**TLS, "peer": ["cn:"]}, "--peer: 'cn:' names nobody: write cn: and the name in the certificate"),
        ({**NOISE, "peer": ["cn:alice"]}, "--peer: cn:alice names a certificate, which --security tls has"),
        ({**KNOWN, "ca": "ca.crt"}, "--ca: is for --security tls or --auth certificate: add one of them"),
        ({**KNOWN, "cert": "a.crt"}, "--cert: given without --cert-key: a certificate is shown with its key"),
        ({**KNOWN, "security": "ssl"}, "--security: 'ssl' is not known: give one of noise, tls"),
        ({**NOISE, "auth": ["key"]}, "--peer: no public key given"),
        ({**KNOWN, "auth": ["password"]}, "--users: not given: --auth password needs it"),
        ({**KNOWN, "auth": ["command"]}, "--auth-command: not given: --auth command needs it"),
        ({**KNOWN, "auth": ["certificate"]}, "--ca: not given: --auth certificate needs it"),
        ({**KNOWN, "users": "users"}, "--users: of no use without --auth password or totp: add it"),
        ({**KNOWN, "auth": ["totp"], "users": "users"}, "--auth: totp alone does not say whose code it is"),
        ({**KNOWN, "auth": ["key", "key"]}, "--auth: one value is given twice"),
        (
            {"connect": "h:1", "key": "k", "peer": [KEY], "auth": ["key"]},
            "--auth: asks those who call, and nobody can: add --listen",
        ),
    ],
)
def test_what_does_not_go_together(flags: dict[str, object], why: str) -> None:
    assert refusal({name: value for name, value in flags.items() if value is not None}).startswith(why)
