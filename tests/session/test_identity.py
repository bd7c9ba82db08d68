"""Keys as text, and who is recognised."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import ConfigurationError, Refused
from caetun.session.identity import (
    NO_PSK,
    PeerId,
    SecretIdentity,
    StaticIdentity,
    decode_key,
    encode_key,
    generate_key,
    public_key,
)
from caetun.types import DropReason

# RFC 7748, section 6.1
ALICE_PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
]
"""Points of order 1, 2, 4 and 8: https://cr.yp.to/ecdh.html#validate."""


@given(st.binary(min_size=32, max_size=32))
def test_keys_survive_text(key: bytes) -> None:
    text = encode_key(key)
    assert len(text) == 44
    assert decode_key(f" {text}\n") == key


@given(st.text(max_size=60))
def test_any_other_text_is_a_configuration_error(text: str) -> None:
    try:
        key = decode_key(text)
    except ConfigurationError:
        return
    assert encode_key(key) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        encode_key(ALICE_PUBLIC)[:-1],
        encode_key(ALICE_PUBLIC) + "=",
        encode_key(bytes(31)),
        "A" * 42 + "B=",  # decodes, but the last character holds bits that belong to no byte
    ],
)
def test_unusable_key_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="44 characters") as error:
        decode_key(text)
    assert not text or text not in str(error.value)


def test_public_key() -> None:
    assert public_key(ALICE_PRIVATE) == ALICE_PUBLIC
    with pytest.raises(ConfigurationError, match="32 bytes, not 5"):
        public_key(b"short")


def test_generated_keys_come_from_the_entropy() -> None:
    assert generate_key(lambda size: b"\x07" * size) == b"\x07" * 32


def test_static_identity_knows_its_peers_only() -> None:
    identity = StaticIdentity(ALICE_PRIVATE, {BOB_PUBLIC: NO_PSK})
    assert identity.target == ALICE_PUBLIC
    assert identity.target_of(PeerId(BOB_PUBLIC)) == BOB_PUBLIC
    assert identity.recognise(BOB_PUBLIC) == BOB_PUBLIC
    for stranger in (ALICE_PUBLIC, None):
        with pytest.raises(Refused) as refused:
            identity.recognise(stranger)
        assert refused.value.reason is DropReason.HANDSHAKE_UNKNOWN_PEER
    with pytest.raises(ConfigurationError, match="no peer has"):
        identity.initiator_keys(PeerId(ALICE_PUBLIC))


def test_peers_may_come_and_go() -> None:
    peers: dict[bytes, bytes] = {}
    identity = StaticIdentity(ALICE_PRIVATE, peers)
    peers[BOB_PUBLIC] = b"\x01" * 32
    assert identity.recognise(BOB_PUBLIC) == BOB_PUBLIC
    assert identity.psk_of(PeerId(BOB_PUBLIC)) == b"\x01" * 32
    del peers[BOB_PUBLIC]
    with pytest.raises(Refused):
        identity.recognise(BOB_PUBLIC)


@pytest.mark.parametrize(
    ("private", "peers", "message"),
    [
        (b"short", {}, "private key has 32 bytes"),
        (ALICE_PRIVATE, {b"short": NO_PSK}, "public key has 32 bytes"),
        (ALICE_PRIVATE, {BOB_PUBLIC: b""}, "pre-shared key has 32 bytes"),
        (ALICE_PRIVATE, {ALICE_PUBLIC: NO_PSK}, "own public key"),
        *((ALICE_PRIVATE, {BOB_PUBLIC: NO_PSK, key: NO_PSK}, "--peer: .* low order") for key in LOW_ORDER),
    ],
)
def test_unusable_static_identity(private: bytes, peers: dict[bytes, bytes], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StaticIdentity(private, peers)


def test_a_secret_has_one_peer() -> None:
    secret = bytes(range(32))
    identity = SecretIdentity(secret)
    assert identity.peer == identity.target == hashlib.blake2s(b"caetun 1 secret" + secret).digest()
    assert identity.target_of(identity.peer) == identity.target
    assert identity.recognise(None) == identity.peer
    assert identity.psk_of(identity.peer) == secret
    with pytest.raises(ConfigurationError, match="one peer only"):
        identity.initiator_keys(PeerId(BOB_PUBLIC))
    with pytest.raises(ConfigurationError, match="secret has 32 bytes"):
        SecretIdentity(b"hunter2")
