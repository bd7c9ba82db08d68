"""VLANs: which network a frame belongs to, and the tag it leaves with."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.vlan import PortVlans, access, trunk
from caetun.offload.segment import segment
from caetun.types import Mode
from caetun.wire.virtio_net import NO_OFFLOAD, VnetHeader
from tests.offload.superframes import Superframe, superframes

MACS = bytes(range(12))


def frame(*tags: tuple[int, int], kind: int = 0x0800) -> bytes:
    """A frame with tags (TPID, TCI)."""
    return MACS + b"".join(struct.pack(">HH", *tag) for tag in tags) + struct.pack(">H", kind) + bytes(46)


def leaves(port: PortVlans, what: bytes, vlan: int) -> bytes:
    header, *parts = port.egress(NO_OFFLOAD, memoryview(what), vlan)
    assert header == NO_OFFLOAD
    return b"".join(parts)


class TestIngress:
    @pytest.mark.parametrize(
        ("port", "what", "vlan"),
        [
            (access(7), frame(), 7),
            (access(7), frame((0x8100, 7)), 7),
            (access(7), frame((0x8100, 8)), None),
            (access(7), frame((0x8100, 0xE000)), 7),
            (access(7), frame((0x88A8, 8)), 7),
            (trunk(frozenset({7, 8})), frame((0x8100, 8)), 8),
            (trunk(frozenset({7, 8})), frame((0x8100, 0x6008)), 8),
            (trunk(frozenset({7, 8})), frame((0x8100, 9)), None),
            (trunk(frozenset({7, 8})), frame(), None),
            (trunk(frozenset({7, 8}), native=3), frame(), 3),
            (trunk(None), frame((0x8100, 4094)), 4094),
            (trunk(None), frame((0x8100, 4095)), None),
            (access(7), (MACS + b"\x81\x00"), 7),
        ],
    )
    def test_membership(self, port: PortVlans, what: bytes, vlan: int | None) -> None:
        assert port.ingress(what) == vlan


class TestEgress:
    def test_untagged_where_the_vlan_is_native(self) -> None:
        assert leaves(access(7), frame(), 7) == frame()
        assert leaves(access(7), frame((0x8100, 0x6007)), 7) == frame()
        assert leaves(access(7), frame((0x8100, 7), (0x8100, 9)), 7) == frame((0x8100, 9)), "the outer tag only"

    def test_tagged_on_a_trunk(self) -> None:
        port = trunk(None)
        assert leaves(port, frame(), 7) == frame((0x8100, 7))
        assert leaves(port, frame((0x8100, 0x6007)), 7) == frame((0x8100, 0x6007))
        assert leaves(port, frame((0x8100, 0xE000)), 7) == frame((0x8100, 0xE007)), "the priority is kept"
        assert leaves(port, frame((0x88A8, 9)), 7) == frame((0x8100, 7), (0x88A8, 9)), "a service tag is payload"

    def test_members(self) -> None:
        port = trunk(frozenset({7}), native=3)
        assert [port.has(vlan) for vlan in (3, 7, 8)] == [True, True, False]
        assert trunk(None).has(4000)


@given(superframes().filter(lambda whole: whole.mode is Mode.TAP and not whole.tags), st.integers(1, 4094))
def test_a_superframe_stays_one(whole: Superframe, vlan: int) -> None:
    """With a tag put in, its segments are those of before with the tag; taken out again, nothing has happened."""
    header, *parts = trunk(None).egress(whole.header, memoryview(whole.frame), vlan)
    tagged = memoryview(b"".join(parts))
    tag = struct.pack(">HH", 0x8100, vlan)
    assert VnetHeader.decode(header).csum_start == VnetHeader.decode(whole.header).csum_start + 4
    plain = [bytes(part) for part in segment(memoryview(whole.frame), whole.header, Mode.TAP)]
    assert [bytes(part) for part in segment(tagged, header, Mode.TAP)] == [
        each[:12] + tag + each[12:] for each in plain
    ]
    back, *parts = access(vlan).egress(header, tagged, vlan)
    assert (back, b"".join(parts)) == (whole.header, whole.frame)
