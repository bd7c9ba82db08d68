"""The host's network settings that a tunnel needs: addresses, MTU and state of its own interface, through pyroute2.

Everything here belongs to an interface that vanishes with the process that created it, so nothing has to be undone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Final

from caetun.errors import DeviceError

_SIOCGIFMTU: Final = 0x8921


def set_up(name: str, mtu: int, addresses: Sequence[str], superframe: int) -> None:
    """Give an interface its MTU (bytes), addresses (CIDR) and largest superframe (bytes), and bring it up.

    Raises DeviceError with the step that the kernel refused.
    """
    from pyroute2.iproute.linux import IPRoute  # a fifth of a second to import: only who needs it pays
    from pyroute2.netlink.exceptions import NetlinkError

    step = "find the interface"
    try:
        with IPRoute() as route:
            index = route.link_lookup(ifname=name)[0]
            step = f"set its MTU to {mtu}"
            route.link("set", index=index, mtu=mtu)
            # Where it cannot be set (before Linux 6.2), a superframe takes two bursts instead of one.
            with contextlib.suppress(NetlinkError):
                route.link("set", index=index, gso_max_size=superframe)
            for address in addresses:
                step = f"add the address {address}"
                _add_address(route, index, address)
            step = "bring it up"
            route.link("set", index=index, state="up")
    except NetlinkError as error:
        reason = "no permission: run as root or give CAP_NET_ADMIN" if error.code == errno.EPERM else error.args[-1]
        raise DeviceError(f"{name}: cannot {step}: {reason}") from error


def _add_address(route: object, index: int, address: str) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    interface = ipaddress.ip_interface(address)
    flags = {"flags": 0x02} if interface.version == 6 else {}  # IFA_F_NODAD: nobody else is on this link
    try:
        route.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen, **flags)  # type: ignore[attr-defined]
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def mtu_of(name: str) -> int:
    """The MTU in bytes of an interface of this network namespace; raises DeviceError if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", name.encode(), 0))
        except OSError:
            raise DeviceError(f"{name}: no such interface in this network namespace") from None
    return int(struct.unpack("16si12x", answer)[1])
