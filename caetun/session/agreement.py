"""How two sides agree on traffic keys inside a finished TLS channel (docs/wire.md, section 2.4).

Python's TLS has no exporter below 3.13, so what the keys are made of crosses the channel: a nonce and an X25519 share
from each side, and ML-KEM if both have it. Whoever wants the keys must have broken TLS and the exchange inside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from caetun.session import kem
from caetun.session.hybrid import Hybrid
from caetun.session.noise import DhKey, Entropy
from caetun.session.security import Policy
from caetun.wire import tls
from caetun.wire.hello import Greeting, Hello, decode_greeting, encode_greeting
from caetun.wire.record import INITIATION, RESPONSE

# fixed by the specification
LABEL: Final = b"caetun 1 tls"
KEYS_LABEL: Final = b"caetun 1 tls keys"
KEY_SIZE: Final = 32


@dataclass(slots=True)
class Offer:
    """The initiator's part."""

    private: DhKey
    kem_key: kem.DecapsulationKey | None
    nonce: bytes = field(repr=False)
    message: bytes = field(repr=False)
    """As it goes into the channel."""


class View(NamedTuple):
    """What both sides must have seen alike."""

    suite: int
    """Of the cipher, 1 or 2."""
    initiator: int
    """Session index."""
    responder: int
    certificates: tuple[bytes, bytes]
    """The initiator's and the responder's, DER."""


class Agreed(NamedTuple):
    """The outcome."""

    message: bytes
    """For the channel; the responder's only."""
    hello: Hello
    """The far end's."""
    initiator_key: bytes
    """What the initiator seals with, 32 bytes."""
    responder_key: bytes
    post_quantum: bool


class Agreement:
    """One node's way to agree."""

    def __init__(self, policy: Policy, psk: bytes, entropy: Entropy) -> None:
        """`psk`: 32 bytes."""
        self._psk = psk
        self._entropy = entropy
        self._hybrid = Hybrid(policy.post_quantum, entropy)

    def propose(self, hello: Hello, wall: float) -> Offer:
        """The initiator's part. `hello`: ours; `wall`: seconds since 1970."""
        private, nonce = DhKey(self._entropy(tls.SHARE_SIZE)), self._entropy(tls.NONCE_SIZE)
        kem_key = self._hybrid.offer()
        greeting = Greeting(hello, int(wall) * 1_000_000_000, None if kem_key is None else kem_key.public)
        message = tls.encode_inner(tls.InnerGreeting(nonce, private.public, encode_greeting(greeting)))
        return Offer(private, kem_key, nonce, message)

    def accept(self, theirs: tls.InnerGreeting, ours: Hello, view: View) -> Agreed:
        """The responder's answer and keys. Raises PeerError."""
        greeting = decode_greeting(theirs.hello, INITIATION)
        shared, ciphertext = self._hybrid.encapsulate(greeting.encapsulation_key)
        private, nonce = DhKey(self._entropy(tls.SHARE_SIZE)), self._entropy(tls.NONCE_SIZE)
        hello = encode_greeting(Greeting(ours, ciphertext=ciphertext))
        message = tls.encode_inner(tls.InnerGreeting(nonce, private.public, hello))
        material = private.exchange(theirs.share) + self._psk + shared + theirs.nonce + nonce
        keys = traffic_keys(material, view, tls.encode_inner(theirs), message)
        return Agreed(message, greeting.hello, *keys, bool(shared))

    def conclude(self, offer: Offer, theirs: tls.InnerGreeting, view: View) -> Agreed:
        """The initiator's keys. Raises PeerError."""
        greeting = decode_greeting(theirs.hello, RESPONSE)
        shared = self._hybrid.decapsulate(offer.kem_key, greeting.ciphertext)
        material = offer.private.exchange(theirs.share) + self._psk + shared + offer.nonce + theirs.nonce
        keys = traffic_keys(material, view, offer.message, tls.encode_inner(theirs))
        return Agreed(b"", greeting.hello, *keys, bool(shared))


def traffic_keys(material: bytes, view: View, *messages: bytes) -> tuple[bytes, bytes]:
    """The initiator's and the responder's sending key. `messages`: both greetings, the initiator's first."""
    digest = hashlib.sha256(LABEL)
    for part in _parts(view, messages):
        digest.update(len(part).to_bytes(4, "big") + part)
    keys = HKDF(SHA256(), 2 * KEY_SIZE, digest.digest(), KEYS_LABEL).derive(material)
    return keys[:KEY_SIZE], keys[KEY_SIZE:]


def _parts(view: View, messages: Sequence[bytes]) -> Sequence[bytes]:
    indices = (index.to_bytes(4, "big") for index in (view.initiator, view.responder))
    return bytes((view.suite,)), *indices, *view.certificates, *messages
