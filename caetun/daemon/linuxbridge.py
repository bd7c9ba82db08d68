"""Membership of the device in a Linux bridge (`--bridge`), through pyroute2; the bridge is removed if we made it."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from caetun.errors import DeviceError
from caetun.netlink import netlink

if TYPE_CHECKING:
    from caetun.options import BridgeRef


class LinuxBridge:
    """A bridge of the kernel's that our device is a port of."""

    def __init__(self, reference: BridgeRef) -> None:
        self._reference = reference
        self._made = False

    def join(self, device: str) -> None:
        """Make the bridge if that is wanted, and the device (up) a port of it. Raises DeviceError."""
        name = self._reference.name
        with netlink(name) as route:
            index = _index(name)
            if index is None:
                if not self._reference.create:
                    raise DeviceError(
                        f"{name}: no such bridge: make it (ip link add {name} type bridge), "
                        f"or write --bridge {name}:create"
                    )
                route.link("add", ifname=name, kind="bridge")
                self._made = True
                index = socket.if_nametoindex(name)
                route.link("set", index=index, state="up")
            route.link("set", index=socket.if_nametoindex(device), master=index, state="up")

    def close(self) -> None:
        """Leave nothing behind: the device's membership ends with the device."""
        if self._made:
            self._made = False
            with contextlib.suppress(DeviceError, OSError), netlink(self._reference.name) as route:
                route.link("del", ifname=self._reference.name)


def _index(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None
