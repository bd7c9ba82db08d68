"""Control messages: what is carried, what is skipped, what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.control import (
    KEY_SHARED,
    SHUTTING_DOWN,
    Close,
    Control,
    Notice,
    Part,
    PartAcknowledgement,
    Probe,
    ProbeAcknowledgement,
    Report,
    decode,
    encode,
)
from caetun.wire.element import CONTROL, HEAD

bytes_, shorts, longs, long_longs = (st.integers(0, 2 ** (8 * size) - 1) for size in (1, 2, 4, 8))
controls: st.SearchStrategy[Control] = st.one_of(
    st.builds(Report, long_longs, long_longs),
    st.builds(Probe, longs, shorts),
    st.builds(ProbeAcknowledgement, longs, shorts),
    st.builds(Close, bytes_),
    st.builds(Notice, bytes_),
    st.builds(Part, long_longs, st.integers(1, 255), st.booleans(), st.binary(max_size=1024)),
    st.builds(PartAcknowledgement, long_longs, longs),
)


@given(controls)
def test_a_message_survives(control: Control) -> None:
    element = encode(control)
    (head,) = HEAD.unpack_from(element)
    assert (head >> 24, head & 0xFFFFFF) == (CONTROL, len(element) - HEAD.size)
    decoded = decode(memoryview(element)[HEAD.size :])
    assert decoded == control
    assert type(decoded) is type(control), "a probe and its acknowledgement are equal as tuples"


@pytest.mark.parametrize(
    ("control", "body"),
    [
        (Report(1, 2), "01 0000000000000001 0000000000000002"),
        (Probe(0x01020304, 1472), "02 01020304 05c0"),
        (ProbeAcknowledgement(0x01020304, 1472), "03 01020304 05c0"),
        (Close(SHUTTING_DOWN), "04 01"),
        (Part(258, 1, True, b"hi"), "05 01 01 0000000000000102 6869"),
        (Part(0, 255, False, b""), "05 ff 00 0000000000000000"),
        (Notice(KEY_SHARED), "07 01"),
        (PartAcknowledgement(258, 5), "06 0000000000000102 00000005"),
    ],
)
def test_bytes_on_the_wire(control: Control, body: str) -> None:
    value = bytes.fromhex(body)
    assert encode(control) == struct.pack(">I", 6 << 24 | len(value)) + value


@pytest.mark.parametrize("kind", [0, 8, 255])
def test_a_type_of_a_later_version_is_skipped(kind: int) -> None:
    assert decode(bytes([kind])) is None
    assert decode(bytes([kind]) + bytes(300)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        *(bytes([kind]) + bytes(rest) for kind in (1, 2, 3, 4, 6, 7) for rest in (0, 5, 20)),
        bytes.fromhex("05 01 01 00000000000000"),
        bytes.fromhex("05 00 01 0000000000000000"),  # no kind
        bytes.fromhex("05 01 02 0000000000000000"),  # neither last nor not
        bytes.fromhex("05 01 01 0000000000000000") + bytes(1025),
    ],
)
def test_another_length_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed) as malformed:
        decode(body)
    assert malformed.value.reason is DropReason.CONTROL_MALFORMED


@given(
    st.binary(max_size=24) | st.tuples(st.integers(0, 8), st.binary(max_size=18)).map(lambda t: bytes([t[0]]) + t[1])
)
def test_decoder_is_total(body: bytes) -> None:
    try:
        control = decode(body)
    except Malformed:
        return
    assert (control is None) == (body[0] not in (1, 2, 3, 4, 5, 6, 7))
    if control is not None:
        assert encode(control)[HEAD.size :] == body
