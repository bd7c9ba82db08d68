"""Settings and certificates -> the security module `tls`."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from caetun import plugins
from caetun.errors import ConfigurationError, Refused
from caetun.session.engine import CertificateIdentity, TlsFailure, TlsLibrary, ca_target, psk_target
from caetun.session.identity import NO_PSK, PeerId

if TYPE_CHECKING:
    from caetun.daemon.services import Hands
    from caetun.keyfiles import Keys
    from caetun.node import Node
    from caetun.security.credentials import Credentials
    from caetun.security.trust import Trust
    from caetun.settings import Settings

# chosen by us
MAX_TARGETS: Final = 4
"""Authorities by whose certificate far ends may call: each costs a code for every datagram of a flood."""
LIBRARIES: Final = {"openssl": "caetun.security.openssl", "tlslite": "caetun.security.tlslite"}
ENTRY_POINTS: Final = "caetun.tls"
"""Other packages' libraries: functions that take `Credentials` and return a `TlsLibrary`."""


def identity(settings: Settings, keys: Keys) -> CertificateIdentity:
    """Who we are, and whom we know."""
    assert keys.credentials is not None
    psk = NO_PSK if keys.psk is None else keys.psk.reveal()
    if keys.psk is not None:
        targets = [psk_target(psk)]
    else:
        targets = [ca_target(each) for each in keys.credentials.authorities[:MAX_TARGETS]]
    return CertificateIdentity(targets, {PeerId(peer.key): peer.certificate_name for peer in settings.peer}, psk)


def library(settings: Settings, keys: Keys) -> TlsLibrary:
    """The TLS library that the settings name. Raises ConfigurationError."""
    name, credentials = settings.tls_library, keys.credentials
    assert credentials is not None
    found = _make(name, credentials)
    try:
        found.client().step(b"")
    except TlsFailure as failure:
        raise ConfigurationError(f"--tls-library: {name}: cannot begin: {failure.why}: use another one") from None
    return found


def _make(name: str, credentials: Credentials) -> TlsLibrary:
    if name in LIBRARIES:
        made: TlsLibrary = import_module(LIBRARIES[name]).Library(credentials)
        return made
    found = plugins.added(ENTRY_POINTS)
    if name not in found:
        known = ", ".join([*LIBRARIES, *found])
        raise ConfigurationError(f"--tls-library: {name}: no such library: there are {known}")
    try:
        make: Callable[[Credentials], TlsLibrary] = plugins.load(found[name])
    except ImportError as error:
        raise ConfigurationError(f"--tls-library: {name}: cannot be loaded: {error}") from error
    return make(credentials)


def expel_revoked(node: Node, hands: Hands, trust: Trust) -> None:
    """End the sessions of those whose certificates are good no more."""
    wall = time.time()
    for peer in node.peers.values():
        if not peer.certificate:
            continue
        try:
            trust.check_revoked(peer.certificate, wall)
        except Refused as refused:
            hands.expel(peer, refused.detail)
