"""What members are told of the hosts behind us."""

from __future__ import annotations

from collections.abc import Iterator

from caetun.mesh.hosts import Known
from caetun.wire.mesh import MAX_HOSTS, Host, Hosts

A, B = bytes(32), bytes(31) + b"\1"


def host(number: int) -> Host:
    return Host(0, b"\x02\0\0" + number.to_bytes(3, "big"))


ONE, TWO, THREE = (host(number) for number in (1, 2, 3))


def tell(known: Known, key: bytes, *here: Host) -> Hosts | None:
    news = known.news(key, here)
    if news is not None:
        known.told(key, news)
    return news


def test_each_is_told_what_has_come_and_gone_since() -> None:
    known = Known()
    known.met(A)
    assert tell(known, A, ONE, TWO) == Hosts((ONE, TWO))
    assert tell(known, A, ONE, TWO) is None
    assert tell(known, A, TWO, THREE) == Hosts((THREE,), (ONE,))
    known.met(B)
    assert tell(known, B, TWO, THREE) == Hosts((TWO, THREE))
    assert tell(known, A, TWO, THREE) is None


def test_what_could_not_be_said_is_news_still() -> None:
    known = Known()
    known.met(A)
    assert known.news(A, [ONE]) == known.news(A, [ONE]) == Hosts((ONE,))


def test_who_was_started_again_is_told_everything_and_who_is_forgotten_nothing() -> None:
    known = Known()
    known.met(A)
    tell(known, A, ONE)
    known.met(A)
    assert tell(known, A, ONE) == Hosts((ONE,))
    known.met(B)
    known.forget(A)
    known.forget(A)
    assert list(known) == [B]


def test_what_one_message_cannot_hold_is_for_the_next() -> None:
    known, many = Known(), [host(number) for number in range(1, 2 * MAX_HOSTS)]
    known.met(A)
    assert tell(known, A, *many) == Hosts(tuple(many[:MAX_HOSTS]))
    assert tell(known, A, *many) == Hosts(tuple(many[MAX_HOSTS:]))
    assert tell(known, A) == Hosts((), tuple(many[:MAX_HOSTS]))
    assert tell(known, A) == Hosts((), tuple(many[MAX_HOSTS:]))
    assert tell(known, A) is None


def test_a_list_without_news_is_looked_at_once() -> None:
    class Counted(list[Host]):
        looks = 0

        def __iter__(self) -> Iterator[Host]:
            self.looks += 1
            return super().__iter__()

    known, here = Known(), Counted([ONE, TWO])
    known.met(A)
    known.told(A, known.news(A, [ONE, TWO]) or Hosts(()))
    assert known.news(A, here) is None
    looks = here.looks
    assert looks
    assert known.news(A, here) is None
    assert here.looks == looks
    known.met(A)
    assert known.news(A, here) == Hosts((ONE, TWO)), "it knows nothing again"
