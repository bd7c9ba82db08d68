"""The ladder, asked and answering: which rung is dialled when, which one is given up, and what is told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.transports.ladder import (
    BETTER_PAUSE,
    BETTER_PAUSE_MOST,
    JITTER,
    RACE_PAUSE,
    RACE_PAUSE_MOST,
    SHORT_PAUSE_MOST,
    STAGGER,
    UNDER_WAY,
    Ladder,
    Orders,
    Phase,
    Rung,
)

UDP, QUIC, TCP, WSS = RUNGS = [
    Rung(name, f"{name}://hub", rank, f"{name} hub:443") for rank, name in enumerate(("udp", "quic", "tcp", "wss"))
]
FOREIGN = Rung("", "", -1, "tcp 192.0.2.9:1")
MIDDLE = b"\x7f\xff"
"""Entropy that adds no jitter."""


class Climb:
    """A ladder and its clock."""

    def __init__(self, *rungs: Rung) -> None:
        self.now = 100.0
        self.ladder = Ladder(rungs or RUNGS, lambda size: MIDDLE[:size])
        self.lines: list[str] = []
        self.cancelled: list[Rung] = []
        self.ladder.start(self.now)

    def poll(self) -> list[Rung]:
        """What to dial now."""
        orders = self.ladder.poll(self.now)
        self.lines += orders.lines
        self.cancelled += orders.cancel
        for rung in orders.dial:
            assert self.phase(rung) is Phase.DIALLING
        return orders.dial

    def wait(self, seconds: float) -> list[tuple[float, Rung]]:
        """What is dialled in that time, each after so many seconds."""
        began, end, dialled = self.now, self.now + seconds, []
        while (due := self.ladder.next_deadline()) is not None and due <= end:
            assert due >= self.now - 1e-9
            self.now = max(due, self.now)
            dialled += [(round(self.now - began, 3), rung) for rung in self.poll()]
        self.now = end
        return dialled

    def fail(self, *rungs: Rung, why: str = "") -> None:
        for rung in rungs:
            self.ladder.failed(rung, self.now, why)

    def up(self, rung: Rung) -> None:
        self.ladder.up(rung, self.now)

    def phase(self, rung: Rung) -> Phase:
        return next(status.phase for status in self.ladder.describe() if status.rung == rung)


def climbed(up: Rung) -> Climb:
    """A ladder whose rungs above that one have failed."""
    climb = Climb()
    while (dialled := climb.poll()) != [up]:
        climb.fail(*dialled, why="refused")
    climb.up(up)
    climb.poll()
    return climb


# the race


def test_rungs_are_raced_from_the_top() -> None:
    climb = Climb()
    assert climb.poll() == [UDP]
    assert climb.wait(2.0) == [(STAGGER, QUIC), (2 * STAGGER, TCP), (round(3 * STAGGER, 3), WSS)]
    assert climb.ladder.next_deadline() is None


def test_one_of_each_family_comes_first() -> None:
    udp, quic, tcp, wss = (
        rung._replace(family="streams" if rung in (TCP, WSS) else "datagrams") for rung in (UDP, QUIC, TCP, WSS)
    )
    climb = Climb(udp, quic, tcp, wss)
    assert climb.poll() == [udp]
    assert [rung for _, rung in climb.wait(2.0)] == [tcp, quic, wss]
    # who is up first goes on looking for what is better, whatever came first
    climb = Climb(udp, quic, tcp, wss)
    climb.poll()
    climb.wait(STAGGER)
    climb.up(tcp)
    assert climb.wait(STAGGER) == [(STAGGER, quic)]
    climb.up(udp)
    # what is in use fails: its family is the last to be asked
    climb.ladder.suspect(climb.now)
    assert climb.poll() == [tcp, quic, wss]


def test_one_that_is_up_before_the_next_one_s_turn_is_the_only_one() -> None:
    climb = Climb()
    climb.poll()
    climb.ladder.dialled(UDP, climb.now)
    assert climb.phase(UDP) is Phase.TRYING
    climb.up(UDP)
    assert climb.poll() == []
    assert climb.wait(3600.0) == []
    assert (climb.lines, climb.cancelled) == (["up via udp hub:443"], [])


def test_after_a_failure_nobody_waits() -> None:
    climb = Climb()
    climb.poll()
    climb.fail(UDP, why="no route")
    assert climb.poll() == [QUIC]


def test_a_failure_lets_the_next_one_in_whoever_else_is_silent() -> None:
    climb = Climb()
    climb.poll()
    climb.wait(STAGGER / 2)
    assert climb.poll() == []
    climb.wait(STAGGER)
    climb.fail(QUIC, why="refused")
    assert climb.poll() == [TCP]
    assert climb.wait(2 * STAGGER) == [(STAGGER, WSS)]


def test_the_winner_ends_what_is_no_better_and_lets_the_rest_go_on() -> None:
    climb = Climb()
    climb.poll()
    climb.wait(1.0)
    climb.up(TCP)
    climb.poll()
    assert climb.cancelled == [WSS]
    assert [climb.phase(rung) for rung in RUNGS] == [Phase.DIALLING, Phase.DIALLING, Phase.UP, Phase.IDLE]
    climb.up(UDP)
    climb.poll()
    assert climb.cancelled == [WSS, QUIC]
    assert climb.phase(TCP) is Phase.IDLE


def test_why_is_told_in_one_line() -> None:
    climb = Climb()
    climb.poll()
    climb.ladder.dialled(UDP, climb.now)
    climb.wait(2.1)
    climb.fail(UDP)
    climb.fail(QUIC, why="refused")
    climb.up(WSS)
    climb.poll()
    assert climb.lines == ["up via wss hub:443; udp hub:443: no answer in 2.1 s; quic hub:443: refused"]


def test_what_fails_after_the_race_is_told_once_until_it_was_up() -> None:
    climb = Climb()
    climb.poll()
    climb.wait(2 * STAGGER)
    climb.up(TCP)
    climb.poll()
    climb.fail(QUIC, why="refused")
    climb.now += 2.0
    climb.fail(UDP)
    climb.poll()
    assert climb.lines == [
        "up via tcp hub:443",
        "not via quic hub:443: refused",
        "not via udp hub:443: no answer in 2.5 s",
    ]
    for _ in range(3):
        for _, rung in climb.wait(100.0):
            climb.fail(rung, why="refused")
    assert len(climb.lines) == 3
    climb.wait(100.0)
    climb.up(UDP)
    climb.ladder.lost(climb.now, "reset")
    climb.poll()
    climb.up(TCP)
    climb.fail(UDP, why="refused")
    climb.poll()
    assert climb.lines[3] == "up via udp hub:443"
    assert climb.lines[-2:] == ["up via tcp hub:443", "not via udp hub:443: refused"]


def test_when_all_have_failed_it_is_told_once_and_tried_for_ever() -> None:
    climb = Climb(UDP, TCP)
    pauses = []
    for _ in range(9):
        dialled = climb.poll()
        while dialled:
            climb.fail(*dialled, why="refused")
            dialled = climb.poll()
        due = climb.ladder.next_deadline()
        assert due is not None
        pauses.append(round(due - climb.now, 3))
        climb.now = due
    assert pauses[:4] == [pytest.approx(RACE_PAUSE * 2**turn, rel=0.01) for turn in range(4)]
    assert pauses[-1] == pytest.approx(RACE_PAUSE_MOST, rel=0.01)
    assert climb.lines == ["nobody answers: udp hub:443: refused; tcp hub:443: refused"]


# the way back


def test_better_rungs_are_tried_again_ever_more_rarely() -> None:
    climb = climbed(TCP)
    times = {UDP: [climb.now], QUIC: [climb.now]}
    for _ in range(12):
        due = climb.ladder.next_deadline()
        assert due is not None
        climb.now = due
        for rung in climb.poll():
            times[rung].append(climb.now)
            climb.fail(rung, why="refused")
    for found in times.values():
        pauses = [round(later - at, 3) for at, later in itertools.pairwise(found)]
        assert pauses[0] == pytest.approx(BETTER_PAUSE, rel=0.01)
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(BETTER_PAUSE_MOST, rel=0.01)
    assert climb.lines == ["up via tcp hub:443; udp hub:443: refused; quic hub:443: refused"]


def test_a_better_one_that_is_up_ends_the_search_for_worse() -> None:
    climb = climbed(TCP)
    climb.now += 2 * BETTER_PAUSE
    assert climb.poll() == [UDP, QUIC]
    climb.up(UDP)
    assert climb.poll() == []
    assert climb.cancelled[-1:] == [QUIC]
    assert climb.wait(3600.0) == []


def test_after_a_change_of_network_better_ones_are_tried_at_once() -> None:
    climb = climbed(WSS)
    climb.now += 600
    climb.fail(*climb.poll(), why="refused")
    climb.now += 1
    climb.ladder.network_changed(climb.now)
    assert climb.poll() == [UDP, QUIC, TCP]
    climb = Climb(UDP, TCP)
    climb.fail(*climb.poll(), *climb.poll())
    climb.fail(*climb.poll())
    assert climb.poll() == []
    climb.ladder.network_changed(climb.now)
    assert climb.poll() == [UDP]
    climb.up(UDP)
    climb.ladder.network_changed(climb.now)
    assert climb.poll() == []


# trouble


def test_when_the_rung_in_use_is_silent_all_others_are_tried_at_once() -> None:
    climb = climbed(QUIC)
    climb.now += 100
    climb.ladder.suspect(climb.now)
    assert climb.poll() == [UDP, TCP, WSS]
    climb.up(TCP)
    climb.poll()
    assert climb.phase(QUIC) is Phase.FAILED
    assert climb.cancelled[-1:] == [WSS]
    assert climb.lines[-1].startswith("up via tcp hub:443")
    assert "quic hub:443: went silent" in climb.lines[-1]


def test_one_that_recovers_stays() -> None:
    climb = climbed(UDP)
    climb.ladder.suspect(climb.now)
    climb.ladder.suspect(climb.now)
    assert climb.poll() == [QUIC, TCP, WSS]
    climb.up(UDP)
    assert climb.poll() == []
    assert climb.cancelled == [QUIC, TCP, WSS]
    assert climb.lines == ["up via udp hub:443"]
    assert climb.wait(3600.0) == []


def test_while_it_stays_silent_the_others_are_tried_again_and_again() -> None:
    climb = climbed(UDP)
    climb.ladder.suspect(climb.now)
    rounds = 0
    for _ in range(6):
        dialled = climb.poll()
        rounds += bool(dialled)
        climb.fail(*dialled, why="refused")
        due = climb.ladder.next_deadline()
        assert due is not None
        climb.now = max(climb.now, due)
    assert rounds >= 5


@pytest.mark.parametrize("ended", [Ladder.lost, lambda ladder, now: ladder.failed(UDP, now, "connection reset")])
def test_a_lost_one_is_replaced_at_once_maybe_by_itself(ended: object) -> None:
    climb = climbed(UDP)
    assert callable(ended)
    ended(climb.ladder, climb.now)
    assert climb.ladder.up_rung is None
    assert climb.poll() == RUNGS
    climb.ladder.lost(climb.now)
    assert climb.poll() == []


def test_one_that_dies_young_is_trusted_less_and_one_that_lasted_is_not() -> None:
    for life, longest in ((1.0, SHORT_PAUSE_MOST), (600.0, BETTER_PAUSE)):
        climb = Climb(UDP, TCP)
        climb.poll()
        pauses = []
        for _ in range(6):
            climb.up(UDP)
            climb.now += life
            climb.ladder.suspect(climb.now)
            climb.poll()
            climb.up(TCP)
            climb.poll()
            due = climb.ladder.next_deadline()
            assert due is not None
            pauses.append(due - climb.now)
            climb.now = due
            assert climb.poll() == [UDP]
        assert pauses[-1] == pytest.approx(longest, rel=0.01)


# one rung, and what is none of ours


def test_a_single_rung_costs_nothing() -> None:
    climb = Climb(UDP)
    assert climb.poll() == [UDP]
    assert climb.ladder.next_deadline() is None
    climb.up(UDP)
    climb.poll()
    climb.ladder.suspect(climb.now)
    assert climb.poll() == []
    assert climb.ladder.next_deadline() is None


@pytest.mark.parametrize(("rank", "tried"), [(-1, []), (1 << 30, RUNGS)])
def test_a_link_that_the_far_end_brought_up(rank: int, tried: list[Rung]) -> None:
    climb = climbed(UDP)
    climb.ladder.suspect(climb.now)
    climb.poll()
    foreign = FOREIGN._replace(rank=rank)
    climb.up(foreign)
    climb.poll()
    assert climb.ladder.up_rung == foreign
    assert climb.lines[-1].startswith("up via tcp 192.0.2.9:1")
    under_way = [rung for rung in RUNGS if climb.phase(rung) in UNDER_WAY]
    assert under_way + [rung for _, rung in climb.wait(10.0)] in (tried, [*tried[1:], UDP])
    climb.ladder.lost(climb.now)
    climb.up(UDP)
    assert climb.ladder.up_rung == UDP


def test_the_jitter_stays_in_its_bounds() -> None:
    for entropy in (bytes, lambda size: b"\xff" * size):
        ladder = Ladder([TCP], entropy)
        ladder.start(0.0)
        ladder.poll(0.0)
        ladder.failed(TCP, 0.0)
        due = ladder.next_deadline()
        assert due is not None
        assert RACE_PAUSE * (1 - JITTER) <= due <= RACE_PAUSE * (1 + JITTER)


happenings = st.tuples(
    st.sampled_from(["dialled", "failed", "up", "suspect", "lost", "network", "wait"]), st.sampled_from(RUNGS)
)


@given(script=st.lists(happenings, max_size=60))
def test_whatever_happens_somebody_is_tried_until_one_is_up(script: list[tuple[str, Rung]]) -> None:
    climb = Climb()
    for what, rung in script:
        match what:
            case "dialled":
                climb.ladder.dialled(rung, climb.now)
            case "failed":
                climb.fail(rung)
            case "up":
                climb.up(rung)
            case "suspect":
                climb.ladder.suspect(climb.now)
            case "lost":
                climb.ladder.lost(climb.now)
            case "network":
                climb.ladder.network_changed(climb.now)
            case "wait":
                climb.wait(7.0)
        climb.poll()
        phases = [climb.phase(each) for each in RUNGS]
        assert phases.count(Phase.UP) == (climb.ladder.up_rung is not None) <= 1
        busy = any(phase in UNDER_WAY for phase in phases)
        due = climb.ladder.next_deadline()
        assert busy or due is not None or climb.ladder.up_rung is not None
        assert due is None or due > climb.now
        assert climb.ladder.poll(climb.now) == Orders([], [], [])
