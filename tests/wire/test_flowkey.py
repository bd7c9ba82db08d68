"""What is of one flow has one key, and nothing else has it."""

from __future__ import annotations

from typing import Final

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import Mode
from caetun.wire import ip
from caetun.wire.ethernet import network_header
from caetun.wire.flowkey import FlowKey, key_maker
from tests.mangle.packets import echo, ethernet, packet, syn, tag, udp

_OF_PACKET: Final = key_maker(Mode.TUN)
_OF_FRAME: Final = key_maker(Mode.TAP)
_BEHIND: Final = bytes(10)


def segment(flags: int = dpkt.tcp.TH_ACK, sport: int = 1234) -> dpkt.tcp.TCP:
    return dpkt.tcp.TCP(sport=sport, dport=80, seq=7, flags=flags)


def key(frame: bytes, mode: Mode = Mode.TUN) -> FlowKey | None:
    """With what may stand behind it in a batch."""
    return (_OF_PACKET if mode is Mode.TUN else _OF_FRAME)(frame + _BEHIND, 0, len(frame) + len(_BEHIND))


@pytest.mark.parametrize("ends", [("10.1.0.5", "10.2.0.9"), ("fd00::5", "fd00::9")])
def test_what_differs_from_packet_to_packet_is_not_in_it(ends: tuple[str, str]) -> None:
    one = key(packet(udp(content=b"one"), *ends, ttl=64))
    assert one is not None
    assert one == key(packet(udp(content=bytes(900)), *ends, ttl=3))


@pytest.mark.parametrize("tags", [b"", tag(7)])
@pytest.mark.parametrize(
    "other",
    [
        packet(udp(), "10.1.0.6"),
        packet(udp(), "10.1.0.5", "10.2.0.8"),
        packet(udp(dport=54)),
        packet(udp(), tos=4),
        packet(segment()),
        packet(udp(), "fd00::5", "fd00::9"),
    ],
)
def test_what_rules_may_ask_for_is(other: bytes, tags: bytes) -> None:
    assert key(other) != key(packet(udp()))
    assert key(ethernet(other, tags), Mode.TAP) != key(ethernet(packet(udp()), tags), Mode.TAP)


def test_tags_and_stations_are_in_it() -> None:
    frames = [ethernet(packet(udp()), tags) for tags in (b"", tag(7), tag(8))]
    frames.append(frames[0][:5] + b"\x77" + frames[0][6:])
    keys = [key(frame, Mode.TAP) for frame in frames]
    assert None not in keys
    assert len(set(keys)) == len(frames)


@pytest.mark.parametrize(
    "frame",
    [packet(syn()), packet(segment(dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK)), packet(echo()), packet(udp())[:20], b"\x45"],
)
def test_others_have_none(frame: bytes) -> None:
    assert key(frame) is None
    assert key(ethernet(frame), Mode.TAP) is None


@pytest.mark.parametrize("tags", [tag(7) + tag(8), b"\x88\xa8\x45\x00"])
def test_behind_other_tags_there_is_none(tags: bytes) -> None:
    assert key(ethernet(packet(udp()), tags), Mode.TAP) is None


_HEADS: Final = (packet(udp()), packet(segment()), packet(udp(), "fd00::5", "fd00::9"))


@settings(deadline=None)
@given(st.data())
def test_two_frames_of_one_key_have_one_outline(data: st.DataObject) -> None:
    """Whatever is changed of one of them, and however much of it is missing."""
    mode = data.draw(st.sampled_from([Mode.TUN, Mode.TAP]))
    plain = data.draw(st.sampled_from(_HEADS))
    frame = plain if mode is Mode.TUN else ethernet(plain, data.draw(st.sampled_from([b"", tag(7)])))
    other = bytearray(frame)
    for _ in range(data.draw(st.integers(0, 3))):
        other[data.draw(st.integers(0, len(other) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(other[: data.draw(st.integers(0, len(other)))])
    if key(frame, mode) is not None and key(cut, mode) == key(frame, mode):
        assert outline(cut, mode) == outline(frame, mode)


def outline(frame: bytes, mode: Mode) -> tuple[int, int, int, bool] | None:
    """Less its length, which may differ."""
    try:
        packet = ip.outline(frame, 0 if mode is Mode.TUN else network_header(frame)[1])
    except Malformed:
        return None
    return packet.version, packet.protocol, packet.transport, packet.whole
