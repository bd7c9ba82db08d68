"""Hellos: what is carried, what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason, Mode
from caetun.wire.hello import Greeting, Hello, decode_greeting, encode_greeting
from caetun.wire.record import INITIATION, RESPONSE

TIME = struct.pack(">BHQI", 1, 12, 1_700_000_000, 999_999_999)
TAP = b"\x02\x00\x01\x02"

hellos = st.builds(
    Hello,
    mode=st.sampled_from(Mode),
    offloads=st.integers(0, 2**32 - 1),
    mtu=st.integers(68, 65535),
    max_record=st.integers(1024, 2**32 - 1),
    compression=st.lists(st.from_regex("[a-z0-9-]{1,16}", fullmatch=True), max_size=8).map(tuple),
    incarnation=st.integers(0, 2**64 - 1),
)
optional_key = st.none() | st.binary(min_size=1184, max_size=1184)
optional_ciphertext = st.none() | st.binary(min_size=1088, max_size=1088)


@given(hellos, st.integers(0, 2**64 * 10**9 - 1), optional_key)
def test_initiation_survives(hello: Hello, time: int, key: bytes | None) -> None:
    greeting = Greeting(hello, time=time, encapsulation_key=key)
    assert decode_greeting(encode_greeting(greeting), INITIATION) == greeting


@given(hellos, optional_ciphertext)
def test_response_survives(hello: Hello, ciphertext: bytes | None) -> None:
    greeting = Greeting(hello, ciphertext=ciphertext)
    assert decode_greeting(encode_greeting(greeting), RESPONSE) == greeting


def test_bytes_on_the_wire() -> None:
    hello = Hello(Mode.TAP, offloads=0x0F, mtu=1500, max_record=65535)
    assert encode_greeting(Greeting(hello, time=1_700_000_000_999_999_999)) == (
        TIME + TAP + b"\x03\x00\x04\0\0\0\x0f" + b"\x04\x00\x02\x05\xdc" + b"\x07\x00\x04\0\0\xff\xff"
    )


def test_absent_fields_have_defaults_and_unknown_ones_are_skipped() -> None:
    expected = Greeting(Hello(Mode.TAP, offloads=0, mtu=1500, max_record=1440))
    assert decode_greeting(TAP, RESPONSE) == expected
    assert decode_greeting(b"\xfe\x00\x03abc" + TAP + b"\x00\x00\x00", RESPONSE) == expected


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", RESPONSE),
        (TAP, INITIATION),
        (TIME, INITIATION),
        (TIME + TAP, RESPONSE),
        (TIME + TAP + TIME, INITIATION),
        (TAP + b"\xfe\0\0" + b"\xfe\0\0", RESPONSE),
        (TAP + b"\x04", RESPONSE),
        (TAP + b"\x04\x00\x02\x05", RESPONSE),
        (TAP + b"\x04\x00\x03\x05\xdc\x00", RESPONSE),
        (TAP + b"\x04\x00\x02\x00\x43", RESPONSE),
        (TAP + b"\x07\x00\x04\x00\x00\x03\xff", RESPONSE),
        (b"\x02\x00\x01\x03", RESPONSE),
        (TAP + struct.pack(">BHQI", 1, 12, 0, 10**9), INITIATION),
        (TAP + b"\x05" + struct.pack(">H", 1184) + bytes(1184), RESPONSE),
        (TIME + TAP + b"\x06" + struct.pack(">H", 1088) + bytes(1088), INITIATION),
        (TIME + TAP + b"\x05\x00\x01\x00", INITIATION),
    ],
)
def test_malformed(payload: bytes, kind: int) -> None:
    with pytest.raises(Malformed) as malformed:
        decode_greeting(payload, kind)
    assert malformed.value.reason is DropReason.HANDSHAKE_MALFORMED


field = st.tuples(st.integers(0, 9), st.integers(0, 14), st.binary(max_size=14)).map(
    lambda parts: struct.pack(">BH", parts[0], parts[1]) + parts[2]
)


@given(st.binary(max_size=100) | st.lists(field, max_size=6).map(b"".join), st.sampled_from([INITIATION, RESPONSE]))
def test_decoder_is_total(payload: bytes, kind: int) -> None:
    try:
        greeting = decode_greeting(payload, kind)
    except Malformed:
        return
    assert (greeting.time is not None) == (kind == INITIATION)
    assert decode_greeting(encode_greeting(greeting), kind) == greeting


@pytest.mark.parametrize("numbers", [{"mtu": 67}, {"mtu": 65536}, {"offloads": 2**32}, {"max_record": 1023}])
def test_numbers_that_do_not_fit(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="out of its range"):
        Hello(Mode.TUN, **numbers)
