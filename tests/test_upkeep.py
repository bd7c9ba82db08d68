"""What is due for a peer, and when: the deadlines say neither less nor more than `tick` does, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.liveness import GREETING_SECONDS, Timing
from caetun.upkeep import BUSY_TICK, WATCHFUL_TICK
from caetun.wire import control
from caetun.wire.container import Batch
from tests.bench import Bench
from tests.simulator import frame

KEEPALIVE = b""
TIMING = Timing()


def batch() -> Batch:
    one = Batch()
    one.append(frame(1))
    return one


def bench(*, connects: bool, ceiling: int | None = None) -> Bench:
    made = Bench(ceiling)
    if connects:
        made.peer.offer(made.link, 0, 0.0, made.out)
    made.tick(0.0)
    return made


def due(made: Bench) -> float:
    at = made.node.next_deadline()
    assert at is not None
    return at


def keep(made: Bench) -> float:
    """Tick when it is due; returns when that was. The next time is later: no spinning."""
    at = due(made)
    made.tick(at)
    assert not made.peer.present or due(made) > at
    return at


def did(made: Bench) -> bool:
    """Whether anything was to be done since this was last asked."""
    out = made.out
    something = bool(out.records or out.messages or out.probes or out.events or out.seek)
    out.clear()
    return something


def test_nothing_is_due_without_keys() -> None:
    made = bench(connects=False)
    assert made.node.next_deadline() is None
    made.tick(1e6)
    assert not did(made)


@pytest.mark.parametrize("connects", [True, False])
def test_a_quiet_session_is_kept_up_by_keepalives_and_no_more(connects: bool) -> None:
    made = bench(connects=connects)
    far = made.shake(1, 0.0, initiator=connects)
    made.hear(far, KEEPALIVE, 0.1)
    made.tick(0.1)
    made.said(far)
    said = [(0.1, KEEPALIVE)]
    for heard_at in (8.0, 16.0, 24.0, 32.0, 40.0):
        while due(made) < heard_at:
            now = keep(made)
            said += [(now, record) for record in made.said(far)]
        made.hear(far, KEEPALIVE, heard_at)
        said += [(heard_at, record) for record in made.said(far)]  # a report
    pauses = [(record, later - earlier) for (earlier, _), (later, record) in pairwise(said)]
    assert len(pauses) >= 3
    for record, seconds in pauses:
        assert seconds <= TIMING.keepalive + 1e-6
        assert record != KEEPALIVE or seconds > TIMING.keepalive - 0.2


def test_the_first_record_is_repeated_ever_later_until_something_comes() -> None:
    made = bench(connects=True)
    far = made.shake(1, 0.0, initiator=True)
    made.said(far)
    times = []
    for _ in range(4):
        times.append(keep(made))
        assert made.said(far) == [KEEPALIVE]
    assert times == pytest.approx([GREETING_SECONDS * 2**number for number in range(4)])
    made.hear(far, KEEPALIVE, times[-1] + 0.1)
    made.tick(times[-1] + 0.1)
    assert due(made) > times[-1] + 1


@pytest.mark.parametrize(("connects", "pause"), [(True, WATCHFUL_TICK), (False, BUSY_TICK)])
def test_a_path_in_use_is_looked_at_ever_again(connects: bool, pause: float) -> None:
    made = bench(connects=connects)
    far = made.shake(1, 0.0, initiator=connects)
    made.hear(far, KEEPALIVE, 0.1)
    made.tick(5.0)
    made.hear(far, KEEPALIVE, 5.0)
    assert due(made) > 5.0 + BUSY_TICK, "nothing was sent"
    made.node.device_received(batch(), 5.05, made.out)
    made.hear(far, KEEPALIVE, 5.06)
    assert due(made) == pytest.approx(5.0 + pause)


def test_a_far_end_is_given_up_on_time_and_why_is_told() -> None:
    made = bench(connects=False)
    far = made.shake(1, 0.0, initiator=False)
    made.hear(far, KEEPALIVE, 1.0)
    made.tick(1.0 + TIMING.dead_after - 0.001)
    assert made.peer.present
    made.out.clear()
    made.tick(1.0 + TIMING.dead_after)
    assert not made.peer.present
    assert [(event.event, event.text) for event in made.out.events] == [("peer.down", "down: nothing heard for 30 s")]


STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "hear", "report", "wait", "wait"]), st.floats(0.0, 4.0)), min_size=1, max_size=25
)


@given(connects=st.booleans(), ceiling=st.sampled_from([None, 1472]), steps=STEPS)
def test_deadlines_are_neither_late_nor_idle(
    connects: bool, ceiling: int | None, steps: list[tuple[str, float]]
) -> None:
    """Before a deadline nothing is to be done, and once it was kept the next one is later: no spinning, no sleeping."""
    made = bench(connects=connects, ceiling=ceiling)
    far = made.shake(1, 0.0, initiator=connects)
    made.hear(far, KEEPALIVE, 0.05)
    made.tick(0.05)
    now = 0.05
    for kind, seconds in steps:
        now += seconds
        while made.peer.present and (at := due(made)) < now:
            did(made)
            made.tick(at - 1e-6)
            assert not did(made), f"due at {at} only"
            keep(made)
        if not made.peer.present:
            return
        match kind:
            case "send":
                made.node.device_received(batch(), now, made.out)
            case "hear":
                made.hear(far, KEEPALIVE, now)
            case "report":
                made.hear(far, control.encode(control.Report(1, 1)), now)
