"""UDP: one socket, any number of far ends, 64 KiB a system call.

The way of a record, outbound:  UdpLink.send -> pieces.cut_record -> UdpEndpoint.send_burst -> sendmsg(UDP_SEGMENT)
and inbound:  readable -> recvmmsg(UDP_GRO) -> pieces.Assembler.burst -> Arrivals

`UDP_SEGMENT` and `UDP_GRO` are in udp(7) and include/uapi/linux/udp.h. Datagrams are never fragmented by IP: `DF` is
set, and the kernel's path MTU cache left alone (`IP_PMTUDISC_PROBE`, RFC 8899 section 3): the session probes the path.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final

from caetun.errors import NetworkError
from caetun.transports.base import SEND_QUEUE, Arrivals, Reactor, Sessions
from caetun.transports.mmsg import MessageReceiver, address_of, source_of
from caetun.transports.pieces import Assembler, cut_record
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, Record, encode_header

# fixed by the kernel's interface
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_MAX_BURST: Final = 65507
"""Bytes one sendmsg may carry: an IPv4 packet less its headers."""
_IPV4_OVERHEAD: Final = 28
_IPV6_OVERHEAD: Final = 48

# chosen by us
FLOOR: Final = 1200
"""Bytes of a datagram before the path is known: what QUIC demands of every path (RFC 9000, section 14)."""
_RECEIVE_BUFFER: Final = 8 << 20
"""Bytes asked for: some ten milliseconds at 5 Gbit/s, while we are busy with what came before."""
_SEND_BUFFER: Final = 1 << 20
"""Bytes asked for: a dozen bursts keep a fast network busy, and a slow one (100 Mbit/s) waiting for 0.1 s at most."""
_READS: Final = 4
"""System calls at one wake-up, of 4 bursts or 64 datagrams, before other descriptors have their turn."""
_RECEIVE_ROOM: Final = 1 << 16
_QUIET_SECONDS: Final = 0.0005
"""Since the last wake-up: more than this, and what has come is probably alone."""
_NO_GSO: Final = (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP)

Address = tuple[str, int] | tuple[str, int, int, int]


class UdpLink:
    """The way to one far address; fulfils the link contract."""

    __slots__ = ("__weakref__", "_ceiling", "_endpoint", "address", "datagram", "max_record", "name", "source", "unit")

    def __init__(self, endpoint: UdpEndpoint, address: Address) -> None:
        self._endpoint = endpoint
        self._ceiling: int | None = None
        self.address = address
        host = address[0].removeprefix("::ffff:")
        self.source = f"{host} {address[1]}"
        """Far address and port, as text: what a cookie is bound to."""
        self.name = f"udp {f'[{host}]' if ':' in host else host}:{address[1]}"
        self.resize(FLOOR)

    @property
    def full(self) -> bool:
        """Whether the socket takes no more just now."""
        return self._endpoint.full

    @property
    def datagram_ceiling(self) -> int:
        """Largest datagram in bytes that the local interface could send to this far end."""
        if self._ceiling is None:
            self._ceiling = self._endpoint.ceiling(self.address)
        return self._ceiling

    def resize(self, datagram: int) -> None:
        """Use datagrams of this many bytes from now on."""
        self.datagram = datagram
        self.unit = datagram - HEADER_SIZE
        self.max_record = min(MAX_PIECES, _MAX_BURST // datagram) * self.unit

    def send(self, records: Sequence[Record]) -> None:
        """Send records: a long one as one burst of pieces, short ones of equal size as one burst together."""
        send_burst, address, unit, datagram = self._endpoint.send_burst, self.address, self.unit, self.datagram
        if len(records) == 1 and len(records[0].body) <= unit:
            record = records[0]
            send_burst([encode_header(0, 1, record.session, record.counter), record.body], datagram, address)
            return
        most = self.max_record // unit
        group: list[Buffer] = []
        group_size = 0
        for record in records:
            size = len(record.body)
            if size > unit:
                if group:
                    send_burst(group, group_size, address)
                    group = []
                if size > self.max_record:
                    self._endpoint.drops.count(DropReason.LINK_OVERSIZE)
                    continue
                send_burst(cut_record(record, unit), datagram, address)
                continue
            if group and (size + HEADER_SIZE > group_size or len(group) >= 2 * most):
                send_burst(group, group_size, address)
                group = []
            if not group:
                group_size = size + HEADER_SIZE
            group += encode_header(0, 1, record.session, record.counter), record.body
            if size + HEADER_SIZE < group_size:
                send_burst(group, group_size, address)
                group = []
        if group:
            send_burst(group, group_size, address)

    def probe(self, record: Record) -> None:
        """Send a record in a single datagram, however large."""
        head = encode_header(0, 1, record.session, record.counter)
        self._endpoint.send_burst([head, record.body], HEADER_SIZE + len(record.body), self.address)

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Send handshake messages."""
        for message in messages:
            self._endpoint.send_burst([message], len(message), self.address)

    def close(self) -> None:
        """Nothing: there is no connection."""


