"""The host's network settings that a tunnel needs: addresses, MTU and state of its own interface, through pyroute2.

What is set on an interface that was made for the tunnel goes with it. One that was there before gets back what was
changed of it (`Interface.undo`), unless somebody else has changed that since.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from caetun.errors import DeviceError
from caetun.netlink import load_pyroute2, netlink
from caetun.types import Mode

P = ParamSpec("P")
R = TypeVar("R")

# fixed by the kernel's interface
_SIOCGIFMTU: Final = 0x8921
_IFA_F_NODAD: Final = 0x02
_IFA_F_PERMANENT: Final = 0x80
_UP: Final = 0x01
"""IFF_UP (netdevice(7))."""


def beside_loop(work: Callable[P, R]) -> Callable[P, R]:
    """Let a function that uses pyroute2 be called while the event loop runs, which waits for it (milliseconds).

    pyroute2 has an event loop of its own beneath, and two cannot run in one thread.
    """

    @functools.wraps(work)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return work(*args, **kwargs)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work, *args, **kwargs).result()

    return wrapped


class Interface:
    """An interface of this network namespace, and what has been changed of it."""

    def __init__(self, name: str, mode: Mode, keep: bool) -> None:
        """`keep`: it was there before and stays, so `undo` will be called. Raises DeviceError if there is none."""
        self._name = name
        self._mode = mode
        self._keep = keep
        self._index = _index_of(name)
        self._before: dict[str, int] = {}
        """What was set to another value, by the link's field: the value it had."""
        self._now: dict[str, int] = {}
        """The value it has instead."""
        self._addresses: list[_Address] = []
        """Those that were added."""
        self._assigned: list[_Address] = []
        """Of these, the ones that a server has assigned."""

    @beside_loop
    def set_up(self, mtu: int, addresses: Sequence[str], superframe: int) -> None:
        """Give it its MTU (bytes), addresses (CIDR) and largest superframe (bytes), and bring it up.

        Raises DeviceError with the step that the kernel refused; what was done before that can be undone.
        """
        iproute, netlink_error = load_pyroute2()
        step = "find it"
        try:
            with iproute() as route:
                found = _link(route, self._index) if self._keep else {}
                step = f"set its MTU to {mtu}"
                self._change(route, found, "mtu", mtu)
                # Where it cannot be set (before Linux 6.2), a superframe takes two bursts instead of one.
                with contextlib.suppress(netlink_error):
                    self._change(route, found, "gso_max_size", superframe)
                for address in addresses:
                    step = f"add the address {address}"
                    with contextlib.suppress(FileExistsError):
                        self._addresses.append(_add_address(route, self._index, address, self._mode))
                step = "bring it up"
                self._change(route, found, "state", _UP)
        except netlink_error as error:
            raise self._refusal(step, error) from error

    @beside_loop
    def identify(self, address: str) -> None:
        """Have this MAC address (an Ethernet device that is not up yet). Raises DeviceError."""
        iproute, netlink_error = load_pyroute2()
        try:
            with iproute() as route:
                route.link("set", index=self._index, address=address)
        except netlink_error as error:
            raise self._refusal(f"give it the address {address}", error) from error

    @beside_loop
    def assign(self, addresses: Sequence[str]) -> None:
        """Have these addresses (CIDR) beside those of `set_up`; those assigned before that are not among them go.

        Raises DeviceError with the step that the kernel refused.
        """
        iproute, netlink_error = load_pyroute2()
        step = "look for its addresses"
        wanted = {ipaddress.ip_interface(address): address for address in addresses}
        try:
            with iproute() as route:
                for interface in wanted.keys() - {address.interface for address in self._addresses}:
                    step = f"add the address {interface}"
                    with contextlib.suppress(FileExistsError):
                        added = _add_address(route, self._index, wanted[interface], self._mode)
                        self._addresses.append(added)
                        self._assigned.append(added)
                for address in [each for each in self._assigned if each.interface not in wanted]:
                    step = f"remove the address {address.interface}"
                    self._assigned.remove(address)
                    self._addresses.remove(address)
                    with contextlib.suppress(netlink_error):  # somebody else was quicker
                        address.change(route, "del", self._index)
        except netlink_error as error:
            raise self._refusal(step, error) from error

    @beside_loop
    def resize(self, mtu: int) -> None:
        """Another MTU, in bytes. Raises DeviceError."""
        iproute, netlink_error = load_pyroute2()
        try:
            with iproute() as route:
                self._change(
                    route, _link(route, self._index) if self._keep and "mtu" not in self._before else {}, "mtu", mtu
                )
        except netlink_error as error:
            raise self._refusal(f"set its MTU to {mtu}", error) from error
        if "mtu" in self._now:
            self._now["mtu"] = mtu

    def undo(self) -> None:
        """Give back what `set_up` has changed. What others have changed since stays as it is. May be called twice.

        Raises DeviceError with the step that the kernel refused.
        """
        if not self._keep or not (self._before or self._addresses):
            return
        iproute, netlink_error = load_pyroute2()
        step = "remove our addresses"
        try:
            with iproute() as route:
                ours = {address.interface for address in self._addresses}
                kept = {address for address in _addresses(route, self._index) if address.interface not in ours}
                while self._addresses:
                    with contextlib.suppress(netlink_error):  # somebody else was quicker
                        self._addresses.pop().change(route, "del", self._index)
                step = "give it back its state and its MTU"
                found = _link(route, self._index)
                for field, value in reversed(self._before.items()):
                    if found[field] == self._now[field]:
                        _set(route, self._index, field, value)
                self._before.clear()
                # The kernel takes IPv6 addresses away when a link goes down, IPv4 ones with the first of their network.
                step = "give it back its addresses"
                for address in kept - _addresses(route, self._index):
                    address.change(route, "add", self._index)
        except netlink_error as error:
            if error.code != errno.ENODEV:  # deleted
                raise self._refusal(step, error) from error

    def _change(self, route: Any, found: dict[str, int], field: str, value: int) -> None:
        """Set a field of the link; `found`: what all of them had, empty if nobody will want that back."""
        if found.get(field) == value:
            return
        _set(route, self._index, field, value)
        if found:
            self._before[field], self._now[field] = found[field], value

    def _refusal(self, step: str, error: Any) -> DeviceError:
        reason = "no permission: run as root or give CAP_NET_ADMIN" if error.code == errno.EPERM else error.args[-1]
        return DeviceError(f"{self._name}: cannot {step}: {reason}")


