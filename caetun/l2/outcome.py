"""What comes out of the switch: where a frame goes, frames of its own, and what people should hear of."""

from __future__ import annotations

from typing import Final, NamedTuple


class Egress(NamedTuple):
    """Where a frame goes."""

    vlan: int
    ports: tuple[int, ...]


NOWHERE: Final = Egress(0, ())


class Emission(NamedTuple):
    """A frame of the bridge's own, for one port."""

    port: int
    vlan: int
    frame: bytes


class Notice(NamedTuple):
    """What people should hear of."""

    level: str
    event: str
    text: str
