"""Whose an address is: (VLAN, IP address) -> MAC address and port, for the source guard.

First come, first served, as RFC 6620 has it: an address belongs to who used it first, until that one is gone. Whether
he is gone is not for the claimant to say, so the owner is asked:

    claimed elsewhere --> ASK --(the owner was heard since)-------------------> TAKEN: refused, for as long as he lives
                           '---(`ANSWER_SECONDS` of silence, claimed again)---> MOVED: the claimant has it

A host that changes its port takes with it all its addresses, and the leases a DHCP server gave it. What the user has
bound is not in this table, and does not move.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

from caetun.l2.room import Room

# chosen by us
AGEING: Final = 300.0
"""Seconds without a frame after which an address learned from its use is anybody's, as an entry of the FDB."""
ANSWER_SECONDS: Final = 1.0
"""The owner has so long to answer; RFC 6620, section 3.2.3, gives 0.5 s on a wire, tunnels are longer."""
ASK_AGAIN: Final = 30.0
"""Seconds after which silence, or an answer, says nothing any more."""
MAX_BINDINGS: Final = 65_536
"""Of all ports: about 32 MiB."""


class Claim(enum.Enum):
    """What became of somebody's use of an address."""

    BOUND = "bound"
    """It is his."""
    NEW = "new"
    """It is his from now on."""
    MOVED = "moved"
    """It was another's, who does not answer, or his own at another port."""
    ASK = "ask"
    """It is another's, who has to be asked."""
    TAKEN = "taken"
    """It is another's."""
    FULL = "full"
    """The port has as many addresses as it may have."""
    UNKNOWN = "unknown"
    """Nobody has given it to him."""


class Binding:
    """An address that belongs to somebody."""

    __slots__ = ("address", "asked_at", "leased_until", "mac", "port", "seen_at", "vlan")

    def __init__(self, port: int, vlan: int, mac: bytes, address: bytes, now: float) -> None:
        self.port, self.vlan, self.mac, self.address = port, vlan, mac, address
        self.seen_at = now
        self.leased_until: float | None = None
        """When the lease of a DHCP server ends; None: it was learned from its use."""
        self.asked_at = -inf
        """When the owner was last asked whether he is there."""

    def over(self, now: float) -> bool:
        """Whether it is nobody's any more."""
        if self.leased_until is not None:
            return now >= self.leased_until
        return now - self.seen_at > AGEING


class Row(NamedTuple):
    """A binding as people see it."""

    vlan: int
    address: bytes
    mac: bytes
    port: int
    seconds: float
    """That it still holds, if nothing is heard."""
    leased: bool


