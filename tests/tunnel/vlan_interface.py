"""A VLAN interface as a program, where the kernel has none (`ip link add type vlan`): a TAP device above another one.

    python vlan_interface.py tap0 7 8100        makes tap0.7: what it sends leaves by tap0 with that tag, and back

Superframes stay whole: both sides have a virtio_net_hdr, whose offsets follow the tag (packet(7), PACKET_VNET_HDR).
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
from typing import Final

from caetun.wire.virtio_net import moved_by

# fixed by the specification: linux/if_tun.h, linux/if_packet.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TAP_NO_PI_VNET_HDR: Final = 0x0002 | 0x1000 | 0x4000
_CHECKSUM_AND_TSO: Final = 0x1 | 0x2 | 0x4
_SOL_PACKET: Final = 263
_PACKET_AUXDATA: Final = 8
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_AUXDATA: Final = struct.Struct("@IIIHHHH")  # status, len, snaplen, mac, net, tci, tpid
_TAG_IS_VALID: Final = 1 << 4
_VNET_SIZE: Final = 10
_TAG_AT: Final = 12
_VLAN_MASK: Final = 0x0FFF
_ROOM: Final = 1 << 17


def main(device: str, vlan: int, protocol: int) -> None:
    """Run until killed."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", f"{device}.{vlan}".encode(), _IFF_TAP_NO_PI_VNET_HDR))
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _CHECKSUM_AND_TSO)
    below = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    for option in (_PACKET_AUXDATA, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING):
        below.setsockopt(_SOL_PACKET, option, 1)
    below.bind((device, _ETH_P_ALL))
    tag = struct.pack(">HH", protocol, vlan)
    print("ready", flush=True)
    while True:
        for ready in select.select([tap, below], [], [])[0]:
            if ready == tap:
                frame = os.read(tap, _ROOM)
                at = _VNET_SIZE + _TAG_AT
                below.send(moved_by(frame[:_VNET_SIZE], len(tag)) + frame[_VNET_SIZE:at] + tag + frame[at:])
                continue
            frame, ancillary, *_ = below.recvmsg(_ROOM, 64)
            if (vlan, protocol) in [_tag(data) for level, _, data in ancillary if level == _SOL_PACKET]:
                os.write(tap, frame)


def _tag(auxdata: bytes) -> tuple[int, int] | None:
    """VLAN and protocol of the tag that the kernel has taken out of a frame."""
    status, *_, control, protocol = _AUXDATA.unpack(auxdata)
    return (control & _VLAN_MASK, protocol) if status & _TAG_IS_VALID else None


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3], 16))
