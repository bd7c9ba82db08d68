"""Who we are and whom we know: static keys as in WireGuard, or one secret that two hosts share. And keys as text."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, MutableMapping
from typing import Final, NewType, TypeAlias

from caetun.errors import ConfigurationError, Refused
from caetun.session.noise import DhKey, Entropy, Keys
from caetun.types import DropReason

PeerId = NewType("PeerId", bytes)
"""32 bytes: the peer's static public key, or the hash of the shared secret."""

# fixed by the specification
KEY_SIZE: Final = 32
NO_PSK: Final = bytes(KEY_SIZE)
"""Stands for a pre-shared key that was not given."""
SECRET_LABEL: Final = b"caetun 1 secret"


def generate_key(entropy: Entropy) -> bytes:
    """A new private key, pre-shared key or secret: 32 bytes."""
    return entropy(KEY_SIZE)


def public_key(private: bytes) -> bytes:
    """The public key (32 bytes) of a private key (32 bytes); raises ConfigurationError."""
    return DhKey(_checked(private, "private key")).public


def encode_key(key: bytes) -> str:
    """Base64 of 32 bytes: 44 characters, as WireGuard writes keys."""
    return base64.b64encode(key).decode()


def decode_key(text: str) -> bytes:
    """The 32 bytes of a key in base64, blanks around it allowed; raises ConfigurationError without showing it."""
    stripped = text.strip()
    try:
        key = base64.b64decode(stripped, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE or encode_key(key) != stripped:
        raise ConfigurationError(
            f"not a key: expected 44 characters of base64 (32 bytes, as `caetun genkey` prints them), "
            f"got {len(stripped)} characters"
        )
    return key


def _checked(key: bytes, name: str) -> bytes:
    if len(key) != KEY_SIZE:
        raise ConfigurationError(f"a {name} has {KEY_SIZE} bytes, not {len(key)}")
    return key


def _check_order(ours: DhKey, peer: bytes) -> None:
    """Refuse a public key that yields the same secret with every private key (RFC 7748, section 7)."""
    try:
        ours.exchange(peer)
    except Refused:
        raise ConfigurationError(
            f"--peer: {encode_key(peer)} is nobody's public key (it is of low order): give what `caetun pubkey` prints"
        ) from None


class StaticIdentity:
    """A static key of ours, and the public keys of those we talk to: pattern IKpsk2."""

    pattern = "IKpsk2"
    stranger: Callable[[bytes], bool] | None = None
    """Whether somebody may come whom we do not know, by public key; None: nobody may."""

    def __init__(self, private: bytes, peers: MutableMapping[bytes, bytes]) -> None:
        """`private`: 32 bytes; `peers`: public key -> pre-shared key or `NO_PSK`, read at each use, so it may change.

        Raises ConfigurationError.
        """
        self._static = DhKey(_checked(private, "private key"))
        self._peers = peers
        self.target = self._static.public
        """What whoever writes to us must know: section 2.2 of docs/wire.md."""
        for peer, psk in peers.items():
            _checked(peer, "public key")
            _checked(psk, "pre-shared key")
            _check_order(self._static, peer)
        if self.target in peers:
            raise ConfigurationError("--peer: is this host's own public key: give the peer's key, not yours")

    def add(self, peer: PeerId, psk: bytes) -> None:
        """Know another peer, or a known one by another pre-shared key from now on. Raises ConfigurationError."""
        _checked(psk, "pre-shared key")
        _check_order(self._static, _checked(peer, "public key"))
        if peer == self.target:
            raise ConfigurationError("a peer has this host's own public key")
        self._peers[peer] = psk

    def dismiss(self, peer: bytes) -> None:
        """Know a peer no more."""
        self._peers.pop(peer, None)

    def target_of(self, peer: PeerId) -> bytes:
        """What we must know to write to a peer."""
        return peer

    def recognise(self, remote_static: bytes | None) -> PeerId:
        """The peer with this public key; raises Refused for a stranger who may not come."""
        if remote_static is not None and remote_static in self._peers:
            return PeerId(remote_static)
        if remote_static in (None, self.target) or self.stranger is None or not self.stranger(remote_static):
            raise Refused(DropReason.HANDSHAKE_UNKNOWN_PEER)
        return PeerId(remote_static)

    def knows(self, peer: PeerId) -> bool:
        """Whether it is one of ours."""
        return peer in self._peers

    def learn(self, peer: PeerId, name: str) -> None:
        """A stranger is one of ours from now on, called that."""
        self._peers[peer] = NO_PSK

    def unlearn(self, peer: PeerId) -> None:
        """It is a stranger again."""
        self._peers.pop(peer, None)

    def psk_of(self, peer: PeerId) -> bytes:
        """32 bytes; a stranger has none."""
        return self._peers.get(peer, NO_PSK)

    def initiator_keys(self, peer: PeerId) -> Keys:
        """For an initiation to a peer; raises ConfigurationError for a stranger."""
        if peer not in self._peers:
            raise ConfigurationError(f"no peer has the public key {encode_key(peer)}")
        return Keys(self._static, peer, self._peers[peer])

    def responder_keys(self) -> Keys:
        """For an initiation that came in: from whom, it has yet to tell."""
        return Keys(self._static)


class SecretIdentity:
    """A secret that exactly two hosts share: pattern NNpsk0. The peer has no name but the secret's."""

    pattern = "NNpsk0"
    stranger: Callable[[bytes], bool] | None = None
    """There are none: whoever has the secret is the peer."""

    def __init__(self, secret: bytes) -> None:
        """`secret`: 32 bytes. Raises ConfigurationError."""
        self._secret = _checked(secret, "secret")
        self.target = hashlib.blake2s(SECRET_LABEL + secret).digest()
        """What whoever writes to us must know: section 2.2 of docs/wire.md."""
        self.peer = PeerId(self.target)
        """The only peer there is."""

    def target_of(self, peer: PeerId) -> bytes:
        """What we must know to write to the peer."""
        return self.target

    def recognise(self, remote_static: bytes | None) -> PeerId:
        """Whoever has the secret is the peer: there are no static keys."""
        return self.peer

    def knows(self, peer: PeerId) -> bool:
        """Whether it is the one there is."""
        return peer == self.peer

    def learn(self, peer: PeerId, name: str) -> None:
        """There is nobody to learn."""

    def unlearn(self, peer: PeerId) -> None:
        """There is nobody to forget."""

    def psk_of(self, peer: PeerId) -> bytes:
        """32 bytes."""
        return self._secret

    def initiator_keys(self, peer: PeerId) -> Keys:
        """For an initiation to the peer; raises ConfigurationError for another."""
        if peer != self.peer:
            raise ConfigurationError("a shared secret knows one peer only, and this is another")
        return Keys(psk=self._secret)

    def responder_keys(self) -> Keys:
        """For an initiation that came in."""
        return Keys(psk=self._secret)


Identity: TypeAlias = StaticIdentity | SecretIdentity
