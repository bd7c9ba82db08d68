"""Addresses that flap, told and counted, in virtual time; `test_bridge.py` has them in a switch."""

from __future__ import annotations

from caetun.board import LOCAL
from caetun.l2.fdb import FLAP_HOLD
from caetun.l2.flapping import MANY, MANY_SECONDS, TELL_SECONDS, Flapping
from caetun.l2.outcome import Notice

A = b"\2\0\0\0\0\1"


class Watch:
    """Some flapping addresses, and what came of them."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.muted: list[int] = []
        self.flapping = Flapping(self.notices.append, lambda port, _why, _now: self.muted.append(port))

    def began(self, port: int, *times: float) -> None:
        for now in times:
            self.flapping.began(A, port, f"port{port}", now)


def test_people_hear_of_it_now_and_then() -> None:
    watch = Watch()
    watch.began(LOCAL, *(second / 10 for second in range(100)))
    assert len(watch.notices) == 100 / 10 / TELL_SECONDS
    assert watch.notices[0].text == "02:00:00:00:00:01 keeps moving, now to port0: a loop, or one address twice; held"


def test_ports_are_counted_apart() -> None:
    watch = Watch()
    for port in (1, 2):
        watch.began(port, *([1.0] * (MANY - 1)))
    assert watch.muted == []
    watch.began(2, 2.0)
    assert watch.muted == [2]


def test_after_a_mute_counting_begins_anew() -> None:
    watch = Watch()
    watch.began(1, *([1.0] * (2 * MANY - 1)))
    assert watch.muted == [1]
    watch.began(1, 2.0)
    assert watch.muted == [1, 1]


def test_what_began_long_ago_does_not_count() -> None:
    watch = Watch()
    watch.began(1, *([1.0] * (MANY - 1)), 1.1 + MANY_SECONDS)
    assert watch.muted == []


def test_a_port_that_comes_back_has_a_clean_slate() -> None:
    watch = Watch()
    watch.began(1, *([1.0] * (MANY - 1)))
    watch.flapping.forget_port(1)
    watch.flapping.forget_port(2)
    watch.began(1, 2.0)
    assert watch.muted == []


def test_an_address_counts_once() -> None:
    assert MANY_SECONDS < FLAP_HOLD
