"""Reaching a name that may have several addresses: whichever answers first (RFC 8305, "happy eyeballs")."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from caetun.errors import NetworkError
from caetun.transports.marks import set_mark

# chosen by us
STAGGER_SECONDS: Final = 0.25
"""Between attempts at the addresses of one name (RFC 8305, section 5)."""
MAX_ADDRESSES: Final = 8
"""Addresses of one name that are tried."""
SEGMENT: Final = 1220
"""Bytes of TCP in a packet: what passes every link that IPv6 may cross (1,280 bytes less headers, RFC 9293, section
3.7.1). Where ICMP is blocked nobody tells the kernel of a narrow link, and it would repeat its first full packet for
ever; by default it does not look for itself (`tcp_mtu_probing`). Costs a sixth more packets, and 1 % of the bytes."""

_Address: TypeAlias = tuple[socket.AddressFamily, Any]
"""Family, and an address as the socket module wants it."""


async def connect(host: str, port: int, loop: asyncio.AbstractEventLoop, mark: int = 0) -> socket.socket:
    """A non-blocking socket, with this mark, connected to the first address of a name that answers.

    Raises OSError (that of the last address), NetworkError if the name has none.
    """
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NetworkError(f"{host} cannot be resolved: {error.strerror}: check the name and the resolver") from error
    return await _race([(family, address) for family, _, _, _, address in found], loop, mark)


def keep_segments_small(sock: socket.socket) -> None:
    """Make a TCP socket send and be sent no more than SEGMENT at once; before it connects, or listens."""
    with contextlib.suppress(OSError):  # it works without, on most paths
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)


def _interleave(addresses: list[_Address]) -> list[_Address]:
    """Families in turn, the resolver's order kept within each (RFC 8305, section 4); at most MAX_ADDRESSES."""
    first = [one for one in addresses if one[0] == addresses[0][0]]
    other = [one for one in addresses if one[0] != addresses[0][0]]
    mixed = [one for pair in zip_longest(first, other) for one in pair if one is not None]
    return mixed[:MAX_ADDRESSES]


async def _race(addresses: list[_Address], loop: asyncio.AbstractEventLoop, mark: int) -> socket.socket:
    """Start an attempt at each address, the next one after STAGGER_SECONDS or a failure; the first to answer wins."""
    waiting = _interleave(addresses)[::-1]
    attempts: set[asyncio.Task[socket.socket]] = set()
    winner: socket.socket | None = None
    failure: BaseException = OSError("no address")
    try:
        while winner is None and (waiting or attempts):
            if waiting:
                attempts.add(loop.create_task(_attempt(waiting.pop(), loop, mark)))
            timeout = STAGGER_SECONDS if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None:
                    attempts.discard(task)
                    failure = error
                elif winner is None:
                    attempts.discard(task)
                    winner = task.result()
    finally:
        for task in attempts:
            task.cancel()
            task.add_done_callback(_close_late)
    if winner is None:
        raise failure
    return winner


def _close_late(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what an attempt that came too late has made."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _attempt(target: _Address, loop: asyncio.AbstractEventLoop, mark: int) -> socket.socket:
    family, address = target
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    set_mark(sock, mark)
    keep_segments_small(sock)
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
