"""QUIC packets built and opened in bursts, held against aioquic, which does it one by one."""

from __future__ import annotations

import random

import pytest
from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoContext
from aioquic.tls import CipherSuite
from hypothesis import given
from hypothesis import strategies as st

from caetun.transports.quic_packets import (
    CID_SIZE,
    DATAGRAM,
    GAP,
    MAX_PACKETS,
    Opened,
    Opener,
    Sealer,
    joined,
    overhead,
    shortest,
)

CID = b"\x11\x22\x33\x44\x55\x66\x77\x88"
SUITES = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384]


def context(suite: CipherSuite = SUITES[0], phase: int = 0) -> CryptoContext:
    made = CryptoContext(key_phase=phase)
    made.setup(cipher_suite=suite, secret=bytes(range(48 if suite == SUITES[1] else 32)), version=1)
    return made


def parts_of(messages: list[bytes]) -> list[bytes]:
    """As links give them: two parts each."""
    return [part for message in messages for part in (message[: len(message) // 3], message[len(message) // 3 :])]


def cut(view: memoryview, size: int) -> list[bytes]:
    return [bytes(view[at : at + size]) for at in range(0, len(view), size)]


def messages_of(opened: Opened) -> list[bytes]:
    return [bytes(opened.messages[at : at + opened.size - GAP]) for at in range(0, len(opened.messages), opened.size)]


MESSAGES = st.builds(
    lambda seed, count, size, last: [
        random.Random(seed + place).randbytes(size if place < count - 1 else min(size, last)) for place in range(count)
    ],
    st.integers(0, 1000),
    st.integers(1, MAX_PACKETS),
    st.integers(1, 1500),
    st.integers(1, 1500),
)
NUMBERS = st.integers(0, 1 << 40) | st.integers(65536 - 70, 65536 + 5) | st.integers((1 << 32) - 70, 1 << 32)


@given(MESSAGES, NUMBERS, st.booleans(), st.integers(0, 1), st.binary(max_size=20), st.sampled_from(SUITES))
def test_aioquic_opens_what_is_sealed(
    messages: list[bytes], number: int, spin: bool, phase: int, cid: bytes, suite: CipherSuite
) -> None:
    keys = context(suite, phase)
    view, size = Sealer(keys).seal(parts_of(messages), cid, number, spin)
    packets = cut(view, size)
    assert [len(packet) for packet in packets] == [len(message) + overhead(len(cid)) for message in messages]
    for place, (packet, message) in enumerate(zip(packets, messages, strict=True)):
        head, payload, found, update = keys.decrypt_packet(packet, 1 + len(cid), number + place)
        assert (payload, found, update) == (bytes((DATAGRAM,)) + message, number + place, False)
        assert (head[1:-2], bool(head[0] & 0x20), head[0] & 0x18) == (cid, spin, 0)


@given(MESSAGES, NUMBERS, st.booleans(), st.sampled_from(SUITES))
def test_what_aioquic_seals_is_opened(messages: list[bytes], number: int, spin: bool, suite: CipherSuite) -> None:
    keys = context(suite)
    first = bytes((0x41 | spin << 5,))
    packets = [
        keys.encrypt_packet(
            first + CID + ((number + place) & 0xFFFF).to_bytes(2, "big"), bytes((DATAGRAM,)) + message, number + place
        )
        for place, message in enumerate(messages)
    ]
    opened = Opener(keys).open(memoryview(b"".join(packets)), len(packets[0]), CID, number)
    assert opened is not None
    assert messages_of(opened) == messages
    assert (list(opened.numbers), opened.size) == (list(range(number, number + len(messages))), len(messages[0]) + GAP)
    assert (list(opened.failed), list(opened.others), opened.spin) == ([], [], spin)


@given(MESSAGES, st.data())
def test_what_was_tampered_with_is_not_opened(messages: list[bytes], data: st.DataObject) -> None:
    keys = context()
    view, size = Sealer(keys).seal(parts_of(messages), CID, 7, False)
    spoiled = bytearray(view)
    bits = data.draw(st.sets(st.integers(0, len(spoiled) * 8 - 1), min_size=1, max_size=5))
    for bit in bits:
        spoiled[bit // 8] ^= 1 << bit % 8
    opened = Opener(keys).open(memoryview(spoiled), size, CID, 7)
    if opened is None:
        return  # to be tried one by one
    # The connection id is not looked at: it is what the keys are for. So bits in it change nothing.
    places = {bit // 8 // size for bit in bits if not 1 <= bit // 8 % size <= CID_SIZE}
    assert set(opened.failed) == places
    for place, message in enumerate(messages):
        if place not in places:
            assert opened.run(place, place + 1) == message


def test_other_frames_are_told_apart() -> None:
    keys = context()
    sealer = Sealer(keys)
    view, size = sealer.seal(parts_of([b"a" * 40] * 3), CID, 5, False)
    other = sealer.seal_payload(b"\x02" + bytes(40), CID, 6, False)
    packets = cut(view, size)
    mixed = b"".join([packets[0], bytes(other), packets[2]])
    opened = Opener(keys).open(memoryview(mixed), size, CID, 5)
    assert opened is not None
    assert (list(opened.failed), opened.others) == ([1], [(1, b"\x02" + bytes(40))])
    assert opened.run(0, 1) == opened.run(2, 3) == b"a" * 40
    alone = Opener(keys).open(memoryview(other), len(other), CID, 6)
    assert alone is not None
    assert (list(alone.failed), alone.others, list(alone.numbers)) == ([0], ((0, b"\x02" + bytes(40)),), [6])


@pytest.mark.parametrize("count", [1, 5])
def test_another_key_phase_or_long_headers_are_for_others(count: int) -> None:
    view, size = Sealer(context(phase=1)).seal(parts_of([b"message"] * count), CID, 5, False)
    assert Opener(context(phase=0)).open(view, size, CID, 5) is None
    long = bytearray(view)
    long[0] ^= 0x80
    assert Opener(context(phase=1)).open(memoryview(long), size, CID, 5) is None


@given(st.lists(st.integers(0, 400), min_size=1, max_size=MAX_PACKETS, unique=True), st.integers(0, 1 << 40))
def test_numbers_in_any_order_are_made_whole(ahead: list[int], start: int) -> None:
    keys = context()
    sealer = Sealer(keys)
    packets = [bytes(sealer.seal(parts_of([b"message"]), CID, start + number, False)[0]) for number in ahead]
    opened = Opener(keys).open(memoryview(b"".join(packets)), len(packets[0]), CID, start)
    assert opened is not None
    assert list(opened.numbers) == [start + number for number in ahead]
    assert not opened.failed


@given(st.lists(st.binary(min_size=30, max_size=60), min_size=1, max_size=MAX_PACKETS))
def test_garbage_opens_nothing(packets: list[bytes]) -> None:
    size = max(map(len, packets))
    whole = b"".join(packet.ljust(size, b"x") for packet in packets)
    opened = Opener(context()).open(memoryview(whole), size, CID, 1000)
    assert opened is None or len(opened.failed) == len(packets)


def test_the_shortest_packet_has_just_enough_to_sample() -> None:
    keys = context()
    packet, _ = Sealer(keys).seal([b"", b"m"], CID, 5, False)
    assert len(packet) == shortest(CID_SIZE)
    assert keys.decrypt_packet(bytes(packet), 1 + CID_SIZE, 5)[1] == b"\x30m"
    with pytest.raises(CryptoError):
        keys.decrypt_packet(bytes(packet[:-1]), 1 + CID_SIZE, 5)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 200)), max_size=40))
def test_joining_bursts_keeps_the_datagrams(shapes: list[tuple[int, int]]) -> None:
    chance = random.Random(1)
    bursts = [(memoryview(chance.randbytes(length)), size) for size, length in shapes]
    before = [bytes(view[at : at + size]) for view, size in bursts for at in range(0, len(view), size)]
    after = [bytes(view[at : at + size]) for view, size in joined(bursts) for at in range(0, len(view), size)]
    assert after == before
