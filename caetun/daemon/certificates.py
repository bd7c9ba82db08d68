"""Settings and certificates -> the security module `tls`."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from caetun.errors import ConfigurationError
from caetun.session.engine import CertificateIdentity, TlsLibrary, ca_target, psk_target
from caetun.session.handshake import Policy
from caetun.session.identity import NO_PSK, PeerId
from caetun.session.tls import TlsHandshakes
from caetun.types import Drops
from caetun.wire.hello import Hello

if TYPE_CHECKING:
    from caetun.keyfiles import Keys
    from caetun.security.credentials import Credentials
    from caetun.security.trust import Trust
    from caetun.settings import Settings

# chosen by us
MAX_TARGETS: Final = 4
"""Authorities by whose certificate far ends may call: each costs a code for every datagram of a flood."""
LIBRARIES: Final = {"openssl": "caetun.security.openssl", "tlslite": "caetun.security.tlslite"}
ENTRY_POINTS: Final = "caetun.tls"
"""Other packages' libraries: functions that take `Credentials` and return a `TlsLibrary`."""


def handshakes(
    settings: Settings,
    keys: Keys,
    trust: Trust,
    terms: tuple[Hello, Policy],
    allocate_index: Callable[[], int],
    drops: Drops,
) -> TlsHandshakes:
    """The module, ready for use. Raises ConfigurationError."""
    credentials = keys.credentials
    assert credentials is not None
    psk = NO_PSK if keys.psk is None else keys.psk.reveal()
    if keys.psk is not None:
        targets = [psk_target(psk)]
    else:
        targets = [ca_target(each) for each in credentials.authorities[:MAX_TARGETS]]
    peers = {PeerId(peer.key): peer.certificate_name for peer in settings.peer}
    identity = CertificateIdentity(targets, peers, psk)
    return TlsHandshakes(
        library(settings.tls_library, credentials), trust, identity, *terms,
        entropy=os.urandom, allocate_index=allocate_index, drops=drops,
    )  # fmt: skip


def library(name: str, credentials: Credentials) -> TlsLibrary:
    """The TLS library of that name. Raises ConfigurationError."""
    if name in LIBRARIES:
        made: TlsLibrary = import_module(LIBRARIES[name]).Library(credentials)
        return made
    # Imported here: it takes 30 ms, and few have a library of their own.
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        known = ", ".join([*LIBRARIES, *found])
        raise ConfigurationError(f"--tls-library: {name}: no such library: there are {known}")
    make: Callable[[Credentials], TlsLibrary] = found[name].load()
    return make(credentials)
