"""When a port comes back or moves: its hosts are announced to all others, so that nobody sends to where they were.

    left      who was known behind the port is remembered, for as long as switches remember an address
    returned  each host is announced (gratuitous ARP, or an unsolicited neighbour advertisement), at a bounded rate,
              and again after `AGAIN_SECONDS` (RFC 5227, section 2.3: frames get lost)

The frames are for the switches and bridges of other sites, which learn from their source that the way to it is now
another: one frame a host is enough. Who has come up elsewhere in the meantime is not announced, nor is an IPv6 host of
which it is not known whether it routes: hosts would forget a router that is said to be none.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from caetun.l2.neighbours import Host
from caetun.wire import arp, nd

# fixed by the specification
AGAIN_SECONDS: Final = 2.0
"""ANNOUNCE_INTERVAL (RFC 5227, section 1.1), with ANNOUNCE_NUM 2."""

# chosen by us
REMEMBER_SECONDS: Final = 300.0
"""Hosts of a port that is gone are remembered as long as switches remember an address."""
SPACING: Final = 0.05
"""Seconds between two announcements: 20 hosts a second, each to all ports, are no load for the slowest site."""
MAX_HOSTS: Final = 256
"""Announced of one port, those heard of last."""
MAX_AWAY: Final = 1024
"""Ports remembered that are gone; beyond, the longest gone is forgotten."""
MAX_WAITING: Final = 2048
"""Announcements waiting their turn; beyond, further hosts are not announced."""
HOLD_SECONDS: Final = 10.0
"""A port that comes and goes is healed at most so often."""


class Announcement(NamedTuple):
    """A frame to be sent as if it had come by a port, if `host` is still there."""

    port: int
    host: Host
    frame: bytes


class Healing:
    """What is to be announced of the ports of one bridge. A port is known by its name: it may get another number."""

    def __init__(self) -> None:
        self._away: OrderedDict[str, tuple[Host, ...]] = OrderedDict()
        self._healed_at: dict[str, float] = {}
        """Port -> when its last healing began, or will begin."""
        self._waiting: list[tuple[float, int, Announcement]] = []
        """A heap: (when, count of all, what)."""
        self._count = 0
        self._last_at = -inf
        """When the last announcement of those without a hold is due for the first time."""

    def left(self, number: int, name: str, hosts: Iterable[Host]) -> None:
        """A port goes down, with these hosts behind it, the last heard of first."""
        unfinished = [each[2].host for each in self._waiting if each[2].port == number]
        if unfinished:
            self._waiting = [each for each in self._waiting if each[2].port != number]
            heapq.heapify(self._waiting)
        known = _one_each((*hosts, *unfinished))
        if known:
            self._away[name] = known
            self._away.move_to_end(name)
        if len(self._away) > MAX_AWAY:
            self._away.popitem(last=False)

    def returned(self, number: int, name: str, now: float) -> None:
        """A port has come up: if it was here before, its hosts are to be announced."""
        hosts = self._away.pop(name, ())
        self.moved(number, name, [host for host in hosts if now - host.seen_at <= REMEMBER_SECONDS], now)

    def moved(self, number: int, name: str, hosts: Iterable[Host], now: float) -> None:
        """A port is reached by another way: announce its hosts."""
        chosen = _one_each(hosts)
        if not chosen:
            return
        before = self._healed_at.get(name, -inf)
        begin = before if before > now else max(now, before + HOLD_SECONDS)
        self._healed_at = {each: at for each, at in self._healed_at.items() if now - at < HOLD_SECONDS}
        self._healed_at[name] = begin
        for place, host in enumerate(chosen):
            if len(self._waiting) + 2 > MAX_WAITING:
                return
            if begin > now:
                at = begin + place * SPACING  # the others do not wait for a port that comes and goes
            else:
                at = self._last_at = max(now, self._last_at + SPACING)
            announcement = Announcement(number, host, _frame(host))
            for when in (at, at + AGAIN_SECONDS):
                self._count += 1
                heapq.heappush(self._waiting, (when, self._count, announcement))

    def tick(self, now: float) -> list[Announcement]:
        """What is to be announced now."""
        due: list[Announcement] = []
        while self._waiting and self._waiting[0][0] <= now:
            due.append(heapq.heappop(self._waiting)[2])
        return due

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        return self._waiting[0][0] if self._waiting else None


def _one_each(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """One address of each host, IPv4 first: every host understands its announcement."""
    chosen: dict[tuple[int, bytes], Host] = {}
    for host in hosts:
        if len(host.address) == 16 and host.router is None:
            continue
        key = host.vlan, host.mac
        before = chosen.get(key)
        if before is None and len(chosen) >= MAX_HOSTS:
            continue
        if before is None or len(before.address) > len(host.address):
            chosen[key] = host
    return tuple(chosen.values())


def _frame(host: Host) -> bytes:
    if len(host.address) == 4:
        return arp.gratuitous(host.mac, host.address)
    # Without Override: the address is where it was, only the way has changed.
    return nd.unsolicited(host.mac, host.address, bool(host.router), override=False)
