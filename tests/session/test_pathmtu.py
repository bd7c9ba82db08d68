"""Path MTU discovery, against simulated paths with virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.pathmtu import (
    CONFIRMATION_SECONDS,
    ERROR_SECONDS,
    GRANULARITY,
    LIKELY_SIZES,
    MAX_PROBES,
    PMTU_RAISE_TIMER,
    PROBE_TIMER,
    TRANSITIONS,
    Event,
    PathMtu,
    State,
    Turn,
)

FLOOR = 1200
ETHERNET = 1472
JUMBO = 8972
START = 500.0


class Path:
    """A path that carries `limit` bytes of UDP payload, and a session that uses it."""

    def __init__(self, limit: int, *, ceiling: int = ETHERNET, rtt: float = 0.05, loss: float = 0.0) -> None:
        self.limit = limit
        self.rtt = rtt
        self.loss = loss
        self.chance = random.Random(1)
        self.now = START
        self.mtu = PathMtu(ceiling=ceiling, now=self.now)
        self.answers: list[tuple[float, int]] = []
        self.probes: list[int] = []
        self.events: list[Event] = []
        self.history: list[tuple[float, int]] = []

    def run(self, seconds: float = 1e9, until: Callable[[PathMtu], bool] = lambda mtu: False) -> float:
        """Let time pass until nothing is due, the time is over or a condition holds; returns seconds passed."""
        start, end = self.now, self.now + seconds
        for _ in range(20_000):
            self._poll()
            if until(self.mtu):
                return self.now - start
            due = [at for at in (self.mtu.next_deadline(), self._next_answer()) if at is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            while self.answers and self.answers[0][0] <= self.now:
                self.mtu.acknowledged(heapq.heappop(self.answers)[1], self.now)
        else:
            raise AssertionError("time does not pass")
        self.now = end if seconds < 1e9 else self.now
        return self.now - start

    def settle(self) -> float:
        """Run until the search is complete; returns the seconds it took."""
        return self.run(600.0, lambda mtu: mtu.state is State.COMPLETE)

    def _next_answer(self) -> float | None:
        return self.answers[0][0] if self.answers else None

    def _poll(self) -> None:
        size = self.mtu.poll(self.now)
        if size is not None:
            self.probes.append(size)
            if size <= self.limit and self._passes() and self._passes():
                heapq.heappush(self.answers, (self.now + self.rtt, size))
        if (event := self.mtu.take_event()) is not None:
            self.events.append(event)
        self.history.append((self.now, self.mtu.size))

    def _passes(self) -> bool:
        return self.chance.random() >= self.loss


def settled(limit: int, **options: int) -> Path:
    """A path whose size is known."""
    path = Path(limit, **options)
    path.settle()
    path.probes.clear()
    path.events.clear()
    return path


# searching


def test_starts_at_the_floor() -> None:
    path = Path(ETHERNET)
    assert (path.mtu.size, path.mtu.state) == (FLOOR, State.BASE)
    assert path.mtu.next_deadline() == START
    assert path.mtu.take_event() is None


@pytest.mark.parametrize("ceiling", [1452, ETHERNET, JUMBO, 65507])
def test_a_clean_path_takes_one_probe_and_one_round_trip(ceiling: int) -> None:
    path = Path(ceiling, ceiling=ceiling)
    assert path.settle() == pytest.approx(path.rtt)
    assert path.probes == [ceiling]
    assert path.mtu.size == ceiling
    assert path.events == [Event(State.COMPLETE, ceiling, "found")]
    assert path.mtu.next_deadline() is None


def test_a_path_of_1400_is_used_after_three_seconds_and_sure_after_six() -> None:
    path = Path(1400)
    reached = path.run(60.0, lambda mtu: mtu.size == 1400)
    took = reached + path.settle()
    assert reached < MAX_PROBES * PROBE_TIMER + 10 * path.rtt
    assert took < 2 * MAX_PROBES * PROBE_TIMER + 10 * path.rtt
    assert path.mtu.size == 1400
    assert len(path.probes) <= 15


@pytest.mark.parametrize("limit", [*range(FLOOR, ETHERNET + 1, 7), ETHERNET - 1])
def test_any_path_is_found_within_the_granularity(limit: int) -> None:
    path = Path(limit)
    took = path.settle()
    assert limit - GRANULARITY < path.mtu.size <= limit
    assert took < 15.0
    assert len(path.probes) < 30


@pytest.mark.parametrize("limit", [ETHERNET, 3000, 8868, JUMBO - 1])
def test_a_jumbo_interface_on_a_smaller_path(limit: int) -> None:
    path = Path(limit, ceiling=JUMBO)
    path.settle()
    assert limit - GRANULARITY < path.mtu.size <= limit
    assert len(path.probes) < 50


def test_repeats_of_a_size_are_a_second_apart_and_other_sizes_follow_at_once() -> None:
    mtu = PathMtu(ceiling=ETHERNET, now=0.0)
    assert mtu.poll(0.0) == ETHERNET
    assert mtu.next_deadline() == PROBE_TIMER
    assert mtu.poll(0.99) is None
    assert mtu.poll(1.0) == FLOOR
    mtu.acknowledged(FLOOR, 1.1)
    assert mtu.state is State.SEARCHING
    assert mtu.next_deadline() == 1.1
    assert mtu.poll(1.1) == ETHERNET
    assert mtu.poll(2.0) is None
    assert mtu.poll(2.1) == ETHERNET
    assert mtu.poll(3.1) == LIKELY_SIZES[0]
    mtu.acknowledged(LIKELY_SIZES[0], 3.2)
    assert mtu.poll(3.2) == LIKELY_SIZES[1]


def test_an_answer_later_than_the_timer_is_believed() -> None:
    path = Path(ETHERNET, rtt=3.9)
    path.settle()
    path.run(30.0)
    assert path.mtu.size == ETHERNET


def test_an_answer_to_a_larger_probe_settles_a_smaller_one() -> None:
    mtu = PathMtu(ceiling=ETHERNET, now=0.0)
    assert mtu.poll(0.0) == ETHERNET
    assert mtu.poll(1.0) == FLOOR
    assert mtu.acknowledged(ETHERNET, 1.1)
    assert (mtu.state, mtu.next_deadline()) == (State.COMPLETE, None)


def test_an_answer_to_what_was_given_up_opens_the_search_again() -> None:
    path = Path(1300)
    path.run(60.0, lambda mtu: path.probes[-1:] == [(1280 + 1332) // 2])
    path.limit = ETHERNET
    assert path.mtu.acknowledged(1332, path.now)
    path.settle()
    assert path.mtu.size == ETHERNET


def test_sizes_nobody_probed_are_not_believed() -> None:
    mtu = PathMtu(ceiling=ETHERNET, now=0.0)
    assert not mtu.acknowledged(1400, 0.0)
    assert mtu.poll(0.0) == ETHERNET
    for size in (0, FLOOR, 1400, ETHERNET + 1, 2**16):
        assert not mtu.acknowledged(size, 0.1)
    assert (mtu.size, mtu.state) == (FLOOR, State.BASE)
    assert mtu.acknowledged(ETHERNET, 0.1)
    assert not mtu.acknowledged(ETHERNET, 0.2)


def test_an_interface_of_the_floor_has_nothing_to_search() -> None:
    path = Path(FLOOR, ceiling=FLOOR)
    path.settle()
    assert path.probes == [FLOOR]
    assert path.events == [Event(State.COMPLETE, FLOOR, "found")]


# the floor and below


def test_a_path_below_the_floor_is_an_error_that_says_so() -> None:
    path = Path(1100)
    took = path.run(60.0, lambda mtu: mtu.state is State.ERROR)
    assert took == pytest.approx((1 + MAX_PROBES) * PROBE_TIMER)
    path.run(5 * ERROR_SECONDS)
    assert path.mtu.size == FLOOR
    assert path.events == [Event(State.ERROR, FLOOR, "not even 1200 bytes pass")]
    assert path.probes == [ETHERNET] + [FLOOR] * (len(path.probes) - 1)
    assert len(path.probes) <= 4 + 5


def test_a_path_leaves_the_error_when_the_floor_passes() -> None:
    path = Path(1100)
    path.run(20.0)
    path.limit = 1400
    path.run(60.0)
    assert (path.mtu.state, path.mtu.size) == (State.COMPLETE, 1400)
    assert path.events[-1] == Event(State.COMPLETE, 1400, "found")


def test_an_interface_below_the_floor_keeps_the_floor_and_says_so() -> None:
    mtu = PathMtu(ceiling=1000, now=0.0)
    assert (mtu.state, mtu.size) == (State.DISABLED, FLOOR)
    assert mtu.take_event() == Event(State.DISABLED, FLOOR, "the interface carries 1000 bytes, 1200 are needed")
    mtu.sent()
    mtu.suspect(1.0)
    assert not mtu.too_big(0, 1.0)
    assert not mtu.acknowledged(FLOOR, 2.0)
    assert mtu.poll(100.0) is None
    assert mtu.next_deadline() is None
    assert (mtu.state, mtu.size, mtu.take_event()) == (State.DISABLED, FLOOR, None)


# a path that changes


def test_a_black_hole_is_left_within_five_seconds_of_the_suspicion() -> None:
    path = settled(ETHERNET)
    path.run(3.0)
    path.limit = 1400
    path.mtu.suspect(path.now)
    fallen = path.run(60.0, lambda mtu: mtu.size == FLOOR)
    assert fallen == pytest.approx(MAX_PROBES * PROBE_TIMER)
    assert path.events == [Event(State.BASE, FLOOR, "1472 bytes do not pass any more")]
    assert not path.mtu.acknowledged(ETHERNET, path.now)  # from before the fall
    assert fallen + path.run(60.0, lambda mtu: mtu.size == 1400) < 5.0
    path.settle()
    assert path.mtu.size == 1400
    assert ETHERNET not in path.probes[MAX_PROBES:]


def test_a_black_hole_is_found_by_traffic_alone() -> None:
    path = settled(ETHERNET)
    path.limit = 1300
    path.mtu.sent()
    took = path.run(600.0, lambda mtu: mtu.size <= 1300)
    assert took <= CONFIRMATION_SECONDS + MAX_PROBES * PROBE_TIMER


def test_without_traffic_nothing_is_confirmed() -> None:
    path = settled(ETHERNET)
    path.limit = 1300
    path.run(3600.0)
    assert path.probes == []
    assert path.mtu.size == ETHERNET


def test_traffic_that_has_ended_is_confirmed_once() -> None:
    path = settled(ETHERNET)
    path.mtu.sent()
    path.run(3600.0)
    assert path.probes == [ETHERNET]


def test_traffic_costs_one_probe_in_fifteen_seconds() -> None:
    path = settled(ETHERNET)
    for _ in range(600):
        path.mtu.sent()
        path.run(0.5)
    assert set(path.probes) == {ETHERNET}
    assert len(path.probes) == pytest.approx(300 / CONFIRMATION_SECONDS, abs=1)
    assert path.events == []


def test_a_suspicion_that_repeats_costs_one_probe_a_second() -> None:
    path = settled(ETHERNET)
    for _ in range(200):
        path.mtu.suspect(path.now)
        path.run(0.05)
    assert 8 <= len(path.probes) <= 10
    assert path.mtu.state is State.COMPLETE


def test_a_suspicion_goes_before_a_search() -> None:
    path = Path(1400)
    path.run(60.0, lambda mtu: mtu.size == 1400)
    path.run(1.2)  # asking for 1412 a second time
    path.limit = 1300
    path.mtu.suspect(path.now)
    assert path.mtu.next_deadline() == path.now
    assert path.run(60.0, lambda mtu: mtu.size <= 1300) == pytest.approx(MAX_PROBES * PROBE_TIMER)
    assert path.probes[-MAX_PROBES - 1 :] == [1400] * MAX_PROBES + [FLOOR]
    path.settle()
    assert path.mtu.size <= 1300


def test_suspicions_do_not_keep_a_search_from_its_end() -> None:
    path = Path(1400)
    for _ in range(300):
        path.mtu.suspect(path.now)
        path.run(0.1)
    assert (path.mtu.state, path.mtu.size) == (State.COMPLETE, 1400)


def test_a_path_that_grows_is_found_by_the_raise_timer() -> None:
    path = settled(1400)
    path.limit = ETHERNET
    took = path.run(2 * PMTU_RAISE_TIMER, lambda mtu: mtu.size == ETHERNET)
    assert took == pytest.approx(PMTU_RAISE_TIMER + path.rtt)
    assert path.probes == [ETHERNET]
    assert path.events == [Event(State.COMPLETE, ETHERNET, "found")]


def test_a_vain_raise_changes_and_says_nothing() -> None:
    path = settled(1400)
    path.run(3 * (PMTU_RAISE_TIMER + 10.0))
    assert path.mtu.size == 1400
    assert path.events == []
    assert path.probes == ([ETHERNET] * MAX_PROBES + [1412] * MAX_PROBES) * 3


@pytest.mark.parametrize("limit", [1400, ETHERNET])
def test_loss_of_one_in_ten_does_not_collapse_it(limit: int) -> None:
    path = settled(limit)
    path.loss = 0.1
    seconds = 7200
    for _ in range(seconds):
        path.mtu.sent()
        path.run(1.0)
    area = sum((later - at) * size for (at, size), (later, _) in itertools.pairwise(path.history))
    assert area / (path.now - START) > 0.97 * limit
    assert State.ERROR not in {event.state for event in path.events}


def test_an_outage_heals_by_itself() -> None:
    path = settled(ETHERNET)
    path.limit = 0
    path.mtu.suspect(path.now)
    path.run(30.0)
    assert (path.mtu.state, path.mtu.size) == (State.ERROR, FLOOR)
    path.limit = ETHERNET
    path.run(ERROR_SECONDS + 1.0)
    assert (path.mtu.state, path.mtu.size) == (State.COMPLETE, ETHERNET)


# messages about size


def test_a_hint_spares_the_waiting() -> None:
    path = Path(1400)
    assert path.mtu.poll(path.now) == ETHERNET
    path.mtu.too_big(1400, path.now)
    assert path.settle() == pytest.approx(path.rtt)
    assert (path.mtu.size, path.probes) == (1400, [1400])


@pytest.mark.parametrize("hint", [0, ETHERNET - 1])
def test_a_refusal_without_a_hint_rules_out_the_probe(hint: int) -> None:
    path = Path(1400)
    assert path.mtu.poll(path.now) == ETHERNET
    assert not path.mtu.too_big(hint, path.now)
    path.settle()
    assert path.mtu.size == 1400
    assert ETHERNET not in path.probes


def test_a_hint_below_the_size_in_use_shortens_it_at_once() -> None:
    path = settled(ETHERNET)
    path.limit = 1300
    assert path.mtu.too_big(1300, path.now)
    assert (path.mtu.state, path.mtu.size) == (State.BASE, FLOOR)
    assert path.settle() == pytest.approx(path.rtt)
    assert path.mtu.size == 1300
    assert [event.why for event in path.events] == ["1472 bytes are refused as too long", "found"]


@pytest.mark.parametrize("hint", [0, ETHERNET - 1])
def test_a_refused_datagram_without_a_hint_shortens_it_at_once(hint: int) -> None:
    path = settled(ETHERNET)
    path.limit = 1464
    assert path.mtu.too_big(hint, path.now)
    assert path.mtu.size == FLOOR
    path.settle()
    assert path.mtu.size == 1464


def test_a_hint_of_the_floor_is_taken() -> None:
    path = settled(ETHERNET)
    path.mtu.too_big(FLOOR, path.now)
    path.settle()
    assert (path.mtu.size, path.probes) == (FLOOR, [FLOOR])


@pytest.mark.parametrize("hint", [1, 68, FLOOR - 1, ETHERNET, ETHERNET + 1, 65535])
def test_a_hint_that_cannot_be_true_is_ignored(hint: int) -> None:
    path = settled(ETHERNET)
    assert not path.mtu.too_big(hint, path.now)
    assert (path.mtu.state, path.mtu.size) == (State.COMPLETE, ETHERNET)
    assert path.mtu.next_deadline() is None


def test_a_hint_about_a_probe_leaves_the_size_in_use() -> None:
    path = settled(1400)
    path.run(2 * PMTU_RAISE_TIMER, lambda mtu: mtu.state is State.SEARCHING)
    path.mtu.too_big(1400, path.now)
    assert path.mtu.size == 1400
    path.settle()
    assert (path.mtu.size, path.probes, path.events) == (1400, [ETHERNET], [])


def test_a_refused_datagram_of_data_is_not_charged_to_a_probe() -> None:
    path = settled(1400)
    path.run(2 * PMTU_RAISE_TIMER, lambda mtu: mtu.state is State.SEARCHING)  # a probe of 1472 is under way
    assert path.mtu.too_big(0, path.now, 1400)
    assert path.mtu.size == FLOOR
    path.limit = 1390
    path.settle()
    assert FLOOR < path.mtu.size <= 1390


def test_a_refused_probe_leaves_the_size_in_use() -> None:
    path = settled(1400)
    path.run(2 * PMTU_RAISE_TIMER, lambda mtu: mtu.state is State.SEARCHING)
    assert not path.mtu.too_big(0, path.now, ETHERNET)
    assert path.mtu.size == 1400
    path.settle()
    assert path.mtu.size == 1400


def test_a_burst_of_refusals_counts_once() -> None:
    path = settled(ETHERNET)
    assert path.mtu.too_big(0, path.now, ETHERNET)
    probed = path.mtu.poll(path.now)
    for _ in range(43):
        assert not path.mtu.too_big(0, path.now, ETHERNET)
    assert path.mtu.poll(path.now) is None  # that probe is still waited for
    assert probed is not None


# the state machine


def in_state(state: State) -> PathMtu:
    """A `PathMtu` at time 0 that has come to a state."""
    mtu = PathMtu(ceiling=1000 if state is State.DISABLED else ETHERNET, now=0.0)
    match state:
        case State.SEARCHING:
            mtu.poll(0.0)
            mtu.too_big(0, 0.0)
            mtu.poll(0.0)
            mtu.acknowledged(FLOOR, 0.0)
        case State.COMPLETE:
            mtu.poll(0.0)
            mtu.too_big(1400, 0.0)
            mtu.poll(0.0)
            mtu.acknowledged(1400, 0.0)
        case State.ERROR:
            for second in range(5):
                mtu.poll(float(second))
    assert mtu.state is state
    return mtu


inputs: dict[str, Callable[[PathMtu], object]] = {
    "poll": lambda mtu: mtu.poll(1000.0),
    "floor acknowledged": lambda mtu: mtu.acknowledged(FLOOR, 1000.0),
    "ceiling acknowledged": lambda mtu: mtu.acknowledged(ETHERNET, 1000.0),
    "refused": lambda mtu: mtu.too_big(0, 1000.0),
    "hint": lambda mtu: mtu.too_big(1250, 1000.0),
    "suspect": lambda mtu: mtu.suspect(1000.0),
    "sent": lambda mtu: mtu.sent(),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", inputs)
def test_every_input_in_every_state_follows_the_table(state: State, name: str) -> None:
    mtu = in_state(state)
    inputs[name](mtu)
    allowed = {state} | {TRANSITIONS[state, turn] for turn in Turn if (state, turn) in TRANSITIONS}
    if name == "ceiling acknowledged":
        allowed.add(State.COMPLETE)  # base is confirmed and the search is at its end with one answer
    assert mtu.state in allowed


def test_every_state_but_disabled_can_be_reached_and_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.DISABLED}
    assert set(TRANSITIONS.values()) == set(State) - {State.DISABLED}
    assert {turn for _, turn in TRANSITIONS} == set(Turn)


moves = st.one_of(
    st.tuples(st.sampled_from(["sent", "suspect"]), st.just(0)),
    st.tuples(st.just("wait"), st.integers(0, 40)),
    st.tuples(st.just("acknowledged"), st.integers(0, 3)),
    st.tuples(st.just("too big"), st.integers(0, 1600)),
)


def test_an_answer_settles_a_suspicion() -> None:
    mtu = in_state(State.SEARCHING)
    assert mtu.poll(0.0) == LIKELY_SIZES[0]
    mtu.suspect(0.1)
    mtu.acknowledged(LIKELY_SIZES[0], 0.2)
    assert mtu.poll(0.2) == LIKELY_SIZES[1]
    assert mtu.poll(PROBE_TIMER) is None


@given(ceiling=st.integers(FLOOR, 9000), script=st.lists(moves, max_size=60))
def test_whatever_happens_the_size_stays_in_bounds_and_time_moves_on(
    ceiling: int, script: list[tuple[str, int]]
) -> None:
    now, mtu = 1000.0, PathMtu(ceiling=ceiling, now=1000.0)
    recent = [0]
    for name, value in script:
        if name == "wait":
            now += value / 4
        elif name == "acknowledged":
            mtu.acknowledged(recent[-1 - value % len(recent)], now)
        elif name == "too big":
            mtu.too_big(value, now)
        elif name == "suspect":
            mtu.suspect(now)
        else:
            mtu.sent()
        size = mtu.poll(now)
        if size is not None:
            assert FLOOR <= size <= ceiling
            recent.append(size)
        assert FLOOR <= mtu.size <= ceiling
        deadline = mtu.next_deadline()
        assert deadline is None or deadline > now
