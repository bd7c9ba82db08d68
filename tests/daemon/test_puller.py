"""A client that its server refuses asks again, ever more rarely, until it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from caetun.daemon.puller import FIRST_PAUSE, LONGEST_PAUSE, Puller
from caetun.sources import load
from caetun.types import Mode
from caetun.wire.configuration import Assigned as Told
from caetun.wire.configuration import Push, Refused


class Clock:
    """A loop without time: what is due is done when a test says so."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Any]] = []

    def call_later(self, seconds: float, work: Any) -> Any:
        entry = (seconds, work)
        self.due.append(entry)
        return SimpleNamespace(cancel=lambda: self.due.remove(entry) if entry in self.due else None)

    def next(self) -> float:
        seconds, work = self.due.pop(0)
        work()
        return seconds


def test_a_refused_client_asks_again_until_it_is_told() -> None:
    clock, told, asked = Clock(), [], []
    hands = SimpleNamespace(
        loop=clock,
        tell=lambda level, event, text, **_: told.append((level, event, text)),
        say=lambda *_: True,
        wake=lambda: None,
    )
    settings = load({"connect": ["192.0.2.1:4500"], "secret_file": "s.key", "negotiation": "server"})
    interface = SimpleNamespace(resize=lambda _: None, assign=lambda _: None)
    puller = Puller(cast(Any, hands), settings, lambda: cast(Any, interface), Mode.TUN, ("tun0", False), lambda _: None)
    puller.ask = asked.append
    peer: Any = SimpleNamespace(name="hub", link=None)
    puller.heard(peer, Refused(reason="the address pool 10.88.0.0/29 is exhausted"))
    assert told == [
        (
            *("error", "negotiation.refused"),
            "hub assigns nothing: the address pool 10.88.0.0/29 is exhausted: asking again in 2 s",
        )
    ]
    pauses = [clock.next() for _ in range(10)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert asked == [peer] * 10
    puller.heard(peer, Push(serial=1, settings=Told(address=("10.88.0.3/29",))))
    assert clock.due == [], "it has been told"
    assert puller.assigned.address == ("10.88.0.3/29",)
    puller.heard(peer, Refused(reason="its leases cannot be read"))
    assert clock.due[0][0] == FIRST_PAUSE
    puller.close()
    assert clock.due == []


def test_addresses_that_are_assigned_are_told_when_they_change() -> None:
    hands = SimpleNamespace(loop=Clock(), tell=lambda *_, **__: None, say=lambda *_: True, wake=lambda: None)
    settings = load({"connect": ["192.0.2.1:4500"], "secret_file": "s.key", "negotiation": "server"})
    interface = SimpleNamespace(resize=lambda _: None, assign=lambda _: None)
    puller = Puller(cast(Any, hands), settings, lambda: cast(Any, interface), Mode.TUN, ("tun0", False), lambda _: None)
    told: list[list[str]] = []
    puller.on_addresses = lambda addresses: told.append([str(each) for each in addresses])
    peer: Any = SimpleNamespace(name="hub", link=None)
    for serial, address in enumerate(("10.88.0.2/24", "10.88.0.2/24", "10.88.0.9/24"), 1):
        puller.heard(peer, Push(serial=serial, settings=Told(address=(address,))))
    assert told == [["10.88.0.2/24"], ["10.88.0.9/24"]]
