"""IPv4 packets in fragments, put together again by the book."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.offload.ipv4_fragments import fragment_ipv4
from tests.l3.packets import packet


def with_options(options: bytes, size: int = 1000, flags: int = 0, offset: int = 0) -> bytes:
    raw = packet("192.0.2.1", "198.51.100.2", size, dont_fragment=False)
    head = bytes((0x45 + len(options) // 4,)) + raw[1:2] + struct.pack(">H", size + len(options)) + raw[4:6]
    head += struct.pack(">H", flags | offset) + raw[8:10] + bytes(2) + raw[12:20] + options
    return head[:10] + struct.pack(">H", dpkt.in_cksum(head)) + head[12:] + raw[20:]


def parts(frames: list[bytes], link: int = 0) -> list[tuple[int, bool, bytes, bytes]]:
    """(offset in bytes, whether more follow, options, payload)"""
    found = []
    for frame in frames:
        raw = frame[link:]
        size = (raw[0] & 0xF) * 4
        assert dpkt.in_cksum(raw[:size]) == 0
        length, ident, flags = struct.unpack_from(">HHH", raw, 2)
        assert (length, ident) == (len(raw), 7)
        found.append(((flags & 0x1FFF) * 8, bool(flags & 0x2000), raw[20:size], raw[size:]))
    return found


def whole(found: list[tuple[int, bool, bytes, bytes]]) -> bytes:
    payload = b""
    for offset, more, _, part in found:
        assert offset - found[0][0] == len(payload)
        assert more is (offset != found[-1][0])
        payload += part
    return payload


@given(st.integers(61, 4000), st.integers(28, 1500), st.sampled_from([0, 14, 18]))
def test_they_are_the_packet_and_none_is_too_large(size: int, mtu: int, link: int) -> None:
    raw = packet("192.0.2.1", "198.51.100.2", size, dont_fragment=False)
    padding = bytes(6)
    frames = fragment_ipv4(b"L" * link + raw + padding, link, mtu)
    assert all(len(frame) - link <= mtu and frame[:link] == b"L" * link for frame in frames)
    assert whole(parts(frames, link)) == raw[20:]


def test_options_are_copied_that_are_to_be() -> None:
    record_route, strict_route = b"\x07\x04\x04\x00", b"\x89\x07\x04\x01\x02\x03\x04"
    found = parts(fragment_ipv4(with_options(record_route + b"\x01" + strict_route), 0, 500))
    assert [options for _, _, options, _ in found] == [
        record_route + b"\x01" + strict_route,
        *[strict_route + b"\0"] * (len(found) - 1),
    ]
    assert whole(found) == with_options(b"")[20:]


@given(st.binary(min_size=0, max_size=10))
def test_whatever_the_options_are(noise: bytes) -> None:
    options = (noise * 4)[: len(noise) * 4]
    assert whole(parts(fragment_ipv4(with_options(options), 0, 200))) == with_options(b"")[20:]


def test_a_fragment_is_divided_further() -> None:
    raw = with_options(b"", flags=0x2000, offset=100)
    found = parts(fragment_ipv4(raw, 0, 500))
    assert [offset for offset, *_ in found] == [800, 1280, 1760]
    assert all(more for _, more, *_ in found)


@pytest.mark.parametrize(("raw", "mtu"), [(packet("192.0.2.1", "192.0.2.2")[:50], 40), (with_options(bytes(8)), 35)])
def test_what_cannot_be_divided(raw: bytes, mtu: int) -> None:
    with pytest.raises(Malformed):
        fragment_ipv4(raw, 0, mtu)
