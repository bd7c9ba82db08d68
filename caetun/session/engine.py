"""What the security module `tls` needs of a TLS library, and of whoever judges certificates; whom it knows by name.

A library is exchangeable: it is `TlsLibrary`, two functions that make a `TlsEngine`. Both are in `caetun/security/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping, Sequence
from typing import Final, Protocol

from caetun.errors import Refused
from caetun.session.identity import NO_PSK, PeerId
from caetun.types import DropReason

# fixed by the specification
CA_LABEL: Final = b"caetun 1 tls ca"
PSK_LABEL: Final = b"caetun 1 tls psk"
NAME_LABEL: Final = b"caetun 1 name"


class TlsFailure(Exception):
    """A TLS handshake has failed. Never leaves the core and the libraries."""

    def __init__(self, why: str, *, theirs: bool = False, certificate: bool = False, flight: bytes = b"") -> None:
        """`why`: for a person; `theirs`: the far end has said so; `certificate`: it is about a certificate, and nobody
        has tampered with anything; `flight`: what the far end is to be told."""
        super().__init__(why)
        self.why = why
        self.theirs = theirs
        self.certificate = certificate
        self.flight = flight


class TlsEngine(Protocol):
    """One end of one TLS 1.3 connection: bytes in, bytes out. Client certificates are always asked for, no session is
    resumed, nothing is sent early."""

    @property
    def ready(self) -> bool:
        """Whether the handshake has ended well on this side."""

    @property
    def certificates(self) -> Sequence[bytes]:
        """What the far end has shown, DER, its own first; only once `ready`. At least one."""

    def step(self, records: bytes) -> bytes:
        """Take in bytes of TLS records (none to begin as a client); returns those to send. Raises TlsFailure."""

    def read(self) -> bytes:
        """What has come in as application data since the last call. Raises TlsFailure."""

    def write(self, data: bytes) -> bytes:
        """The records for application data; only once `ready`. Raises TlsFailure."""


class TlsLibrary(Protocol):
    """Makes engines that show our certificate."""

    verifies: bool
    """Whether its engines are `ready` only if the far end's chain ends at an authority of ours and is within its time.
    If not, `Judge` has to see to it."""
    certificate: bytes
    """Ours, DER."""
    chain_size: int
    """Bytes of all certificates that we show."""

    def client(self) -> TlsEngine:
        """The side that begins."""

    def server(self) -> TlsEngine:
        """The side that is called."""


class Judge(Protocol):
    """Decides whether a certificate is good."""

    def names(self, chain: Sequence[bytes], *, verified: bool, wall: float) -> tuple[str, ...]:
        """The names that the first certificate of a chain (DER) is good for; raises Refused with words for a person.

        `verified`: the library has seen to issuer and time; `wall`: seconds since 1970.
        """


def ca_target(certificate: bytes) -> bytes:
    """What whoever writes to a side under this authority must know: its certificate (DER)."""
    return hashlib.blake2s(CA_LABEL + certificate).digest()


def psk_target(psk: bytes) -> bytes:
    """The same where both sides hold a pre-shared key."""
    return hashlib.blake2s(PSK_LABEL + psk).digest()


def peer_id(name: str) -> PeerId:
    """Of the peer whose certificate bears this name."""
    return PeerId(hashlib.blake2s(NAME_LABEL + name.encode()).digest())


class CertificateIdentity:
    """Whom we know by the names in their certificates."""

    stranger: Callable[[bytes], bool] | None = None
    """Whether somebody may come with a good certificate, whom we do not know by name; None: nobody may."""

    def __init__(self, targets: Sequence[bytes], peers: MutableMapping[PeerId, str], psk: bytes = NO_PSK) -> None:
        """`targets`: at least one; the first is written to, all are answered to. `peers`: names, read at each use."""
        self.targets = targets
        self.peers = peers
        self.psk = psk

    @property
    def target(self) -> bytes:
        """What whoever writes to us must know."""
        return self.targets[0]

    def target_of(self, peer: PeerId) -> bytes:
        """What we must know to write to a peer."""
        return self.targets[0]

    def knows(self, peer: PeerId) -> bool:
        """Whether it is one of ours."""
        return peer in self.peers

    def learn(self, peer: PeerId, name: str) -> None:
        """A stranger is one of ours from now on; `name`: in its certificate."""
        self.peers[peer] = name

    def unlearn(self, peer: PeerId) -> None:
        """It is a stranger again."""
        self.peers.pop(peer, None)

    def recognise(self, names: Sequence[str]) -> PeerId:
        """The peer with one of these names; raises Refused for a stranger."""
        for name in names:
            if peer_id(name) in self.peers:
                return peer_id(name)
        if names and self.stranger is not None and self.stranger(peer_id(names[0])):
            return peer_id(names[0])
        raise Refused(DropReason.HANDSHAKE_UNKNOWN_PEER, f"no peer here is called {' or '.join(names) or 'nothing'}")
