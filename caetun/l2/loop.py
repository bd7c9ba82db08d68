"""Loop probes: a frame of ours that comes back tells which two ports are joined outside.

      0                   6               12        14      15        16          20        22          30        46
    +-------------------+---------------+---------+-------+---------+-----------+---------+-----------+---------+------+
    | 03:42:43:4c:50:01 | our address   |  88 b5  |  'C'  | version | port (4)  | VLAN (2)| time (8)  | tag (16)| pad  |
    +-------------------+---------------+---------+-------+---------+-----------+---------+-----------+---------+------+

EtherType 0x88B5 is for experiments (IEEE 802, clause 9.2.3). The destination is a group that every bridge forwards, or
a bridge in the loop would hide it. The tag is BLAKE2s under a key of this process: nobody else can make us mute a port,
and what is older than a few seconds is somebody's copy. In a VLAN that a port has tagged, the tag comes before the
EtherType, and it may be gone when the probe returns. One that returns in another VLAN has found no loop: the switch
does not forward between the two.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import blake2s
from typing import Final, NamedTuple

from caetun.types import Buffer
from caetun.wire.ethernet import TAG_SIZE, TYPE_AT

# fixed by this version
ETHERTYPE: Final = 0x88B5
DESTINATION: Final = bytes.fromhex("0342434c5001")
"""A locally administered group address: flooded by every bridge, wanted by no host."""
_HEAD: Final = struct.Struct(">2sBBIHQ")
_TYPE_BYTES: Final = ETHERTYPE.to_bytes(2, "big")
_TPID: Final = b"\x81\x00"
_MAGIC: Final = 0x43
_VERSION: Final = 2
_TAG_SIZE: Final = 16
_SIZE: Final = 60
"""The least an Ethernet frame has without its FCS."""
_PROBE_SIZE: Final = _HEAD.size + _TAG_SIZE
"""What counts of a frame, from its EtherType on."""

# chosen by us
PROBE_SECONDS: Final = 2.0
"""Between two probes of a port: with a loop found at the first or second one, it is muted within 5 s."""
FRESH_SECONDS: Final = 5.0
"""A probe comes back within this, or is a copy."""


class Returned(NamedTuple):
    """A probe of ours that has come back."""

    port: int
    """By which it was sent."""
    vlan: int
    """In which it was sent; 0 for a bridge that does not know VLANs."""


class LoopProbes:
    """Makes and recognises the probes of one bridge."""

    def __init__(self, key: bytes, address: bytes, enabled: bool = True) -> None:
        """`key`: 32 random bytes; `address`: 6 bytes, the source of the probes; `enabled`: whether any are sent."""
        self.enabled = enabled
        self._key = key
        self.address = address

    def make(self, port: int, vlan: int, now: float) -> bytes:
        """The frame, without a tag, to send by a port in a VLAN."""
        head = _HEAD.pack(_TYPE_BYTES, _MAGIC, _VERSION, port, vlan, int(now * 1000))
        return (DESTINATION + self.address + head + self._tag(head)).ljust(_SIZE, b"\0")

    def recognise(self, frame: Buffer, now: float) -> Returned | None:
        """Whether a frame is one of our probes, fresh and unchanged."""
        at = TYPE_AT + TAG_SIZE if frame[TYPE_AT : TYPE_AT + 2] == _TPID else TYPE_AT
        probe = bytes(frame[at : at + _PROBE_SIZE])
        if len(probe) < _PROBE_SIZE or not probe.startswith(_TYPE_BYTES):
            return None
        head, tag = probe[: _HEAD.size], probe[_HEAD.size :]
        if not hmac.compare_digest(tag, self._tag(head)):
            return None
        _, magic, version, port, vlan, sent = _HEAD.unpack(head)
        age = now - sent / 1000
        if magic != _MAGIC or version != _VERSION or not -1 < age < FRESH_SECONDS:
            return None
        return Returned(port, vlan)

    def _tag(self, head: bytes) -> bytes:
        return blake2s(head, digest_size=_TAG_SIZE, key=self._key, person=b"loop").digest()
