"""Settings and keys -> the core: one node, its peers, and the switch between them if there are several."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from caetun.node import IndexAllocator, Node
from caetun.peers import Peer, Timing
from caetun.session.handshake import Cipher, Handshakes, PeerId, Policy, PostQuantum, Security
from caetun.session.identity import NO_PSK, SecretIdentity, StaticIdentity
from caetun.session.session import Session
from caetun.types import Drops, Mode
from caetun.wire.hello import Hello

if TYPE_CHECKING:
    from caetun.devices.base import Device
    from caetun.keyfiles import Keys
    from caetun.l2.switchboard import Switchboard
    from caetun.security.trust import Trust
    from caetun.settings import Settings

# chosen by us
MAX_RECORD: Final = 64 * 1024
"""Bytes of sealed record this side puts together: what one burst of datagrams can carry."""


def make_node(
    settings: Settings, keys: Keys, device: Device, mtu: int, drops: Drops, trust: Trust | None = None
) -> Node:
    """The core of a tunnel, with every peer the settings name. Raises ConfigurationError.

    `trust`: with --security tls.
    """
    entropy = os.urandom
    indices = IndexAllocator(entropy)
    hello = Hello(device.mode, device.offloads, mtu, MAX_RECORD)
    policy = Policy(_ciphers(settings.cipher), PostQuantum(settings.post_quantum))
    handshakes: Security
    if keys.credentials is not None:
        # Imported here: most tunnels have keys.
        from caetun.daemon import certificates

        assert trust is not None
        handshakes = certificates.handshakes(settings, keys, trust, (hello, policy), indices, drops)
        idents = [PeerId(key) for key in keys.peers]
    else:
        identity, idents = _identity(keys)
        handshakes = Handshakes(identity, hello, policy, entropy=entropy, allocate_index=indices, drops=drops)
    board = _switchboard(settings, device.mode, drops)
    node = Node(handshakes, indices, drops, board)
    timing = Timing(settings.keepalive, settings.rekey_after)
    for number, ident in enumerate(idents, 1):
        ref = settings.peer[number - 1] if settings.peer else None
        words = None if ref is None else ref.port
        said = "" if ref is None else ref.port.name or ref.certificate_name
        name = said or ("peer" if len(idents) == 1 else f"peer{number}")
        session = Session(device.mode, drops, settings.span, device.offloads)
        port = None if words is None or board is None else words.settings(name)
        node.add(Peer(ident, name, session, handshakes, timing, entropy), port)
    return node


def _switchboard(settings: Settings, mode: Mode, drops: Drops) -> Switchboard | None:
    """A switch if there is something to decide: between two ends there is not, unless the user says so."""
    said = settings.port.words or any(peer.port.words for peer in settings.peer)
    if mode is not Mode.TAP or (len(settings.peer) < 2 and not said):
        return None
    # Imported here: most tunnels join two ends.
    from caetun.daemon.switching import make_switchboard

    return make_switchboard(settings, drops, time.monotonic())


def _identity(keys: Keys) -> tuple[StaticIdentity | SecretIdentity, list[PeerId]]:
    """Who we are, and whom we know."""
    if keys.secret is not None:
        secret = SecretIdentity(keys.secret.reveal())
        return secret, [secret.peer]
    assert keys.private is not None  # the settings see to it
    psk = keys.psk.reveal() if keys.psk is not None else NO_PSK
    known: Mapping[bytes, bytes] = dict.fromkeys(keys.peers, psk)
    return StaticIdentity(keys.private.reveal(), known), [PeerId(peer) for peer in keys.peers]


def _ciphers(choice: str) -> tuple[Cipher, ...]:
    """What to accept, best first: AES where the processor has instructions for it."""
    if choice != "auto":
        return (Cipher(choice),)
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            words = set(cpuinfo.read().split())
    except OSError:
        words = {"aes"}
    fast_aes = not words.isdisjoint(("aes", "pmull"))
    return tuple(Cipher) if fast_aes else tuple(reversed(Cipher))
