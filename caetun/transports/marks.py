"""The mark that tells a tunnel's own sockets from everybody else's (socket(7), `SO_MARK`).

Where all traffic of a host goes through the tunnel (`caetun/gateway/`), what carries the tunnel must not: its rules let
out what has this mark. Every outer socket of a tunnel has it: those that call, listen, probe, and lead to proxies.
"""

from __future__ import annotations

import contextlib
import errno
import socket

from caetun.errors import NetworkError


def set_mark(sock: socket.socket, mark: int) -> None:
    """Mark what a socket sends (0: leave it as it is). Raises NetworkError without the capability for it."""
    if not mark:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    except OSError as error:
        sock.close()
        why = "no permission: run as root or give CAP_NET_ADMIN" if error.errno == errno.EPERM else error.strerror
        raise NetworkError(f"the tunnel's socket cannot be marked: {why}") from error


def mark_of(sock: socket.socket) -> int:
    """The mark that a socket has; 0 for none."""
    with contextlib.suppress(OSError):
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)
    return 0
