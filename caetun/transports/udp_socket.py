"""UDP sockets as the kernel gives them: opened, tuned, and asked what an interface carries.

`UDP_SEGMENT` and `UDP_GRO` are in udp(7) and include/uapi/linux/udp.h, path MTU discovery in ip(7) and ipv6(7).
Datagrams are never fragmented by IP: `DF` is set, and the kernel's path MTU cache left alone (`IP_PMTUDISC_PROBE`,
RFC 8899 section 3): the session probes the path.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from caetun.errors import NetworkError
from caetun.transports.marks import set_mark

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""The socket module's form of an IPv4 or IPv6 address and port."""

# fixed by the kernel's interface
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
GRO_SIZE: Final = struct.Struct("@i")
"""What a control message of `UDP_GRO` holds: bytes of each datagram, an int of the machine."""
MAX_BURST: Final = 65507
"""Bytes one sendmsg may carry: an IPv4 packet less its headers."""
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_IPV4_OVERHEAD: Final = 28
_IPV6_OVERHEAD: Final = 48

# chosen by us
FLOOR: Final = 1200
"""Bytes of a datagram before the path is known: what QUIC demands of every path (RFC 9000, section 14)."""
_RECEIVE_BUFFER: Final = 8 << 20
"""Bytes asked for: some ten milliseconds at 5 Gbit/s, while we are busy with what came before."""
_SEND_BUFFER: Final = 1 << 20
"""Bytes asked for: a dozen bursts keep a fast network busy, and a slow one (100 Mbit/s) waiting for 0.1 s at most."""
_HINTS: Final = {
    errno.EADDRINUSE: "another program holds the port: choose another, or stop that one",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "no interface of this host has that address",
    errno.EAFNOSUPPORT: "this host has no such address family: give an address of the other one",
}


def bind_socket(host: str, port: int, family: socket.AddressFamily, mark: int = 0) -> socket.socket:
    """A tuned, non-blocking socket (port 0: any; an IPv6 wildcard takes IPv4 too), with this mark.

    Raises NetworkError with reason and remedy.
    """
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        set_mark(sock, mark)
        _tune(sock)
        sock.bind((host, port))
        return sock
    except OSError as error:
        if sock is not None:
            sock.close()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        hint = _HINTS.get(error.errno or 0, "check the address")
        raise NetworkError(f"udp {where}: cannot be bound: {error.strerror}: {hint}") from error


def reaches(host: str, family: socket.AddressFamily, address: Address, mark: int = 0) -> bool:
    """Whether a socket bound to a local address may send to a far one, as far as routes (for that mark) say."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            set_mark(probe, mark)
            probe.bind((host, 0))
            probe.connect(address)
        except (OSError, NetworkError):
            return False
        return True


def path_ceiling(family: socket.AddressFamily, address: Address, mark: int = 0) -> int:
    """Largest UDP payload in bytes that the interface towards an address carries: its MTU less headers.

    What an interface really carries, even if that is below `FLOOR`; `FLOOR` if nobody knows, as without a route.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            set_mark(probe, mark)
            _discover(probe)
            probe.connect(address)
            if family == socket.AF_INET:
                mtu, overhead = probe.getsockopt(socket.IPPROTO_IP, _IP_MTU), _IPV4_OVERHEAD
            elif address[0].startswith("::ffff:"):
                mtu, overhead = probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU), _IPV4_OVERHEAD
            else:
                mtu, overhead = probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU), _IPV6_OVERHEAD
    except (OSError, NetworkError):
        return FLOOR
    return max(0, min(mtu - overhead, MAX_BURST))


def source_towards(family: socket.AddressFamily, address: Address) -> str:
    """The address of this host from which datagrams leave for an address; "" if nobody knows, as without a route."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).removeprefix("::ffff:")
    except OSError:
        return ""


def burst_size(ancillary: Iterable[tuple[int, int, bytes]], length: int) -> int:
    """Bytes of each datagram in a burst of `length` bytes, by the control messages that came with it."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_UDP and kind == UDP_GRO and len(data) >= GRO_SIZE.size:
            return GRO_SIZE.unpack_from(data)[0] or length
    return length


def segment_option(size: int) -> list[tuple[int, int, Any]]:
    """The control message that has the kernel cut what is sent into datagrams of `size` bytes."""
    return [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", size))]


def set_traffic_class(sock: socket.socket, traffic_class: int) -> None:
    """The eight bits of IPv4's TOS and IPv6's traffic class in what is sent; what the kernel refuses is left away."""
    with contextlib.suppress(OSError):  # an IPv6 socket needs it, too, for mapped IPv4 addresses
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
    if sock.family == socket.AF_INET6:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)


def _tune(sock: socket.socket) -> None:
    """Large buffers, GRO, DF; each is an improvement the kernel may refuse."""
    for force, plain, size in (
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, _SEND_BUFFER),
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, _RECEIVE_BUFFER),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, plain, size)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    _discover(sock)


def _discover(sock: socket.socket) -> None:
    """IPv6 sockets take IPv4 as well, and the kernel's idea of the path MTU is not ours."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    with contextlib.suppress(OSError):  # on an IPv6 socket it governs mapped IPv4 addresses, where the kernel allows it
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
