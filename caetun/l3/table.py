"""Which prefix leads where: longest prefix first (RFC 1812, section 5.2.4.3), IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

from caetun.board import LOCAL

Network: TypeAlias = IPv4Network | IPv6Network

UNKNOWN: Final = -1
"""In place of a port: no prefix covers the address."""
VACANT: Final = -2
"""In place of a port: an address of the tunnel's own network that nobody has."""

# chosen by us
MAX_ROUTES: Final = 16_384
"""Prefixes in a table: some 5 MiB."""


class Route:
    """A prefix and the port it leads to."""

    __slots__ = ("hits", "network", "port", "ports")

    def __init__(self, network: Network | None, port: int) -> None:
        """`network`: None stands for whatever no prefix covers."""
        self.network = network
        self.port = port
        """Of a peer, `LOCAL`, `VACANT` or `UNKNOWN`."""
        self.ports = (port,)
        self.hits = 0
        """Frames (superframes count once) that went this way, or would have gone."""

    def is_broadcast(self, address: bytes) -> bool:
        """Whether an IPv4 address stands for all hosts of the prefix."""
        network = self.network
        return network is not None and network.version == 4 and address == network.broadcast_address.packed


class Table:
    """Prefixes of both families. A look-up costs a step for each length of prefix there is: ask once, and remember."""

    def __init__(self) -> None:
        self._lengths: dict[int, list[tuple[int, dict[int, Route]]]] = {4: [], 16: []}
        """Bytes of an address -> (bits to shift away, prefixes by the number that is left), longest prefix first."""
        self._count = 0
        self.elsewhere = Route(None, UNKNOWN)
        """What `find` gives for an address that no prefix covers."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Route]:
        """Every route: IPv4 first, longest prefix first."""
        for lengths in self._lengths.values():
            for _, prefixes in lengths:
                yield from prefixes.values()

    def add(self, network: Network, port: int) -> Route:
        """Let a prefix lead to a port. Raises ValueError if it leads somewhere already, or there are too many."""
        if self._count >= MAX_ROUTES:
            raise ValueError(f"more than {MAX_ROUTES} prefixes")
        lengths = self._lengths[network.max_prefixlen // 8]
        shift = network.max_prefixlen - network.prefixlen
        prefixes = next((some for bits, some in lengths if bits == shift), None)
        if prefixes is None:
            prefixes = {}
            lengths.append((shift, prefixes))
            lengths.sort(key=lambda each: each[0])
        number = int(network.network_address) >> shift
        if number in prefixes:
            raise ValueError(f"{network} leads somewhere already")
        route = prefixes[number] = Route(network, port)
        self._count += 1
        return route

    def remove(self, networks: Iterable[Network]) -> None:
        """Forget prefixes that are there."""
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            lengths = self._lengths[network.max_prefixlen // 8]
            for at, (bits, prefixes) in enumerate(lengths):
                if bits == shift:
                    del prefixes[int(network.network_address) >> shift]
                    self._count -= 1
                    if not prefixes:
                        del lengths[at]
                    break

    def by_port(self) -> dict[int, list[Network]]:
        """What leads to each peer."""
        found: dict[int, list[Network]] = {}
        for route in self:
            if route.port > LOCAL and route.network is not None:
                found.setdefault(route.port, []).append(route.network)
        return found

    def find(self, address: bytes) -> Route:
        """Where the longest prefix of an address (4 or 16 bytes) leads."""
        number = int.from_bytes(address, "big")
        for shift, prefixes in self._lengths[len(address)]:
            route = prefixes.get(number >> shift)
            if route is not None:
                return route
        return self.elsewhere
