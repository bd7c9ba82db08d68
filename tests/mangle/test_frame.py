"""Frames as rules see them: whatever is replaced, checksums are those that a computation from scratch gives."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.mangle.frame import HEAD, Frame, gathered
from caetun.offload.segment import segment
from caetun.types import Mode
from tests.mangle.packets import echo, ethernet, frame, packet, sound, tag, udp
from tests.offload.superframes import Superframe, superframes, verified


def readdressed(parsed: Frame, data: st.DataObject) -> None:
    """Give it new addresses, and a new identifier or flow label."""
    for which in (0, 1):
        at, size = parsed.address_at(which)
        parsed.replace(at, data.draw(st.binary(min_size=size, max_size=size)))


@given(superframes(), st.data())
def test_packets_of_a_superframe_with_new_addresses_are_sound(whole: Superframe, data: st.DataObject) -> None:
    content = bytearray(whole.frame)
    parsed = Frame(memoryview(content)[:HEAD], len(content), whole.header, whole.mode)
    readdressed(parsed, data)
    packets = segment(content, whole.header, whole.mode)
    assert len(packets) == len(whole.packets())
    for each in packets:
        verified(each, whole.mode)


@given(superframes(), st.data())
def test_complete_packets_with_new_bytes_anywhere_are_sound(whole: Superframe, data: st.DataObject) -> None:
    content = whole.packets()[0]
    parsed = frame(content, whole.mode)
    readdressed(parsed, data)
    assert parsed.packet is not None
    # Ports and payload, at any parity. Where the header says of itself how it is to be read stays.
    transport = parsed.packet.transport
    places = [(transport, 4), (whole.headers, len(parsed.head) - whole.headers)]
    start, room = data.draw(st.sampled_from(places))
    if room > 0:
        at = data.draw(st.integers(start, start + room - 1))
        parsed.replace(at, data.draw(st.binary(min_size=1, max_size=start + room - at)))
    verified(bytes(parsed.head), whole.mode)


@given(superframes(), st.booleans(), st.integers(1, 600))
def test_a_frame_in_parts_is_the_same_frame(whole: Superframe, joined: bool, cut: int) -> None:
    content = memoryview(whole.frame)
    start = [bytearray(whole.header + content[:cut])] if joined else [whole.header, content[:cut]]
    parsed, rest = gathered((*start, content[cut : 2 * cut], content[2 * cut :]), whole.mode)
    assert parsed.header == whole.header
    assert parsed.length == len(content)
    assert len(parsed.head) == min(HEAD, len(content))
    assert b"".join((parsed.head, *rest)) == content
    assert parsed.packet is not None
    assert (parsed.network, parsed.packet.transport) == (whole.network, whole.transport)


@given(st.binary(max_size=120), st.sampled_from(Mode))
def test_any_bytes_are_a_frame(content: bytes, mode: Mode) -> None:
    parsed = frame(content, mode)
    parsed.ports()
    assert len(parsed.source) in (0, 4, 16)


def test_udp_without_a_checksum_stays_without() -> None:
    content = bytearray(packet(udp()))
    content[26:28] = b"\0\0"
    parsed = frame(bytes(content))
    parsed.replace(parsed.address_at(0)[0], bytes((10, 9, 9, 9)))
    assert parsed.head[26:28] == b"\0\0"
    assert sound(bytes(parsed.head))


def test_a_udp_checksum_that_becomes_zero_is_sent_as_its_opposite() -> None:
    check = int.from_bytes(packet(udp(content=b"\0\0"))[26:28], "big")
    content = packet(udp(content=(check - 1).to_bytes(2, "big")))
    assert content[26:28] == b"\0\x01"
    parsed = frame(content)
    parsed.replace(12, bytes((10, 1, 0, 6)))
    assert parsed.head[26:28] == b"\xff\xff"
    assert sound(bytes(parsed.head))


def test_ping_has_no_pseudo_header() -> None:
    parsed = frame(packet(echo()))
    before = bytes(parsed.head[20:])
    parsed.replace(12, bytes((1, 2, 3, 4)))
    assert parsed.head[20:] == before
    assert sound(bytes(parsed.head))


@pytest.mark.parametrize(
    ("tags", "vlan"), [(b"", None), (tag(7), 7), (tag(0x2007), 7), (tag(7) + tag(8), 7), (tag(7, 0x88A8), None)]
)
def test_the_vlan_is_that_of_the_outermost_tag(tags: bytes, vlan: int | None) -> None:
    parsed = frame(ethernet(packet(udp()), tags), Mode.TAP)
    assert parsed.vlan == vlan
    assert parsed.ports() == (5000, 53)


def test_an_ethertype_that_lies_about_ip_is_no_packet() -> None:
    content = ethernet(packet(udp()), kind=0x86DD)
    assert frame(content, Mode.TAP).packet is None


def test_an_open_checksum_of_something_inside_is_not_the_packets() -> None:
    whole = Superframe(mode=Mode.TUN)
    inner = dataclasses.replace(whole, payload=b"x" * 100, gso_size=0)
    header = bytearray(inner.header)
    header[6] += 40
    assert not frame(inner.frame, Mode.TUN, bytes(header)).partial
    assert frame(inner.frame, Mode.TUN, inner.header).partial
