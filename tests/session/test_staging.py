"""Frames that wait for keys: the newest, for a moment, in order, and every other one counted."""

from __future__ import annotations

from caetun.session.staging import MAX_STAGED, STAGED_SECONDS, Staging
from caetun.types import DropReason, Drops
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD, VnetHeader
from tests.simulator import frame

SUPERFRAME = VnetHeader(1, 1, 66, 1448, 34, 16).encode()


def batch_of(*frames: bytes, header: bytes = NO_OFFLOAD) -> Batch:
    batch = Batch()
    for content in frames:
        batch.append(content, header)
    return batch


def taken(staging: Staging, now: float) -> list[tuple[bytes, bytes]]:
    return [(bytes(content), header) for batch in staging.take(now) for content, header in batch.frames()]


def test_frames_come_back_in_order_with_their_headers_once() -> None:
    staging = Staging(Drops())
    batch = batch_of(frame(1), frame(2))
    staging.keep(batch, 0.0)
    batch.clear()  # its memory belongs to the device again
    batch.append(frame(9))
    staging.keep(batch_of(frame(3), header=SUPERFRAME), 1.0)
    assert taken(staging, 1.5) == [(frame(1), NO_OFFLOAD), (frame(2), NO_OFFLOAD), (frame(3), SUPERFRAME)]
    assert taken(staging, 1.5) == []
    assert staging.next_deadline() is None


def test_one_frame_too_many_costs_the_oldest() -> None:
    drops = Drops()
    staging = Staging(drops)
    for number in range(MAX_STAGED):
        staging.keep(batch_of(frame(number)), 0.0)
    assert drops == {}
    staging.keep(batch_of(frame(100), frame(101)), 0.0)
    assert len(staging) == MAX_STAGED
    assert drops == {DropReason.NO_SESSION: 2}
    assert [content for content, _ in taken(staging, 0.0)][-2:] == [frame(100), frame(101)]


def test_more_than_a_batch_holds_comes_in_several() -> None:
    staging = Staging(Drops())
    for number in range(MAX_STAGED):
        staging.keep(batch_of(frame(number, 60_000)), 0.0)
    assert len(list(staging.take(0.0))) > MAX_STAGED // 3
    assert len(staging) == 0


def test_frames_wait_no_longer_than_they_are_worth() -> None:
    drops = Drops()
    staging = Staging(drops)
    staging.keep(batch_of(frame(1)), 0.0)
    staging.keep(batch_of(frame(2)), 1.0)
    assert staging.next_deadline() == STAGED_SECONDS
    assert taken(staging, STAGED_SECONDS) == [(frame(2), NO_OFFLOAD)]
    staging.keep(batch_of(frame(3)), 2.0)
    staging.expire(2.0 + STAGED_SECONDS)
    assert len(staging) == 0
    assert drops == {DropReason.NO_SESSION: 2}
