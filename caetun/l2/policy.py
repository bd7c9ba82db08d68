"""What the user says of a port's senders: who may be there, and what they may be. `guard.py` sees to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from caetun.types import DropReason

# chosen by us
LIMIT: Final = 64
"""Addresses learned at one port: some ten hosts with an IPv4 and a few IPv6 addresses each."""


class Source(enum.StrEnum):
    """Which senders a port may have."""

    ANY = "any"
    STATIC = "static"
    """Those the user has allowed."""
    DHCP = "dhcp"
    """And those a DHCP server has given an address."""
    LEARN = "learn"
    """And who uses an address first."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A sender the user allows at a port."""

    mac: bytes | None = None
    """6 bytes; None: any."""
    address: bytes | None = None
    """4 or 16 bytes; None: any."""
    prefix: int | None = None
    """Bits of `address` that count; None: all."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What the user says of a port."""

    source: Source = Source.ANY
    allowed: tuple[Allowed, ...] = ()
    limit: int = LIMIT
    """Addresses given or learned, at least 1."""
    dhcp_server: bool = True
    """Whether DHCP servers may be here."""
    router: bool = True
    """Whether IPv6 routers may be here."""

    @property
    def active(self) -> bool:
        """Whether anything is refused."""
        return self.source is not Source.ANY or not self.dhcp_server or not self.router

    @property
    def leases(self) -> bool:
        """Whether it matters what DHCP servers give away."""
        return self.source in (Source.DHCP, Source.LEARN)


UNGUARDED: Final = GuardSettings()


class PortPolicy:
    """The policy of one port, made ready for looking up."""

    __slots__ = ("anybody", "exact", "name", "networks", "settings", "told")

    def __init__(self, name: str, settings: GuardSettings) -> None:
        self.name, self.settings = name, settings
        whole = [each for each in settings.allowed if each.prefix is None]
        self.exact = frozenset((each.mac, each.address) for each in whole)
        self.networks = tuple(each for each in settings.allowed if each.prefix is not None)
        self.anybody = any(each.mac is None for each in settings.allowed)
        """Whether addresses are allowed without saying at which MAC address."""
        self.told: dict[DropReason, float] = {}

    def allows(self, mac: bytes, address: bytes) -> bool:
        """Whether the user has allowed this sender."""
        exact = self.exact
        if (mac, address) in exact or (mac, None) in exact or (None, address) in exact or (None, None) in exact:
            return True
        return any(each.mac in (None, mac) and _within(address, each) for each in self.networks)

    def allows_mac(self, mac: bytes) -> bool:
        """Whether the user has allowed this MAC address, with whatever IP address."""
        return self.anybody or any(each.mac == mac for each in self.settings.allowed)


def _within(address: bytes, network: Allowed) -> bool:
    if network.address is None or network.prefix is None or len(address) != len(network.address):
        return False
    shift = len(address) * 8 - network.prefix
    return int.from_bytes(address, "big") >> shift == int.from_bytes(network.address, "big") >> shift