class Bindings:
    """All that was learned, of all ports."""

    def __init__(self) -> None:
        self._table: dict[tuple[int, bytes], Binding] = {}
        self._hosts: dict[tuple[int, bytes], dict[bytes, Binding]] = {}
        """(VLAN, MAC address) -> what it has, all at one port."""
        self._ports: dict[int, dict[tuple[int, bytes], Binding]] = {}
        self._room = Room(MAX_BINDINGS, 0)

    def __len__(self) -> int:
        return len(self._table)

    def limit_port(self, port: int, limit: int) -> None:
        """Keep at most so many addresses at a port, which has none until this is said."""
        self._room.limit(port, limit)

    def forget_port(self, port: int) -> None:
        """The port is gone, and with it whoever was behind it."""
        for binding in list(self._ports.get(port, {}).values()):
            self._forget(binding)
        self._room.limit(port, None)

    # hot: once a frame of a guarded port

    def holds(self, port: int, vlan: int, mac: bytes, address: bytes, now: float) -> bool:
        """Whether an address is that host's at that port; keeps it alive if so."""
        binding = self._table.get((vlan, address))
        if binding is None or binding.port != port or binding.mac != mac:
            return False
        if binding.leased_until is not None and now >= binding.leased_until:
            self._forget(binding)
            return False
        binding.seen_at = now
        return True

    # rarer

    def owner(self, vlan: int, mac: bytes) -> Binding | None:
        """The address that a MAC address used last; its port is the host's."""
        host = self._hosts.get((vlan, mac))
        return None if host is None else max(host.values(), key=lambda each: each.seen_at)

    def find(self, vlan: int, address: bytes) -> Binding | None:
        """Whose an address is."""
        return self._table.get((vlan, address))

    def claim(self, who: tuple[int, int, bytes], address: bytes, now: float, learn: bool) -> Claim:
        """Somebody uses an address that he does not hold.

        `who`: port, VLAN, MAC; `learn`: whether he may have a new one by using it.
        """
        port, vlan, mac = who
        settled = self.claim_mac(who, now)
        if settled not in (Claim.BOUND, Claim.MOVED):
            return settled
        binding = self._table.get((vlan, address))
        if binding is not None and binding.over(now):
            self._forget(binding)
            binding = None
        if binding is not None and binding.port == port and binding.mac == mac:
            return settled
        if not learn:
            return Claim.UNKNOWN
        if binding is not None:
            if binding.port != port:  # behind one port they may settle it among themselves
                settled = self._contest(binding, now)
                if settled is not Claim.MOVED:
                    return settled
            self._forget(binding)
        if not self._has_room(port, now):
            return Claim.FULL
        self._add(Binding(port, vlan, mac, address, now))
        return Claim.NEW if binding is None else Claim.MOVED

    def claim_mac(self, who: tuple[int, int, bytes], now: float) -> Claim:
        """Somebody uses a MAC address: BOUND if it is nobody's, or his; as `claim` if it has addresses elsewhere."""
        port, vlan, mac = who
        owner = self.owner(vlan, mac)
        if owner is None or owner.port == port:
            return Claim.BOUND
        settled = Claim.MOVED if owner.over(now) else self._contest(owner, now)
        if settled is Claim.MOVED:
            self._rehome(vlan, mac, port, now)
        return settled

    def lease(self, who: tuple[int, int, bytes], address: bytes, until: float, now: float) -> bool:
        """A DHCP server has given an address away, whoever had it before; returns whether there was room."""
        port, vlan, mac = who
        owner = self.owner(vlan, mac)
        if owner is not None and owner.port != port:
            self._rehome(vlan, mac, port, now)
        binding = self._table.get((vlan, address))
        if binding is not None and (binding.port != port or binding.mac != mac):
            self._forget(binding)
            binding = None
        if until <= now:
            if binding is not None:
                self._forget(binding)
            return True
        if binding is None:
            if not self._has_room(port, now):
                return False
            binding = Binding(port, vlan, mac, address, now)
            self._add(binding)
        binding.leased_until = until
        return True

    def _contest(self, owner: Binding, now: float) -> Claim:
        """Two want one address: see whether its owner lives."""
        since = now - owner.asked_at
        if since > ASK_AGAIN:
            owner.asked_at = now
            return Claim.ASK
        if owner.seen_at > owner.asked_at or since < ANSWER_SECONDS:
            return Claim.TAKEN
        return Claim.MOVED

    def _rehome(self, vlan: int, mac: bytes, port: int, now: float) -> None:
        for binding in list(self._hosts[vlan, mac].values()):
            self._forget(binding)
            if not binding.over(now) and self._has_room(port, now):
                binding.port, binding.seen_at, binding.asked_at = port, now, -inf
                self._add(binding)

    def _has_room(self, port: int, now: float) -> bool:
        room = self._room
        if not room.left(port) and room.may_search(port, now):
            for binding in [each for each in self._ports.get(port, {}).values() if each.over(now)]:
                self._forget(binding)
        return room.left(port)

    def _add(self, binding: Binding) -> None:
        key = binding.vlan, binding.address
        self._table[key] = binding
        self._hosts.setdefault((binding.vlan, binding.mac), {})[binding.address] = binding
        self._ports.setdefault(binding.port, {})[key] = binding
        self._room.take(binding.port)

    def _forget(self, binding: Binding) -> None:
        key, host = (binding.vlan, binding.address), (binding.vlan, binding.mac)
        del self._table[key], self._hosts[host][binding.address], self._ports[binding.port][key]
        self._room.give(binding.port)
        if not self._hosts[host]:
            del self._hosts[host]
        if not self._ports[binding.port]:
            del self._ports[binding.port]

    def rows(self, now: float) -> Iterator[Row]:
        """Every binding that holds, by VLAN and address."""
        for (vlan, address), each in sorted(self._table.items()):
            if not each.over(now):
                leased = each.leased_until is not None
                until = each.seen_at + AGEING if each.leased_until is None else each.leased_until
                yield Row(vlan, address, each.mac, each.port, until - now, leased)
