"""The span of records, against simulated paths with virtual time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import ConfigurationError
from caetun.session.span import MAX_CAUTION, RELAX_SECONDS, STEPS, Span

TICK = 0.05
"""Seconds between two reports."""
DATAGRAMS = 1000
"""Datagrams sent between two reports: 20,000 a second, about 230 Mbit/s."""


class Path:
    """Sends records of the present span, loses datagrams, and reports what arrived, one tick at a time."""

    def __init__(self, loss: float = 0.0, seed: int = 1) -> None:
        self.span = Span()
        self.loss = loss
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.sent = self.opened = 0
        self.highest = -1
        self.heard = self.now

    def tick(self) -> None:
        """Send for one report's time, then report if anything new arrived; after a second without, be silent."""
        before = self.opened
        datagrams = self.span.datagrams
        arrives = (1 - self.loss) ** datagrams
        for counter in range(self.sent, self.sent + DATAGRAMS // datagrams):
            if self.chance.random() < arrives:
                self.opened += 1
                self.highest = counter
        self.sent += DATAGRAMS // datagrams
        self.now += TICK
        if self.opened > before:
            self.heard = self.now
            self.span.report(self.sent - 1, self.highest, self.opened, self.now)
        elif self.now - self.heard > 1.0:
            self.heard = self.now
            self.span.silence(self.now)

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> list[int]:
        """Which span was used in each tick."""
        spans = []
        for _ in range(round(seconds / TICK)):
            spans.append(self.span.datagrams)
            self.tick()
            each()
        return spans

    def exact(self, sent: int, lost: int = 0) -> None:
        """Send `sent` records of which exactly the first `lost` are lost, and report."""
        self.sent += sent
        self.opened += sent - lost
        self.highest = self.sent - 1
        self.now += TICK
        self.span.report(self.sent - 1, self.highest, self.opened, self.now)


def grown(step: int, loss: float = 0.0) -> Path:
    """A path without loss that has just grown to a step, and then begins to lose datagrams."""
    path = Path()
    while path.span.datagrams < STEPS[step]:
        path.tick()
    path.loss = loss
    return path


def test_starts_with_single_datagrams() -> None:
    assert Span().datagrams == 1


def test_a_path_without_loss_reaches_the_longest_span_in_seconds() -> None:
    path = Path()
    spans = path.run(3.0)
    assert spans == sorted(spans)
    assert set(spans) == set(STEPS)


def test_growth_waits_for_its_evidence() -> None:
    path = Path()
    path.exact(511)
    path.exact(1)
    assert path.span.datagrams == 1  # the last report's record may still be late: 511 are judged
    path.exact(1)
    assert path.span.datagrams == 4
    path.exact(254)  # the first record was sent with the new span, but the report before it with the old one
    path.exact(1)
    path.exact(1)
    assert path.span.datagrams == 4
    path.exact(1)
    assert path.span.datagrams == 16


@pytest.mark.parametrize(
    ("loss", "least", "most"),
    [(0.0, 40, 44), (0.0001, 16, 44), (0.001, 3, 16), (0.01, 1, 1.5), (0.05, 1, 1.05)],
)
def test_random_loss_settles_where_few_records_are_lost(loss: float, least: float, most: float) -> None:
    for seed in range(3):
        spans = Path(loss, seed).run(40.0)[400:]
        mean = sum(spans) / len(spans)
        assert least <= mean <= most
        assert mean * loss <= max(0.02, loss * 1.1)


def test_loss_does_not_make_the_span_flap() -> None:
    spans = Path(0.01).run(60.0)[400:]
    changes = sum(before != after for before, after in itertools.pairwise(spans))
    assert changes <= 10


@pytest.mark.parametrize("step", [1, 2, 3])
def test_sudden_loss_is_answered_within_three_reports(step: int) -> None:
    path = grown(step)
    path.tick()  # records of the new span have been reported
    assert path.span.datagrams == STEPS[step]
    path.loss = 0.05
    for _ in range(3):
        path.tick()
    assert path.span.datagrams == 1


def test_moderate_loss_shrinks_one_step_only() -> None:
    path = grown(2)
    path.exact(100)
    path.exact(100, lost=4)
    path.exact(100)
    assert path.span.datagrams == 4
    for _ in range(2):  # records of the longer span, still under way
        path.exact(1, lost=1)
    assert path.span.datagrams == 4


def test_heavy_loss_goes_back_to_single_datagrams() -> None:
    path = grown(2)
    path.exact(100)
    path.exact(100, lost=30)
    assert path.span.datagrams == 16
    path.exact(100)
    assert path.span.datagrams == 1


def test_loss_beyond_doubt_is_answered_at_once() -> None:
    path = grown(3)
    path.exact(100)
    path.exact(20, lost=12)
    assert path.span.datagrams == 1


def test_two_lost_records_in_a_short_report_are_an_accident() -> None:
    path = grown(2)
    path.exact(20)
    path.exact(20, lost=2)
    path.exact(20)
    assert path.span.datagrams == 16
    path.exact(20, lost=1)
    path.exact(20)
    assert path.span.datagrams == 4


def test_a_burst_of_loss_costs_seconds_not_minutes() -> None:
    path = grown(3)
    path.run(1.0)
    path.loss = 0.3  # next to no record of 44 datagrams survives that
    path.run(1.2)
    assert path.span.datagrams == 1
    path.loss = 0.0
    path.run(6.0)
    assert path.span.datagrams == 44


def test_bursts_of_loss_again_and_again_keep_the_span_down() -> None:
    path = Path()
    shares = []
    for _ in range(40):
        path.loss = 0.2
        path.run(0.1)
        path.loss = 0.0
        shares += path.run(0.9)
    assert sum(shares[360:]) / len(shares[360:]) < 16


def test_evidence_doubles_with_every_shrink_and_relaxes_with_time() -> None:
    def needed(path: Path) -> int:
        """Reports of 512 clean records before the span grows from 1."""
        count = 0
        while path.span.datagrams == 1:
            path.exact(512)
            count += 1
        return count

    def collapse(path: Path) -> None:
        while path.span.datagrams > 1:
            path.exact(512, lost=300)

    path = Path()
    first = needed(path)
    costs = []
    for _ in range(6):
        collapse(path)
        path.exact(1)
        path.exact(1)
        costs.append(needed(path) - first)
    assert costs[:4] == [1, 3, 7, 15]
    assert costs[4:] == [15, 15]
    collapse(path)
    path.now += 2 * RELAX_SECONDS
    path.exact(1)
    path.exact(1)
    assert needed(path) - first == MAX_CAUTION // 4 - 1


def test_records_that_come_late_are_not_lost() -> None:
    path, chance = grown(2), random.Random(2)
    for _ in range(400):
        # some of the newest records arrive only after the report: more than two in a hundred, in changing number
        path.sent += 250
        path.now += TICK
        path.span.report(path.sent - 1, path.sent - 1, path.opened + 250 - chance.randrange(11), path.now)
        path.opened += 250
        assert path.span.datagrams >= 16
    assert path.span.datagrams == 44


def test_records_late_for_once_are_not_lost() -> None:
    path = grown(2)
    path.exact(250)
    path.sent += 250
    path.span.report(path.sent - 1, path.sent - 1, path.opened + 200, path.now)
    path.opened += 250
    path.exact(250)
    path.exact(250)
    assert path.span.datagrams == 44


def test_a_path_that_always_delays_a_third_still_grows() -> None:
    path = Path()
    for _ in range(200):
        path.sent += 120
        path.opened += 120
        path.now += TICK
        path.span.report(path.sent - 1, path.sent - 1, path.opened - 40, path.now)
    assert path.span.datagrams == 44


def test_loss_behind_reordering_is_still_seen() -> None:
    path, chance = grown(3), random.Random(3)
    for tick in range(60):
        path.sent += 250
        path.opened += 250 if tick < 30 else 235
        path.now += TICK
        path.span.report(path.sent - 1, path.sent - 1, path.opened - chance.randrange(11), path.now)
        if tick == 29:
            assert path.span.datagrams == 44
        if tick == 33:
            assert path.span.datagrams < 44
    assert path.span.datagrams == 1


def test_silence_goes_back_to_single_datagrams() -> None:
    path = grown(3)
    path.span.silence(path.now + 1.0)
    assert path.span.datagrams == 1
    path.exact(1000, lost=990)  # the long records, all lost
    path.exact(10)
    path.exact(1000)
    assert path.span.datagrams == 1  # the evidence has doubled
    path.exact(1000)
    path.exact(1000)
    assert path.span.datagrams == 4


def test_records_sent_before_the_silence_prove_nothing() -> None:
    path = grown(3)
    path.span.silence(path.now + 1.0)
    path.exact(5000)
    path.exact(1)
    path.exact(1)
    assert path.span.datagrams == 1


def test_a_new_key_pair_keeps_the_span_and_starts_counting_again() -> None:
    path = grown(2)
    path.span.restart_counts()
    path.sent = path.opened = 0
    path.highest = -1
    assert path.span.datagrams == 16
    path.run(2.0)
    assert path.span.datagrams == 44
    path.loss = 0.05
    path.run(0.2)
    assert path.span.datagrams == 1


@pytest.mark.parametrize(
    ("highest", "opened"),
    [(2**64 - 1, 2**64 - 1), (10_000, 20_000), (2**64 - 1, 0), (0, 0), (5, 2), (999_999, 1)],
)
def test_reports_that_cannot_be_true_change_nothing(highest: int, opened: int) -> None:
    disturbed, plain = grown(1), grown(1)
    for _ in range(40):
        disturbed.span.report(disturbed.sent - 1, highest, opened, disturbed.now)
        disturbed.tick()
        plain.tick()
        assert disturbed.span.datagrams == plain.span.datagrams


def test_counts_that_contradict_each_other_change_nothing() -> None:
    path = grown(2)
    path.exact(100)
    path.sent += 100
    newest = path.sent - 1
    path.span.report(newest, newest, newest + 10_000, path.now)  # more than there are
    path.span.report(newest, newest, path.opened - 90, path.now)  # fewer than before
    path.span.report(newest, newest - 150, path.opened + 50, path.now)  # more, but up to less
    path.opened += 100
    path.exact(100)
    path.exact(100)
    assert path.span.datagrams == 44
    path.exact(100, lost=60)
    path.exact(100, lost=60)
    assert path.span.datagrams == 1


def test_old_and_repeated_reports_change_nothing() -> None:
    disturbed, plain = Path(0.001), Path(0.001)
    old: list[tuple[int, int]] = []
    for _ in range(200):
        plain.tick()
        disturbed.tick()
        old.append((disturbed.highest, disturbed.opened))
        for highest, opened in old[-3:]:
            disturbed.span.report(disturbed.sent - 1, highest, opened, disturbed.now)
        assert disturbed.span.datagrams == plain.span.datagrams


counts = st.integers(0, 2**64 - 1) | st.integers(0, 3000)


@given(reports=st.lists(st.tuples(counts, counts, counts, st.booleans())))
def test_whatever_is_reported_the_span_stays_in_its_steps(reports: list[tuple[int, int, int, bool]]) -> None:
    span = Span()
    for now, (sent_highest, highest, opened, quiet) in enumerate(reports):
        span.report(sent_highest, highest, opened, float(now))
        if quiet:
            span.silence(float(now))
        assert span.datagrams in STEPS


def test_a_fixed_span_never_moves() -> None:
    span = Span(fixed=8)
    for count in range(1, 20):
        span.report(count * 1000, count * 1000, count * 500, float(count))
    span.silence(30.0)
    span.restart_counts()
    assert span.datagrams == 8


@pytest.mark.parametrize("fixed", [-1, 45, 1000])
def test_a_fixed_span_out_of_range_is_a_mistake_of_the_user(fixed: int) -> None:
    with pytest.raises(ConfigurationError, match="1 to 44"):
        Span(fixed)
