"""The kernel's routing socket (rtnetlink(7)) through pyroute2: loaded when asked for, and no more of it than needed."""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

from caetun.errors import DeviceError


@contextlib.contextmanager
def netlink(what: str) -> Iterator[Any]:
    """A pyroute2 IPRoute; whatever the kernel refuses is a DeviceError about `what`."""
    iproute, netlink_error = load_pyroute2()
    try:
        with iproute() as route:
            yield route
    except netlink_error as error:
        reason = "no permission: run as root or give CAP_NET_ADMIN" if error.code == errno.EPERM else error.args[-1]
        raise DeviceError(f"{what}: the kernel refuses it: {reason}") from error


def load_pyroute2() -> tuple[Any, type[Any]]:
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
