"""The replay window, against a model that remembers every counter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.replay import MIN_WINDOW, ReplayWindow
from caetun.types import DropReason

LAST = 2**64 - 1


class Model:
    """Remembers every counter ever marked."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.marked: set[int] = set()

    def check(self, counter: int) -> DropReason | None:
        if counter <= max(self.marked, default=-1) - self.size:
            return DropReason.RECORD_OLD
        return DropReason.RECORD_REPLAYED if counter in self.marked else None


def receive(window: ReplayWindow, counter: int) -> DropReason | None:
    """One authentic record arrives."""
    verdict = window.check(counter)
    if verdict is None:
        window.mark(counter)
    return verdict


def test_a_fresh_window_has_opened_nothing() -> None:
    window = ReplayWindow()
    assert (window.highest, window.opened, window.size) == (-1, 0, MIN_WINDOW)
    assert window.check(0) is None
    assert window.check(LAST) is None


def test_in_order_records_pass_once() -> None:
    window = ReplayWindow()
    assert all(receive(window, counter) is None for counter in range(3 * MIN_WINDOW))
    assert (window.highest, window.opened) == (3 * MIN_WINDOW - 1, 3 * MIN_WINDOW)
    recent = range(2 * MIN_WINDOW, 3 * MIN_WINDOW)
    assert all(receive(window, counter) is DropReason.RECORD_REPLAYED for counter in recent)
    assert receive(window, 2 * MIN_WINDOW - 1) is DropReason.RECORD_OLD
    assert window.opened == 3 * MIN_WINDOW


def test_a_forged_record_leaves_no_trace() -> None:
    window = ReplayWindow()
    receive(window, 5)
    assert window.check(LAST) is None  # opening it fails, so it is never marked
    assert window.check(6) is None
    assert window.highest == 5


def test_the_oldest_counter_of_the_window_still_passes() -> None:
    window = ReplayWindow()
    receive(window, MIN_WINDOW + 10)
    assert receive(window, 10) is DropReason.RECORD_OLD
    assert receive(window, 11) is None
    assert receive(window, 11) is DropReason.RECORD_REPLAYED


def test_the_last_counter_of_all() -> None:
    window = ReplayWindow()
    receive(window, 0)
    assert receive(window, LAST) is None
    assert receive(window, LAST) is DropReason.RECORD_REPLAYED
    assert receive(window, LAST - 1) is None
    assert receive(window, 0) is DropReason.RECORD_OLD
    assert (window.highest, window.opened) == (LAST, 3)


@pytest.mark.parametrize("jump", [1, 2, 99, 100, 101, 150, 199, 200, 201, 100_000])
def test_a_jump_forgets_exactly_what_it_passes(jump: int) -> None:
    window = ReplayWindow(100)
    for counter in range(250):
        receive(window, counter)
    receive(window, 249 + jump)
    jumped_over = range(max(250, 249 + jump - 99), 249 + jump)
    assert all(window.check(counter) is None for counter in jumped_over)
    kept = range(249 + jump - 99, 250)
    assert all(window.check(counter) is DropReason.RECORD_REPLAYED for counter in kept)


steps = st.one_of(st.integers(-200, 200), st.sampled_from([1, 1, 1, 63, 64, 65, 127, 128, 129, -63, -64, -65, 2**40]))


@given(size=st.integers(1, 130), start=st.sampled_from([0, 1000, 2**32 - 5, LAST - 300]), walk=st.lists(steps))
def test_agrees_with_a_window_that_forgets_nothing(size: int, start: int, walk: list[int]) -> None:
    window, model = ReplayWindow(size), Model(size)
    counter = start
    for step in walk:
        counter = min(max(counter + step, 0), LAST)
        verdict = receive(window, counter)
        assert verdict == model.check(counter)
        if verdict is None:
            model.marked.add(counter)
    assert window.highest == max(model.marked, default=-1)
    assert window.opened == len(model.marked)
