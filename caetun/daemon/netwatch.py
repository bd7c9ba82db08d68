"""Tells when this host's addresses, routes or rules change: another way to the far end may be there, or one gone.

rtnetlink(7): the kernel multicasts what changes; which change it is does not matter here, and many come together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import socket
from collections.abc import Callable
from typing import Final

# fixed by the kernel's interface (include/uapi/linux/rtnetlink.h)
_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV4_ROUTE: Final = 0x40
_RTMGRP_IPV6_IFADDR: Final = 0x100
_RTMGRP_IPV6_ROUTE: Final = 0x400
_RTMGRP_IPV4_RULE: Final = 0x80
_RTMGRP_IPV6_RULE: Final = 1 << 18
_GROUPS: Final = (
    *(_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV4_ROUTE, _RTMGRP_IPV4_RULE),
    *(_RTMGRP_IPV6_IFADDR, _RTMGRP_IPV6_ROUTE, _RTMGRP_IPV6_RULE),
)

# chosen by us
SETTLE_SECONDS: Final = 0.5
"""After the first of some changes: an interface that comes up gets addresses and routes one after the other."""
_ROOM: Final = 1 << 16
_READS: Final = 64
"""Notifications thrown away at one wake-up, before others have their turn."""


class NetWatch:
    """Calls back, a moment after the host's network has changed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Begins to watch; where the kernel does not let us, it never calls."""
        self._loop = loop
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self._sock: socket.socket | None = None
        with contextlib.suppress(OSError):
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            sock.bind((0, functools.reduce(operator.or_, _GROUPS)))
            loop.add_reader(sock.fileno(), self._readable)
            self._sock = sock

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _readable(self) -> None:
        assert self._sock is not None
        # ENOBUFS says that some were lost, which is a change too.
        with contextlib.suppress(OSError):
            for _ in range(_READS):
                self._sock.recv(_ROOM)
        if self._timer is None:
            self._timer = self._loop.call_later(SETTLE_SECONDS, self._settled)

    def _settled(self) -> None:
        self._timer = None
        self._changed()
