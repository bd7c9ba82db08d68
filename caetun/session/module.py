"""What security modules have in common: attempts, envelopes, the choice of ciphers, and the ways to forget a peer.

What each adds is a handshake: `handshake.py` Noise, `tls.py` certificates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from caetun.errors import ConfigurationError, PeerError
from caetun.session.cookies import Addresses, Envelopes
from caetun.session.identity import PeerId
from caetun.session.incarnation import Incarnations
from caetun.session.noise import Entropy
from caetun.session.pending import Pending
from caetun.session.security import Answer, Cipher, Policy
from caetun.types import Buffer, Drops
from caetun.wire.hello import Hello
from caetun.wire.record import INITIATION


class Means(NamedTuple):
    """What a node lends its security module."""

    hello: Hello
    """Ours."""
    policy: Policy
    entropy: Entropy
    allocate_index: Callable[[], int]
    """Gives unused, unpredictable session indices of 32 bits."""
    drops: Drops
    """Where messages that are not taken in are counted."""


class Acquaintances(Addresses, Protocol):
    """Whom a module knows, in its own way."""

    def unlearn(self, peer: PeerId) -> None:
        """It is a stranger from now on."""


K = TypeVar("K", bound=Acquaintances)
A = TypeVar("A")


class Module(ABC, Generic[K, A]):
    """A security module but for its handshake: identities of type `K`, attempts of type `A`."""

    def __init__(self, identity: K, means: Means) -> None:
        """Raises ConfigurationError if the policy allows no cipher, or requires what this machine lacks."""
        means.policy.check()
        self.hello = means.hello
        self.drops = means.drops
        self._identity = identity
        self._policy = means.policy
        self._allocate_index = means.allocate_index
        self._envelopes = Envelopes(identity)
        self._incarnations = Incarnations(means.entropy)
        self._attempts: Pending[A] = Pending()

    @property
    def identity(self) -> K:
        """Who we are, and whom we know."""
        return self._identity

    @property
    def ciphers(self) -> tuple[Cipher, ...]:
        """The allowed ones, best first."""
        return self._policy.ciphers

    def prefer(self, order: Sequence[Cipher]) -> tuple[Cipher, ...]:
        """Put the allowed ciphers into this order, those that it does not name last; returns them, best first."""
        self._policy = self._policy.preferring(order)
        return self._policy.ciphers

    def _chosen(self, cipher: Cipher | None) -> Cipher:
        """That for an attempt; raises ConfigurationError."""
        cipher = cipher or self._policy.ciphers[0]
        if cipher not in self._policy.ciphers:
            raise ConfigurationError(f"the cipher {cipher} is not allowed here")
        return cipher

    def abandon(self, peer: PeerId) -> None:
        """Forget the attempts to this peer, if there are any: a late response is not accepted any more."""
        self._attempts.abandon(peer)
        self._envelopes.forget(peer, INITIATION)

    def forget(self, peer: PeerId) -> None:
        """A peer is taken away. If it is added again, it will be told that we have forgotten what was said."""
        self.abandon(peer)
        self._incarnations.forget(peer)
        self._identity.unlearn(peer)
        self._envelopes.drop(peer)

    def estrange(self, peer: PeerId) -> None:
        """A peer is told with the next handshake that we have forgotten what was said."""
        self._incarnations.forget(peer)

    def receive(self, datagram: Buffer, source: str, now: float, wall: float) -> Answer:
        """Take in a datagram of type 1, 2 or 3. Whatever is wrong with it is counted in `drops`, and not answered.

        `source`: address, a space and the port; `now`: monotonic seconds; `wall`: seconds since 1970.
        """
        try:
            return self._receive(bytes(datagram), source, now, wall)
        except PeerError as error:
            self.drops.count(error.reason)
            return Answer([])

    @abstractmethod
    def _receive(self, datagram: bytes, source: str, now: float, wall: float) -> Answer:
        """As `receive`; raises PeerError."""

    def _fresh_index(self) -> int:
        """A session index that neither a session nor a handshake under way has."""
        while self._busy(index := self._allocate_index()):
            pass
        return index

    def _busy(self, index: int) -> bool:
        """Whether a handshake under way has this index."""
        return index in self._attempts
