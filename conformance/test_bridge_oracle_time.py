"""The same comparison with time that passes: addresses age, memberships, queriers and routers are forgotten.

A Linux bridge lives in real time, ours in virtual time; both go from slot to slot. Frames come at the beginning of
slots, and all timers run out in the middle of one, so that neither bridge has to be exact.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Final

import pytest

from caetun.l2 import querier, snooping
from caetun.l2.bridge import Bridge
from caetun.wire.membership import Query
from conformance.bridge_oracle.kernel import Workshop
from conformance.bridge_oracle.rigs import ASKED, OWN, QUERIER_PORT, Flavour, Pair
from conformance.bridge_oracle.traces import NOBODY4, NOBODY6, World
from tests.l2.frames import ipv4, ipv6, query

pytestmark = [pytest.mark.needs("namespaces", "tun", "ip", "tc"), pytest.mark.alone]

# chosen by us
_SLOT: Final = 0.3
"""Seconds of real time."""
_OURS: Final = 4.0
"""The same in our bridge's time, seconds."""
_SLOTS: Final = 22
_TURNS: Final = 3
"""Frames in each slot."""
_TURN: Final = 0.012
_LATE: Final = 0.1
"""Seconds after the beginning of a slot by which all its frames must have gone."""
_ATTEMPTS: Final = 5
"""On a busy machine slots come late, and nothing can be said."""
_EACH: Final = 40
"""Bridges with a querier of their own, and as many with another one's."""
_HURRY: Final = {
    "mcast_membership_interval": 165,  # 5.5 slots, in 1/100 s
    "mcast_querier_interval": 165,
    "mcast_last_member_interval": 22,  # twice this: 1.5 slots
    "ageing_time": 135,  # 4.5 slots
}
_FLAVOURS: Final = (
    Flavour(settings=OWN.settings, options={**OWN.options, **_HURRY}, addresses=OWN.addresses),
    Flavour(asked=True, options={**ASKED.options, **_HURRY}),
)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our constants: memberships last 2 * 10 + 2 * 1 s, which is 5.5 slots."""
    monkeypatch.setattr(querier, "QUERY_INTERVAL", 10.0)
    monkeypatch.setattr(querier, "RESPONSE_INTERVAL", 1.0)
    monkeypatch.setattr(querier, "LAST_MEMBER_INTERVAL", 0.75 * _OURS)
    monkeypatch.setattr(snooping, "ROUTER_SECONDS", 5.5 * _OURS)


class _Site:
    """A pair of bridges, the hosts at them, and perhaps a real querier, each of which lives in both times."""

    def __init__(self, pair: Pair, seed: int) -> None:
        asked = pair.flavour.asked
        self.pair = pair
        self.world = World(seed, newest=not asked)
        self.chance = random.Random(seed)
        self.seed = seed
        self.asked = asked
        self.asks = False
        """Whether the real querier is there at the moment."""
        self.until, self.again = self.chance.randrange(_SLOTS), self.chance.randrange(_SLOTS // 2, 2 * _SLOTS)

    def ask(self, now: float, group: bytes | None = None) -> None:
        """The real querier asks all, and then for a group: a Linux bridge has less time to wait for answers."""
        for nobody, address, versions in ((NOBODY4, ipv4(9), (2, 3)), (NOBODY6, ipv6(9), (1, 2))):
            general = Query(versions[1], address, nobody, 0.1, robustness=2, interval=10.0)
            self._tell(general, 1.0, now)
            if group is not None and len(group) == len(nobody):
                self._tell(Query(versions[0], address, group, 0.2), 0.75 * _OURS, now)

    def _tell(self, asked: Query, slowly: float, now: float) -> None:
        self.pair.kernel.forward(QUERIER_PORT, query(9, asked))
        self.pair.ours.forward(QUERIER_PORT, query(9, asked._replace(max_response=slowly)), now)

    def turn(self, now: float) -> tuple[str, str]:
        """The next frame: (the name of a difference, what is wrong)."""
        (step,) = self.world.steps(1)
        difference, failure = self.pair.judge(step, now, settle=0.0)
        if self.asks and step.what.startswith("leave"):
            self.ask(now, bytes.fromhex(step.what.split()[-1]))
        return "" if difference is None else difference.name, failure


def _play(sites: list[_Site]) -> tuple[Counter[str], dict[int, str]] | None:
    """All slots: (differences, failures by seed); None if the machine was too slow for it to mean anything."""
    explained: Counter[str] = Counter()
    failures: dict[int, str] = {}
    began = time.monotonic() + _SLOT
    for slot in range(_SLOTS):
        time.sleep(max(0.0, began + slot * _SLOT - time.monotonic()))
        now = 1000.0 + slot * _OURS
        for site in sites:
            site.pair.ours.tick(now)
            if site.asked:
                site.asks = slot < site.until or slot >= site.again
                if site.asks and site.chance.random() < 0.3:
                    site.ask(now)
        for _ in range(_TURNS):
            until = time.monotonic() + _TURN
            for site in sites:
                if site.seed not in failures:
                    name, failure = site.turn(now)
                    if name:
                        explained[name] += 1
                    if failure:
                        failures[site.seed] = f"trace {site.seed}, slot {slot}: {failure}"
            time.sleep(max(0.0, until - time.monotonic()))
        if time.monotonic() > began + slot * _SLOT + _LATE:
            return None
    return explained, failures


@pytest.mark.parametrize("first", [0, 1000])
def test_what_is_forgotten_and_when(first: int) -> None:
    for attempt in range(_ATTEMPTS):
        flavours = _FLAVOURS * (_EACH // (attempt + 1))
        with Workshop([flavour.plan() for flavour in flavours]) as workshop:
            pairs = [
                Pair(flavour, kernel, _hasty(flavour))
                for flavour, kernel in zip(flavours, workshop.bridges, strict=True)
            ]
            for pair in pairs:
                pair.kernel.waiting()
            time.sleep(_SLOT)
            outcome = _play([_Site(pair, first + number) for number, pair in enumerate(pairs)])
        if outcome is not None:
            explained, failures = outcome
            print(f"{len(flavours)} traces of {_SLOTS * _TURNS} frames, decided otherwise: {dict(explained)}")
            assert not failures, "\n".join(failures.values())
            return
    pytest.skip(f"this machine is too busy: frames were {_LATE:g} s late in each of {_ATTEMPTS} attempts")


def _hasty(flavour: Flavour) -> Bridge:
    bridge = flavour.bridge()
    bridge.fdb.ageing = 4.5 * _OURS
    return bridge
