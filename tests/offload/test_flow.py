"""Frames of one flow share a bucket, those of others mostly do not, and nobody can choose where."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.offload.flow import HEADERS, FlowHash, flow_key
from caetun.types import Mode
from tests.offload.superframes import Superframe, superframes

SEED = bytes(range(16))
MACS = bytes.fromhex("02000000000b02000000000a")
ARP = MACS + bytes.fromhex("0806000108000604") + bytes(20)


def ipv4(protocol: int = 6, ports: bytes = b"\1\2\3\4", fragment: int = 0x4000, ident: int = 1) -> bytes:
    fields = (0x45, 0, 60, ident, fragment, 64, protocol, ident)
    return struct.pack(">BBHHHBBH", *fields) + bytes.fromhex("0a0900010a090002") + ports + bytes(36)


def ipv6(protocol: int = 6, ports: bytes = b"\1\2\3\4", label: int = 0) -> bytes:
    ends = bytes.fromhex("fd00" + "00" * 13 + "01" + "fd00" + "00" * 13 + "02")
    return struct.pack(">IHBB", 6 << 28 | label, 40, protocol, 64) + ends + ports + bytes(36)


def tap(packet: bytes, tags: bytes = b"") -> bytes:
    return MACS + tags + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


@pytest.mark.parametrize("packet", [ipv4, ipv6])
def test_ports_and_protocol_make_flows(packet: Callable[..., bytes]) -> None:
    one = flow_key(packet(), Mode.TUN)
    assert flow_key(packet(ports=b"\1\2\3\5"), Mode.TUN) != one
    assert flow_key(packet(protocol=17), Mode.TUN) != one
    assert flow_key(packet()[:HEADERS], Mode.TUN) == one


def test_what_changes_from_packet_to_packet_makes_none() -> None:
    assert flow_key(ipv4(ident=1), Mode.TUN) == flow_key(ipv4(ident=2), Mode.TUN)
    assert flow_key(ipv6(label=1), Mode.TUN) == flow_key(ipv6(label=2), Mode.TUN)
    assert flow_key(ipv4(protocol=1, ports=b"\x08\0\1\2"), Mode.TUN) == flow_key(ipv4(protocol=1), Mode.TUN)


def test_tags_are_looked_behind() -> None:
    for packet in (ipv4(), ipv6()):
        tagged = tap(packet, bytes.fromhex("88a8000581004567"))
        assert flow_key(tap(packet), Mode.TAP) == flow_key(tagged, Mode.TAP) == flow_key(packet, Mode.TUN)


def test_all_fragments_of_a_packet_are_one_flow() -> None:
    first, later = ipv4(17, fragment=0x2000), ipv4(17, ports=b"data", fragment=0x2010)
    assert flow_key(first, Mode.TUN) == flow_key(later, Mode.TUN) != flow_key(ipv4(17), Mode.TUN)
    chain = b"\x11\0\0\1" + bytes(4)
    assert flow_key(ipv6(44, chain), Mode.TUN) == flow_key(ipv6(44, b"\x11\0\1\0" + bytes(4)), Mode.TUN)


def test_what_is_not_ip_goes_by_addresses_and_type() -> None:
    assert flow_key(ARP, Mode.TAP) == ARP[:14]
    assert flow_key(ARP[:12] + b"\x88\xcc" + ARP[14:], Mode.TAP) != ARP[:14]
    assert flow_key(ARP[:9], Mode.TAP) == ARP[:9]


@given(superframes(), st.integers(0, 99))
def test_the_glance_agrees_with_the_plain_way(whole: Superframe, start: int) -> None:
    """A tag makes the hot path give up: the plain way says the same of what is behind it."""
    packet = whole.frame[whole.network :]
    buckets = {
        FlowHash(Mode.TUN, SEED, 32).bucket(bytes(start) + packet, start),
        FlowHash(Mode.TAP, SEED, 32).bucket(bytes(start) + tap(packet), start),
        FlowHash(Mode.TAP, SEED, 32).bucket(tap(packet, b"\x81\x00\x00\x01"), 0),
    }
    assert len(buckets) == 1


@pytest.mark.parametrize("mode", Mode)
@given(st.binary(max_size=200) | st.integers(0, 90).map(lambda size: tap(ipv6())[:size]))
def test_garbage_has_a_bucket(mode: Mode, garbage: bytes) -> None:
    assert 0 <= FlowHash(mode, SEED, 10).bucket(garbage, 0) < 1024


def test_another_seed_spreads_otherwise_and_well() -> None:
    frames = [tap(ipv4(ports=struct.pack(">HH", port, 443))) for port in range(1000)]
    one, other = (FlowHash(Mode.TAP, seed, 10) for seed in (SEED, SEED[::-1]))
    assert [one.bucket(frame, 0) for frame in frames] != [other.bucket(frame, 0) for frame in frames]
    for hashed in (one, other):
        assert len({hashed.bucket(frame, 0) for frame in frames}) > 550  # 638 if by chance alone
