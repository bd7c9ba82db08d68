"""The security module `tls`: TLS 1.3 with certificates both ways, over handshake datagrams (docs/wire.md, section 2.4).

    exchange 1    ClientHello ->                                 <- ServerHello ... Finished
    exchange 2    Certificate ... Finished, greeting ->          <- greeting

The initiator drives: it repeats its flight until the answer comes, the responder repeats its answer. The greetings
cross inside the finished channel, and both sides make the traffic keys of them: a `ClientHello` that asks to be
retried, or a library with flights of its own, costs exchanges, up to 15.

Pure, as `session/handshake.py`; what a library draws of the clock and of chance for TLS itself is its own business.
"""

from __future__ import annotations

from typing import Final

from caetun.errors import ConfigurationError, Malformed, PeerError, Refused
from caetun.session.admission import Admission, host_of
from caetun.session.agreement import Agreed, Agreement, Offer, View
from caetun.session.cookies import NO_MAC2, mac, mac1_key
from caetun.session.engine import CertificateIdentity, Judge, TlsEngine, TlsFailure, TlsLibrary
from caetun.session.handshake import SUITES
from caetun.session.identity import PeerId
from caetun.session.module import Means, Module
from caetun.session.pending import ATTEMPT_SECONDS
from caetun.session.security import Answer, Cipher, Established, Refusal
from caetun.session.serving import Attempt, Channel, Served, Serving, opening_of
from caetun.types import DropReason
from caetun.wire import tls
from caetun.wire.handshake import (
    MAX_DATAGRAM,
    Codes,
    Header,
    Piece,
    cut,
    decode_codes,
    decode_cookie_reply,
    decode_piece,
    decode_type,
)
from caetun.wire.record import COOKIE_REPLY, INITIATION, RESPONSE

_CIPHERS: Final = {number: cipher for cipher, number in SUITES.items()}

# chosen by us
MAX_REPEATS: Final = 4
"""How often a flight is repeated before another attempt is begun beside it: the far end may have been restarted."""
AMPLIFICATION: Final = 3
"""How many times longer than a first flight its answer may be without a cookie (RFC 9000, section 8.1)."""
ANSWER_OVERHEAD: Final = 900
"""Bytes of an answer to a first flight beside the certificates."""


