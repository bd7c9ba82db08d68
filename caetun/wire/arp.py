"""Who has which IPv4 address: ARP (RFC 826), its probes and announcements (RFC 5227).

  0        2        4   5   6         8            14          18            24          28
+--------+--------+---+---+---------+------------+-----------+-------------+-----------+
|   1    | 0x0800 | 6 | 4 |operation| sender MAC | sender IP | target MAC  | target IP |
+--------+--------+---+---+---------+------------+-----------+-------------+-----------+
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

# fixed by the specification
TYPE_ARP: Final = 0x0806
_LAYOUT: Final = struct.Struct(">HHBBH6s4s6s4s")
_ETHERNET: Final = 1
_IPV4: Final = 0x0800
_HEAD_SIZE: Final = 8
_NOBODY: Final = bytes(6)
_NO_ADDRESS: Final = bytes(4)
_BROADCAST: Final = b"\xff" * 6
_MIN_FRAME: Final = 60
"""The least an Ethernet frame has without its FCS (IEEE 802.3, clause 3.2.7)."""


class Operation(enum.IntEnum):
    """What a message does."""

    REQUEST = 1
    REPLY = 2


class Arp(NamedTuple):
    """An ARP message about IPv4 on Ethernet: addresses of 6 and 4 bytes."""

    operation: Operation
    sender_mac: bytes
    sender: bytes
    target_mac: bytes
    target: bytes

    @property
    def probe(self) -> bool:
        """Whether it only asks if an address is free, and claims none (RFC 5227, section 1.1)."""
        return self.sender == _NO_ADDRESS

    @property
    def announcement(self) -> bool:
        """Whether it tells where the sender's own address is (RFC 5227, section 3: gratuitous)."""
        return self.sender == self.target != _NO_ADDRESS


def decode(frame: Buffer, at: int) -> Arp | None:
    """The ARP message that begins at `at`; None if it is about other networks, or an operation that is not known.

    Raises Malformed (`ARP_MALFORMED`) if it is cut short, or its sender is a group or all that are there: nobody can be
    that, and hosts that believe it send to everybody.
    """
    if at < 0 or at + _HEAD_SIZE > len(frame):
        raise Malformed(DropReason.ARP_MALFORMED, "cut short")
    hardware, protocol, mac_size, size, operation = struct.unpack_from(">HHBBH", frame, at)
    if (hardware, protocol, mac_size, size) != (_ETHERNET, _IPV4, 6, 4):
        return None
    if at + _LAYOUT.size > len(frame):
        raise Malformed(DropReason.ARP_MALFORMED, "cut short")
    if operation not in (Operation.REQUEST, Operation.REPLY):
        return None
    *_, sender_mac, sender, target_mac, target = _LAYOUT.unpack_from(frame, at)
    if sender_mac[0] & 1 or sender_mac == _NOBODY:
        raise Malformed(DropReason.ARP_MALFORMED, "sent by a group")
    if sender[0] & 0xE0 == 0xE0:  # 224.0.0.0 and above: groups, reserved, broadcast
        raise Malformed(DropReason.ARP_MALFORMED, "the sender's address is no host's")
    return Arp(Operation(operation), sender_mac, sender, target_mac, target)


def encode(arp: Arp) -> bytes:
    """The 28 bytes of a message."""
    return _LAYOUT.pack(_ETHERNET, _IPV4, 6, 4, arp.operation, arp.sender_mac, arp.sender, arp.target_mac, arp.target)


def frame_of(arp: Arp, destination: bytes) -> bytes:
    """The whole frame, untagged and padded, from the sender to `destination` (6 bytes)."""
    return (destination + arp.sender_mac + TYPE_ARP.to_bytes(2, "big") + encode(arp)).ljust(_MIN_FRAME, b"\0")


def gratuitous(mac: bytes, address: bytes) -> bytes:
    """The frame that tells everybody that `address` is at `mac`: an announcement (RFC 5227, section 2.3)."""
    return frame_of(Arp(Operation.REQUEST, mac, address, _NOBODY, address), _BROADCAST)


def reply(asked: Arp, mac: bytes) -> bytes:
    """The frame that answers a request: its target is at `mac` (RFC 826, "Packet Reception")."""
    answer = Arp(Operation.REPLY, mac, asked.target, asked.sender_mac, asked.sender)
    return frame_of(answer, asked.sender_mac)


def probe(mac: bytes, target: bytes, destination: bytes = _BROADCAST) -> bytes:
    """The frame that asks whether `target` is in use, and leaves nobody's table changed (RFC 5227, section 2.1.1).

    `mac`: who asks; `destination`: a single host, if only that one is to be asked.
    """
    return frame_of(Arp(Operation.REQUEST, mac, _NO_ADDRESS, _NOBODY, target), destination)
