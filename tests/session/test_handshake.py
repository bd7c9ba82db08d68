"""Two nodes shake hands: agreement, ciphers and ML-KEM, loss. What attackers do is in test_handshake_attacks.py."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from caetun.errors import ConfigurationError
from caetun.session import kem
from caetun.session.cookies import MAX_KEPT
from caetun.session.handshake import Cipher, Handshakes, Hello, PeerId, Policy, PostQuantum, StaticIdentity
from caetun.session.identity import NO_PSK, public_key
from caetun.session.module import Means
from caetun.session.noise import DhKey, HandshakeState, Keys
from caetun.session.pending import ATTEMPT_SECONDS, MAX_ATTEMPTS
from caetun.types import DropReason, Drops, Mode
from tests.session.pair import (
    A_HELLO,
    A_KEY,
    AES_ONLY,
    B_HELLO,
    B_KEY,
    C_KEY,
    HYBRID,
    KINDS,
    PLAIN,
    PSK,
    WALL,
    Node,
    Pair,
    agree,
    identities,
    with_mac1,
)

# agreement


@pytest.mark.parametrize("policy", [PLAIN, HYBRID], ids=["plain", "hybrid"])
@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("kind", KINDS)
def test_two_nodes_agree(kind: str, cipher: Cipher, policy: Policy) -> None:
    pair = Pair(kind, policy, policy)
    initiation = pair.initiate(cipher=cipher)
    assert len(initiation) == (2 if policy is HYBRID else 1)
    assert all(len(datagram) <= 1200 for datagram in initiation)
    pair.deliver(initiation)
    (a,), (b,) = pair.a.established, pair.b.established
    assert agree(a, b)
    assert a.initiator
    assert (a.peer, b.peer) == (pair.to_b, pair.to_a)
    assert [replace(each.hello, incarnation=0) for each in (a, b)] == [B_HELLO, A_HELLO]
    assert 0 != a.hello.incarnation != b.hello.incarnation != 0
    assert a.cipher is b.cipher is cipher
    assert a.post_quantum is b.post_quantum is (policy is HYBRID)
    assert len({a.send_key, a.receive_key}) == 2
    assert len(a.send_key) == len(a.receive_key) == 32
    assert pair.drops() == {}


def test_a_second_implementation_can_read_docs_wire() -> None:
    """The initiation and the response taken apart by hand, as docs/wire.md has them."""
    pair = Pair("static with psk")
    (initiation,) = pair.initiate()
    kind, piece, count, suite, sender, receiver = struct.unpack_from(">BBBBII", initiation)
    assert (kind, piece, count, suite, receiver) == (1, 0, 1, 1, 0)
    key = hashlib.blake2s(b"caetun 1 mac1" + public_key(B_KEY)).digest()
    assert initiation[-32:-16] == hashlib.blake2s(initiation[:-32], key=key, digest_size=16).digest()
    prologue = b"caetun 1\x01" + struct.pack(">I", sender)
    keys = Keys(DhKey(B_KEY), psk=PSK)
    noise = HandshakeState("Noise_IKpsk2_25519_AESGCM_SHA256", False, prologue, keys, lambda size: b"\x05" * size)
    payload = noise.read_message(initiation[12:-32])
    assert payload[:-8] == (
        struct.pack(">BHQI", 1, 12, int(WALL), 0)
        + b"\x02\x00\x01\x02"
        + b"\x03\x00\x04\x00\x00\x00\x0f"
        + b"\x04\x00\x02\x23\x28"
        + b"\x07\x00\x04\x00\x00\xff\xff"
        + b"\x08\x00\x08"
    )
    covered = struct.pack(">BBBBII", 2, 0, 1, 1, 77, sender) + noise.write_message(b"\x02\x00\x01\x01")
    pair.a.hear([with_mac1(covered, public_key(A_KEY))], "elsewhere 1")
    (a,) = pair.a.established
    send, receive = noise.split()
    assert (a.receive_key, a.send_key, a.remote_index) == (send.key, receive.key, 77)
    assert a.hello == Hello(Mode.TUN, offloads=0, mtu=1500, max_record=1440)


def test_keys_differ_each_time() -> None:
    pair = Pair()
    for now in (0.0, 1.0):
        pair.deliver(pair.initiate(now), now)
    first, second = pair.a.established
    assert len({first.send_key, first.receive_key, second.send_key, second.receive_key}) == 4
    assert pair.drops() == {}


def test_a_peer_is_told_the_same_incarnation_until_it_is_forgotten() -> None:
    pair = Pair()
    told = []
    for now in (0.0, 1.0, 2.0):
        pair.deliver(pair.initiate(now), now)
        told.append(pair.b.established[-1].hello.incarnation)
        if now == 1.0:
            pair.a.handshakes.forget(pair.to_b)
            assert pair.a.handshakes.admit(pair.to_b) == pair.to_b
    assert told[0] == told[1] != told[2]


def test_both_initiate_at_once() -> None:
    for kind in KINDS:
        pair = Pair(kind, HYBRID, HYBRID)
        from_a, from_b = pair.initiate(), pair.b.handshakes.initiate(pair.to_a, 0.0, WALL + 5)
        to_a, to_b = pair.b.hear(from_a, pair.a.address), pair.a.hear(from_b, pair.b.address)
        pair.a.hear(to_a, pair.b.address)
        pair.b.hear(to_b, pair.a.address)
        (a_responded, a_initiated), (b_responded, b_initiated) = pair.a.established, pair.b.established
        assert agree(a_initiated, b_responded)
        assert agree(b_initiated, a_responded)
        assert pair.drops() == {}


def test_a_hub_tells_its_peers_apart() -> None:
    hub = Node("hub", StaticIdentity(B_KEY, {public_key(A_KEY): NO_PSK, public_key(C_KEY): PSK}))
    for name, key, psk in (("a", A_KEY, NO_PSK), ("c", C_KEY, PSK)):
        spoke = Node(name, StaticIdentity(key, {public_key(B_KEY): psk}))
        initiation = spoke.handshakes.initiate(PeerId(public_key(B_KEY)), 0.0, WALL)
        spoke.hear(hub.hear(initiation, spoke.address), "hub 1")
        assert agree(spoke.established[0], hub.established[-1])
        assert hub.established[-1].peer == public_key(key)
    assert hub.drops == {}


# ciphers and ML-KEM

AUTO, REQUIRE, OFF = PostQuantum.AUTO, PostQuantum.REQUIRE, PostQuantum.OFF


@pytest.mark.parametrize(
    ("a", "b", "hybrid"),
    [
        (AUTO, AUTO, True),
        (AUTO, REQUIRE, True),
        (REQUIRE, AUTO, True),
        (AUTO, OFF, False),
        (OFF, AUTO, False),
        (OFF, OFF, False),
    ],
)
def test_ml_kem_takes_part_if_both_let_it(a: PostQuantum, b: PostQuantum, hybrid: bool) -> None:
    pair = Pair(a_policy=Policy(post_quantum=a), b_policy=Policy(post_quantum=b))
    pair.deliver(pair.initiate())
    assert agree(pair.a.established[0], pair.b.established[0])
    assert pair.a.established[0].post_quantum is pair.b.established[0].post_quantum is hybrid


def test_responder_that_requires_ml_kem() -> None:
    pair = Pair(b_policy=HYBRID)
    assert pair.b.hear(pair.initiate(), pair.a.address) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_KEM: 1}


def test_initiator_that_requires_ml_kem() -> None:
    pair = Pair(a_policy=HYBRID)
    pair.deliver(pair.initiate())
    assert pair.a.established == []
    assert pair.a.drops == {DropReason.HANDSHAKE_KEM: 1}


def test_a_machine_without_ml_kem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kem, "supported", lambda: False)
    pair = Pair(a_policy=Policy(), b_policy=Policy())
    pair.deliver(pair.initiate())
    assert not pair.a.established[0].post_quantum
    with pytest.raises(ConfigurationError, match="ML-KEM"):
        Pair(a_policy=HYBRID)


def test_initiator_tries_its_other_cipher() -> None:
    pair = Pair(b_policy=Policy((Cipher.CHACHA20_POLY1305,), OFF))
    pair.deliver(pair.initiate())
    assert pair.drops() == {DropReason.HANDSHAKE_SUITE: 1}
    pair.deliver(pair.initiate(cipher=Cipher.CHACHA20_POLY1305))
    assert agree(pair.a.established[0], pair.b.established[0])
    assert pair.a.established[0].cipher is Cipher.CHACHA20_POLY1305


def test_response_in_another_suite() -> None:
    pair = Pair()
    (response,) = pair.b.hear(pair.initiate(), pair.a.address)
    pair.a.hear([with_mac1(response[:3] + b"\x02" + response[4:-32], pair.to_a)], pair.b.address)
    assert pair.a.drops == {DropReason.HANDSHAKE_SUITE: 1}


def test_what_the_user_cannot_have() -> None:
    a, _ = identities("static")
    with pytest.raises(ConfigurationError, match="no cipher"):
        Node("a", a, policy=Policy(ciphers=()))
    with pytest.raises(ConfigurationError, match="not allowed"):
        Pair(a_policy=AES_ONLY).initiate(cipher=Cipher.CHACHA20_POLY1305)
    with pytest.raises(ConfigurationError, match="no peer"):
        Node("a", a).handshakes.initiate(PeerId(public_key(C_KEY)), 0.0, WALL)


# loss, reordering, duplication


@pytest.mark.parametrize("lost", [0, 1])
def test_lost_piece_of_the_initiation(lost: int) -> None:
    pair = Pair(a_policy=HYBRID, b_policy=HYBRID)
    initiation = pair.initiate()
    del initiation[lost]
    pair.deliver(initiation)
    assert pair.b.established == []
    pair.deliver(pair.initiate(6.0), 6.0)
    assert agree(pair.a.established[0], pair.b.established[0])
    assert pair.drops() == {DropReason.HANDSHAKE_INCOMPLETE: 1}


@pytest.mark.parametrize("lost", [0, 1])
def test_lost_piece_of_the_response(lost: int) -> None:
    pair = Pair(a_policy=HYBRID, b_policy=HYBRID)
    response = pair.b.hear(pair.initiate(), pair.a.address)
    del response[lost]
    pair.a.hear(response, pair.b.address)
    assert pair.a.established == []
    pair.deliver(pair.initiate(1.0), 1.0)
    assert agree(pair.a.established[0], pair.b.established[1])


def test_pieces_the_wrong_way_round() -> None:
    pair = Pair(a_policy=HYBRID, b_policy=HYBRID)
    response = pair.b.hear(reversed(pair.initiate()), pair.a.address)
    pair.a.hear(reversed(response), pair.b.address)
    assert agree(pair.a.established[0], pair.b.established[0])


def test_everything_twice() -> None:
    pair = Pair()
    initiation = pair.initiate()
    response = pair.b.hear(initiation * 2, pair.a.address)
    pair.a.hear(response * 2, pair.b.address)
    assert agree(pair.a.established[0], pair.b.established[0])
    assert pair.b.drops == {DropReason.HANDSHAKE_REPLAYED: 1}
    assert pair.a.drops == {DropReason.HANDSHAKE_UNEXPECTED: 1}


def test_the_first_answer_counts_whichever_attempt_it_is_for() -> None:
    for answered in range(MAX_ATTEMPTS):
        pair = Pair()
        initiations = [pair.initiate(float(now)) for now in range(MAX_ATTEMPTS)]
        responses = [pair.b.hear(initiation, pair.a.address, 4.0) for initiation in initiations]
        pair.a.hear(responses[answered], pair.b.address, 4.0)
        (a,) = pair.a.established
        assert agree(a, pair.b.established[answered])
        for late in responses:
            pair.a.hear(late, pair.b.address, 4.0)
        assert len(pair.a.established) == 1
        assert pair.drops() == {DropReason.HANDSHAKE_UNEXPECTED: MAX_ATTEMPTS}


def test_one_attempt_too_many_ends_the_oldest() -> None:
    pair = Pair()
    initiations = [pair.initiate(float(now)) for now in range(MAX_ATTEMPTS + 1)]
    oldest, second = (pair.b.hear(initiation, pair.a.address, 5.0) for initiation in initiations[:2])
    pair.a.hear(oldest, pair.b.address, 5.0)
    assert pair.a.established == []
    pair.a.hear(second, pair.b.address, 5.0)
    assert len(pair.a.established) == 1


def test_late_response() -> None:
    pair = Pair()
    response = pair.b.hear(pair.initiate(), pair.a.address)
    pair.a.hear(response, pair.b.address, ATTEMPT_SECONDS)
    assert pair.a.established == []
    pair.a.hear(response, pair.b.address, ATTEMPT_SECONDS - 0.1)
    assert len(pair.a.established) == 1


def test_abandoned_attempts() -> None:
    pair = Pair()
    responses = [pair.b.hear(pair.initiate(now), pair.a.address, now) for now in (0.0, 1.0)]
    pair.a.handshakes.abandon(pair.to_b)
    pair.a.handshakes.abandon(pair.to_b)
    for response in responses:
        pair.a.hear(response, pair.b.address, 1.0)
    assert pair.a.established == []
    assert pair.a.drops == {DropReason.HANDSHAKE_UNEXPECTED: 2}


def test_the_index_of_an_attempt_is_not_given_out_again() -> None:
    numbers = iter([7, 7, 8, 8, 7, 9])
    identity, other = identities("secret")
    drops = Drops()
    handshakes = Handshakes(identity, Means(A_HELLO, PLAIN, os.urandom, lambda: next(numbers), drops))
    peer = PeerId(identity.target)
    first, second = (handshakes.initiate(peer, 0.0, WALL) for _ in range(2))
    assert [message[0][4:8] for message in (first, second)] == [bytes((0, 0, 0, number)) for number in (7, 8)]
    initiation = Node("b", other).handshakes.initiate(peer, 0.0, WALL)
    answer = handshakes.receive(initiation[0], "b 1", 0.0, WALL)
    assert answer.established is not None
    assert answer.established.local_index == 9


def test_keys_do_not_show() -> None:
    pair = Pair()
    pair.deliver(pair.initiate())
    text = repr(pair.a.established[0])
    assert "local_index" in text
    assert "key" not in text


# tables that only grow with the number of peers


@pytest.mark.parametrize("ending", [lambda pair, now: pair.deliver(pair.initiate(now), now), Pair.initiate])
def test_tables_stay_small(ending: Callable[[Pair, float], Any]) -> None:
    pair = Pair()
    for number in range(20):
        ending(pair, float(number))
    for node in (pair.a, pair.b):
        assert len(node.handshakes._attempts) <= MAX_ATTEMPTS
        assert len(node.handshakes._envelopes._sent) <= sum(MAX_KEPT.values())