class _Address(NamedTuple):
    """An address as the kernel lists it."""

    local: str
    prefix: int
    peer: str
    """The far end's on a point-to-point link, or else `local` again."""
    broadcast: str | None = None

    @property
    def interface(self) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
        """What tells it from others, whichever way it is written."""
        return ipaddress.ip_interface(f"{self.local}/{self.prefix}")

    def change(self, route: Any, command: str, index: int, **more: int) -> None:
        """Add or delete ("add", "del") it."""
        broadcast = {"broadcast": self.broadcast} if self.broadcast else {}
        route.addr(
            command, index=index, local=self.local, address=self.peer, prefixlen=self.prefix, **broadcast, **more
        )


def _addresses(route: Any, index: int) -> set[_Address]:
    """All of an interface but those that the kernel gives and takes by itself: link-local, autoconfigured."""
    found = set()
    for message in route.get_addr(index=index):
        peer = message.get_attr("IFA_ADDRESS")
        address = _Address(
            message.get_attr("IFA_LOCAL") or peer, message["prefixlen"], peer, message.get_attr("IFA_BROADCAST")
        )
        if message["flags"] & _IFA_F_PERMANENT and not ipaddress.ip_address(address.local).is_link_local:
            found.add(address)
    return found


def _link(route: Any, index: int) -> dict[str, int]:
    """The fields of an interface that we may change."""
    (message,) = route.get_links(index)
    return {
        "mtu": message.get_attr("IFLA_MTU"),
        "gso_max_size": message.get_attr("IFLA_GSO_MAX_SIZE"),
        "state": message["flags"] & _UP,
    }


def _set(route: Any, index: int, field: str, value: int) -> None:
    route.link("set", index=index, **{field: ("up" if value else "down") if field == "state" else value})


def _index_of(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise DeviceError(f"{name}: no such interface in this network namespace") from None


def _add_address(route: Any, index: int, text: str, mode: Mode) -> _Address:
    """Raises FileExistsError if the interface has it already."""
    interface = ipaddress.ip_interface(text)
    address = _Address(str(interface.ip), interface.network.prefixlen, str(interface.ip))
    # On a TUN link nobody else could have the address; on a TAP link IPv6 has to ask first (RFC 4862, section 5.4).
    flags = {"flags": _IFA_F_NODAD} if interface.version == 6 and mode is Mode.TUN else {}
    try:
        address.change(route, "add", index, **flags)
    except Exception as error:
        if getattr(error, "code", None) == errno.EEXIST:
            raise FileExistsError(text) from error
        raise
    return address


def interfaces_of(name: str) -> list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The addresses of an interface, less those of the link itself (RFC 4291, section 2.5.6). Raises DeviceError."""
    with netlink(name) as route:
        found = {address.interface for address in _addresses(route, _index_of(name))}
    return sorted((each for each in found if not each.ip.is_link_local), key=str)


def mtu_of(name: str) -> int:
    """The MTU in bytes of an interface of this network namespace; raises DeviceError if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", name.encode(), 0))
        except OSError:
            raise DeviceError(f"{name}: no such interface in this network namespace") from None
    return int(struct.unpack("16si12x", answer)[1])
