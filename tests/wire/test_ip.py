"""Finding the transport header behind IPv4 options and IPv6 extension headers."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire import ip


def _ipv4(options: bytes = b"", fragment: int = 0, length: int | None = None, protocol: int = ip.TCP) -> bytes:
    size = 20 + len(options)
    fields = (0x40 | size // 4, 0, size + 20 if length is None else length, 1, fragment, 64, protocol, 0)
    return struct.pack(">BBHHHBBH", *fields) + bytes(8) + options + bytes(20)


def _ipv6(*extensions: tuple[int, bytes], protocol: int = ip.UDP) -> bytes:
    """Each extension: its number, and its bytes from the second one on (the first names what follows)."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(bytes((after,)) + rest for (_, rest), after in zip(extensions, kinds[1:], strict=True))
    return struct.pack(">IHBB", 6 << 28, len(chain) + 8, kinds[0], 64) + bytes(32) + chain + bytes(8)


def test_ipv4_without_options() -> None:
    assert ip.outline(_ipv4(), 0) == ip.Packet(ip.IPV4, 40, ip.TCP, 20, whole=True)


def test_ipv4_with_options_behind_an_ethernet_header() -> None:
    assert ip.outline(bytes(14) + _ipv4(options=bytes(12)), 14) == ip.Packet(ip.IPV4, 66, ip.TCP, 46, whole=True)


def test_ipv4_fragments_are_not_whole_and_only_the_first_has_a_transport_header() -> None:
    assert ip.outline(_ipv4(fragment=0x2000), 0) == ip.Packet(ip.IPV4, 40, ip.TCP, 20, whole=False)
    assert ip.outline(_ipv4(fragment=0x2003), 0) == ip.Packet(ip.IPV4, 40, ip.NO_NEXT_HEADER, 20, whole=False)
    assert ip.outline(_ipv4(fragment=0x4000), 0).whole  # "don't fragment" is no fragment


def test_ipv6_without_extensions() -> None:
    assert ip.outline(_ipv6(), 0) == ip.Packet(ip.IPV6, 48, ip.UDP, 40, whole=True)


def test_ipv6_behind_hop_by_hop_routing_and_destination_options() -> None:
    chain = [
        (ip.HOP_BY_HOP, bytes(7)),
        (ip.ROUTING, b"\x02" + bytes(22)),
        (ip.DESTINATION_OPTIONS, b"\x01" + bytes(14)),
    ]
    assert ip.outline(_ipv6(*chain), 0) == ip.Packet(ip.IPV6, 96, ip.UDP, 88, whole=True)


def test_ipv6_fragments_are_not_whole_and_only_the_first_has_a_transport_header() -> None:
    first = _ipv6((ip.FRAGMENT, b"\0\x00\x01" + bytes(4)))
    later = _ipv6((ip.FRAGMENT, b"\0\x01\x01" + bytes(4)))
    assert ip.outline(first, 0) == ip.Packet(ip.IPV6, 56, ip.UDP, 48, whole=False)
    assert ip.outline(later, 0) == ip.Packet(ip.IPV6, 56, ip.NO_NEXT_HEADER, 48, whole=False)


def test_an_authentication_header_counts_its_length_in_words_of_four_bytes_and_ties_the_payload_down() -> None:
    packet = _ipv6((ip.AUTHENTICATION, b"\x04" + bytes(22)))
    assert ip.outline(packet, 0) == ip.Packet(ip.IPV6, 72, ip.UDP, 64, whole=False)


def test_dpkt_finds_the_same_headers() -> None:
    packet = _ipv6((ip.HOP_BY_HOP, b"\0\x01\x04" + bytes(4)), (ip.DESTINATION_OPTIONS, b"\0\x01\x04" + bytes(4)))
    parsed = dpkt.ip6.IP6(packet)
    assert ip.outline(packet, 0).transport == 40 + sum(len(one) for one in parsed.all_extension_headers)
    assert isinstance(parsed.data, dpkt.udp.UDP)


def test_too_many_extensions_are_malformed() -> None:
    assert ip.outline(_ipv6(*[(ip.HOP_BY_HOP, bytes(7))] * (ip.MAX_EXTENSIONS - 1)), 0).protocol == ip.UDP
    with pytest.raises(Malformed, match="extension headers"):
        ip.outline(_ipv6(*[(ip.HOP_BY_HOP, bytes(7))] * (ip.MAX_EXTENSIONS + 1)), 0)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        _ipv4()[:19],
        _ipv4(options=bytes(8))[:27],
        _ipv4(length=19),
        b"\x44" + _ipv4()[1:],
        b"\x50" + bytes(40),
        _ipv6()[:39],
        _ipv6((ip.ROUTING, b"\x01" + bytes(14)))[:55],
        _ipv6((ip.ROUTING, bytes(7)))[:41],
    ],
)
def test_headers_cut_short_or_contradicting_themselves_are_malformed(packet: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        ip.outline(packet, 0)
    assert caught.value.reason is DropReason.FRAME_SHORT


def test_tcp_payload_begins_behind_the_options() -> None:
    header = bytearray(32)
    header[12] = 8 << 4
    assert ip.tcp_payload(bytes(5) + header, 5) == 37


@pytest.mark.parametrize(("size", "data_offset"), [(19, 5), (20, 4), (31, 8), (20, 15)])
def test_a_tcp_header_cut_short_is_malformed(size: int, data_offset: int) -> None:
    header = bytearray(size)
    header[12] = data_offset << 4
    with pytest.raises(Malformed):
        ip.tcp_payload(header, 0)


def test_udp_payload_begins_after_eight_bytes() -> None:
    assert ip.udp_payload(bytes(12), 4) == 12
    with pytest.raises(Malformed):
        ip.udp_payload(bytes(11), 4)


@given(st.binary(max_size=120), st.sampled_from((0x45, 0x46, 0x60, 0x00)), st.integers(0, 4))
def test_total(junk: bytes, first: int, at: int) -> None:
    frame = memoryview(bytes(at) + bytes((first,)) + junk)
    try:
        packet = ip.outline(frame, at)
    except Malformed:
        return
    assert at < packet.transport <= len(frame)
    for payload in (ip.tcp_payload, ip.udp_payload):
        try:
            assert packet.transport < payload(frame, packet.transport) <= len(frame)
        except Malformed:
            continue


@given(st.lists(st.tuples(st.sampled_from((0, 43, 44, 51, 60)), st.binary(min_size=7, max_size=7)), max_size=18))
def test_chains_of_extensions_are_total(chain: list[tuple[int, bytes]]) -> None:
    frame = _ipv6(*chain)
    try:
        packet = ip.outline(frame, 0)
    except Malformed:
        return
    assert 40 <= packet.transport <= len(frame)
