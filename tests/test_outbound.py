"""Frames on their way to a peer: sealed at once, or kept for keys, a link, or room on it; never lost unseen."""

from __future__ import annotations

import pytest

from caetun.session.keypair import KeyPair
from caetun.session.liveness import Timing
from caetun.session.staging import MAX_STAGED, STAGED_SECONDS
from caetun.types import DropReason
from caetun.wire import control
from caetun.wire.container import Batch
from tests.bench import Bench, Link
from tests.simulator import frame

CLOSE = control.encode(control.Close(control.SHUTTING_DOWN))


def batch(frames: int = 1) -> Batch:
    some = Batch()
    for number in range(frames):
        some.append(frame(1 + number))
    return some


def connected() -> tuple[Bench, KeyPair]:
    """A bench that connects and has keys since 0.0, and the far end's."""
    bench = Bench()
    bench.peer.offer(bench.link, 0, 0.0, bench.out)
    bench.tick(0.0)
    far = bench.shake(1, 0.0, initiator=True)
    bench.out.clear()
    return bench, far


def content(some: Batch) -> bytes:
    return bytes(some.view[: some.end])


# no keys


def test_who_connects_keeps_frames_for_a_moment_and_sends_them_with_the_first_keys() -> None:
    bench = Bench()
    bench.peer.offer(bench.link, 0, 0.0, bench.out)
    bench.peer.outbound.send_batch(batch(2), 0.5, bench.out)
    assert bench.out.records == []
    far = bench.shake(1, 1.0, initiator=True)
    assert bench.said(far) == [content(batch(2))]
    assert not bench.drops


def test_frames_that_have_waited_too_long_for_keys_are_counted() -> None:
    bench = Bench()
    bench.peer.offer(bench.link, 0, 0.0, bench.out)
    bench.peer.outbound.send_batch(batch(2), 0.5, bench.out)
    assert bench.peer.outbound.next_deadline() == 0.5 + STAGED_SECONDS
    bench.tick(0.5 + STAGED_SECONDS)
    assert bench.drops == {DropReason.NO_SESSION: 2}
    assert bench.peer.outbound.next_deadline() is None
    far = bench.shake(1, 3.0, initiator=True)
    assert bench.said(far) == [b""], "a keepalive"


def test_one_more_than_are_kept_drops_the_oldest() -> None:
    bench = Bench()
    bench.peer.offer(bench.link, 0, 0.0, bench.out)
    for _ in range(MAX_STAGED + 1):
        bench.peer.outbound.send_batch(batch(), 0.5, bench.out)
    assert bench.drops == {DropReason.NO_SESSION: 1}


def test_who_only_listens_keeps_nothing_for_nobody() -> None:
    bench = Bench()
    bench.peer.outbound.send_batch(batch(3), 0.5, bench.out)
    assert bench.drops == {DropReason.NO_SESSION: 3}
    assert bench.peer.outbound.next_deadline() is None


@pytest.mark.parametrize(("before_the_end", "sealed"), [(0.1, 1), (0.0, 0)])
def test_nothing_is_sealed_with_keys_at_the_end_of_their_life(before_the_end: float, sealed: int) -> None:
    bench, far = connected()
    bench.peer.outbound.send_batch(batch(), Timing().lifetime - before_the_end, bench.out)
    assert len(bench.said(far)) == sealed


# a gate that is closed


def test_what_comes_while_the_peer_is_held_is_counted_not_kept() -> None:
    bench, far = connected()
    bench.peer.conversation.hold("test")
    bench.peer.outbound.send_batch(batch(2), 1.0, bench.out)
    bench.peer.conversation.release("test")
    bench.peer.outbound.resume(1.1, bench.out)
    assert bench.said(far) == []
    assert bench.drops == {DropReason.PEER_HELD: 2}


# no link


def test_frames_wait_for_a_link_as_long_as_there_are_keys() -> None:
    bench, far = connected()
    bench.peer.withdraw(bench.link, 1.0, bench.out)
    bench.out.clear()
    bench.peer.outbound.send_batch(batch(), 1.1, bench.out)
    other = Link("other")
    bench.hear(far, b"", 1.2, other)
    assert content(batch()) in bench.said(far)


# a link that is full


def test_what_comes_while_the_link_is_full_waits_and_goes_first() -> None:
    bench, far = connected()
    bench.link.full = True
    for _ in range(3):
        bench.peer.outbound.send_batch(batch(), 1.0, bench.out)
    assert not bench.node.send_waiting(1.0, bench.out)
    assert bench.said(far) == []
    bench.link.full = False
    bench.peer.outbound.send_batch(batch(), 1.1, bench.out)
    assert bench.said(far) == [], "it must not overtake those that wait"
    while bench.node.send_waiting(1.1, bench.out):
        pass
    assert b"".join(bench.said(far)) == content(batch()) * 4
    bench.peer.outbound.send_batch(batch(), 1.2, bench.out)
    assert len(bench.said(far)) == 1


def test_what_waits_for_a_far_end_that_is_gone_is_counted() -> None:
    bench, far = connected()
    bench.link.full = True
    bench.peer.outbound.send_batch(batch(), 1.0, bench.out)
    bench.hear(far, CLOSE, 1.1)
    bench.link.full = False
    assert not bench.node.send_waiting(1.2, bench.out)
    assert bench.drops == {DropReason.NO_SESSION: 1}
