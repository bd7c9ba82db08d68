"""The header the kernel puts in front of each frame on a device with IFF_VNET_HDR (virtio 1.2, section 5.1.6).

     0        1        2        3        4        5        6        7        8        9
    +--------+--------+--------+--------+--------+--------+--------+--------+--------+--------+
    | flags  |gso_type|     hdr_len     |    gso_size     |   csum_start    |   csum_offset   |
    +--------+--------+--------+--------+--------+--------+--------+--------+--------+--------+

All integers are little-endian. This module knows the layout only; `offload/validate.py` knows what may be believed.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

# fixed by the specification: virtio 1.2, 5.1.6
NEEDS_CSUM: Final = 0x01
"""The checksum field holds the pseudo-header's sum only: csum_start and csum_offset say what to complete."""
DATA_VALID: Final = 0x02
"""The checksum was verified by whoever received the frame first."""
RSC_INFO: Final = 0x04
"""csum_start and csum_offset hold counts of merged segments instead. Never given to a TUN/TAP device."""

GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3
"""UDP to be cut into IP fragments ("UFO"): no Linux kernel since 4.14 produces it, and we refuse it."""
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
"""UDP to be cut into datagrams ("USO")."""
GSO_ECN: Final = 0x80
"""Bit beside a TCP type: the first segment carries CWR (RFC 3168, section 6.1.2)."""

VNET: Final = struct.Struct("<BBHHHH")
NO_OFFLOAD: Final = bytes(VNET.size)
"""The header of a frame that is complete as it is."""


class VnetHeader(NamedTuple):
    """A virtio_net_hdr's fields. Lengths and positions in bytes from the start of the frame."""

    flags: int
    gso_type: int
    hdr_len: int
    gso_size: int
    csum_start: int
    csum_offset: int

    @classmethod
    def decode(cls, header: Buffer) -> VnetHeader:
        """Read the first 10 bytes of `header`; raises Malformed if there are fewer. No field is checked."""
        if len(header) < VNET.size:
            raise Malformed(DropReason.OFFLOAD_INVALID, "virtio_net_hdr is cut short")
        return cls._make(VNET.unpack_from(header))

    def encode(self) -> bytes:
        """The 10 bytes of it."""
        return VNET.pack(*self)


def moved_by(header: bytes, shift: int) -> bytes:
    """The header of the same frame after `shift` bytes were put in before its IP header, or (negative) taken out."""
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = VNET.unpack(header)
    if flags & NEEDS_CSUM:
        csum_start += shift
    if gso_type:
        hdr_len += shift
    return VNET.pack(flags, gso_type, hdr_len & 0xFFFF, gso_size, csum_start & 0xFFFF, csum_offset)
