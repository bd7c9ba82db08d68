"""Settings and keys -> the core: one node, its peers, and the switch or router between them if there are several."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from caetun.node import IndexAllocator, Node
from caetun.peers import Peer, Timing
from caetun.session.handshake import Handshakes
from caetun.session.identity import NO_PSK, PeerId, SecretIdentity, StaticIdentity
from caetun.session.module import Means
from caetun.session.security import Cipher, Established, Policy, PostQuantum, Security
from caetun.session.session import Session
from caetun.types import Drops, Mode
from caetun.wire.hello import Hello

if TYPE_CHECKING:
    from caetun.board import Board
    from caetun.compression.base import Method
    from caetun.devices.base import Device
    from caetun.keyfiles import Keys
    from caetun.security.trust import Trust
    from caetun.session.engine import CertificateIdentity
    from caetun.settings import Settings

Identity: TypeAlias = "StaticIdentity | SecretIdentity | CertificateIdentity"

# chosen by us
GUEST: Final = "guest-"
"""What the name of a peer begins with that no configuration names, until it has said who it is."""
MAX_RECORD: Final = 64 * 1024
"""Bytes of sealed record this side puts together: what one burst of datagrams can carry."""


class Core(NamedTuple):
    """A node, and what makes it grow."""

    node: Node
    identity: Identity
    make_guest: Callable[[Established], Peer]
    """A peer that no configuration names, added to the node."""
    several: bool
    """Whether there is something that decides between peers."""
    nowhere: bool
    """Whether that has no way to a guest: a router that gives out no addresses."""


def make_core(
    settings: Settings, keys: Keys, device: Device, mtu: int, drops: Drops, trust: Trust | None = None
) -> Core:
    """The core of a tunnel, with every peer the settings name. Raises ConfigurationError.

    `trust`: with --security tls.
    """
    indices = IndexAllocator(os.urandom)
    hello = Hello(device.mode, device.offloads, mtu, MAX_RECORD, compression=settings.compress)
    policy = Policy(_ciphers(settings.cipher), PostQuantum(settings.post_quantum))
    handshakes, identity, idents = _security(settings, keys, Means(hello, policy, os.urandom, indices, drops), trust)
    board = _board(settings, device.mode, drops)
    node = Node(handshakes, indices, drops, board)
    switched = board is not None and device.mode is Mode.TAP

    def make_guest(established: Established) -> Peer:
        ident = established.peer
        in_certificate = () if trust is None or not established.certificate else trust.names_of(established.certificate)
        identity.learn(ident, in_certificate[0] if in_certificate else "")
        name = f"{GUEST}{ident[:4].hex()}"
        guest = make_peer(settings, node, device, ident, name)
        node.add(guest, settings.port_defaults.settings(name) if switched else None)
        return guest

    _add_peers(settings, node, device, idents)
    nowhere = board is not None and not switched and not settings.pool_network
    return Core(node, identity, make_guest, board is not None, nowhere)


def _security(
    settings: Settings, keys: Keys, means: Means, trust: Trust | None
) -> tuple[Security, Identity, Sequence[PeerId]]:
    """The security module, who we are to it, and whom it knows. Raises ConfigurationError."""
    if settings.security != "tls":
        named, idents = _identity(keys)
        return Handshakes(named, means), named, idents
    # Imported here: most tunnels have keys.
    from caetun.daemon import certificates
    from caetun.session.tls import TlsHandshakes

    assert trust is not None
    identity = certificates.identity(settings, keys)
    handshakes = TlsHandshakes(certificates.library(settings, keys), trust, identity, means)
    return handshakes, identity, [PeerId(key) for key in keys.peers]


def _add_peers(settings: Settings, node: Node, device: Device, idents: Sequence[PeerId]) -> None:
    """Make every far end that the settings name known."""
    switched = node.board is not None and device.mode is Mode.TAP
    for number, ident in enumerate(idents, 1):
        ref = settings.peer[number - 1] if settings.peer else None
        words = settings.port_defaults if ref is None else ref.port
        said = "" if ref is None else ref.port.name or ref.certificate_name
        name = said or ("peer" if len(idents) == 1 else f"peer{number}")
        port = words.settings(name) if switched else None
        node.add(make_peer(settings, node, device, ident, name), port)


def make_trust(settings: Settings) -> Trust | None:
    """Whose certificates are good, if any are wanted. Raises ConfigurationError."""
    if settings.ca is None:
        return None
    # Imported here: most tunnels have keys.
    from cryptography.hazmat.primitives.serialization import Encoding

    from caetun.security.credentials import read_certificates
    from caetun.security.trust import Trust

    return Trust([each.public_bytes(Encoding.DER) for each in read_certificates(settings.ca, "--ca")], settings.crl)


def _methods(names: Sequence[str]) -> Sequence[Method]:
    if not names:
        return ()
    from caetun.compression.registry import find

    return tuple(map(find, names))


def make_peer(settings: Settings, node: Node, device: Device, ident: PeerId, name: str) -> Peer:
    """A far end, to be added to the node."""
    session = Session(device.mode, node.drops, settings.span, device.offloads, _methods(settings.compress))
    timing = Timing(settings.keepalive, settings.rekey_after)
    return Peer(ident, name, session, node.handshakes, timing, os.urandom)


def _board(settings: Settings, mode: Mode, drops: Drops) -> Board | None:
    """A switch or router if there is something to decide: between two ends there is not, unless the user says so."""
    # Imported here: most tunnels join two ends.
    if mode is Mode.TUN:
        guests = bool(settings.auth and settings.pool_network)
        alone = len(settings.peer) < 2 and not settings.mesh and not settings.enrols and not guests
        if alone and not any(peer.port.networks for peer in settings.peer):
            return None
        from caetun.daemon.routing import make_router

        return make_router(settings, drops)
    member = settings.mesh and bool(settings.connect)
    alone = len(settings.peer) < 2 and not settings.auth and not settings.enrols and not member
    if alone and not _speaks_of_switch(settings):
        return None
    from caetun.daemon.switching import make_switchboard

    return make_switchboard(settings, drops, time.monotonic())


def _speaks_of_switch(settings: Settings) -> bool:
    """Whether anything is said that only a switch can do: of a port, a VLAN or the whole."""
    # Imported here: a tunnel of IP packets has none.
    from caetun.settings import OPTIONS

    options = [option for option in OPTIONS.values() if option.group == "switch" and option.name != "bridge"]
    said = any(getattr(settings, option.name) != option.default for option in options)
    return said or any(peer.port.words for peer in settings.peer)


def _identity(keys: Keys) -> tuple[StaticIdentity | SecretIdentity, list[PeerId]]:
    """Who we are, and whom we know."""
    if keys.secret is not None:
        secret = SecretIdentity(keys.secret.reveal())
        return secret, [secret.peer]
    assert keys.private is not None  # the settings see to it
    psk = keys.psk.reveal() if keys.psk is not None else NO_PSK
    known: dict[bytes, bytes] = dict.fromkeys(keys.peers, psk)
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
