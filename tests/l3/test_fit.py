"""Packets for a far end whose device takes 1400 bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l3.fit import Fitter
from caetun.types import DropReason, Drops, Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.l3.packets import batch, packet, read, told
from tests.offload.superframes import UDP, Superframe

ME, YOU = "192.0.2.1", "198.51.100.2"
ME6, YOU6 = "2001:db8::1", "2001:db8:1::2"
ETHERNET = bytes.fromhex("020000000002 020000000001")
MTU = 1400


def fit(made: Batch, mode: Mode = Mode.TUN, mtu: int = MTU) -> tuple[list[bytes], list[bytes], Drops]:
    """(what is sent, what is told, what is dropped)"""
    drops = Drops()
    batches, answers = Fitter(mode, drops).fit(made, mtu, 0, 0.0)
    return [bytes(frame) for each in batches for frame, _ in each.frames()], answers, drops


def test_what_fits_is_sent_as_it_lies() -> None:
    made = batch(packet(ME, YOU, MTU), packet(ME6, YOU6, MTU))
    batches, answers = Fitter(Mode.TUN, Drops()).fit(made, MTU, 0, 0.0)
    assert batches == [made]
    assert answers == []


def test_a_superframe_fits_if_its_packets_do() -> None:
    whole = Superframe(mode=Mode.TUN, gso_size=MTU - 40)
    made = Batch()
    made.append(whole.frame, whole.header)
    batches, _ = Fitter(Mode.TUN, Drops()).fit(made, MTU, 0, 0.0)
    assert batches == [made]


@pytest.mark.parametrize(("source", "destination", "kind"), [(ME, YOU, 3), (ME6, YOU6, 2)])
def test_what_must_not_be_divided_is_refused_with_the_size(source: str, destination: str, kind: int) -> None:
    small, large = packet(source, destination), packet(source, destination, MTU + 1)
    sent, (answer,), drops = fit(batch(small, large, small))
    assert sent == [small, small]
    assert told(answer)[:5] == (destination, source, kind, 4 if kind == 3 else 0, MTU)
    assert drops == {DropReason.PACKET_TOO_BIG: 1}


def test_of_a_superframe_the_first_packet_is_quoted_as_it_would_have_been_sent() -> None:
    whole = Superframe(mode=Mode.TUN, version=6, gso_size=1440)
    made = Batch()
    made.append(whole.frame, whole.header)
    sent, (answer,), _ = fit(made)
    assert sent == []
    assert told(answer)[5] == whole.packets()[0][:1232]


def test_what_may_be_divided_is_in_its_place() -> None:
    small, large = packet(ME, YOU), packet(ME, YOU, 2000, dont_fragment=False)
    sent, answers, drops = fit(batch(small, large, small))
    assert (sent[0], sent[-1], answers, drops) == (small, small, [], {})
    assert b"".join(bytes(read(each))[20:] for each in sent[1:-1]) == large[20:]
    assert all(len(each) <= MTU for each in sent)


def test_a_superframe_that_may_be_divided_is_cut_to_packets_first() -> None:
    whole = Superframe(mode=Mode.TUN, protocol=UDP, gso_size=1450, payload=b"y" * 4000)
    frame = bytearray(whole.frame)
    frame[6] &= ~0x40
    made = Batch()
    made.append(frame, whole.header)
    sent, _, _ = fit(made)
    assert len(sent) == 6 - 1, "two datagrams in two fragments each, and a short one"
    assert all(len(each) <= MTU for each in sent)


def test_nobody_is_told_of_less_than_ipv6_needs() -> None:
    fits, large = packet(ME6, YOU6, 1280), packet(ME6, YOU6, 1281)
    sent, (answer,), _ = fit(batch(fits, large), mtu=1000)
    assert sent == [fits]
    assert told(answer)[4] == 1280


@pytest.mark.parametrize("tags", [b"", bytes.fromhex("81000007"), bytes.fromhex("88a8000181000007")])
def test_on_ethernet_the_answer_has_the_addresses_exchanged_and_the_tags_kept(tags: bytes) -> None:
    large = ETHERNET + tags + b"\x08\0" + packet(ME, YOU, MTU + 1)
    sent, (answer,), _ = fit(batch(ETHERNET + tags + b"\x08\0" + packet(ME, YOU, MTU), large), Mode.TAP)
    assert len(sent) == 1
    head = ETHERNET[6:] + ETHERNET[:6] + tags + b"\x08\0"
    assert answer.startswith(head)
    assert told(answer[len(head) :])[:5] == (YOU, ME, 3, 4, MTU)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff" * 6 + ETHERNET[6:] + b"\x08\0" + packet(ME, YOU, 1450),
        ETHERNET + b"\x08\0" + packet(ME, "224.0.0.9", 1450),
        ETHERNET + b"\x12\x34" + bytes(1450),
        ETHERNET + b"\x86\xdd" + packet(ME, YOU, 1450),
        ETHERNET + b"\x08\0" + packet(ME, YOU, 1450)[:6] + struct.pack(">H", 0x4001) + packet(ME, YOU, 1450)[8:],
    ],
    ids=["broadcast", "multicast", "no IP", "not what it says", "a later fragment"],
)
def test_what_nobody_may_be_told_of_is_only_dropped(frame: bytes) -> None:
    assert fit(batch(frame), Mode.TAP) == ([], [], {DropReason.PACKET_TOO_BIG: 1})


@given(st.binary(min_size=1420, max_size=1500), st.sampled_from(list(Mode)), st.binary(min_size=10, max_size=10))
def test_whatever_it_is(noise: bytes, mode: Mode, header: bytes) -> None:
    made = Batch()
    made.append(noise, header if header[1] else NO_OFFLOAD)
    fit(made, mode)
