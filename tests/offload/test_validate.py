"""What a virtio_net_hdr may claim: every field is held against the frame."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.offload.validate import (
    LEAST_TCP_GSO_SIZE,
    MAX_UDP_SEGMENTS,
    Validator,
    divisible,
    validated,
    validated_checksum,
)
from caetun.types import DropReason, Mode
from caetun.wire.virtio_net import DATA_VALID, GSO_ECN, GSO_UDP, NO_OFFLOAD, RSC_INFO, VnetHeader
from tests.offload.superframes import UDP, Superframe, superframes

_TCP4 = Superframe()
_TCP6 = Superframe(version=6, mode=Mode.TUN)
_UDP4 = Superframe(UDP)


def _fields(made: Superframe) -> VnetHeader:
    return VnetHeader.decode(made.header)


def _refused(frame: bytes, header: VnetHeader | bytes, mode: Mode = Mode.TAP) -> bool:
    with pytest.raises(Malformed) as caught:
        validated(frame, header.encode() if isinstance(header, VnetHeader) else header, mode)
    return caught.value.reason is DropReason.OFFLOAD_INVALID


@given(superframes())
def test_what_a_device_hands_over_passes_unchanged(made: Superframe) -> None:
    assert validated(memoryview(made.frame), made.header, made.mode) == made.header


@given(superframes())
def test_the_outline_of_a_superframe(made: Superframe) -> None:
    whole = divisible(made.frame[: made.headers], len(made.frame), made.header, made.mode)
    assert (whole.network, whole.transport, whole.payload) == (made.network, made.transport, made.headers)
    assert (whole.version, whole.protocol, whole.unit) == (made.version, made.protocol, made.unit)


@given(superframes(), st.integers(0, 0xFFFF))
def test_hdr_len_is_only_a_hint_and_computed_anew(made: Superframe, hint: int) -> None:
    claimed = _fields(made)._replace(hdr_len=hint).encode()
    assert validated(made.frame, claimed, made.mode) == made.header


def test_nobody_else_says_that_a_checksum_was_verified() -> None:
    packet = _TCP4.packets()[0]
    assert validated(packet, VnetHeader(DATA_VALID, 0, 0, 0, 0, 0).encode(), Mode.TAP) == NO_OFFLOAD
    claimed = _fields(_TCP4)._replace(flags=1 | DATA_VALID).encode()
    assert validated(_TCP4.frame, claimed, Mode.TAP) == _TCP4.header


def test_no_claim_needs_no_look() -> None:
    assert validated(b"anything", NO_OFFLOAD, Mode.TAP) == NO_OFFLOAD


@pytest.mark.parametrize("made", [_TCP4, _TCP6, _UDP4])
@pytest.mark.parametrize(
    "wrong",
    [
        {"flags": 0},
        {"flags": DATA_VALID},
        {"flags": 1 | RSC_INFO},
        {"flags": 1 | 0x80},
        {"gso_type": GSO_UDP},
        {"gso_type": 2},
        {"gso_type": GSO_ECN},
        {"gso_type": 0x25},
        {"gso_size": 0},
        {"gso_size": 7},
        {"gso_size": 0xFFFF},
        {"csum_start": 0},
        {"csum_start": 33},
        {"csum_start": 0xFFFF},
        {"csum_offset": 0},
        {"csum_offset": 8},
        {"csum_offset": 0xFFFF},
    ],
)
def test_a_field_that_does_not_fit_the_superframe_is_refused(made: Superframe, wrong: dict[str, int]) -> None:
    assert _refused(made.frame, _fields(made)._replace(**wrong), made.mode)


def test_the_type_must_be_that_of_the_packet() -> None:
    assert _refused(_TCP4.frame, _fields(_TCP4)._replace(gso_type=4))
    assert _refused(_TCP4.frame, _fields(_TCP4)._replace(gso_type=5))
    assert _refused(_TCP6.frame, _fields(_TCP6)._replace(gso_type=1), Mode.TUN)
    assert _refused(_UDP4.frame, _fields(_UDP4)._replace(gso_type=1))
    assert _refused(_UDP4.frame, _fields(_UDP4)._replace(gso_type=5 | GSO_ECN))


def test_ethertype_and_ip_version_must_agree() -> None:
    frame = bytearray(_TCP4.frame)
    frame[12:14] = b"\x86\xdd"
    assert _refused(bytes(frame), _TCP4.header)


def test_a_frame_of_the_other_mode_is_refused() -> None:
    assert _refused(_TCP4.frame, _TCP4.header, Mode.TUN)
    assert _refused(_TCP6.frame, _TCP6.header, Mode.TAP)


@pytest.mark.parametrize("made", [_TCP4, _TCP6, _UDP4])
def test_lengths_must_agree(made: Superframe) -> None:
    assert _refused(made.frame + b"\0", made.header, made.mode)
    assert _refused(made.frame[:-1], made.header, made.mode)


def test_the_udp_length_must_agree() -> None:
    frame = bytearray(_UDP4.frame)
    frame[_UDP4.transport + 5] ^= 1
    assert _refused(bytes(frame), _UDP4.header)


@pytest.mark.parametrize("made", [_TCP4, _TCP6, _UDP4])
def test_headers_must_be_there(made: Superframe) -> None:
    for size in range(made.headers + 1):
        assert _refused(made.frame[:size], made.header, made.mode)


@pytest.mark.parametrize("made", [_TCP4, _TCP6, _UDP4])
def test_a_superframe_has_payload(made: Superframe) -> None:
    empty = replace(made, payload=b"")
    assert _refused(empty.frame, empty.header, made.mode)


def test_a_fragment_is_no_superframe() -> None:
    frame = bytearray(_TCP4.frame)
    frame[14 + 6] |= 0x20
    assert _refused(bytes(frame), _TCP4.header)


def test_the_least_gso_size_of_tcp() -> None:
    assert validated(_TCP4.frame, replace(_TCP4, gso_size=LEAST_TCP_GSO_SIZE).header, Mode.TAP)
    assert _refused(_TCP4.frame, replace(_TCP4, gso_size=LEAST_TCP_GSO_SIZE - 1).header)


def test_udp_may_have_so_many_datagrams_and_no_more() -> None:
    most = replace(_UDP4, payload=bytes(10 * MAX_UDP_SEGMENTS), gso_size=10)
    assert validated(most.frame, most.header, Mode.TAP) == most.header
    more = replace(_UDP4, payload=bytes(10 * MAX_UDP_SEGMENTS + 1), gso_size=10)
    assert _refused(more.frame, more.header)


def test_an_open_checksum_may_be_of_any_protocol_behind_the_ip_header() -> None:
    packet = _UDP4.part(0, 100)
    for start, offset in [(34, 6), (34, 16), (60, 0), (34, len(packet) - 36)]:
        claimed = VnetHeader(1, 0, 99, 99, start, offset).encode()
        assert validated(packet, claimed, Mode.TAP) == VnetHeader(1, 0, 0, 0, start, offset).encode()
    assert _refused(packet, VnetHeader(1, 0, 0, 0, 33, 6))
    assert _refused(packet, VnetHeader(1, 0, 0, 0, 34, len(packet) - 35))
    assert _refused(packet, VnetHeader(1 | RSC_INFO, 0, 0, 0, 34, 6))


def test_an_open_checksum_in_a_frame_that_is_no_ip() -> None:
    frame = bytes(12) + b"\x88\xb5" + bytes(46)
    assert validated(frame, VnetHeader(1, 0, 0, 0, 20, 6).encode(), Mode.TAP)
    assert _refused(frame, VnetHeader(1, 0, 0, 0, 19, 6))


def test_the_quick_look_at_an_open_checksum_is_about_bounds() -> None:
    assert validated_checksum(70, 34, 16) == VnetHeader(1, 0, 0, 0, 34, 16).encode()
    assert validated_checksum(52, 34, 16) == validated_checksum(70, 34, 16)
    for length, start, offset in [(51, 34, 16), (70, 19, 16), (70, 0, 0), (0, 34, 16), (70, 34, -1), (70, 255, 255)]:
        with pytest.raises(Malformed):
            validated_checksum(length, start, offset)


@pytest.mark.parametrize("size", [0, 1, 9, 11, 12])
def test_a_header_of_another_size_is_refused(size: int) -> None:
    assert _refused(_TCP4.frame, (_TCP4.header + b"\0\0")[:size])


@given(
    superframes(),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 255)), max_size=2),
    st.integers(0, 300),
)
def test_whatever_passes_is_within_bounds(
    made: Superframe, in_frame: list[tuple[int, int]], in_header: list[tuple[int, int]], cut_off: int
) -> None:
    frame, header = bytearray(made.frame), bytearray(made.header)
    for at, value in in_frame:
        frame[at % len(frame)] = value
    for at, value in in_header:
        header[at] = value
    frame = frame[: len(frame) - cut_off if cut_off < 100 else len(frame)]
    try:
        safe = VnetHeader.decode(validated(frame, bytes(header), made.mode))
    except Malformed:
        return
    if safe.encode() == NO_OFFLOAD:
        return
    assert safe.flags == 1
    assert safe.csum_start >= 20
    assert safe.csum_start + safe.csum_offset + 2 <= len(frame)
    if safe.gso_type:
        assert safe.csum_offset == {1: 16, 4: 16, 5: 6}[safe.gso_type & 0x7F]
        assert safe.csum_start + 8 <= safe.hdr_len < len(frame)
        assert 0 < safe.gso_size < 0xFFFF
    else:
        assert (safe.hdr_len, safe.gso_size) == (0, 0)


@given(st.binary(max_size=100), st.binary(max_size=12), st.sampled_from(Mode))
def test_total(frame: bytes, header: bytes, mode: Mode) -> None:
    with contextlib.suppress(Malformed):
        assert len(validated(frame, header, mode)) == 10


def test_protocols_other_than_tcp_and_udp_are_not_divided() -> None:
    frame = bytearray(_TCP4.frame)
    frame[14 + 9] = 132  # SCTP
    assert _refused(bytes(frame), struct.pack("<BBHHHH", 1, 1, 54, 1000, 34, 16))


def _judgement(judge: Callable[[], bytes]) -> bytes | DropReason:
    try:
        return judge()
    except Malformed as bad:
        return bad.reason


@given(superframes(), st.data())
def test_the_quick_look_judges_as_the_long_one_does(made: Superframe, data: st.DataObject) -> None:
    validator = Validator(made.mode)
    validator.validated(memoryview(made.frame), made.header)
    frame, header = bytearray(made.frame), bytearray(made.header)
    for _ in range(data.draw(st.integers(0, 3))):
        target = data.draw(st.sampled_from((frame, header)))
        target[data.draw(st.integers(0, min(len(target), made.headers) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from((0, 0, 0, 1, made.unit)))
    changed = bytes(frame[: len(frame) - cut])
    quick = _judgement(lambda: validator.validated(memoryview(changed), bytes(header)))
    assert quick == _judgement(lambda: validated(changed, bytes(header), made.mode))


@given(superframes(), superframes())
def test_the_quick_look_is_not_fooled_by_another_flow(one: Superframe, other: Superframe) -> None:
    validator = Validator(one.mode)
    validator.validated(memoryview(one.frame), one.header)
    quick = _judgement(lambda: validator.validated(memoryview(other.frame), other.header))
    assert quick == _judgement(lambda: validated(other.frame, other.header, one.mode))
