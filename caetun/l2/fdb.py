"""The filtering database: behind which port an address was last seen (IEEE 802.1Q, clause 8.8).

One table a VLAN, so that the same address may live on two networks. Learned entries age; static ones do not, and are
not moved. An address that keeps moving between two ports is a loop, or somebody who wants another's frames: it is held
at home for a while, and the move reported. Its home is where it was first seen, until it has stayed elsewhere for the
ageing time: so whoever sends the more does not get it.

    learn:  source address, port  ->  Learned.KNOWN | NEW | MOVED | PINNED | HELD | FLAPPING | FULL | NEVER
    lookup: destination address   ->  port, or None: flood
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

from caetun.l2.room import Room
from caetun.types import Buffer

# fixed by the specification
AGEING: Final = 300.0
"""Seconds (IEEE 802.1Q, table 8-11)."""
GROUP_BIT: Final = 1
"""Of the first byte: a group address, which is never a source (IEEE 802, clause 8.2)."""
_NOBODY: Final = bytes(6)

# chosen by us
LIMIT: Final = 16_384
"""Entries of all VLANs: as a small hardware switch holds; about 4 MiB."""
MAX_PER_PORT: Final = 12_288
"""Of a port for which no limit was said: one must not fill the table for all."""
REFRESH: Final = 1.0
"""Seconds: an entry seen again is written at most so often. Ageing is late by at most this."""
FLAP_MOVES: Final = 4
"""Moves within `FLAP_WINDOW` that are no roaming any more: a laptop that goes from port to port makes one or two."""
FLAP_WINDOW: Final = 5.0
"""Seconds."""
FLAP_HOLD: Final = 30.0
"""Seconds that a flapping address stays at home."""


class Learned(enum.Enum):
    """What became of a source address."""

    KNOWN = "known"
    NEW = "new"
    MOVED = "moved"
    PINNED = "pinned"
    """The user has said that it is at another port."""
    HELD = "held"
    """It has moved too often, and is held at another port."""
    FLAPPING = "flapping"
    """It has moved too often, and is held at home from now on: `Fdb.flapped` says which ports."""
    FULL = "full"
    """There is no room: the frame is forwarded, its source not remembered."""
    NEVER = "never"
    """A group address or all zeros, which nobody can have."""


class Entry:
    """Where one address is."""

    __slots__ = ("held_until", "home", "moves", "moving_since", "port", "seen_at", "static")

    def __init__(self, port: int, now: float, static: bool = False) -> None:
        self.port = port
        self.home = port
        """Where it was before it began to move."""
        self.seen_at = now
        self.static = static
        self.moves = 0
        """Since `moving_since`."""
        self.moving_since = now
        """When it came, or when the last `FLAP_WINDOW` with moves began."""
        self.held_until = 0.0


class Row(NamedTuple):
    """An entry as people see it."""

    vlan: int
    address: str
    port: int
    age: float
    """Seconds since it was last seen, late by at most `REFRESH`."""
    static: bool


class Fdb:
    """Who is where."""

    def __init__(self, ageing: float = AGEING, limit: int = LIMIT, flap_guard: bool = True) -> None:
        """`ageing`: seconds; `limit`: learned entries, at least 1; `flap_guard`: whether what keeps moving is held."""
        self.ageing = ageing
        self._most_moves: float = FLAP_MOVES if flap_guard else inf
        self._tables: dict[int, OrderedDict[bytes, Entry]] = {}
        self._room = Room(limit, MAX_PER_PORT)
        self.version = 0
        """Another number as soon as an address has come, gone or moved."""
        self.flapped = 0, 0
        """Home and other port of the address that `learn` has called flapping last."""

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables.values())

    @property
    def learned(self) -> int:
        """Entries that are not static."""
        return self._room.taken

    def limit_port(self, port: int, limit: int | None) -> None:
        """Learn at most so many addresses at a port; None: `MAX_PER_PORT`."""
        self._room.limit(port, limit)

    # hot: once a frame

    def learn(self, vlan: int, source: Buffer, port: int, now: float) -> Learned:
        """Remember that `source` (6 bytes) was seen at `port`."""
        key = bytes(source)
        table = self._tables.get(vlan)
        entry = None if table is None else table.get(key)
        if entry is None:
            return self._add(vlan, key, port, now)
        if entry.port == port:
            if now - entry.seen_at > REFRESH and not entry.static:
                entry.seen_at = now
                assert table is not None
                table.move_to_end(key)
            return Learned.KNOWN
        return self._move(vlan, key, entry, port, now)

    def lookup(self, vlan: int, destination: Buffer, now: float) -> int | None:
        """The port to which a frame for `destination` (6 bytes) goes; None if nobody knows."""
        table = self._tables.get(vlan)
        if table is None:
            return None
        entry = table.get(bytes(destination))
        if entry is None or (now >= entry.seen_at + self.ageing and not entry.static):
            return None
        return entry.port

    # rarer

    def _add(self, vlan: int, key: bytes, port: int, now: float) -> Learned:
        if key[0] & GROUP_BIT or key == _NOBODY:
            return Learned.NEVER
        room = self._room
        if not room.left(port):
            if room.may_search(port, now):
                self.expire(now)
            if not room.left(port):
                return Learned.FULL
        self._tables.setdefault(vlan, OrderedDict())[key] = Entry(port, now)
        room.take(port)
        self.version += 1
        return Learned.NEW

    def _move(self, vlan: int, key: bytes, entry: Entry, port: int, now: float) -> Learned:
        if entry.static:
            return Learned.PINNED
        if now < entry.held_until:
            return Learned.HELD
        if now >= entry.seen_at + self.ageing:
            self._forget(vlan, key, entry)
            return self._add(vlan, key, port, now)
        if self._room.full(port):
            return Learned.FULL
        if now - entry.moving_since > FLAP_WINDOW:
            if now - entry.moving_since >= self.ageing:
                entry.home = entry.port
            entry.moves, entry.moving_since = 0, now
        entry.moves += 1
        if entry.moves < self._most_moves:
            self._place(vlan, key, entry, port, now)
            return Learned.MOVED
        if entry.home not in (entry.port, port) and self._room.full(entry.home):
            entry.home = entry.port  # others have taken its place meanwhile
        self.flapped = entry.home, entry.port if port == entry.home else port
        self._place(vlan, key, entry, entry.home, now)
        entry.held_until = now + FLAP_HOLD
        entry.moves = 0
        return Learned.FLAPPING

    def _place(self, vlan: int, key: bytes, entry: Entry, port: int, now: float) -> None:
        self._room.give(entry.port)
        self._room.take(port)
        self.version += 1
        entry.port, entry.seen_at = port, now
        self._tables[vlan].move_to_end(key)

    def _forget(self, vlan: int, key: bytes, entry: Entry) -> None:
        self.version += 1
        table = self._tables[vlan]
        del table[key]
        if not table:
            del self._tables[vlan]
        if not entry.static:
            self._room.give(entry.port)

    # by hand

    def set_static(self, vlan: int, address: bytes, port: int, now: float) -> None:
        """Say where an address is, whatever is seen. Static entries do not count against the limit."""
        table = self._tables.get(vlan)
        entry = None if table is None else table.get(address)
        if entry is not None:
            self._forget(vlan, address, entry)
        self._tables.setdefault(vlan, OrderedDict())[address] = Entry(port, now, static=True)
        self.version += 1

    def flush(self, port: int | None = None, vlan: int | None = None) -> int:
        """Forget what was learned, all or at one port or on one VLAN; returns how many entries that were."""
        wanted = [
            (number, key, entry)
            for number, table in self._tables.items()
            if vlan is None or number == vlan
            for key, entry in table.items()
            if not entry.static and (port is None or entry.port == port)
        ]
        for number, key, entry in wanted:
            self._forget(number, key, entry)
        for table in self._tables.values():
            for entry in table.values():
                if entry.home == port:
                    entry.home = entry.port  # the port is gone
        return len(wanted)

    def expire(self, now: float) -> int:
        """Forget learned entries that are too old; returns how many. Oldest are first: it does not walk the rest."""
        old: list[tuple[int, bytes, Entry]] = []
        for vlan, table in self._tables.items():
            for key, entry in table.items():
                if entry.static:
                    continue
                if now < entry.seen_at + self.ageing:
                    break
                old.append((vlan, key, entry))
        for vlan, key, entry in old:
            self._forget(vlan, key, entry)
        return len(old)

    def next_deadline(self) -> float | None:
        """When `expire` next has something to do; late by no more than a refresh."""
        oldest = [
            entry.seen_at
            for table in self._tables.values()
            if (entry := next((each for each in table.values() if not each.static), None)) is not None
        ]
        return min(oldest) + self.ageing if oldest else None

    def vlans(self) -> list[int]:
        """VLANs where somebody has been seen."""
        return list(self._tables)

    def at(self, port: int) -> Iterator[tuple[int, bytes]]:
        """(VLAN, address) of everybody at a port."""
        for vlan, table in self._tables.items():
            for key, entry in table.items():
                if entry.port == port:
                    yield vlan, key

    def count(self, port: int) -> int:
        """Entries learned at a port."""
        return self._room.count(port)

    def rows(self, now: float) -> Iterator[Row]:
        """Every entry, by VLAN, the longest unseen first."""
        for vlan in sorted(self._tables):
            for key, entry in self._tables[vlan].items():
                yield Row(vlan, key.hex(":"), entry.port, now - entry.seen_at, entry.static)
