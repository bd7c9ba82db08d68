"""Addresses for clients: each key gets the same one again, as long as nobody else has needed it.

A lease is a row of the hub's store. It is free for others once it was not used for the lease time *and* no address is
left that nobody has ever had: so a client that comes back after a year mostly finds its address waiting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from caetun.errors import CaeTunError

if TYPE_CHECKING:
    from caetun.agreement import Address, Network, Reserved
    from caetun.negotiation.store import Store

Interface: TypeAlias = IPv4Interface | IPv6Interface


class Exhausted(CaeTunError):
    """No address is free."""


class Lease(NamedTuple):
    """An address that was given to a peer."""

    peer: str
    """Its key in hexadecimal digits."""
    name: str
    address: str
    since: float
    seen: float
    """When it was last used."""


class Pool:
    """Gives out the addresses of some networks."""

    def __init__(
        self, store: Store, networks: Sequence[Network], reserved: Sequence[Reserved], own: Collection[Address]
    ) -> None:
        """`own`: the server's addresses, which nobody else gets."""
        self._store = store
        self._networks = networks
        self._own = frozenset(own)
        self.reserved = reserved
        """May be changed."""

    def assign(
        self, peer: bytes, name: str, wall: float, patience: float, busy: Collection[bytes] = ()
    ) -> list[Interface]:
        """An address of each network for a peer, with the network's prefix length.

        `patience`: seconds after which an unused lease may go to another; `busy`: peers whose leases are in use now.
        Raises Exhausted, and then nothing has changed.
        """
        with self._store.change():
            return [
                ip_interface(f"{self._assign(network, peer.hex(), name, (wall, patience), busy)}/{network.prefixlen}")
                for network in self._networks
            ]

    def _assign(
        self, network: Network, peer: str, name: str, times: tuple[float, float], busy: Collection[bytes]
    ) -> Address:
        wall, patience = times
        store = self._store
        rows = store.rows("SELECT * FROM lease WHERE network = ?", str(network))
        holder = {row["address"]: row["peer"] for row in rows}
        mine = next((row["address"] for row in rows if row["peer"] == peer), None)
        wanted = next((each.first for each in self.reserved if each.name == name and each.first in network), None)
        address: Address | None = None
        if wanted is not None:
            address = wanted
            if holder.get(str(address)) not in (None, peer):
                store.run("DELETE FROM lease WHERE address = ?", str(address))
        elif mine is not None and not self._withheld(ip_address(mine), name):
            address = ip_address(mine)
        else:
            free = next((each for each in self._candidates(network, name) if str(each) not in holder), None)
            address = free or self._reclaimed(rows, name, wall - patience, busy)
            if address is None:
                raise Exhausted(
                    f"the address pool {network} is exhausted: {len(holder)} leases, none unused for long enough: "
                    "enlarge pool-network, or shorten pool-lease"
                )
        store.run("DELETE FROM lease WHERE peer = ? AND network = ? AND address != ?", peer, str(network), str(address))
        store.run(
            "INSERT INTO lease (peer, network, address, name, since, seen) VALUES (?1, ?2, ?3, ?4, ?5, ?5) "
            "ON CONFLICT (peer, network) DO UPDATE SET seen = ?5, name = ?4",
            *(peer, str(network), str(address), name, wall),
        )
        return address

    def _candidates(self, network: Network, name: str) -> Iterator[Address]:
        """Addresses in order, of which no more are looked at than there are leases and withheld ones."""
        first = int(network.network_address) + 1
        last = int(network.broadcast_address) - (network.version == 4)
        kind = type(network.network_address)
        at = first
        while at <= last:
            address = kind(at)
            block = next((each for each in self.reserved if each.covers(address) and each.name != name), None)
            if block is not None:
                at = int(block.last) + 1
                continue
            if address not in self._own:
                yield address
            at += 1

    def _reclaimed(self, rows: Sequence[object], name: str, limit: float, busy: Collection[bytes]) -> Address | None:
        """The address that was not used for the longest time, if that is before `limit`; its lease ends."""
        used = {peer.hex() for peer in busy}
        old = [row for row in rows if row["seen"] < limit and row["peer"] not in used]  # type: ignore[index]
        for row in sorted(old, key=lambda row: row["seen"]):  # type: ignore[index]
            address = ip_address(row["address"])  # type: ignore[index]
            if not self._withheld(address, name):
                self._store.run("DELETE FROM lease WHERE address = ?", str(address))
                return address
        return None

    def _withheld(self, address: Address, name: str) -> bool:
        return address in self._own or any(each.covers(address) and each.name != name for each in self.reserved)

    def seen(self, peers: Collection[bytes], wall: float) -> None:
        """These peers use their addresses now."""
        with self._store.change():
            for peer in peers:
                self._store.run("UPDATE lease SET seen = ? WHERE peer = ?", wall, peer.hex())

    def leases(self) -> list[Lease]:
        """All of them, by address."""
        found = [
            Lease(row["peer"], row["name"], row["address"], row["since"], row["seen"])
            for row in self._store.rows("SELECT * FROM lease")
        ]
        return sorted(found, key=lambda lease: (":" in lease.address, int(ip_address(lease.address))))
