"""Backoff of handshakes, in virtual time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.retry import FIRST_DELAY, JITTER, MAX_DELAY, Retry

NOMINAL = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]


def middle(size: int) -> bytes:
    """Entropy that asks for no jitter."""
    return b"\x80" + bytes(size - 1)


def test_delays_double_up_to_the_cap() -> None:
    retry = Retry(middle)
    assert [retry.next() for _ in NOMINAL] == pytest.approx(NOMINAL, rel=1e-6)


def test_jitter_reaches_both_ends() -> None:
    assert Retry(lambda size: bytes(size)).next() == pytest.approx(FIRST_DELAY * (1 - JITTER))
    assert Retry(lambda size: b"\xff" * size).next() == pytest.approx(FIRST_DELAY * (1 + JITTER))


def test_success_starts_over() -> None:
    retry = Retry(middle)
    for _ in range(20):
        retry.next()
    retry.reset()
    assert [retry.next(), retry.next()] == pytest.approx(NOMINAL[:2], rel=1e-6)


def test_goes_on_for_ever() -> None:
    retry = Retry(middle)
    delays = [retry.next() for _ in range(5000)]
    assert sum(delays) == pytest.approx(5000 * MAX_DELAY, rel=0.01)


def test_clients_that_started_together_spread_out() -> None:
    chance = random.Random(1)
    arrivals = []
    for _ in range(200):
        retry = Retry(chance.randbytes)
        arrivals.append(sum(retry.next() for _ in range(8)))
    assert max(arrivals) - min(arrivals) > 5.0
    assert max(sum(at <= other < at + 0.5 for other in arrivals) for at in arrivals) < 60


@given(seed=st.integers(0, 2**32), attempts=st.integers(1, 30))
def test_every_delay_stays_within_the_jitter(seed: int, attempts: int) -> None:
    retry, nominal = Retry(random.Random(seed).randbytes), FIRST_DELAY
    for _ in range(attempts):
        assert nominal * (1 - JITTER) * 0.999 <= retry.next() <= nominal * (1 + JITTER) * 1.001
        nominal = min(nominal * 2, MAX_DELAY)
