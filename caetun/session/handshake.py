"""The handshake: Noise IKpsk2 or NNpsk0 in two messages, hybrid with ML-KEM-768 (docs/wire.md, section 2).

    initiate:                                       initiation ->
    receive:    admission -> respond    -> response ->
    receive:    admission -> conclude

Pure: datagrams in, datagrams and traffic keys out. A side may initiate and respond at the same time; then both
handshakes succeed, and the caller has two sets of keys to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from caetun.errors import ConfigurationError, PeerError, Refused
from caetun.session import kem
from caetun.session.admission import Admission
from caetun.session.cookies import Envelopes
from caetun.session.freshness import Freshness
from caetun.session.identity import NO_PSK, Identity, PeerId, SecretIdentity, StaticIdentity
from caetun.session.incarnation import Incarnations
from caetun.session.noise import Entropy, HandshakeState, Keys
from caetun.session.pending import ATTEMPT_SECONDS, Pending
from caetun.session.security import Answer, Cipher, Established, Policy, PostQuantum, Refusal, Security
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.handshake import (
    Header,
    decode_codes,
    decode_cookie_reply,
    decode_ephemeral,
    decode_piece,
    decode_type,
)
from caetun.wire.hello import Greeting, Hello, decode_greeting, encode_greeting
from caetun.wire.record import COOKIE_REPLY, INITIATION, RESPONSE

__all__ = [
    "Answer",
    "Cipher",
    "Established",
    "Handshakes",
    "Hello",
    "Identity",
    "PeerId",
    "Policy",
    "PostQuantum",
    "Refusal",
    "SecretIdentity",
    "Security",
    "StaticIdentity",
]


# fixed by the specification
PROLOGUE: Final = b"caetun 1"
SUITES: Final = {Cipher.AES_GCM: 1, Cipher.CHACHA20_POLY1305: 2}
_NOISE_NAMES: Final = {Cipher.AES_GCM: "AESGCM_SHA256", Cipher.CHACHA20_POLY1305: "ChaChaPoly_BLAKE2s"}
_CIPHERS: Final = {number: cipher for cipher, number in SUITES.items()}


@dataclass(slots=True)
class _Attempt:
    """An initiation of ours that waits for its response."""

    peer: PeerId
    cipher: Cipher
    noise: HandshakeState
    kem_key: kem.DecapsulationKey | None
    started: float


class Handshakes:
    """All handshakes of one node. Tables are bounded by the number of peers that `identity` knows."""

    def __init__(
        self,
        identity: Identity,
        hello: Hello,
        policy: Policy,
        *,
        entropy: Entropy,
        allocate_index: Callable[[], int],
        drops: Drops,
    ) -> None:
        """`hello`: ours; `allocate_index` gives unused, unpredictable session indices of 32 bits.

        Raises ConfigurationError if `policy` allows no cipher, or requires what this machine lacks.
        """
        policy.check()
        self.hello = hello
        self.drops = drops
        self._identity = identity
        self._policy = policy
        self._entropy = entropy
        self._allocate_index = allocate_index
        self._admission = Admission(identity.target, entropy, drops)
        self._envelopes = Envelopes(identity)
        self._freshness = Freshness()
        self._attempts: Pending[_Attempt] = Pending()
        self._incarnations = Incarnations(entropy)

    @property
    def identity(self) -> Identity:
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

    # initiator

    def initiate(self, peer: PeerId, now: float, wall: float, cipher: Cipher | None = None) -> list[bytes]:
        """Begin a handshake; returns the datagrams of its initiation. The last `MAX_ATTEMPTS` to a peer stay open.

        `now`: monotonic seconds; `wall`: seconds since 1970; `cipher`: an allowed one, by default the best.
        Raises ConfigurationError if peer or cipher is not known here.
        """
        cipher = cipher or self._policy.ciphers[0]
        if cipher not in self._policy.ciphers:
            raise ConfigurationError(f"the cipher {cipher} is not allowed here")
        keys = self._identity.initiator_keys(peer)
        index = self._fresh_index()
        noise = self._noise(cipher, index, keys, initiator=True)
        kem_key = kem.DecapsulationKey(self._entropy) if self._kem_enabled else None
        offer = None if kem_key is None else kem_key.public
        greeting = Greeting(
            self._incarnations.hello_to(peer, self.hello), time=self._freshness.stamp(wall), encapsulation_key=offer
        )
        message = noise.write_message(encode_greeting(greeting))
        self._freshness.sent(noise.ephemeral)
        self._attempts.begin(peer, index, _Attempt(peer, cipher, noise, kem_key, now))
        return self._envelopes.post(peer, Header(INITIATION, SUITES[cipher], index, 0), message, now)

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
        self._freshness.forget(peer)

    def estrange(self, peer: PeerId) -> None:
        """A peer is told with the next handshake that we have forgotten what was said."""
        self._incarnations.forget(peer)

    def admit(self, key: bytes) -> PeerId:
        """Know one more peer from now on, by its public key. Raises ConfigurationError."""
        if not isinstance(self._identity, StaticIdentity):
            raise ConfigurationError("a shared secret joins two hosts: use key pairs for more")
        self._identity.add(PeerId(key), NO_PSK)
        return PeerId(key)

    # both

    def receive(self, datagram: Buffer, source: str, now: float, wall: float) -> Answer:
        """Take in a datagram of type 1, 2 or 3. Whatever is wrong with it is counted in `drops`, and not answered.

        `source`: address, a space and the port; `now`: monotonic seconds; `wall`: seconds since 1970, part of every
        handshake module's interface (certificates are judged by it), of no use to Noise.
        """
        try:
            return self._receive(bytes(datagram), source, now)
        except PeerError as error:
            self.drops.count(error.reason)
            return Answer([])

    def _receive(self, datagram: bytes, source: str, now: float) -> Answer:
        if decode_type(datagram) == COOKIE_REPLY:
            return Answer(self._envelopes.take_cookie(decode_cookie_reply(datagram), now))
        codes = decode_codes(datagram)
        if not self._admission.genuine(codes):
            # No exception here: this is what a flood by a stranger costs.
            self.drops.count(DropReason.HANDSHAKE_MAC)
            return Answer([])
        piece = decode_piece(codes.covered)
        self._check_header(piece.header, now)
        challenge = self._admission.challenge(piece, codes, source, now)
        if challenge is not None:
            self.drops.count(DropReason.HANDSHAKE_COOKIE)
            return Answer(challenge)
        message = self._admission.join(piece, source, now)
        if message is None:
            return Answer([])
        if piece.header.kind == INITIATION:
            self._freshness.check_reflection(decode_ephemeral(message))
        self._admission.charge(source, now)
        if piece.header.kind == INITIATION:
            return self._respond(piece.header, message, now)
        return self._conclude(piece.header, message)

    def _check_header(self, header: Header, now: float) -> None:
        """Refuse what could not be used, before it costs anything; raises Refused."""
        if header.kind == INITIATION:
            if _CIPHERS.get(header.suite) not in self._policy.ciphers:
                raise Refused(DropReason.HANDSHAKE_SUITE)
            return
        attempt = self._attempts.get(header.receiver)
        if attempt is None or now - attempt.started >= ATTEMPT_SECONDS:
            raise Refused(DropReason.HANDSHAKE_UNEXPECTED, "a response to no initiation")
        if header.suite != SUITES[attempt.cipher]:
            raise Refused(DropReason.HANDSHAKE_SUITE)

    # responder

    def _respond(self, header: Header, message: bytes, now: float) -> Answer:
        """Answer an initiation. Nothing is remembered of it before all of it is accepted; raises PeerError."""
        cipher = _CIPHERS[header.suite]
        noise = self._noise(cipher, header.sender, self._identity.responder_keys(), initiator=False)
        payload = noise.read_message(message)
        peer = self._identity.recognise(noise.remote_static)
        greeting = decode_greeting(payload, INITIATION)
        assert greeting.time is not None  # the decoder sees to it
        self._freshness.check_replay(peer, greeting.time)
        shared, ciphertext = self._encapsulate(greeting.encapsulation_key)
        noise.psk = self._identity.psk_of(peer)
        response = noise.write_message(
            encode_greeting(Greeting(self._incarnations.hello_to(peer, self.hello), ciphertext=ciphertext))
        )
        self._freshness.accept(peer, greeting.time)
        index = self._fresh_index()
        established = _established(noise, shared, peer, cipher, (index, header.sender), greeting.hello)
        reply = Header(RESPONSE, header.suite, index, header.sender)
        return Answer(self._envelopes.post(peer, reply, response, now), established)

    def _encapsulate(self, offer: bytes | None) -> tuple[bytes | None, bytes | None]:
        """Shared secret and ciphertext for the initiator's encapsulation key; raises Refused."""
        if offer is not None and self._kem_enabled:
            return kem.encapsulate(offer)
        if self._policy.post_quantum is PostQuantum.REQUIRE:
            raise Refused(DropReason.HANDSHAKE_KEM, "the initiator offers no ML-KEM")
        return None, None

    # initiator again

    def _conclude(self, header: Header, message: bytes) -> Answer:
        """Take in the response to our initiation; raises PeerError, and then still waits for the true one."""
        attempt = self._attempts[header.receiver]
        noise = attempt.noise.fork()
        greeting = decode_greeting(noise.read_message(message), RESPONSE)
        shared = self._decapsulate(attempt.kem_key, greeting.ciphertext)
        self.abandon(attempt.peer)
        indices = (header.receiver, header.sender)
        return Answer([], _established(noise, shared, attempt.peer, attempt.cipher, indices, greeting.hello))

    def _decapsulate(self, key: kem.DecapsulationKey | None, ciphertext: bytes | None) -> bytes | None:
        """The shared secret, if the responder took our offer; raises Refused."""
        if ciphertext is None:
            if self._policy.post_quantum is PostQuantum.REQUIRE:
                raise Refused(DropReason.HANDSHAKE_KEM, "the responder has no ML-KEM")
            return None
        if key is None:
            raise Refused(DropReason.HANDSHAKE_KEM, "a ciphertext that we did not ask for")
        return key.decapsulate(ciphertext)

    # both

    def _fresh_index(self) -> int:
        """A session index that neither a session nor an attempt under way has."""
        while (index := self._allocate_index()) in self._attempts:
            pass
        return index

    @property
    def _kem_enabled(self) -> bool:
        return self._policy.post_quantum is not PostQuantum.OFF and kem.supported()

    def _noise(self, cipher: Cipher, index: int, keys: Keys, *, initiator: bool) -> HandshakeState:
        """`index`: the initiation's sender index."""
        protocol = f"Noise_{self._identity.pattern}_25519_{_NOISE_NAMES[cipher]}"
        prologue = PROLOGUE + bytes((SUITES[cipher],)) + index.to_bytes(4, "big")
        return HandshakeState(protocol, initiator, prologue, keys, self._entropy)


def _established(
    noise: HandshakeState,
    shared: bytes | None,
    peer: PeerId,
    cipher: Cipher,
    indices: tuple[int, int],
    hello: Hello,
) -> Established:
    """The outcome of a finished Noise handshake. `shared`: ML-KEM's secret; `indices`: ours and the peer's."""
    if shared is not None:
        noise.symmetric.mix_key(shared)
    send, receive = noise.split()
    assert send.key is not None
    assert receive.key is not None
    return Established(
        peer=peer,
        initiator=noise.initiator,
        cipher=cipher,
        send_key=send.key,
        receive_key=receive.key,
        local_index=indices[0],
        remote_index=indices[1],
        hello=hello,
        post_quantum=shared is not None,
    )
