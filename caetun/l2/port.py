"""A port of the switch: what the user says about it, and how it is at the moment."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from caetun.l2.policy import UNGUARDED, GuardSettings
from caetun.l2.storm import DEFAULTS, Rate, Storm, StormControl
from caetun.l2.vlan import PortVlans


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


class Port:
    """One port, as it is at the moment."""

    __slots__ = ("guarded", "muted", "muted_until", "settings", "storm", "vlans")

    def __init__(self, settings: PortSettings) -> None:
        self.settings = settings
        self.vlans = settings.vlans
        self.storm = StormControl(settings.storm)
        self.guarded = False
        """Whether the guard wants to see each frame."""
        self.muted = False
        """Whether it forwards nothing, in either direction: what left by it would come back by another port."""
        self.muted_until = 0.0
