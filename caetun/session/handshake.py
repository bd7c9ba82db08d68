"""The handshake: Noise IKpsk2 or NNpsk0 in two messages, hybrid with ML-KEM-768 (docs/wire.md, section 2).

    initiate:                                       initiation ->
    receive:    admission -> respond    -> response ->
    receive:    admission -> conclude

Pure: datagrams in, datagrams and traffic keys out. A side may initiate and respond at the same time; then both
handshakes succeed, and the caller has two sets of keys to choose from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from caetun.errors import ConfigurationError, Refused
from caetun.session import kem
from caetun.session.admission import Admission
from caetun.session.freshness import Freshness
from caetun.session.hybrid import Hybrid
from caetun.session.identity import NO_PSK, Identity, PeerId, SecretIdentity, StaticIdentity
from caetun.session.module import Means, Module
from caetun.session.noise import HandshakeState, Keys
from caetun.session.pending import ATTEMPT_SECONDS
from caetun.session.security import Answer, Cipher, Established, Policy, PostQuantum, Refusal, Security
from caetun.types import DropReason
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


class Handshakes(Module[Identity, _Attempt]):
    """All handshakes of one node. Tables are bounded by the number of peers that `identity` knows."""

    def __init__(self, identity: Identity, means: Means) -> None:
        """Raises ConfigurationError if the policy allows no cipher, or requires what this machine lacks."""
        super().__init__(identity, means)
        self._entropy = means.entropy
        self._admission = Admission(identity.target, means.entropy, means.drops)
        self._freshness = Freshness()
        self._hybrid = Hybrid(means.policy.post_quantum, means.entropy)

    # initiator

    def initiate(self, peer: PeerId, now: float, wall: float, cipher: Cipher | None = None) -> list[bytes]:
        """Begin a handshake; returns the datagrams of its initiation. The last `MAX_ATTEMPTS` to a peer stay open.

        `now`: monotonic seconds; `wall`: seconds since 1970; `cipher`: an allowed one, by default the best.
        Raises ConfigurationError if peer or cipher is not known here.
        """
        cipher = self._chosen(cipher)
        keys = self._identity.initiator_keys(peer)
        index = self._fresh_index()
        noise = self._noise(cipher, index, keys, initiator=True)
        kem_key = self._hybrid.offer()
        offer = None if kem_key is None else kem_key.public
        greeting = Greeting(
            self._incarnations.hello_to(peer, self.hello), time=self._freshness.stamp(wall), encapsulation_key=offer
        )
        message = noise.write_message(encode_greeting(greeting))
        self._freshness.sent(noise.ephemeral)
        self._attempts.begin(peer, index, _Attempt(peer, cipher, noise, kem_key, now))
        return self._envelopes.post(peer, Header(INITIATION, SUITES[cipher], index, 0), message, now)

    def forget(self, peer: PeerId) -> None:
        """A peer is taken away. If it is added again, it will be told that we have forgotten what was said."""
        super().forget(peer)
        self._freshness.forget(peer)

    def admit(self, key: bytes) -> PeerId:
        """Know one more peer from now on, by its public key. Raises ConfigurationError."""
        if not isinstance(self._identity, StaticIdentity):
            raise ConfigurationError("a shared secret joins two hosts: use key pairs for more")
        self._identity.add(PeerId(key), NO_PSK)
        return PeerId(key)

    # both

    def _receive(self, datagram: bytes, source: str, now: float, wall: float) -> Answer:
        """`wall` is of no use to Noise: it is what certificates are judged by."""
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
        shared, ciphertext = self._hybrid.encapsulate(greeting.encapsulation_key)
        noise.psk = self._identity.psk_of(peer)
        response = noise.write_message(
            encode_greeting(Greeting(self._incarnations.hello_to(peer, self.hello), ciphertext=ciphertext))
        )
        self._freshness.accept(peer, greeting.time)
        index = self._fresh_index()
        established = _established(noise, shared, peer, cipher, (index, header.sender), greeting.hello)
        reply = Header(RESPONSE, header.suite, index, header.sender)
        return Answer(self._envelopes.post(peer, reply, response, now), established)

    # initiator again

    def _conclude(self, header: Header, message: bytes) -> Answer:
        """Take in the response to our initiation; raises PeerError, and then still waits for the true one."""
        attempt = self._attempts[header.receiver]
        noise = attempt.noise.fork()
        greeting = decode_greeting(noise.read_message(message), RESPONSE)
        shared = self._hybrid.decapsulate(attempt.kem_key, greeting.ciphertext)
        self.abandon(attempt.peer)
        indices = (header.receiver, header.sender)
        return Answer([], _established(noise, shared, attempt.peer, attempt.cipher, indices, greeting.hello))

    # both

    def _noise(self, cipher: Cipher, index: int, keys: Keys, *, initiator: bool) -> HandshakeState:
        """`index`: the initiation's sender index."""
        protocol = f"Noise_{self._identity.pattern}_25519_{_NOISE_NAMES[cipher]}"
        prologue = PROLOGUE + bytes((SUITES[cipher],)) + index.to_bytes(4, "big")
        return HandshakeState(protocol, initiator, prologue, keys, self._entropy)


def _established(
    noise: HandshakeState,
    shared: bytes,
    peer: PeerId,
    cipher: Cipher,
    indices: tuple[int, int],
    hello: Hello,
) -> Established:
    """The outcome of a finished Noise handshake. `shared`: ML-KEM's secret, if any; `indices`: ours, theirs."""
    if shared:
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
        post_quantum=bool(shared),
    )
