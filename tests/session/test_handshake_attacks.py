"""What strangers, forgers, eavesdroppers and floods achieve against a handshake: nothing, and one counted drop each."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caetun.session.admission import MAX_HANDSHAKES_PER_HOST
from caetun.session.handshake import Answer, PeerId, Policy, SecretIdentity, StaticIdentity
from caetun.session.identity import NO_PSK, public_key
from caetun.session.noise import DhKey, HandshakeState, Keys
from caetun.types import DropReason
from caetun.wire.hello import Greeting, encode_greeting
from tests.session.pair import (
    A_HELLO,
    A_KEY,
    B_KEY,
    C_KEY,
    HYBRID,
    KINDS,
    PLAIN,
    PSK,
    SECRET,
    WALL,
    Node,
    Pair,
    agree,
    flipped,
    with_mac1,
)

# replay and reflection


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_initiations_get_no_answer(kind: str) -> None:
    pair = Pair(kind)
    initiations = [pair.initiate(float(now)) for now in range(3)]
    for initiation in initiations:
        assert pair.b.hear(initiation, pair.a.address, 3.0)
    for initiation in initiations:
        assert pair.b.hear(initiation, "another place", 4.0) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_REPLAYED: 3}


def test_a_clock_that_goes_back_is_no_replay() -> None:
    pair = Pair()
    for now, wall in ((0.0, WALL), (1.0, WALL), (2.0, WALL - 1000.0)):
        pair.deliver(pair.initiate(now, wall), now)
    assert len(pair.a.established) == 3
    assert pair.drops() == {}


def test_own_messages_sent_back() -> None:
    pair = Pair("secret", HYBRID, HYBRID)
    initiation = pair.initiate()
    assert pair.a.hear(initiation, pair.b.address) == []
    assert pair.a.drops == {DropReason.HANDSHAKE_REFLECTED: 1}
    response = pair.b.hear(initiation, pair.a.address)
    assert pair.b.hear(response, pair.a.address) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_UNEXPECTED: 2}
    pair.a.hear(response, pair.b.address)
    pair.initiate(1.0)
    assert pair.a.hear(initiation, pair.b.address, 1.0) == []  # an old one is known as well
    assert pair.a.drops == {DropReason.HANDSHAKE_REFLECTED: 2}


def test_own_initiation_sent_back_is_for_somebody_else() -> None:
    pair = Pair()
    assert pair.a.hear(pair.initiate(), pair.b.address) == []
    assert pair.a.drops == {DropReason.HANDSHAKE_MAC: 1}


# strangers and forgers


def test_wrong_psk() -> None:
    pair = Pair()
    liar = Node("a", StaticIdentity(A_KEY, {public_key(B_KEY): PSK}))
    response = pair.b.hear(liar.handshakes.initiate(pair.to_b, 0.0, WALL), liar.address)
    assert liar.hear(response, pair.b.address) == []
    assert liar.established == []
    assert liar.drops == {DropReason.HANDSHAKE_FORGED: 1}


def test_wrong_secret() -> None:
    a, b = Node("a", SecretIdentity(SECRET)), Node("b", SecretIdentity(bytes(32)))
    assert b.hear(a.handshakes.initiate(PeerId(SecretIdentity(SECRET).peer), 0.0, WALL), a.address) == []
    assert b.drops == {DropReason.HANDSHAKE_MAC: 1}


def test_knowing_the_target_is_not_knowing_the_secret() -> None:
    pair = Pair("secret")
    (initiation,) = pair.initiate()
    noise = HandshakeState(
        "Noise_NNpsk0_25519_AESGCM_SHA256",
        True,
        b"caetun 1\x01" + initiation[4:8],
        Keys(psk=bytes(32)),
        lambda n: b"x" * n,
    )
    message = noise.write_message(encode_greeting(Greeting(A_HELLO, time=1 << 70)))
    assert pair.b.hear([with_mac1(initiation[:12] + message, pair.to_b)], pair.a.address) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_FORGED: 1}
    assert pair.b.hear([initiation], pair.a.address)


def test_unknown_peer() -> None:
    pair = Pair()
    stranger = Node("c", StaticIdentity(C_KEY, {pair.to_b: NO_PSK}))
    assert pair.b.hear(stranger.handshakes.initiate(pair.to_b, 0.0, WALL), stranger.address) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_UNKNOWN_PEER: 1}


def test_who_claims_a_known_key_without_having_it_leaves_no_trace() -> None:
    pair = Pair()
    (initiation,) = pair.initiate(wall=WALL + 1000)
    forged = with_mac1(flipped(initiation[:-32], 100), pair.to_b)
    assert pair.b.hear([forged], pair.a.address) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_FORGED: 1}
    assert pair.b.hear([initiation], pair.a.address)  # its time was not remembered


@pytest.mark.parametrize("policy", [PLAIN, HYBRID], ids=["plain", "hybrid"])
def test_forged_response_does_not_harm_the_true_one(policy: Policy) -> None:
    pair = Pair(a_policy=policy, b_policy=policy)
    response = pair.b.hear(pair.initiate(), pair.a.address)
    forged = [with_mac1(flipped(datagram[:-32], 40), pair.to_a) for datagram in response]
    assert pair.a.hear(forged, pair.b.address) == []
    assert pair.a.drops == {DropReason.HANDSHAKE_FORGED: 1}
    pair.a.hear(response, pair.b.address)
    assert agree(pair.a.established[0], pair.b.established[0])


def test_initiation_without_a_time() -> None:
    pair = Pair()
    (initiation,) = pair.initiate()
    keys = Keys(DhKey(A_KEY), public_key(B_KEY), NO_PSK)
    prologue = b"caetun 1\x01" + initiation[4:8]
    noise = HandshakeState("Noise_IKpsk2_25519_AESGCM_SHA256", True, prologue, keys, lambda size: b"x" * size)
    message = noise.write_message(encode_greeting(Greeting(A_HELLO)))
    assert pair.b.hear([with_mac1(initiation[:12] + message, pair.to_b)], pair.a.address) == []
    assert pair.b.drops == {DropReason.HANDSHAKE_MALFORMED: 1}


@given(data=st.data(), kind=st.sampled_from(KINDS), policy=st.sampled_from([PLAIN, HYBRID]))
@settings(max_examples=60)
def test_any_changed_byte_of_an_initiation(data: st.DataObject, kind: str, policy: Policy) -> None:
    """All but mac2, which means nothing to a responder in peace: its sender may hold an outdated cookie."""
    pair = Pair(kind, policy, policy)
    initiation = pair.initiate()
    which = data.draw(st.integers(0, len(initiation) - 1))
    at = data.draw(st.integers(0, len(initiation[which]) - 17))
    initiation[which] = flipped(initiation[which], at, data.draw(st.integers(1, 255)))
    assert pair.b.hear(initiation, pair.a.address) == []
    assert pair.b.established == []
    assert sum(pair.b.drops.values()) == 1


@given(data=st.data(), kind=st.sampled_from(KINDS), policy=st.sampled_from([PLAIN, HYBRID]))
@settings(max_examples=60)
def test_any_changed_byte_of_a_response(data: st.DataObject, kind: str, policy: Policy) -> None:
    pair = Pair(kind, policy, policy)
    response = pair.b.hear(pair.initiate(), pair.a.address)
    which = data.draw(st.integers(0, len(response) - 1))
    at = data.draw(st.integers(0, len(response[which]) - 17))
    changed = list(response)
    changed[which] = flipped(response[which], at, data.draw(st.integers(1, 255)))
    assert pair.a.hear(changed, pair.b.address) == []
    assert pair.a.established == []
    assert sum(pair.a.drops.values()) == 1
    pair.a.hear([response[which]], pair.b.address)  # the rest is still waiting for it
    assert agree(pair.a.established[0], pair.b.established[0])


@given(data=st.data())
@settings(max_examples=60)
def test_any_changed_byte_behind_a_right_mac1(data: st.DataObject) -> None:
    pair = Pair()
    (initiation,) = pair.initiate()
    at = data.draw(st.integers(0, len(initiation) - 33))
    changed = with_mac1(flipped(initiation[:-32], at, data.draw(st.integers(1, 255))), pair.to_b)
    assert pair.b.hear([changed], pair.a.address) == []
    assert pair.b.established == []
    # one drop, unless it became the first piece of a longer message
    assert sum(pair.b.drops.values()) == (0 if changed[0] == 1 and changed[2] in (2, 3, 4) else 1)


header_like = st.tuples(
    st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.binary(max_size=200)
).map(lambda parts: bytes(parts[:4]) + parts[4])


@given(garbage=st.binary(max_size=1300) | header_like)
def test_garbage(garbage: bytes) -> None:
    pair = Pair()
    pair.initiate()
    for buffer in (garbage, bytearray(garbage), memoryview(garbage)):
        assert pair.a.handshakes.receive(buffer, pair.b.address, 0.0, WALL) == Answer([])
    assert sum(pair.a.drops.values()) == 3


@given(garbage=header_like, receiver=st.sampled_from([0, 1, 97001]))
def test_garbage_behind_a_right_mac1(garbage: bytes, receiver: int) -> None:
    pair = Pair()
    pair.initiate()
    covered = garbage[:8] + struct.pack(">I", receiver) + garbage[8:]
    assert pair.a.hear([with_mac1(covered, pair.to_a)], pair.b.address) == []
    assert pair.a.established == []
    assert sum(pair.a.drops.values()) <= 1


# load


@pytest.mark.parametrize("policy", [PLAIN, HYBRID], ids=["plain", "hybrid"])
@pytest.mark.parametrize("kind", KINDS)
def test_under_load_a_cookie_is_fetched_at_once(kind: str, policy: Policy) -> None:
    pair = Pair(kind, policy, policy)
    pair.b.busy(0.0)
    initiation = pair.initiate()
    cookie_reply = pair.b.hear(initiation, pair.a.address)
    assert [len(datagram) for datagram in cookie_reply] == [64]
    again = pair.a.hear(cookie_reply, pair.b.address)
    assert [datagram[:-16] for datagram in again] == [datagram[:-16] for datagram in initiation]
    pair.deliver(again)
    assert agree(pair.a.established[0], pair.b.established[0])
    assert pair.drops() == {DropReason.HANDSHAKE_COOKIE: len(initiation)}


def test_a_cookie_is_kept_for_the_next_attempt() -> None:
    pair = Pair()
    pair.b.busy(0.0)
    pair.a.hear(pair.b.hear(pair.initiate(), pair.a.address), pair.b.address)
    pair.b.busy(10.0)
    pair.deliver(pair.initiate(10.0), 10.0)
    assert agree(pair.a.established[0], pair.b.established[0])


def test_a_cookie_does_not_serve_at_another_address() -> None:
    pair = Pair()
    pair.b.busy(0.0)
    again = pair.a.hear(pair.b.hear(pair.initiate(), pair.a.address), pair.b.address)
    replies = pair.b.hear(again, "another place")
    assert [datagram[0] for datagram in replies] == [3]
    assert pair.b.established == []


def test_a_busy_initiator_demands_a_cookie_too() -> None:
    pair = Pair()
    pair.a.busy(0.0)
    response = pair.b.hear(pair.initiate(), pair.a.address)
    cookie_reply = pair.a.hear(response, pair.b.address)
    assert [datagram[0] for datagram in cookie_reply] == [3]
    pair.a.hear(pair.b.hear(cookie_reply, pair.a.address), pair.b.address)
    assert agree(pair.a.established[0], pair.b.established[0])


def test_one_host_with_a_cookie_gets_few_handshakes_under_load() -> None:
    pair = Pair()
    pair.b.busy(0.0)
    pair.deliver(pair.initiate())
    for number in range(20):
        pair.deliver(pair.initiate(0.01 * number), 0.01 * number)
    assert len(pair.b.established) == MAX_HANDSHAKES_PER_HOST
    assert pair.b.drops[DropReason.HANDSHAKE_OVERLOAD] == 21 - MAX_HANDSHAKES_PER_HOST


@given(data=st.data())
@settings(max_examples=60)
def test_any_changed_byte_of_a_cookie_reply(data: st.DataObject) -> None:
    pair = Pair()
    pair.b.busy(0.0)
    (reply,) = pair.b.hear(pair.initiate(), pair.a.address)
    at = data.draw(st.integers(0, len(reply) - 1))
    assert pair.a.hear([flipped(reply, at, data.draw(st.integers(1, 255)))], pair.b.address) == []
    assert sum(pair.a.drops.values()) == 1
    assert pair.a.hear([reply], pair.b.address)


def test_a_flood_of_strangers_is_no_load() -> None:
    pair = Pair()
    (initiation,) = pair.initiate()
    pair.b.hear([flipped(initiation, -20)] * 1000, "flood")
    assert pair.b.drops == {DropReason.HANDSHAKE_MAC: 1000}
    pair.deliver([initiation])
    assert agree(pair.a.established[0], pair.b.established[0])