class TlsHandshakes(Module[CertificateIdentity, Attempt]):
    """All handshakes of one node (`session.security.Security`)."""

    def __init__(self, library: TlsLibrary, judge: Judge, identity: CertificateIdentity, means: Means) -> None:
        """As of `Handshakes`. Raises ConfigurationError."""
        super().__init__(identity, means)
        self._library = library
        self._judge = judge
        self._gates = [Admission(target, means.entropy, means.drops) for target in identity.targets]
        self._agreement = Agreement(means.policy, identity.psk, means.entropy)
        self._long = library.chain_size + ANSWER_OVERHEAD > AMPLIFICATION * MAX_DATAGRAM
        self._serving = Serving()

    # initiator

    def initiate(self, peer: PeerId, now: float, wall: float, cipher: Cipher | None = None) -> list[bytes]:
        """Begin a handshake, or repeat the flight of the newest one. The last `MAX_ATTEMPTS` to a peer stay open."""
        cipher = self._chosen(cipher)
        if peer not in self._identity.peers:
            raise ConfigurationError("no peer has this name")
        index = self._attempts.newest(peer)
        if index is not None:
            newest = self._attempts[index]
            fresh = now - newest.started < ATTEMPT_SECONDS and newest.repeats < MAX_REPEATS
            if newest.cipher is cipher and fresh:
                newest.repeats += 1
                return self._post(index, newest, now)
        engine = self._library.client()
        index = self._fresh_index()
        attempt = Attempt(engine, cipher, now, peer=peer, flight=tls.encode_flight(engine.step(b""), first=True))
        self._attempts.begin(peer, index, attempt)
        return self._post(index, attempt, now)

    def _post(self, index: int, attempt: Attempt, now: float) -> list[bytes]:
        suite = tls.encode_suite(SUITES[attempt.cipher], attempt.exchange)
        header = Header(INITIATION, suite, index, attempt.remote_index)
        return self._envelopes.post(attempt.peer, header, attempt.flight, now)

    def admit(self, key: bytes) -> PeerId:
        """There are no public keys here: raises ConfigurationError."""
        raise ConfigurationError("certificates name who may come: issue one instead of an invitation")

    # both

    def _receive(self, datagram: bytes, source: str, now: float, wall: float) -> Answer:
        if decode_type(datagram) == COOKIE_REPLY:
            return Answer(self._envelopes.take_cookie(decode_cookie_reply(datagram), now))
        codes = decode_codes(datagram)
        gate = next((gate for gate in self._gates if gate.genuine(codes)), None)
        if gate is None:
            self.drops.count(DropReason.HANDSHAKE_MAC)
            return Answer([])
        piece = decode_piece(codes.covered)
        cipher, exchange = tls.decode_suite(piece.header.suite)
        if not exchange or _CIPHERS.get(cipher) not in self._policy.ciphers:
            raise Refused(DropReason.HANDSHAKE_SUITE)
        if piece.header.kind == RESPONSE:
            attempt = self._expected(piece.header, exchange, now)
            message = gate.join(piece, source, now)
            return Answer([]) if message is None else self._proceed(attempt, piece.header, message, now, wall)
        if exchange == 1:
            return self._opened(gate, piece, codes, (source, now, wall))
        served = self._continued(piece.header, exchange, now)
        message = gate.join(piece, source, now)
        if message is None:
            return Answer([])
        if exchange == served.exchange or served.over:
            return Answer(served.reply)
        served.exchange = exchange
        return self._serve(piece.header.receiver, served, message, wall)

    # responder

    def _opened(self, gate: Admission, piece: Piece, codes: Codes, where: tuple[str, float, float]) -> Answer:
        """A first flight; `where`: source, now, wall."""
        source, now, wall = where
        header = piece.header
        challenge = gate.challenge(piece, codes, source, now, always=self._long)
        if challenge is not None:
            self.drops.count(DropReason.HANDSHAKE_COOKIE)
            return Answer(challenge)
        message = gate.join(piece, source, now)
        if message is None:
            return Answer([])
        if header.sender in self._attempts:
            raise Refused(DropReason.HANDSHAKE_REFLECTED)
        opening = opening_of(header, message)
        known = self._serving.known(opening, now)
        if known is not None:
            # Later replies answer later flights: who repeats this one has not got the first reply.
            return Answer(known.reply if known.exchange == 1 else [])
        gate.charge(source, now)
        index = self._fresh_index()
        cipher = _CIPHERS[tls.decode_suite(header.suite)[0]]
        served = Served(
            self._library.server(), cipher, now, 1, header.sender, b"", opening, host_of(source), gate.target
        )
        self._serving.add(index, served)
        return self._serve(index, served, message, wall)

    def _continued(self, header: Header, exchange: int, now: float) -> Served:
        """The handshake that a later flight belongs to; raises Refused."""
        served = self._serving.get(header.receiver, now)
        if served is None or served.remote_index != header.sender or not 0 <= exchange - served.exchange <= 1:
            raise Refused(DropReason.HANDSHAKE_UNEXPECTED)
        return served

    def _serve(self, index: int, served: Served, message: bytes, wall: float) -> Answer:
        """Answer a flight. Whatever comes of it is what repeated flights are answered with."""
        established, refusal, flight = None, None, b""
        try:
            flight = served.engine.step(tls.decode_flight(message))
            inner = served.read()
            if isinstance(inner, tls.Refusal):
                raise TlsFailure(inner.why, theirs=True, certificate=True)
            if inner is not None:
                more, established = self._respond(index, served, inner, wall)
                flight += more
        except TlsFailure as failure:
            flight, refusal = flight + failure.flight, self._failed(failure, None)
            served.over = True
        except Malformed as malformed:
            flight, served.over = b"", True
            self.drops.count(malformed.reason)
        served.over = served.over or established is not None
        served.reply = self._reply(index, served, flight) if flight else []
        return Answer(served.reply, established, refusal)

    def _reply(self, index: int, served: Served, flight: bytes) -> list[bytes]:
        """Its datagrams. They need no mac2: they are awaited under an index that only the initiator knows."""
        suite = tls.encode_suite(SUITES[served.cipher], served.exchange)
        header = Header(RESPONSE, suite, index, served.remote_index)
        key = mac1_key(served.target)
        bare = cut(header, tls.encode_flight(flight, first=False))
        return [datagram + mac(key, datagram) + NO_MAC2 for datagram in bare]

    def _respond(
        self, index: int, served: Served, theirs: tls.InnerGreeting, wall: float
    ) -> tuple[bytes, Established | None]:
        """The end of a handshake that the far end began: records to send, and the outcome. Raises TlsFailure."""
        try:
            names = self._judged(served.engine, wall)
            peer = self._identity.recognise(names)
        except Refused as refused:
            raise self._refusal(served.engine, refused) from None
        certificate = served.engine.certificates[0]
        view = View(SUITES[served.cipher], served.remote_index, index, (certificate, self._library.certificate))
        try:
            agreed = self._agreement.accept(theirs, self._incarnations.hello_to(peer, self.hello), view)
        except PeerError as error:
            raise TlsFailure(str(error)) from None
        established = _established(peer, index, served, agreed, initiator=False)
        return served.engine.write(agreed.message), established

    # initiator again

    def _expected(self, header: Header, exchange: int, now: float) -> Attempt:
        """The attempt that a response answers; raises Refused."""
        attempt = self._attempts.get(header.receiver)
        if attempt is None or now - attempt.started >= ATTEMPT_SECONDS or exchange != attempt.exchange:
            raise Refused(DropReason.HANDSHAKE_UNEXPECTED, "a response to no initiation")
        if attempt.remote_index not in (0, header.sender):
            raise Refused(DropReason.HANDSHAKE_UNEXPECTED, "a response of somebody else")
        return attempt

    def _proceed(self, attempt: Attempt, header: Header, message: bytes, now: float, wall: float) -> Answer:
        """Take in a response: the next flight, or the outcome. Raises PeerError, and then still waits."""
        records = tls.decode_flight(message)
        index, flight = header.receiver, b""
        try:
            attempt.remote_index = header.sender
            flight = attempt.engine.step(records)
            if attempt.engine.ready and attempt.offer is None:
                attempt.offer = self._offer(attempt, wall)
                flight += attempt.engine.write(attempt.offer.message)
            inner = attempt.read()
            if isinstance(inner, tls.Refusal):
                raise TlsFailure(inner.why, theirs=True, certificate=True)
            if inner is not None:
                established = self._conclude(index, attempt, inner)
                self.abandon(attempt.peer)
                return Answer([], established)
        except TlsFailure as failure:
            failure.flight = flight + failure.flight
            return self._give_up(index, attempt, failure, now)
        except Malformed as malformed:
            return self._give_up(index, attempt, TlsFailure(str(malformed)), now)
        return Answer(self._next_flight(index, attempt, flight, now))

    def _next_flight(self, index: int, attempt: Attempt, flight: bytes, now: float) -> list[bytes]:
        if not flight or attempt.exchange == tls.MAX_EXCHANGES:
            return []
        attempt.exchange += 1
        attempt.repeats = 0
        attempt.flight = tls.encode_flight(flight, first=False)
        return self._post(index, attempt, now)

    def _give_up(self, index: int, attempt: Attempt, failure: TlsFailure, now: float) -> Answer:
        """A handshake of ours has failed: tell the far end, and forget it."""
        replies = self._next_flight(index, attempt, failure.flight, now)
        refusal = self._failed(failure, attempt.peer)
        self._envelopes.forget(attempt.peer, INITIATION)
        self._attempts.end(attempt.peer, index)
        if refusal is not None:
            self.abandon(attempt.peer)
        return Answer(replies, None, refusal)

    def _offer(self, attempt: Attempt, wall: float) -> Offer:
        """Our part, now that we know who the far end is. Raises TlsFailure if it is another one."""
        try:
            names = self._judged(attempt.engine, wall)
            wanted = self._identity.peers[attempt.peer]
            if wanted not in names:
                why = f"its certificate is that of {' or '.join(names) or 'nobody'}, not of {wanted}"
                raise Refused(DropReason.HANDSHAKE_CERTIFICATE, why)
        except Refused as refused:
            raise self._refusal(attempt.engine, refused) from None
        return self._agreement.propose(self._incarnations.hello_to(attempt.peer, self.hello), wall)

    def _conclude(self, index: int, attempt: Attempt, theirs: tls.InnerGreeting) -> Established:
        """The end of a handshake of ours. Raises TlsFailure."""
        assert attempt.offer is not None
        certificate = attempt.engine.certificates[0]
        view = View(SUITES[attempt.cipher], index, attempt.remote_index, (self._library.certificate, certificate))
        try:
            agreed = self._agreement.conclude(attempt.offer, theirs, view)
        except PeerError as error:
            raise TlsFailure(str(error)) from None
        return _established(attempt.peer, index, attempt, agreed, initiator=True)

    # both

    def _judged(self, engine: TlsEngine, wall: float) -> tuple[str, ...]:
        return self._judge.names(engine.certificates, verified=self._library.verifies, wall=wall)

    @staticmethod
    def _refusal(engine: TlsEngine, refused: Refused) -> TlsFailure:
        """We do not take the far end's certificate; it is told so inside the channel."""
        flight = engine.write(tls.encode_inner(tls.Refusal(refused.detail)))
        return TlsFailure(refused.detail, certificate=True, flight=flight)

    def _failed(self, failure: TlsFailure, peer: PeerId | None) -> Refusal | None:
        """What to tell of a failure: garbage is only counted."""
        if not failure.certificate:
            self.drops.count(DropReason.HANDSHAKE_TLS)
            return None
        self.drops.count(DropReason.HANDSHAKE_CERTIFICATE)
        return Refusal(failure.why, peer, failure.theirs)

    def _busy(self, index: int) -> bool:
        return super()._busy(index) or index in self._serving


def _established(peer: PeerId, index: int, channel: Channel, agreed: Agreed, *, initiator: bool) -> Established:
    """The outcome of a finished handshake. `index`: ours; `initiator`: whether we were."""
    keys = agreed.initiator_key, agreed.responder_key
    send, receive = keys if initiator else reversed(keys)
    return Established(
        peer=peer,
        initiator=initiator,
        cipher=channel.cipher,
        send_key=send,
        receive_key=receive,
        local_index=index,
        remote_index=channel.remote_index,
        hello=agreed.hello,
        post_quantum=agreed.post_quantum,
        certificate=channel.engine.certificates[0],
    )
