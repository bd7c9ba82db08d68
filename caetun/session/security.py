"""What a security module is: handshake messages in; handshake messages, traffic keys and a peer out.

`handshake.py` has Noise, `tls.py` certificates. Both fulfil `Security`, and what they agree upon is `Established`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from caetun.errors import ConfigurationError
from caetun.session import kem
from caetun.session.identity import PeerId
from caetun.types import Buffer, Drops
from caetun.wire.hello import Hello


class Cipher(enum.StrEnum):
    """What seals records."""

    AES_GCM = "aes-gcm"
    CHACHA20_POLY1305 = "chacha20-poly1305"


class PostQuantum(enum.StrEnum):
    """Whether ML-KEM-768 takes part: if both sides have it, or else no handshake, or never."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Policy:
    """What we agree to."""

    ciphers: tuple[Cipher, ...] = (Cipher.AES_GCM, Cipher.CHACHA20_POLY1305)
    """Allowed ones, best first: at least one."""
    post_quantum: PostQuantum = PostQuantum.AUTO

    def check(self) -> None:
        """Raise ConfigurationError if no cipher is allowed, or something is required that this machine lacks."""
        if not self.ciphers:
            raise ConfigurationError("no cipher is allowed: name aes-gcm, chacha20-poly1305 or both")
        if self.post_quantum is PostQuantum.REQUIRE and not kem.supported():
            raise ConfigurationError("post-quantum = require needs ML-KEM, which this machine's `cryptography` lacks")

    def preferring(self, order: Sequence[Cipher]) -> Policy:
        """The same with the ciphers in this order, those that it does not name last."""
        named = [cipher for cipher in order if cipher in self.ciphers]
        rest = [cipher for cipher in self.ciphers if cipher not in named]
        return dataclasses.replace(self, ciphers=(*named, *rest))


@dataclass(frozen=True, slots=True)
class Established:
    """The outcome of a handshake."""

    peer: PeerId
    initiator: bool
    """Whether we were."""
    cipher: Cipher
    send_key: bytes = field(repr=False)
    """32 bytes."""
    receive_key: bytes = field(repr=False)
    """32 bytes."""
    local_index: int
    """What records to us carry, 32 bits."""
    remote_index: int
    """What records to the peer carry, 32 bits."""
    hello: Hello
    """The peer's."""
    post_quantum: bool
    """Whether ML-KEM took part."""
    certificate: bytes = b""
    """The one the peer has shown, DER; none with Noise."""


class Refusal(NamedTuple):
    """A handshake that one side has ended because of who the other is: worth a word to a person, unlike garbage."""

    why: str
    peer: PeerId | None
    """Who was called; None if he called us."""
    theirs: bool
    """Whether it is the far end that refuses us."""


class Answer(NamedTuple):
    """What a datagram leads to."""

    replies: list[bytes]
    """Datagrams to send back to where it came from."""
    established: Established | None = None
    refusal: Refusal | None = None


class Security(Protocol):
    """A security module: handshake messages in, handshake messages, traffic keys and a peer out. Pure."""

    hello: Hello
    """Ours."""
    drops: Drops

    @property
    def identity(self) -> object:
        """Who we are, and whom we know."""

    @property
    def ciphers(self) -> tuple[Cipher, ...]:
        """The allowed ones, best first."""

    def initiate(self, peer: PeerId, now: float, wall: float, cipher: Cipher | None = None) -> list[bytes]:
        """Begin a handshake with a peer, or repeat what has got no answer yet; returns datagrams of up to 1,200 bytes.

        `now`: monotonic seconds; `wall`: seconds since 1970; `cipher`: an allowed one, by default the best.
        Raises ConfigurationError if peer or cipher is not known here.
        """

    def abandon(self, peer: PeerId) -> None:
        """Forget the attempts to this peer, if there are any."""

    def forget(self, peer: PeerId) -> None:
        """A peer is taken away."""

    def estrange(self, peer: PeerId) -> None:
        """A peer is told with the next handshake that we have forgotten what was said."""

    def admit(self, key: bytes) -> PeerId:
        """Know one more peer from now on, by its public key. Raises ConfigurationError."""

    def prefer(self, order: Sequence[Cipher]) -> tuple[Cipher, ...]:
        """Put the allowed ciphers into this order, those that it does not name last; returns them, best first."""

    def receive(self, datagram: Buffer, source: str, now: float, wall: float) -> Answer:
        """Take in a datagram of type 1, 2 or 3; whatever is wrong with it is counted in `drops`.

        `source`: address, a space and the port; `now`: monotonic seconds; `wall`: seconds since 1970.
        """
