"""What the published vectors (conformance/) do not show: refusals, copies, keys of low order."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed, Refused
from caetun.session.noise import PATTERNS, CipherState, DhKey, HandshakeState, Keys
from caetun.types import DropReason

PROTOCOL = "Noise_IKpsk2_25519_AESGCM_SHA256"
PSK = bytes(range(32))
LOW_ORDER = [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]


def seeded(seed: int) -> DhKey:
    return DhKey(hashlib.sha256(bytes((seed,))).digest())


def pair(protocol: str = PROTOCOL, psk: bytes = PSK) -> tuple[HandshakeState, HandshakeState]:
    """An initiator and a responder that know what their pattern wants them to."""
    mine, theirs, count = seeded(1), seeded(2), itertools.count()

    def entropy(size: int) -> bytes:
        return hashlib.blake2s(bytes((next(count),)), digest_size=size).digest()

    pattern = protocol.split("_")[1]
    responder_known = PATTERNS[pattern].responder_known == "s"
    return (
        HandshakeState(protocol, True, b"p", Keys(mine, theirs.public if responder_known else None, psk), entropy),
        HandshakeState(protocol, False, b"p", Keys(theirs, None, psk), entropy),
    )


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_every_pattern_ends_with_two_keys(pattern: str) -> None:
    writer, reader = initiator, responder = pair(f"Noise_{pattern}_25519_ChaChaPoly_BLAKE2s")
    while not initiator.finished:
        assert reader.read_message(writer.write_message(b"hello")) == b"hello"
        writer, reader = reader, writer
    send, receive = initiator.split()
    back_send, back_receive = responder.split()
    assert responder.finished
    assert (send.key, receive.key) == (back_receive.key, back_send.key)
    assert send.key != receive.key


def test_responder_learns_the_initiators_static_key() -> None:
    initiator, responder = pair()
    assert responder.remote_static is None
    responder.read_message(initiator.write_message(b""))
    assert responder.remote_static == seeded(1).public


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    initiator, responder = pair()
    message = bytearray(initiator.write_message(b"payload"))
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
    with pytest.raises(Refused) as refused:
        responder.read_message(bytes(message))
    assert refused.value.reason is DropReason.HANDSHAKE_FORGED


@given(st.binary(max_size=200))
def test_garbage_is_malformed_or_refused(garbage: bytes) -> None:
    _, responder = pair()
    with pytest.raises((Malformed, Refused)):
        responder.read_message(garbage)


def test_cut_short() -> None:
    for length in (0, 31, 32, 79):
        initiator, responder = pair()
        message = initiator.write_message(b"")
        with pytest.raises(Malformed) as malformed:
            responder.read_message(message[:length])
        assert malformed.value.reason is DropReason.HANDSHAKE_MALFORMED


def test_a_fork_takes_the_blow() -> None:
    initiator, responder = pair()
    responder.read_message(initiator.write_message(b""))
    message = responder.write_message(b"true")
    for forged in (message[:-1] + bytes((message[-1] ^ 1,)), seeded(9).public + message[32:], b""):
        with pytest.raises((Malformed, Refused)):
            initiator.fork().read_message(forged)
    assert initiator.read_message(message) == b"true"


def test_wrong_psk_is_refused_by_the_initiator() -> None:
    initiator, responder = pair()
    responder.psk = bytes(32)
    responder.read_message(initiator.write_message(b""))
    with pytest.raises(Refused):
        initiator.read_message(responder.write_message(b""))


@pytest.mark.parametrize("public", LOW_ORDER)
def test_keys_of_low_order_are_refused(public: bytes) -> None:
    with pytest.raises(Refused) as refused:
        seeded(1).exchange(public)
    assert refused.value.reason is DropReason.HANDSHAKE_FORGED


def test_ciphers_count_only_what_authenticates() -> None:
    sealer, opener = CipherState("AESGCM", PSK), CipherState("AESGCM", PSK)
    first, second = sealer.encrypt(b"1"), sealer.encrypt(b"2")
    with pytest.raises(Refused):
        opener.decrypt(second)
    assert opener.decrypt(first) == b"1"
    assert opener.decrypt(second) == b"2"


def test_extra_secret_changes_the_keys_on_both_sides() -> None:
    initiator, responder = pair()
    responder.read_message(initiator.write_message(b""))
    initiator.read_message(responder.write_message(b""))
    plain = initiator.split()[0].key
    for state in (initiator, responder):
        state.symmetric.mix_key(b"shared secret")
    assert initiator.split()[0].key == responder.split()[1].key != plain
