"""Addresses that flap, told and counted, in virtual time; `test_bridge.py` has them in a switch."""

from __future__ import annotations

from caetun.board import LOCAL
from caetun.l2.fdb import FLAP_HOLD
from caetun.l2.flapping import MANY, MANY_SECONDS, TELL_SECONDS, WAIT_SECONDS, Flapping
from caetun.l2.outcome import Notice

A = b"\2\0\0\0\0\1"


class Watch:
    """Some flapping addresses, and what came of them."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.flapping = Flapping(self.notices.append)

    def began(self, port: int, *times: float, home: str = "attic") -> list[bool]:
        return [self.flapping.began(A, port, (home, f"port{port}"), now) for now in times]

    def muted(self, now: float) -> list[int]:
        return [number for number, _ in self.flapping.loops(now)]


def test_people_hear_of_it_now_and_then() -> None:
    watch = Watch()
    news = watch.began(LOCAL, *(second / 10 for second in range(100)))
    assert news.count(True) == len(watch.notices) == 100 / 10 / TELL_SECONDS
    assert watch.notices[0].text == (
        "02:00:00:00:00:01 of attic keeps moving to port0: a loop, or one address twice; held"
    )
    assert watch.muted(100.0) == [], "the device has no other way"


def test_after_a_while_many_mute_a_port_and_name_their_homes() -> None:
    watch = Watch()
    watch.began(2, 1.0, 1.0)
    assert watch.flapping.next_deadline() is None
    watch.began(2, 1.5, 2.0, home="shed")
    assert watch.flapping.next_deadline() == 2.0 + WAIT_SECONDS
    assert watch.flapping.loops(2.0) == []
    loop = "loop: 4 addresses of attic, shed keep coming by port2"
    assert watch.flapping.loops(2.0 + WAIT_SECONDS) == [(2, loop)]
    assert watch.flapping.loops(10.0) == []


def test_ports_are_counted_apart_and_muted_one_after_the_other() -> None:
    watch = Watch()
    for port in (1, 2):
        watch.began(port, *([1.0] * (MANY - 1)))
    assert watch.muted(5.0) == []
    watch.began(2, 5.0)
    watch.began(1, 5.0)
    assert watch.muted(9.0) == [2]
    assert watch.muted(9.0) == [1], "if muting the other one has not ended it"


def test_after_a_mute_counting_begins_anew() -> None:
    watch = Watch()
    watch.began(1, *([1.0] * MANY))
    watch.flapping.clear()
    assert watch.muted(9.0) == []
    watch.began(1, *([9.0] * (MANY - 1)))
    assert watch.muted(12.0) == []


def test_what_began_long_ago_does_not_count() -> None:
    watch = Watch()
    watch.began(1, *([1.0] * (MANY - 1)), 1.1 + MANY_SECONDS)
    assert watch.muted(99.0) == []


def test_a_port_that_comes_back_has_a_clean_slate() -> None:
    watch = Watch()
    watch.began(1, *([1.0] * MANY))
    watch.flapping.forget_port(1)
    watch.flapping.forget_port(2)
    watch.began(1, 2.0)
    assert watch.muted(9.0) == []


def test_an_address_counts_once() -> None:
    assert MANY_SECONDS < FLAP_HOLD
