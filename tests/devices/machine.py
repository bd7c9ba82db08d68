"""A host of the Lab with devices in it: what tests of TUN and TAP devices are written with."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest

from caetun.devices.base import Device
from caetun.devices.tuntap import TunTap, open_device
from caetun.errors import DeviceError
from caetun.lab import Host, Lab
from caetun.types import Drops, Mode
from caetun.wire.container import Batch

# fixed by the kernel's interface: linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
IFF_NO_PI, IFF_VNET_HDR = 0x1000, 0x4000
IFF: Final = {Mode.TUN: 0x0001, Mode.TAP: 0x0002}

_T = TypeVar("_T")


class Machine:
    """A host of the Lab, and devices in it."""

    def __init__(self, lab: Lab, number: int = 1) -> None:
        self.host: Host = lab.host(f"machine {number}")
        self.number = number
        self.drops = Drops()
        # so that interfaces say nothing themselves
        self.host.set("net.ipv6.conf.default.disable_ipv6", 1)

    def open(self, name: str | None = "dev0", mode: Mode = Mode.TAP, offload: bool = True) -> TunTap:
        return self.inside(lambda: open_device(name, mode, self.drops, offload))

    def up(self, device: TunTap) -> TunTap:
        """Give it the address 10.9.0.(number), and neighbours that need not be asked for."""
        name = device.name
        self.host.run(["ip", "addr", "add", f"10.9.0.{self.number}/24", "dev", name])
        self.host.run(["ip", "link", "set", name, "up"])
        return device

    def refusal(self, function: Callable[[], Any]) -> str:
        with pytest.raises(DeviceError) as error:
            self.inside(function)
        return str(error.value)

    def inside(self, function: Callable[[], _T]) -> _T:
        return self.host.inside(function)

    def devices(self) -> set[str]:
        return set(re.findall(r"^\d+: ([^:@]+)", self.host.run(["ip", "link"]), re.MULTILINE)) - {"lo"}

    def features(self, name: str) -> set[str]:
        """Which superframes the kernel may hand to a device."""
        lines = self.host.run(["ethtool", "-k", name]).splitlines()
        words = ("tx-checksum-ip-generic: on", "tx-tcp-segmentation: on", "tx-tcp6-segmentation: on")
        return {word.partition(":")[0] for line in lines for word in words if word in line}

    def raw(self, name: str, flags: int) -> int:
        """A descriptor that somebody else opened."""

        def attach() -> int:
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            return fd

        return self.inside(attach)


def frames_of(device: Device, batch: Batch | None = None) -> list[tuple[bytes, bytes]]:
    """One batch."""
    batch = Batch() if batch is None else batch
    batch.clear()
    device.read_batch(batch)
    return [(bytes(frame), header) for frame, header in batch.frames()]
