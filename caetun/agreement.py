"""Options about what two ends agree upon, or one is told by the other: they are part of `settings.Settings`."""

# No `from __future__ import annotations`: see `settings.py`.

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, NamedTuple, TypeAlias

from caetun.endpoint import Endpoint
from caetun.errors import ConfigurationError
from caetun.options import REMOTE, SWITCH, Kind, Option, choice, duration

# chosen by us
MAX_ROUTES: Final = 256
MAX_RESOLVERS: Final = 8
DAY: Final = 86_400.0
_SMALLEST_POOL: Final = 4
"""Addresses: network, server, one client, broadcast."""
_NAME: Final = r"[A-Za-z0-9_.-]{1,32}"
_DOMAIN: Final = r"(?=.{1,253}$)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class Action(NamedTuple):
    """A line of the pull filter: what to do with whatever begins with a text."""

    word: str
    """accept, ignore or reject."""
    prefix: str

    def __str__(self) -> str:
        """As it was written."""
        return f"{self.word} {self.prefix}"


class Reserved(NamedTuple):
    """Addresses that are not given to anybody, or (with a name) to one peer only."""

    first: Address
    last: Address
    name: str = ""

    def __str__(self) -> str:
        """As it was written."""
        addresses = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.name}={addresses}" if self.name else addresses

    def covers(self, address: Address) -> bool:
        """Whether it is one of them."""
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)


def _parse_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        strict = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network: write for example 10.88.0.0/24 or fd88::/64") from None
    raise ValueError(f"{text!r} is an address in a network: write the network, {strict}")


def _parse_pool(text: str) -> Network:
    network = _parse_network(text)
    if "/" not in text or network.num_addresses < _SMALLEST_POOL:
        raise ValueError(f"{text!r} has no room for a server and a client: give a network of 4 addresses or more")
    return network


def _parse_route(text: str) -> Network:
    network = _parse_network(text)
    if not network.prefixlen:
        raise ValueError(f"{text!r} is a default route: let clients send everything with push-gateway = true")
    return network


def _parse_address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address: write for example 10.88.0.1 or fd88::1") from None


def _parse_reserved(text: str) -> Reserved:
    name, separator, addresses = text.rpartition("=")
    if separator and not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} is not a peer's name: write NAME=ADDRESS")
    first, separator, last = addresses.partition("-")
    low = _parse_address(first)
    high = _parse_address(last) if separator else low
    if low.version != high.version or int(low) > int(high):
        raise ValueError(f"{text!r} is not a range: write the lower address first, as 10.88.0.2-10.88.0.9")
    if name and low != high:
        raise ValueError(f"{text!r} reserves a range for one peer: give one address")
    return Reserved(low, high, name)


def _parse_domain(text: str) -> str:
    if not re.fullmatch(_DOMAIN, text):
        raise ValueError(f"{text!r} is not a domain: write for example corp.example")
    return text


def _parse_filter(text: str) -> Action:
    word, _, prefix = text.strip().partition(" ")
    if word not in ("accept", "ignore", "reject"):
        raise ValueError(f"{text!r} is not a filter: write accept, ignore or reject, and how the line begins")
    return Action(word, prefix.strip().strip('"'))


NEGOTIATION: Final = choice("off", "symmetric", "server")
POOL: Final = Kind("NETWORK", _parse_pool, "NETWORK/PREFIX")
RESERVED: Final = Kind("[NAME=]ADDRESS[-ADDRESS]", _parse_reserved)
ROUTE: Final = Kind("NETWORK", _parse_route, "NETWORK/PREFIX")
RESOLVER: Final = Kind("ADDRESS", _parse_address)
DOMAIN: Final = Kind("DOMAIN", _parse_domain)
FILTER: Final = Kind("ACTION TEXT", _parse_filter, "accept, ignore or reject, and the beginning of a line")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has these made
class Agreement:
    """What two ends agree upon."""

    negotiation: Annotated[
        str,
        Option(
            NEGOTIATION,
            "agreement",
            "symmetric: both ends must be set alike, or stop; server: who listens tells who connects; off: neither",
        ),
    ] = "off"
    public: Annotated[
        tuple[Endpoint, ...],
        Option(REMOTE, "agreement", "where clients reach this host; goes into invitations", repeatable=True),
    ] = ()
    pool_network: Annotated[
        tuple[Network, ...], Option(POOL, "agreement", "give clients addresses of this network", repeatable=True)
    ] = ()
    pool_reserved: Annotated[
        tuple[Reserved, ...],
        Option(RESERVED, "agreement", "but not these, or only to the peer named", repeatable=True, reloadable=True),
    ] = ()
    pool_lease: Annotated[
        float,
        Option(
            duration(60, 315_360_000),
            "agreement",
            "an address not used for so long may go to another client, when no other is free",
            reloadable=True,
        ),
    ] = 30 * DAY
    """Seconds."""
    push_route: Annotated[
        tuple[Network, ...],
        Option(ROUTE, "agreement", "clients reach this network through the tunnel", repeatable=True, reloadable=True),
    ] = ()
    push_dns: Annotated[
        tuple[Address, ...],
        Option(RESOLVER, "agreement", "clients ask this name server", repeatable=True, reloadable=True),
    ] = ()
    push_domain: Annotated[
        tuple[str, ...],
        Option(DOMAIN, "agreement", "clients look names up in this domain", repeatable=True, reloadable=True),
    ] = ()
    push_gateway: Annotated[
        bool, Option(SWITCH, "agreement", "clients send everything through the tunnel", reloadable=True)
    ] = False
    pull_filter: Annotated[
        tuple[Action, ...],
        Option(
            FILTER,
            "agreement",
            "what to do with what the server assigns; the first that fits decides",
            repeatable=True,
            reloadable=True,
        ),
    ] = ()


def check_agreement(agreement: Agreement, connects: bool) -> None:
    """Whether it is said to the one whom it concerns; `connects`: this end calls. Raises ConfigurationError."""
    serves = agreement.negotiation == "server" and not connects
    for name in ("public", "pool_network", "pool_reserved", "push_route", "push_dns", "push_domain", "push_gateway"):
        if getattr(agreement, name) and not serves:
            raise ConfigurationError(
                f"--{name.replace('_', '-')}: is for a server, which waits for clients and tells them: "
                "give --negotiation server, and --listen instead of --connect"
            )
    if agreement.pull_filter and (agreement.negotiation != "server" or not connects):
        raise ConfigurationError(
            "--pull-filter: is for a client, which takes what a server assigns: give --negotiation server and --connect"
        )
    if len(agreement.push_route) > MAX_ROUTES or len(agreement.push_dns) > MAX_RESOLVERS:
        raise ConfigurationError(
            f"--push-route: more than {MAX_ROUTES} routes or {MAX_RESOLVERS} name servers: join some networks"
        )
