"""Key pairs: one side's records open at the other, once each."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Refused
from caetun.session.handshake import Cipher, Established, PeerId
from caetun.session.keypair import MAX_BYTES, MAX_RECORDS, KeyPair
from caetun.session.replay import MIN_WINDOW
from caetun.types import Buffer, DropReason, Mode
from caetun.wire.hello import Hello
from caetun.wire.record import TAG_SIZE, Record
from tests.session.pair import flipped

SEND_KEY, RECEIVE_KEY = b"s" * 32, b"r" * 32
A_INDEX, B_INDEX = 0x0A0A0A0A, 0x0B0B0B0B
ciphers = pytest.mark.parametrize("cipher", list(Cipher))


def pair(cipher: Cipher) -> tuple[KeyPair, KeyPair]:
    """The two sides of one handshake."""
    a = Established(
        peer=PeerId(b"b"),
        initiator=True,
        cipher=cipher,
        send_key=SEND_KEY,
        receive_key=RECEIVE_KEY,
        local_index=A_INDEX,
        remote_index=B_INDEX,
        hello=Hello(Mode.TAP),
        post_quantum=False,
    )
    b = dataclasses.replace(
        a, initiator=False, send_key=RECEIVE_KEY, receive_key=SEND_KEY, local_index=B_INDEX, remote_index=A_INDEX
    )
    return KeyPair(a, now=7.0), KeyPair(b, now=7.0)


def refusal(pair: KeyPair, counter: int, body: Buffer) -> DropReason:
    with pytest.raises(Refused) as refused:
        pair.open(counter, body)
    return refused.value.reason


@ciphers
@given(containers=st.lists(st.binary(max_size=200), min_size=1, max_size=10))
def test_what_one_side_seals_the_other_opens(cipher: Cipher, containers: list[bytes]) -> None:
    for sender, receiver in (pair(cipher), pair(cipher)[::-1]):
        for number, container in enumerate(containers):
            record = sender.seal(memoryview(container))
            assert (record.session, record.counter) == (receiver.local_index, number)
            assert len(record.body) == len(container) + TAG_SIZE
            assert receiver.open(record.counter, memoryview(record.body)) == container
        assert sender.sent == receiver.window.opened == len(containers)
        assert sender.sealed_bytes == sum(map(len, containers))


def test_the_nonce_of_aes_gcm_counts_big_endian() -> None:
    # Noise, section 12.4; docs/wire.md, section 3: no additional data
    a, _ = pair(Cipher.AES_GCM)
    a.sent = 0x0102030405060708
    nonce = bytes(4) + struct.pack(">Q", 0x0102030405060708)
    assert a.seal(b"container").body == AESGCM(SEND_KEY).encrypt(nonce, b"container", None)


def test_the_nonce_of_chacha_counts_little_endian() -> None:
    # Noise, section 12.3
    a, _ = pair(Cipher.CHACHA20_POLY1305)
    a.sent = 0x0102030405060708
    nonce = bytes(4) + struct.pack("<Q", 0x0102030405060708)
    assert a.seal(b"container").body == ChaCha20Poly1305(SEND_KEY).encrypt(nonce, b"container", None)


@ciphers
def test_a_record_opens_once(cipher: Cipher) -> None:
    a, b = pair(cipher)
    records = [a.seal(bytes([number])) for number in range(5)]
    for number in (4, 0, 2):
        assert b.open(number, records[number].body) == bytes([number])
    assert [refusal(b, number, records[number].body) for number in (4, 0, 2)] == [DropReason.RECORD_REPLAYED] * 3
    assert b.open(1, records[1].body) == b"\1"


@ciphers
def test_a_record_that_falls_out_of_the_window_is_old(cipher: Cipher) -> None:
    a, b = pair(cipher)
    first = a.seal(b"")
    a.sent = MIN_WINDOW
    b.open(MIN_WINDOW, a.seal(b"").body)
    assert refusal(b, 0, first.body) is DropReason.RECORD_OLD


@ciphers
def test_forgeries_change_nothing(cipher: Cipher) -> None:
    a, b = pair(cipher)
    record = a.seal(b"container")
    body = bytes(record.body)
    forged = [flipped(body, at) for at in range(len(body))] + [body + b"\0", body[:-1], bytes(TAG_SIZE)]
    assert {refusal(b, record.counter, forgery) for forgery in forged} == {DropReason.RECORD_FORGED}
    assert refusal(b, record.counter + 1, body) is DropReason.RECORD_FORGED, "the counter is part of it"
    assert refusal(b, 2**64 - 1, body) is DropReason.RECORD_FORGED
    assert refusal(a, record.counter, body) is DropReason.RECORD_FORGED, "sent back to its sender"
    assert (b.window.highest, b.window.opened) == (-1, 0)
    assert b.open(record.counter, body) == b"container"


@ciphers
@pytest.mark.parametrize("size", range(TAG_SIZE))
def test_less_than_a_tag_is_short(cipher: Cipher, size: int) -> None:
    _, b = pair(cipher)
    assert refusal(b, 0, bytes(size)) is DropReason.DATAGRAM_SHORT


@ciphers
@given(counter=st.integers(0, 2**64 - 1), body=st.binary(max_size=60))
def test_opening_is_total(cipher: Cipher, counter: int, body: bytes) -> None:
    _, b = pair(cipher)
    assert refusal(b, counter, body) in (DropReason.RECORD_FORGED, DropReason.DATAGRAM_SHORT)


@ciphers
def test_the_last_counter_of_all_opens(cipher: Cipher) -> None:
    a, b = pair(cipher)
    a.sent = 2**64 - 1
    record: Record = a.seal(b"end")
    assert b.open(record.counter, record.body) == b"end"


@pytest.mark.parametrize(
    ("records", "octets", "worn"),
    [
        (0, 0, False),
        (MAX_RECORDS - 1, MAX_BYTES - 1, False),
        (MAX_RECORDS, 0, True),
        (0, MAX_BYTES, True),
    ],
)
def test_keys_wear_by_records_and_by_bytes(records: int, octets: int, worn: bool) -> None:
    a, _ = pair(Cipher.AES_GCM)
    a.sent, a.sealed_bytes = records, octets
    assert a.worn is worn


def test_sealing_wears() -> None:
    a, _ = pair(Cipher.AES_GCM)
    a.sealed_bytes = MAX_BYTES - 100
    a.seal(bytes(99))
    assert not a.worn
    a.seal(b"x")
    assert a.worn
    assert a.born == 7.0
