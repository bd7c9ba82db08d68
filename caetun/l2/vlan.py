"""VLANs (IEEE 802.1Q): to which network a frame of a port belongs, and with which tag it leaves by another.

| port      | untagged, or priority tag (VLAN 0)  | tag of VLAN v          | leaves untagged | leaves tagged   |
|-----------|-------------------------------------|------------------------|-----------------|-----------------|
| access a  | a                                   | a if v is a, else none | a               | -               |
| trunk T   | native, if there is one             | v if v is in T         | native          | T less native   |
| unaware   | 0                                   | 0                      | as it came      | as it came      |

A bridge is VLAN-aware as soon as one port says something about VLANs; otherwise tags are payload. Service tags (TPID
0x88A8, QinQ) are payload too: what they carry belongs to the VLAN of untagged frames.

A tag is put in and taken out without copying the frame, and its virtio_net_hdr follows: `csum_start` and `hdr_len`
count from the start of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from caetun.types import Buffer, Iovec
from caetun.wire.ethernet import TAG_SIZE, TYPE_AT
from caetun.wire.virtio_net import moved_by

# fixed by the specification
MAX_VLAN: Final = 4094
UNAWARE: Final = 0
"""Stands for the only network of a bridge that does not know VLANs."""
_TPID: Final = b"\x81\x00"
_VLAN_MASK: Final = 0x0FFF
_PRIORITY_MASK: Final = 0xF000
_BEHIND_TAG: Final = TYPE_AT + TAG_SIZE


@dataclass(frozen=True, slots=True)
class PortVlans:
    """What a port has to do with VLANs."""

    native: int | None = 1
    """The VLAN of frames without a tag, in both directions, 1..4094; None: such frames are not for this port."""
    trunk: frozenset[int] | None = frozenset()
    """VLANs that come and leave with a tag; None: all."""

    def has(self, vlan: int) -> bool:
        """Whether frames of a VLAN leave by this port."""
        return vlan == self.native or self.trunk is None or vlan in self.trunk

    def ingress(self, frame: Buffer) -> int | None:
        """The VLAN of a frame that comes in; None if it has no business here. Frames have at least 14 bytes."""
        if frame[TYPE_AT] != 0x81 or frame[TYPE_AT + 1] != 0 or len(frame) < _BEHIND_TAG + 2:
            return self.native
        vlan = (frame[TYPE_AT + 2] << 8 | frame[TYPE_AT + 3]) & _VLAN_MASK
        if not vlan:
            return self.native
        return vlan if vlan <= MAX_VLAN and self.has(vlan) else None

    def egress(self, header: bytes, frame: memoryview, vlan: int) -> Iovec:
        """The parts of a frame of a VLAN as it leaves: with the tag that this port wants, or without."""
        tagged = frame[TYPE_AT] == 0x81 and frame[TYPE_AT + 1] == 0 and len(frame) >= _BEHIND_TAG + 2
        if vlan == self.native:
            if not tagged:
                return header, frame
            return moved_by(header, -TAG_SIZE), frame[:TYPE_AT], frame[_BEHIND_TAG:]
        if not tagged:
            tag = _TPID + vlan.to_bytes(2, "big")
            return moved_by(header, TAG_SIZE), frame[:TYPE_AT], tag, frame[TYPE_AT:]
        control = frame[TYPE_AT + 2] << 8 | frame[TYPE_AT + 3]
        if control & _VLAN_MASK == vlan:
            return header, frame
        tag = _TPID + (control & _PRIORITY_MASK | vlan).to_bytes(2, "big")
        return header, frame[:TYPE_AT], tag, frame[_BEHIND_TAG:]


def access(vlan: int) -> PortVlans:
    """A port of one VLAN, whose hosts know nothing of tags."""
    return PortVlans(native=vlan)


def trunk(vlans: frozenset[int] | None, native: int | None = None) -> PortVlans:
    """A port of several VLANs (None: all), tagged but for the native one."""
    return PortVlans(native=native, trunk=vlans)
