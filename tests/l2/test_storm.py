"""Storm control: what belongs to which class, and what a class may use up."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.storm import DEFAULTS, Rate, Storm, StormControl, classify

HOST, OTHER = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
BROADCAST, GROUP4, GROUP6 = b"\xff" * 6, bytes.fromhex("01005e0000fb"), bytes.fromhex("3333000000fb")


def frame(destination: bytes, kind: int, payload: bytes = bytes(46), tags: bytes = b"") -> bytes:
    return destination + HOST + tags + struct.pack(">H", kind) + payload


def udp4(port: int) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 36, 0, 0, 1, 17, 0, bytes(4), bytes(4))
    return head + struct.pack(">HHHH", 1000, port, 16, 0) + bytes(8)


def ipv6(protocol: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 255) + bytes(32) + payload


@pytest.mark.parametrize(
    ("what", "storm"),
    [
        (frame(BROADCAST, 0x0806), Storm.NEIGHBOURS),
        (frame(BROADCAST, 0x0806, tags=b"\x81\0\0\x07"), Storm.NEIGHBOURS),
        (frame(GROUP6, 0x86DD, ipv6(58, b"\x87\0\0\0" + bytes(20))), Storm.NEIGHBOURS),
        (frame(GROUP6, 0x86DD, ipv6(0, b"\x3a\0\5\2\0\0\1\0" + b"\x86\0\0\0")), Storm.NEIGHBOURS),
        (frame(GROUP6, 0x86DD, ipv6(58, b"\x80\0\0\0" + bytes(20))), Storm.MULTICAST),
        (frame(BROADCAST, 0x0800, udp4(67)), Storm.DHCP),
        (frame(GROUP6, 0x86DD, ipv6(17, struct.pack(">HHHH", 546, 547, 8, 0))), Storm.DHCP),
        (frame(GROUP4, 0x0800, udp4(5353)), Storm.DISCOVERY),
        (frame(GROUP4, 0x0800, udp4(1900)), Storm.DISCOVERY),
        (frame(GROUP4, 0x0800, udp4(5004)), Storm.MULTICAST),
        (frame(BROADCAST, 0x0800, udp4(5004)), Storm.BROADCAST),
        (frame(BROADCAST, 0x88B5), Storm.BROADCAST),
        (frame(OTHER, 0x0800, udp4(80)), Storm.UNKNOWN),
        (frame(OTHER, 0x0800, b"\x45"), Storm.UNKNOWN),
        (frame(GROUP4, 0x0800, b""), Storm.MULTICAST),
    ],
)
def test_classes(what: bytes, storm: Storm) -> None:
    assert classify(what) is storm


@given(st.binary(min_size=14, max_size=100))
def test_any_frame_has_a_class(what: bytes) -> None:
    assert classify(what) in Storm


class TestBudget:
    def test_a_burst_and_then_the_rate(self) -> None:
        control = StormControl({Storm.BROADCAST: Rate(10, 5)})
        assert [control.passes(Storm.BROADCAST, 1.0) for _ in range(7)] == [True] * 5 + [False] * 2
        assert [control.passes(Storm.BROADCAST, 1.25) for _ in range(3)] == [True, True, False]
        assert sum(control.passes(Storm.BROADCAST, 2.0 + number / 100) for number in range(100)) in range(14, 16)

    def test_one_class_does_not_starve_another(self) -> None:
        control = StormControl()
        while control.passes(Storm.BROADCAST, 0.0):
            pass
        assert control.passes(Storm.NEIGHBOURS, 0.0)
        assert control.passes(Storm.DISCOVERY, 0.0)

    def test_a_class_without_a_rate_has_no_limit(self) -> None:
        control = StormControl({})
        assert all(control.passes(Storm.UNKNOWN, 0.0) for _ in range(100_000))

    def test_a_superframe_counts_for_its_segments(self) -> None:
        control = StormControl({Storm.UNKNOWN: Rate(1, 50)})
        assert control.passes(Storm.UNKNOWN, 0.0, 44)
        assert not control.passes(Storm.UNKNOWN, 0.0, 44)
        assert control.passes(Storm.UNKNOWN, 0.0, 6)

    def test_a_segment_of_a_hundred_hosts_stays_below(self) -> None:
        control = StormControl()
        for tenth in range(600):  # a minute: each host asks for a neighbour and announces itself once a second
            assert all(control.passes(storm, tenth / 10, 10) for storm in (Storm.NEIGHBOURS, Storm.DISCOVERY))
        assert set(DEFAULTS) == set(Storm)
