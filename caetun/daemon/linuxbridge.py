"""Membership of the device in a Linux bridge (`--bridge`), through pyroute2; the bridge is removed if we made it.

A bridge, unlike the device, does not go with the process that made it. So beside one that we make runs a warden: a
process that waits for our end, and removes the bridge if that was SIGKILL. If it is killed with us, the bridge says in
its alias who has made it, and the next one who wants it made takes it over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caetun.errors import DeviceError
from caetun.netlink import netlink

if TYPE_CHECKING:
    from caetun.options import BridgeRef

_MARK: Final = "made by caetun, process "
"""The alias of a bridge of ours, with the process behind it."""

_WARDEN: Final = """
import signal, socket, struct, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)               # whoever sends them means the tunnel, too
sys.stdin.buffer.read()                                 # ends with the process that holds the other end
# RTM_DELLINK with struct ifinfomsg (rtnetlink(7)); the kernel gives no index twice
request = struct.pack("=IHHII BxHiII", 32, 17, 1, 0, 0, 0, 0, int(sys.argv[1]), 0, 0)
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
    route.send(request)
"""


class LinuxBridge:
    """A bridge of the kernel's that our device is a port of."""

    def __init__(self, reference: BridgeRef) -> None:
        self._reference = reference
        self._made = False
        self._warden: subprocess.Popen[bytes] | None = None

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
                index = self._own(route, socket.if_nametoindex(name))
            elif self._reference.create and _orphaned(route, index):
                self._own(route, index)
            route.link("set", index=socket.if_nametoindex(device), master=index, state="up")

    def _own(self, route: Any, index: int) -> int:
        """See to it that the bridge goes when we go; returns its index."""
        self._made = True
        route.link("set", index=index, ifalias=f"{_MARK}{os.getpid()}", state="up")
        command = [sys.executable, "-I", "-S", "-c", _WARDEN, str(index)]
        self._warden = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/")
        return index

    def close(self) -> None:
        """Leave nothing behind: the device's membership ends with the device."""
        if self._made:
            self._made = False
            with contextlib.suppress(DeviceError, OSError), netlink(self._reference.name) as route:
                route.link("del", ifname=self._reference.name)
        if self._warden is not None:
            self._warden.kill()
            self._warden.communicate()
            self._warden = None


def _index(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def _orphaned(route: Any, index: int) -> bool:
    """Whether a bridge was made by a tunnel that was killed, and its warden with it."""
    (message,) = route.get_links(index)
    alias = message.get_attr("IFLA_IFALIAS") or ""
    return alias.startswith(_MARK) and not Path("/proc", alias.removeprefix(_MARK)).exists()
