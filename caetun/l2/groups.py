"""The multicast database: which ports want which group of which VLAN (RFC 4541, section 2.1).

Groups are kept by IP address, not by MAC, as 32 groups of IPv4 share one MAC (2.1.2, item 5). Each port of a group has
its own filter (`filter.py`): what goes out is the union over the ports.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

from caetun.l2.filter import NOTHING, Asked, PortFilter, Timing
from caetun.l2.room import Room
from caetun.types import DropReason, Drops
from caetun.wire.membership import GroupRecord

# chosen by us
MAX_GROUPS: Final = 4096
"""Of all VLANs: what a Linux bridge takes (mcast_hash_max). What is beyond is treated as nobody's: see the policy for
unregistered groups."""
MAX_GROUPS_PER_PORT: Final = 1024
"""One port must not fill the table for all."""

_Key = tuple[int, bytes]


class GroupRow(NamedTuple):
    """One group at one port, as people see it."""

    vlan: int
    group: bytes
    port: int
    excluding: bool
    sources: tuple[bytes, ...]
    """Those asked for, or, excluding, those blocked."""
    expires: float
    """Seconds until it would end; negative for a static one."""
    timers: tuple[tuple[bytes, float], ...] = ()
    """Sources asked for, and the seconds until they would end."""
    oldest: int = 0
    """The oldest version that hosts here may speak; 0: the newest one."""


class _Group:
    """One group of one VLAN."""

    __slots__ = ("any_source", "ports", "static")

    def __init__(self) -> None:
        self.ports: dict[int, PortFilter] = {}
        self.static: frozenset[int] = frozenset()
        self.any_source: frozenset[int] | None = frozenset()
        """Ports that want it, whoever sends; None if that depends on the source."""

    def changed(self) -> None:
        if any(not each.excluding or each.blocked for each in self.ports.values()):
            self.any_source = None
        else:
            self.any_source = self.static | self.ports.keys()


class GroupTable:
    """Who wants what. `size` is 4 for IPv4 and 16 for IPv6: each protocol has a table of its own."""

    def __init__(self, versions: int, drops: Drops) -> None:
        """`versions`: 3 for IGMP, 2 for MLD."""
        self._versions = versions
        self._old_is_first = versions == 2
        """Whether the version before the newest is the first one."""
        self._drops = drops
        self._groups: dict[_Key, _Group] = {}
        self._room = Room(inf, MAX_GROUPS_PER_PORT)
        self._due: list[tuple[float, int, bytes, int]] = []
        """(when, VLAN, group, port): when to look at a filter again; it may have been put off since."""

    def __len__(self) -> int:
        return len(self._groups)

    # hot: once a multicast frame

    def members(self, vlan: int, group: bytes, source: bytes) -> frozenset[int] | None:
        """Ports that want what `source` sends to `group`; None if nobody has asked for the group at all."""
        found = self._groups.get((vlan, group))
        if found is None:
            return None
        if found.any_source is not None:
            return found.any_source
        return found.static.union([port for port, each in found.ports.items() if each.wants(source)])

    # what hosts say

    def hear(self, vlan: int, port: int, record: GroupRecord, version: int, now: float, timing: Timing) -> Asked:
        """Take in a record of a report from a port; returns what a querier has to ask."""
        key = vlan, record.group
        group = self._groups.get(key)
        each = None if group is None else group.ports.get(port)
        if each is None:
            each = PortFilter()
            asked = each.hear(record, version, now, timing, self._versions)
            if each.empty:
                return NOTHING  # it leaves what it has not joined here
            if not self._add(key, port, each):
                return NOTHING
        else:
            asked = each.hear(record, version, now, timing, self._versions)
        self._settle(key, port, each)
        return asked

    def _add(self, key: _Key, port: int, each: PortFilter) -> bool:
        group = self._groups.get(key)
        if self._room.full(port) or (group is None and len(self._groups) >= MAX_GROUPS):
            self._drops.count(DropReason.MULTICAST_FULL)
            return False
        if group is None:
            group = self._groups[key] = _Group()
        group.ports[port] = each
        self._room.take(port)
        return True

    def leave(self, vlan: int, port: int, address: bytes) -> None:
        """Forget a group at a port at once (fast leave): only one host is behind it."""
        group = self._groups.get((vlan, address))
        if group is not None and port in group.ports:
            self._remove((vlan, address), group, port)

    def asked(
        self, vlan: int, address: bytes, asked: Asked, now: float, timing: Timing, only: int | None = None
    ) -> None:
        """A querier asks for a group or sources of it: who does not answer ends soon, at all ports or `only` at one."""
        group = self._groups.get((vlan, address))
        for port, each in () if group is None else list(group.ports.items()):
            if only in (None, port):
                each.asked(asked, now, timing)
                self._settle((vlan, address), port, each)

    def _settle(self, key: _Key, port: int, each: PortFilter) -> None:
        """The state of a filter has changed: so may have what goes out, and when to look again."""
        group = self._groups[key]
        due = each.next_deadline()
        if due is None:
            self._remove(key, group, port)
            return
        group.changed()
        heapq.heappush(self._due, (due, *key, port))
        if len(self._due) > 2 * self._room.taken + 64:
            self._due = [
                (at, vlan, address, number)
                for (vlan, address), some in self._groups.items()
                for number, one in some.ports.items()
                if (at := one.next_deadline()) is not None
            ]
            heapq.heapify(self._due)

    def _remove(self, key: _Key, group: _Group, port: int) -> None:
        del group.ports[port]
        self._room.give(port)
        group.changed()
        if not group.ports and not group.static:
            del self._groups[key]

    # by hand

    def set_static(self, vlan: int, address: bytes, ports: frozenset[int]) -> None:
        """Ports that get a group whether somebody asks or not; none: no more."""
        key = vlan, address
        group = self._groups.get(key)
        if group is None:
            if not ports:
                return
            group = self._groups[key] = _Group()
        group.static = ports
        group.changed()
        if not group.ports and not ports:
            del self._groups[key]

    def static(self, vlan: int, address: bytes) -> frozenset[int]:
        """Ports that get a group whether somebody asks or not."""
        group = self._groups.get((vlan, address))
        return frozenset() if group is None else group.static

    def flush(self, port: int) -> None:
        """A port is gone: forget what was heard there."""
        for key, group in list(self._groups.items()):
            if port in group.ports:
                self._remove(key, group, port)

    # time

    def expire(self, now: float) -> None:
        """Let timers run out."""
        while self._due and self._due[0][0] <= now:
            _, vlan, address, port = heapq.heappop(self._due)
            group = self._groups.get((vlan, address))
            each = None if group is None else group.ports.get(port)
            if each is not None and each.expire(now):
                self._settle((vlan, address), port, each)

    def next_deadline(self) -> float | None:
        """When `expire` next has something to look at."""
        return self._due[0][0] if self._due else None

    def rows(self, now: float) -> Iterator[GroupRow]:
        """Every group at every port, in order of VLAN, group and port."""
        for (vlan, address), group in sorted(self._groups.items()):
            for port in sorted(group.static):
                yield GroupRow(vlan, address, port, True, (), -1.0)
            for port, each in sorted(group.ports.items()):
                some = tuple(sorted(each.blocked if each.excluding else each.running))
                until = each.until if each.excluding else max(each.running.values())
                timers = tuple(sorted((source, at - now) for source, at in each.running.items()))
                oldest = 1 if now < max(each.oldest_until, self._old_is_first * each.old_until) else 0
                oldest = oldest or (2 if now < each.old_until else 0)
                yield GroupRow(vlan, address, port, each.excluding, some, until - now, timers, oldest)
