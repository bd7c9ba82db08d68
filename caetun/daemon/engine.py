"""Settings and keys -> the core: one node, its peers, and the switch or router between them if there are several."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from caetun.compression.registry import find as find_compression
from caetun.node import IndexAllocator, Node
from caetun.peers import Peer, Timing
from caetun.session.handshake import Cipher, Handshakes, PeerId, Policy, PostQuantum
from caetun.session.identity import NO_PSK, SecretIdentity, StaticIdentity
from caetun.session.session import Session
from caetun.types import Drops, Mode
from caetun.wire.hello import Hello

if TYPE_CHECKING:
    from caetun.board import Board
    from caetun.devices.base import Device
    from caetun.keyfiles import Keys
    from caetun.settings import Settings

# chosen by us
MAX_RECORD: Final = 64 * 1024
"""Bytes of sealed record this side puts together: what one burst of datagrams can carry."""


def make_node(settings: Settings, keys: Keys, device: Device, mtu: int, drops: Drops) -> Node:
    """The core of a tunnel, with every peer the settings name. Raises ConfigurationError."""
    entropy = os.urandom
    indices = IndexAllocator(entropy)
    identity, idents = _identity(keys)
    handshakes = Handshakes(
        identity,
        Hello(device.mode, device.offloads, mtu, MAX_RECORD, compression=settings.compress),
        Policy(_ciphers(settings.cipher), PostQuantum(settings.post_quantum)),
        entropy=entropy,
        allocate_index=indices,
        drops=drops,
    )
    board = _board(settings, device.mode, drops)
    node = Node(handshakes, indices, drops, board)
    for number, ident in enumerate(idents, 1):
        words = settings.peer[number - 1].port if settings.peer else settings.port_defaults
        name = words.name or ("peer" if len(idents) == 1 else f"peer{number}")
        port = words.settings(name) if board is not None and device.mode is Mode.TAP else None
        node.add(make_peer(settings, node, device, ident, name), port)
    return node


def make_peer(settings: Settings, node: Node, device: Device, ident: PeerId, name: str) -> Peer:
    """A far end, to be added to the node."""
    methods = tuple(map(find_compression, settings.compress))
    session = Session(device.mode, node.drops, settings.span, device.offloads, methods)
    timing = Timing(settings.keepalive, settings.rekey_after)
    return Peer(ident, name, session, node.handshakes, timing, os.urandom)


def _board(settings: Settings, mode: Mode, drops: Drops) -> Board | None:
    """A switch or router if there is something to decide: between two ends there is not, unless the user says so."""
    # Imported here: most tunnels join two ends.
    if mode is Mode.TUN:
        if len(settings.peer) < 2 and not settings.mesh and not any(peer.port.networks for peer in settings.peer):
            return None
        from caetun.daemon.routing import make_router

        return make_router(settings, drops)
    words = settings.port.words or settings.port_defaults.words or any(peer.port.words for peer in settings.peer)
    if len(settings.peer) < 2 and not words and not settings.vlan:
        return None
    from caetun.daemon.switching import make_switchboard

    return make_switchboard(settings, drops, time.monotonic())


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
