"""A broadcast storm, as a program of its own: sends one frame over and over by a device, and says how often it has.

python storm.py eth0 SECONDS [PAYLOAD]
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Final

# fixed by the specification: linux/if_packet.h
_SOL_PACKET: Final = 263
_PACKET_QDISC_BYPASS: Final = 20

# chosen by us
_TYPE: Final = b"\x88\xb6"
"""For experiments (IEEE 802, clause 9.2.3)."""
_SOURCE: Final = bytes.fromhex("02000000bad1")
_AT_ONCE: Final = 256
"""Frames between two looks at the clock."""


def main(device: str, seconds: float, size: int = 60) -> int:
    """Send for some seconds; returns how many frames were taken."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    sock.bind((device, 0))
    frame = (b"\xff" * 6 + _SOURCE + _TYPE).ljust(size, b"\0")
    send, sent = sock.send, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(_AT_ONCE):
            try:
                sent += send(frame) > 0
            except OSError:  # the queue is full: what a storm does not care about
                continue
    return sent


if __name__ == "__main__":
    print(main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:])))
