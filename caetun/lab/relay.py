"""A cable with delay, jitter, loss and a bottleneck, as a program: `python relay.py LEFT RIGHT '{"delay": 0.01}'`.

1. `main` opens the two devices of the relay's host and says `ready`.
2. `forward` reads whole frames from either (packet(7)) and puts them into that direction's `Line`.
3. `Line` decides, without clock or sockets, which frames are lost and when the others are due.
4. `forward` writes them to the other device.

Frames travel with their `virtio_net_hdr` (PACKET_VNET_HDR), so an open checksum or a superframe passes as it came.
An 802.1Q tag does not pass: packet(7) takes it out of the frame. Only the standard library is used, so that the
program starts in a few milliseconds and needs no installed package.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

# -- fixed by the specification: linux/if_packet.h, linux/virtio_net.h --
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_VNET_HDR = 10
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

# -- chosen by us --
_BATCH = 64  # frames read from one device before the other gets its turn
_LARGEST = 65_536 + 64  # bytes: a superframe and its headers
_SOCKET_BUFFER = 8 << 20  # bytes: what arrives while we forward the other direction
_LINE_CAP = 1 << 16  # frames in flight in one direction; a 1 Gbit/s line of 0.5 s holds 42,000 of 1,500 bytes


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a line does to frames."""

    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Seconds: up to this much more or less delay, evenly spread. Frames overtake each other."""
    loss: float = 0.0
    """Share of frames thrown away, 0..1."""
    rate: float = 0.0
    """Bits per second of the bottleneck, 0: none."""
    queue: float = 0.05
    """Seconds a frame may wait before the bottleneck; the next one is dropped."""


class Line:
    """One direction of the cable. Pure: `now` is seconds of any monotonic clock, chance comes from `dice`."""

    def __init__(self, impairment: Impairment, dice: random.Random) -> None:
        self._impairment = impairment
        self._dice = dice
        self._flying: list[tuple[float, int, bytes]] = []
        self._sent = 0
        self._free = 0.0  # when the bottleneck has sent all that it holds

    def put(self, frame: bytes, now: float) -> bool:
        """Take in one frame (with its 10-byte virtio_net_hdr); False if it is lost."""
        how = self._impairment
        if (how.loss and self._dice.random() < how.loss) or len(self._flying) >= _LINE_CAP:
            return False
        due = now + how.delay
        if how.rate:
            start = max(now, self._free)
            if start - now > how.queue:
                return False
            self._free = start + (len(frame) - _VNET_HDR) * 8 / how.rate
            due += self._free - now
        if how.jitter:
            due = max(now, due + self._dice.uniform(-how.jitter, how.jitter))
        self._sent += 1  # equal times stay in order
        heapq.heappush(self._flying, (due, self._sent, frame))
        return True

    def take(self, now: float) -> list[bytes]:
        """Return the frames that are due, in order."""
        flying, frames = self._flying, []
        while flying and flying[0][0] <= now:
            frames.append(heapq.heappop(flying)[2])
        return frames

    def next_deadline(self) -> float | None:
        """Return when `take` has something next; None: not before the next `put`."""
        return self._flying[0][0] if self._flying else None


def open_device(name: str) -> socket.socket:
    """Open a device of this network for whole frames, without those we send ourselves."""
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    device.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    device.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
        try:
            device.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
        except PermissionError:  # not root of the real machine: take what the system's limit grants
            device.setsockopt(socket.SOL_SOCKET, option - 25, _SOCKET_BUFFER)  # SO_SNDBUF 7, SO_RCVBUF 8
    device.bind((name, _ETH_P_ALL))
    device.setblocking(False)
    return device


def forward(left: socket.socket, right: socket.socket, impairment: Impairment) -> None:
    """Forward both directions, for ever."""
    dice = random.Random()
    lines = {left: (Line(impairment, dice), right), right: (Line(impairment, dice), left)}
    while True:
        deadlines = [due for line, _ in lines.values() if (due := line.next_deadline()) is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        # select, not epoll: its timeout is in microseconds, where epoll rounds up to milliseconds.
        for device in select.select([left, right], [], [], timeout)[0]:
            _read(device, lines[device][0])
        for line, out in lines.values():
            _write(out, line.take(time.monotonic()))


def _read(device: socket.socket, line: Line) -> None:
    now = time.monotonic()
    try:
        for _ in range(_BATCH):
            line.put(device.recv(_LARGEST), now)
    except BlockingIOError:
        return


def _write(device: socket.socket, frames: list[bytes]) -> None:
    for frame in frames:
        try:
            device.send(frame)
        except OSError:  # the far host is down or full: a real cable would not wait either
            continue


def main(arguments: list[str]) -> None:
    """Run until killed."""
    left, right, impairment = arguments
    devices = open_device(left), open_device(right)
    print("ready", flush=True)
    forward(*devices, Impairment(**json.loads(impairment)))


if __name__ == "__main__":
    main(sys.argv[1:])
