"""The ports of the switch: what the user says about each, how it is at the moment, and which ones it may reach."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from caetun.l2.policy import UNGUARDED, GuardSettings
from caetun.l2.storm import DEFAULTS, Rate, Storm, StormControl
from caetun.l2.vlan import UNAWARE, PortVlans

# chosen by us
_DEFAULT_VLAN: Final = 1
"""Of ports of which no VLANs were said, on a bridge that knows them."""
_DEFAULT_VLANS: Final = PortVlans(_DEFAULT_VLAN)


Pinned: TypeAlias = tuple[bytes, int | None]
"""An address, and in which VLAN it is; None: in that of frames without a tag."""


class BpduPolicy(enum.StrEnum):
    """What becomes of spanning-tree frames."""

    FILTER = "filter"
    """They stay on their link: each site has a tree of its own."""
    FORWARD = "forward"
    """They pass: one tree over all sites."""
    BLOCK = "block"
    """A port where one is heard is muted: no bridge may be there."""


@dataclass(frozen=True, slots=True)
class PortSettings:
    """What the user says about a port."""

    name: str
    vlans: PortVlans | None = None
    """None: this port knows no VLANs."""
    mac_limit: int | None = None
    isolated: bool = False
    """Isolated ports do not reach each other."""
    mesh: bool = False
    """Mesh ports do not reach each other: their far ends have links of their own (split horizon)."""
    storm: Mapping[Storm, Rate] = field(default_factory=lambda: DEFAULTS)
    bpdu: BpduPolicy = BpduPolicy.FILTER
    guard: GuardSettings = UNGUARDED
    fast_leave: bool = False
    """One host is here: when it leaves a group, nobody is left."""
    multicast_router: bool = False
    """A multicast router is here, whether it is heard or not."""
    macs: tuple[Pinned, ...] = ()
    """Hosts that are here and nowhere else: their MAC addresses, 6 bytes."""
    groups: tuple[Pinned, ...] = ()
    """Groups that are wanted here whether somebody asks or not: 4 or 16 bytes."""


def may_bypass(one: PortSettings, other: PortSettings) -> bool:
    """Whether frames between two ports may as well go past the switch: it would let them pass, as they are, and
    whoever sends them."""
    apart = (one.isolated and other.isolated) or (one.mesh and other.mesh)
    watched = one.guard.active or other.guard.active or bool(one.macs or other.macs)
    return not apart and not watched and one.vlans == other.vlans


class Port:
    """One port, as it is at the moment."""

    __slots__ = ("guarded", "muted", "muted_until", "muted_why", "settings", "storm", "vlans")

    def __init__(self, settings: PortSettings) -> None:
        self.settings = settings
        self.vlans = settings.vlans
        self.storm = StormControl(settings.storm)
        self.guarded = False
        """Whether the guard wants to see each frame."""
        self.muted = False
        """Whether it forwards nothing, in either direction: what left by it would come back by another port."""
        self.muted_until = 0.0
        self.muted_why = ""


class Ports:
    """The ports of one bridge that are up, by number."""

    def __init__(self, aware: bool = False) -> None:
        """`aware`: whether VLANs matter whatever ports are up; else as soon as one that is up has some."""
        self.table: dict[int, Port] = {}
        self._always_aware = aware
        self.aware = aware
        """Whether VLANs matter: tags are then put in and taken out on the way out."""
        self._reach: dict[tuple[int, int], tuple[int, ...]] = {}
        """(ingress port, VLAN) -> where a flooded frame goes."""

    def changed(self) -> None:
        """A port was put in or taken out, is muted or is not any more."""
        self.aware = self._always_aware or any(port.vlans is not None for port in self.table.values())
        self._reach.clear()

    @property
    def muted(self) -> list[int]:
        """Ports that forward nothing at the moment."""
        return [number for number, port in self.table.items() if port.muted]

    def vlans(self, number: int) -> PortVlans:
        """The VLANs of a port: on a bridge that knows them, a port of which none were said has VLAN 1 untagged."""
        found = self.table[number].vlans
        return _DEFAULT_VLANS if found is None else found

    def home(self, settings: PortSettings) -> int:
        """The VLAN of a port's frames without a tag, or else its lowest one."""
        if not self.aware:
            return UNAWARE
        vlans = settings.vlans or _DEFAULT_VLANS
        return vlans.native or min(vlans.trunk or (_DEFAULT_VLAN,))

    def members(self, vlan: int) -> tuple[int, ...]:
        """All ports of a VLAN that are not muted."""
        return tuple(
            number
            for number, port in self.table.items()
            if not port.muted and (not self.aware or self.vlans(number).has(vlan))
        )

    def reach(self, number: int, vlan: int) -> tuple[int, ...]:
        """Every port that frames of a VLAN may leave by, having come by `number`."""
        key = number, vlan
        found = self._reach.get(key)
        if found is None:
            origin = self.table[number].settings
            found = self._reach[key] = tuple(
                other
                for other in self.members(vlan)
                if other != number
                and not (origin.isolated and self.table[other].settings.isolated)
                and not (origin.mesh and self.table[other].settings.mesh)
            )
        return found
