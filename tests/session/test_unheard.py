"""What was sent into silence goes again by the next link: TCP, and nothing else."""

from __future__ import annotations

import struct

import pytest

from caetun.session.staging import MAX_STAGED, STAGED_SECONDS
from caetun.session.unheard import Unheard
from caetun.types import Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD

TCP, UDP = 6, 17
ETHERNET = bytes(12) + b"\x08\x00"


def packet(protocol: int, number: int = 0) -> bytes:
    """An IPv4 packet."""
    return struct.pack(">BBHHHBBH8x", 0x45, 0, 40, number, 0, 64, protocol, 0) + bytes(20)


def batch_of(*frames: bytes) -> Batch:
    batch = Batch()
    for frame in frames:
        batch.append(frame, NO_OFFLOAD)
    return batch


def taken(unheard: Unheard, now: float) -> list[bytes]:
    return [bytes(frame) for batch in unheard.take(now) for frame, _ in batch.frames()]


@pytest.mark.parametrize(("mode", "head"), [(Mode.TUN, b""), (Mode.TAP, ETHERNET)])
def test_tcp_comes_back_once_and_in_order(mode: Mode, head: bytes) -> None:
    unheard = Unheard(mode)
    batch = batch_of(head + packet(TCP, 1), head + packet(UDP), head + packet(TCP, 2), head, b"\xff")
    unheard.keep(batch, 0.0)
    batch.clear()  # it is sealed where it lies
    batch.append(head + packet(TCP, 9), NO_OFFLOAD)
    assert taken(unheard, 1.0) == [head + packet(TCP, 1), head + packet(TCP, 2)]
    assert taken(unheard, 1.0) == []


def test_what_is_old_or_too_much_is_forgotten() -> None:
    unheard = Unheard(Mode.TUN)
    unheard.keep(batch_of(packet(TCP)), 0.0)
    assert taken(unheard, STAGED_SECONDS) == []
    for number in range(MAX_STAGED + 1):
        unheard.keep(batch_of(packet(TCP, number)), 10.0)
    assert taken(unheard, 10.0) == [packet(TCP, number) for number in range(1, MAX_STAGED + 1)]


def test_nothing_comes_back_once_the_far_end_is_heard() -> None:
    unheard = Unheard(Mode.TUN)
    unheard.keep(batch_of(packet(TCP)), 0.0)
    unheard.clear()
    assert taken(unheard, 0.0) == []