class UdpEndpoint:
    """A UDP socket: starts links, and gives what arrives to the shell."""

    def __init__(self, sock: socket.socket, drops: Drops) -> None:
        """Takes over a bound, non-blocking socket; `open_udp` makes one."""
        self._sock = sock
        self.drops = drops
        self.family = sock.family
        self.segments = True
        """Whether the kernel cuts bursts for us (UDP_SEGMENT)."""
        self.full = False
        self.last_refusal = ""
        """Why the network last refused a datagram, for the log."""
        self._queue: deque[tuple[list[Buffer], int, Address]] = deque()
        self._links: weakref.WeakValueDictionary[bytes, UdpLink] = weakref.WeakValueDictionary()
        """By the kernel's sockaddr: an address that can be written in several ways has one link."""
        self._receiver = MessageReceiver(sock)
        self._buffer = memoryview(bytearray(_RECEIVE_ROOM))
        self._woken_at = 0.0
        self._last: tuple[object, bytes, UdpLink | None] = ((), b"", None)
        """Where the last lone datagram came from, as the socket module, the kernel and the node see it."""
        self._reactor: Reactor | None = None
        self._segment_messages: dict[int, list[tuple[int, int, bytes]]] = {}

    @property
    def name(self) -> str:
        """For people: transport and local address."""
        host, port = self._sock.getsockname()[:2]
        return f"udp {f'[{host}]' if ':' in host else host}:{port}"

    @property
    def dual_stack(self) -> bool:
        """Whether an IPv6 socket reaches IPv4 addresses too."""
        return self.family == socket.AF_INET6 and self._sock.getsockname()[0] == "::"

    @property
    def buffers(self) -> tuple[int, int]:
        """Bytes of send and receive buffer granted (the kernel counts its overhead in: twice what was asked)."""
        return (
            self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        )

    def link(self, address: Address) -> UdpLink:
        """The link to an address: the same object as long as somebody holds it."""
        return self._link_from(source_of(address))

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        """Begin to receive."""
        self._reactor = reactor
        self._arrivals = arrivals
        self._assembler = Assembler(self.drops, sessions)
        reactor.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop, and give the socket back."""
        if self._reactor is not None and self._sock.fileno() >= 0:
            self._reactor.remove_reader(self._sock.fileno())
            self._reactor.remove_writer(self._sock.fileno())
        self._sock.close()

    def ceiling(self, address: Address) -> int:
        """Largest UDP payload in bytes that the interface towards an address carries: its MTU less headers."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect(address)
            if self.family == socket.AF_INET:
                mtu, overhead = probe.getsockopt(socket.IPPROTO_IP, _IP_MTU), _IPV4_OVERHEAD
            else:
                mtu, overhead = probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU), _IPV6_OVERHEAD
                if address[0].startswith("::ffff:"):
                    overhead = _IPV4_OVERHEAD
            return max(FLOOR, min(mtu - overhead, _MAX_BURST))
        return FLOOR

    # outbound

    def send_burst(self, parts: list[Buffer], size: int, address: Address) -> None:
        """Send datagrams of `size` bytes, the last one maybe shorter, whose bytes are `parts` one after the other.

        Each datagram is a whole number of parts. Keeps the burst if the socket is full; what is refused is counted.
        """
        if self.full:
            if len(self._queue) >= SEND_QUEUE:
                self.drops.count(DropReason.LINK_FULL)
            else:
                self._queue.append((parts, size, address))
            return
        if len(parts) > 2 and not self.segments:
            self._send_singly(parts, size, address)
            return
        try:
            self._sock.sendmsg(parts, self._segmented(size) if len(parts) > 2 else (), 0, address)
        except BlockingIOError:
            self._wait(parts, size, address)
        except OSError as error:
            self._failed(error, parts, size, address)

    def _segmented(self, size: int) -> list[tuple[int, int, bytes]]:
        message = self._segment_messages.get(size)
        if message is None:
            if len(self._segment_messages) > 1024:
                self._segment_messages.clear()
            message = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", size))]
            self._segment_messages[size] = message
        return message

    def _send_singly(self, parts: list[Buffer], size: int, address: Address) -> None:
        """The same without the kernel's help: one system call a datagram."""
        for at in range(0, len(parts), 2):
            try:
                self._sock.sendmsg(parts[at : at + 2], (), 0, address)
            except BlockingIOError:
                self._wait(parts[at:], size, address)
                return
            except OSError as error:
                self._refused(error, size, address)

    def _failed(self, error: OSError, parts: list[Buffer], size: int, address: Address) -> None:
        """A burst was refused: find out whether it was segmentation as such, or this burst."""
        if len(parts) > 2 and error.errno in _NO_GSO:
            # An interface whose MTU is below the segment size answers EINVAL too: one datagram alone tells which it is.
            try:
                self._sock.sendmsg(parts[:2], (), 0, address)
            except BlockingIOError:
                self._wait(parts, size, address)
                return
            except OSError as alone:
                self._refused(alone, size, address)
                return
            self.segments = False
            self._send_singly(parts[2:], size, address)
            return
        self._refused(error, size, address)

    def _refused(self, error: OSError, size: int, address: Address) -> None:
        if error.errno == errno.EMSGSIZE:
            self.drops.count(DropReason.LINK_OVERSIZE)
            if self._reactor is not None:
                self._arrivals.too_big(self.link(address), size)
        elif error.errno == errno.ENOBUFS:
            self.drops.count(DropReason.LINK_FULL)
        else:
            self.drops.count(DropReason.LINK_REFUSED)
            self.last_refusal = error.strerror or str(error)

    def _wait(self, parts: list[Buffer], size: int, address: Address) -> None:
        """The socket is full: keep the burst, and have the loop tell when there is room."""
        self._queue.append((parts, size, address))
        self.full = True
        if self._reactor is not None:
            self._reactor.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._reactor is not None
        self.full = False
        while self._queue and not self.full:
            self.send_burst(*self._queue.popleft())
        if self.full:
            # `_wait` has put what was left of the burst at the end: bring it to the front again.
            self._queue.rotate(1)
            return
        self._reactor.remove_writer(self._sock.fileno())
        self._arrivals.drained()

    # inbound

    def _readable(self) -> None:
        """Take what is waiting, bounded. Hot: one turn a system call."""
        arrivals, burst, link_from = self._arrivals, self._assembler.burst, self._link_from
        now = time.monotonic()
        self._assembler.expire(now)
        quiet = now - self._woken_at > _QUIET_SECONDS
        self._woken_at = now
        if quiet:
            self._receive_one(now)
            return
        for _ in range(_READS):
            try:
                arrived = self._receiver.receive()
            except OSError as error:
                # An ICMP error for something sent earlier: it says nothing about what is still waiting.
                self.last_refusal = error.strerror or str(error)
                continue
            at, count = 0, len(arrived)
            while at < count:
                source = arrived[at].source
                records: list[Record] = []
                messages: list[bytes] = []
                into = records, messages
                while at < count and arrived[at].source == source:
                    _, view, size = arrived[at]
                    burst(source, view, size, now, into)
                    at += 1
                if records:
                    arrivals.records(link_from(source), records)
                if messages:
                    arrivals.messages(link_from(source), messages)
            if count < self._receiver.most:
                break
        arrivals.burst_end()

    def _receive_one(self, now: float) -> None:
        """Take one datagram or burst: mostly all there is, by the shortest way. If not, we are called again."""
        buffer = self._buffer
        try:
            length, ancillary, _flags, address = self._sock.recvmsg_into([buffer], 64)
        except OSError:
            return
        size = length
        for _level, kind, data in ancillary:
            if kind == _UDP_GRO:
                size = int.from_bytes(data[:2], "little")
        if not length:
            self.drops.count(DropReason.DATAGRAM_SHORT)
            return
        before, source, link = self._last
        if link is None or before != address:
            source = source_of(address)
            link = self._link_from(source)
            self._last = address, source, link
        records: list[Record] = []
        messages: list[bytes] = []
        self._assembler.burst(source, buffer[:length], size, now, (records, messages))
        arrivals = self._arrivals
        if records:
            arrivals.records(link, records)
        if messages:
            arrivals.messages(link, messages)
        arrivals.burst_end()

    def _link_from(self, source: bytes) -> UdpLink:
        """The link to where a message came from."""
        link = self._links.get(source)
        if link is None:
            link = self._links[source] = UdpLink(self, address_of(source))
        return link


def open_udp(host: str, port: int, family: socket.AddressFamily, drops: Drops) -> UdpEndpoint:
    """Bind a socket (port 0: any; an IPv6 wildcard takes IPv4 too); raises NetworkError with reason and remedy."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        _tune(sock)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        hints = {
            errno.EADDRINUSE: "another program holds the port: choose another, or stop that one",
            errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "no interface of this host has that address",
        }
        hint = hints.get(error.errno or 0, "check the address")
        raise NetworkError(f"udp {where}: cannot be bound: {error.strerror}: {hint}") from error
    return UdpEndpoint(sock, drops)


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
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    with contextlib.suppress(OSError):  # on an IPv6 socket it governs mapped IPv4 addresses, where the kernel allows it
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
