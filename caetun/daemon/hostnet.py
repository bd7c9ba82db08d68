"""The host's network settings that a tunnel needs: addresses, MTU and state of its own interface, through pyroute2.

Everything here belongs to an interface that vanishes with the process that created it, so nothing has to be undone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import importlib.util
import ipaddress
import socket
import struct
import sys
import types
from collections.abc import Sequence
from typing import Any, Final

from caetun.errors import DeviceError
from caetun.types import Mode

# fixed by the kernel's interface
_SIOCGIFMTU: Final = 0x8921
_IFA_F_NODAD: Final = 0x02


def set_up(name: str, mode: Mode, mtu: int, addresses: Sequence[str], superframe: int) -> None:
    """Give an interface its MTU (bytes), addresses (CIDR) and largest superframe (bytes), and bring it up.

    Raises DeviceError with the step that the kernel refused.
    """
    iproute, netlink_error = _import_pyroute2()
    step = "find the interface"
    try:
        with iproute() as route:
            index = route.link_lookup(ifname=name)[0]
            step = f"set its MTU to {mtu}"
            route.link("set", index=index, mtu=mtu)
            # Where it cannot be set (before Linux 6.2), a superframe takes two bursts instead of one.
            with contextlib.suppress(netlink_error):
                route.link("set", index=index, gso_max_size=superframe)
            for address in addresses:
                step = f"add the address {address}"
                with contextlib.suppress(FileExistsError):
                    _add_address(route, index, address, mode)
            step = "bring it up"
            route.link("set", index=index, state="up")
    except netlink_error as error:
        reason = "no permission: run as root or give CAP_NET_ADMIN" if error.code == errno.EPERM else error.args[-1]
        raise DeviceError(f"{name}: cannot {step}: {reason}") from error


def _import_pyroute2() -> tuple[Any, type[Any]]:
    """`IPRoute` and `NetlinkError`, without what the package's own `__init__` loads beside them.

    That (a network database, connection tracking, WireGuard, ...) takes a fifth of the time from a tunnel's start to
    its first packet. The package is put in place as a mere folder of modules, and taken out again, so that whoever
    imports it later gets all of it.
    """
    package = "pyroute2"
    spec = importlib.util.find_spec(package)
    if package not in sys.modules and spec is not None and spec.submodule_search_locations is not None:
        folder = types.ModuleType(package)
        folder.__path__ = list(spec.submodule_search_locations)
        sys.modules[package] = folder
        with contextlib.suppress(ImportError, AttributeError):
            importlib.import_module("pyroute2.iproute.linux")
        del sys.modules[package]
        linux = sys.modules.get("pyroute2.iproute.linux")
        if linux is not None:
            return linux.IPRoute, sys.modules["pyroute2.netlink.exceptions"].NetlinkError
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    return IPRoute, NetlinkError


def _add_address(route: Any, index: int, address: str, mode: Mode) -> None:
    """Raises FileExistsError if the interface has it already."""
    interface = ipaddress.ip_interface(address)
    # On a TUN link nobody else could have the address; on a TAP link IPv6 has to ask first (RFC 4862, section 5.4).
    flags = {"flags": _IFA_F_NODAD} if interface.version == 6 and mode is Mode.TUN else {}
    try:
        route.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen, **flags)
    except Exception as error:
        if getattr(error, "code", None) == errno.EEXIST:
            raise FileExistsError(address) from error
        raise


def mtu_of(name: str) -> int:
    """The MTU in bytes of an interface of this network namespace; raises DeviceError if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", name.encode(), 0))
        except OSError:
            raise DeviceError(f"{name}: no such interface in this network namespace") from None
    return int(struct.unpack("16si12x", answer)[1])
