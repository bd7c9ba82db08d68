"""Ethernet frames without FCS (IEEE 802.3), and the VLAN tags in them (IEEE 802.1Q, clause 9).

+-----------------+-----------------+----------------------------+-----------+---------+
| destination (6) |   source (6)    | TPID (2) | TCI (2), if any | type (2)  | payload |
+-----------------+-----------------+----------------------------+-----------+---------+
"""

from __future__ import annotations

from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

# fixed by the specification
HEADER_SIZE: Final = 14
TYPE_AT: Final = 12
TAG_SIZE: Final = 4
TYPE_IPV4: Final = 0x0800
TYPE_IPV6: Final = 0x86DD
TPID_8021Q: Final = 0x8100
TPID_8021AD: Final = 0x88A8

# chosen by us
MAX_TAGS: Final = 8
"""VLAN tags looked behind, at most: as many as Linux does (VLAN_MAX_DEPTH)."""


def network_header(frame: Buffer) -> tuple[int, int]:
    """Where the network header of an Ethernet frame begins: (EtherType, position).

    Looks behind at most `MAX_TAGS` VLAN tags; the type of a frame with more is that of the next tag. Raises Malformed
    if the frame ends before the type.
    """
    size = len(frame)
    at = TYPE_AT
    for _ in range(MAX_TAGS + 1):
        if at + 2 > size:
            raise Malformed(DropReason.FRAME_SHORT, "Ethernet header is cut short")
        ethertype = frame[at] << 8 | frame[at + 1]
        if ethertype not in (TPID_8021Q, TPID_8021AD):
            break
        at += TAG_SIZE
    else:
        at -= TAG_SIZE
    return ethertype, at + 2
