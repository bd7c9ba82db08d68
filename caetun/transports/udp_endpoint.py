"""UDP: one socket, any number of far ends, 64 KiB a system call.

The way of a record, outbound:  UdpLink.send -> bursts.bursts_of -> UdpEndpoint.send_burst -> sendmsg(UDP_SEGMENT)
and inbound:  readable -> recvmmsg(UDP_GRO) -> pieces.Assembler.burst -> Arrivals

QUIC may share the socket (RFC 9443 shows how): its packets have bit 0x40 of their first byte set (RFC 9000, section
17), native messages begin with 1..4. Whoever is `attach`ed gets them.
"""

from __future__ import annotations

import errno
import math
import socket
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from caetun.transports.base import SEND_QUEUE, Arrivals, Reactor, Sessions
from caetun.transports.marks import mark_of
from caetun.transports.mmsg import MessageReceiver, address_of, source_of
from caetun.transports.pieces import Assembler
from caetun.transports.udp_link import UdpLink, Way
from caetun.transports.udp_socket import (
    Address,
    bind_socket,
    burst_size,
    path_ceiling,
    segment_option,
    set_traffic_class,
    source_towards,
)
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.record import RECORD, Record

# fixed by the specification
QUIC_BIT: Final = 0x40
"""Set in the first byte of every QUIC packet (RFC 9000, section 17), and of no message of ours (docs/wire.md)."""

# chosen by us
_READS: Final = 4
"""System calls at one wake-up, of 4 bursts or 64 datagrams, before other descriptors have their turn."""
_RECEIVE_ROOM: Final = 1 << 16
_QUIET_SECONDS: Final = 0.0005
"""Since the last wake-up: more than this, and what has come is probably alone."""
_RECORD: Final = bytes((RECORD,))
_MAX_OPTIONS: Final = 1024
"""Sizes of datagrams for which the control message is remembered."""
_IS_QUIC: Final = bytes(bool(first & QUIC_BIT) for first in range(256))
_NO_GSO: Final = (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP)


class Attached(Protocol):
    """Somebody else who lives on the socket: QUIC."""

    def receive(self, source: bytes, bursts: Sequence[tuple[memoryview, int]], now: float) -> None:
        """Datagrams of one source: each view holds some of so many bytes, the last maybe shorter. Views end after."""

    def burst_end(self, now: float) -> None:
        """Nothing more is waiting at the socket right now."""

    def drained(self) -> None:
        """The socket takes more again: `Arrivals.drained` is for whoever is attached to call."""

    def close(self) -> None:
        """The socket is about to be closed; may still send."""


class UdpEndpoint:
    """A UDP socket: starts links, and gives what arrives to the shell."""

    def __init__(self, sock: socket.socket, drops: Drops) -> None:
        """Takes over a bound, non-blocking socket; `open_udp` makes one."""
        self._sock = sock
        self.drops = drops
        self.family = sock.family
        self.mark = mark_of(sock)
        """What the kernel's routing rules know its packets by; 0 for nothing."""
        self.segments = True
        """Whether the kernel cuts bursts for us (UDP_SEGMENT)."""
        self.full = False
        self.native = True
        """Whether native messages are taken in: not on a socket that only QUIC was asked to listen on."""
        self._attached: Attached | None = None
        self._queue: deque[tuple[list[Buffer], int, Way, int]] = deque()
        self._links: weakref.WeakValueDictionary[bytes, UdpLink] = weakref.WeakValueDictionary()
        """By the kernel's sockaddr: an address that can be written in several ways has one link."""
        self._receiver = MessageReceiver(sock)
        self._buffer = memoryview(bytearray(_RECEIVE_ROOM))
        self._woken_at = 0.0
        self._behind = False
        """Whether records wait to be opened."""
        self._last: tuple[object, bytes, UdpLink | None] = ((), b"", None)
        """Where the last lone datagram came from, as the socket module, the kernel and the node see it."""
        self._reactor: Reactor | None = None
        self._segment_options: dict[int, list[tuple[int, int, bytes]]] = {}
        self._traffic_class = 0

    @property
    def name(self) -> str:
        """For people: transport and local address."""
        return f"udp {self.where}"

    def classify(self, traffic_class: int) -> None:
        """Send with these eight bits of IPv4's TOS and IPv6's traffic class from now on."""
        if traffic_class != self._traffic_class:
            self._traffic_class = traffic_class
            set_traffic_class(self._sock, traffic_class)

    @property
    def where(self) -> str:
        """The local address and port."""
        port = self._sock.getsockname()[1]
        return f"{f'[{self.local}]' if ':' in self.local else self.local}:{port}"

    @property
    def local(self) -> str:
        """The local address."""
        return str(self._sock.getsockname()[0])

    @property
    def dual_stack(self) -> bool:
        """Whether an IPv6 socket reaches IPv4 addresses too."""
        return self.family == socket.AF_INET6 and self.local == "::"

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

    def attach(self, attached: Attached) -> None:
        """Give QUIC's packets to somebody from now on."""
        self._attached = attached

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        """Begin to receive."""
        self._reactor = reactor
        self._arrivals = arrivals
        self._assembler = Assembler(self.drops, sessions)
        reactor.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop, and give the socket back."""
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.close()
        if self._reactor is not None and self._sock.fileno() >= 0:
            self._reactor.remove_reader(self._sock.fileno())
            self._reactor.remove_writer(self._sock.fileno())
        self._sock.close()

    def seen_from(self, address: Address) -> tuple[str, int]:
        """The address and port of ours from which datagrams leave for an address, before any NAT."""
        return source_towards(self.family, address) or self.local, int(self._sock.getsockname()[1])

    def ceiling(self, address: Address) -> int:
        """Largest UDP payload in bytes that the interface towards an address carries (`udp_socket.path_ceiling`)."""
        return path_ceiling(self.family, address, self.mark)

    def too_big(self, link: UdpLink, datagram: int) -> None:
        """The kernel refused a datagram of a link of ours as too long."""
        if self._reactor is not None:
            self._arrivals.too_big(link, datagram)

    # outbound

    def send_burst(self, parts: list[Buffer], size: int, way: Way, count: int) -> None:
        """Send `count` datagrams of `size` bytes, the last one maybe shorter, whose bytes are `parts`, side by side.

        All datagrams are equally many parts, or one part is all of them. Keeps the burst if the socket is full; what is
        refused is counted.
        """
        if self.full:
            if len(self._queue) >= SEND_QUEUE:
                self.drops.count(DropReason.LINK_FULL)
            else:
                self._queue.append((parts, size, way, count))
            return
        if count > 1 and not self.segments:
            self._send_singly(_singled(parts, size, count), size, way)
            return
        try:
            self._sock.sendmsg(parts, self._segmented(size) if count > 1 else (), 0, way.address)
        except BlockingIOError:
            self._wait(parts, size, way, count)
        except OSError as error:
            self._failed(error, parts, size, way, count)

    def _segmented(self, size: int) -> list[tuple[int, int, bytes]]:
        option = self._segment_options.get(size)
        if option is None:
            if len(self._segment_options) >= _MAX_OPTIONS:
                self._segment_options.clear()
            option = self._segment_options[size] = segment_option(size)
        return option

    def _send_singly(self, datagrams: list[list[Buffer]], size: int, way: Way) -> None:
        """The same without the kernel's help: one system call a datagram."""
        for place, parts in enumerate(datagrams):
            try:
                self._sock.sendmsg(parts, (), 0, way.address)
            except BlockingIOError:
                rest = datagrams[place:]
                self._wait([part for parts in rest for part in parts], size, way, len(rest))
                return
            except OSError as error:
                self._refused(error, size, way)

    def _failed(self, error: OSError, parts: list[Buffer], size: int, way: Way, count: int) -> None:
        """A burst was refused: find out whether it was segmentation as such, or this burst."""
        if count > 1 and error.errno in _NO_GSO:
            # An interface whose MTU is below the segment size answers EINVAL too: one datagram alone tells which it is.
            datagrams = _singled(parts, size, count)
            try:
                self._sock.sendmsg(datagrams[0], (), 0, way.address)
            except BlockingIOError:
                self._wait(parts, size, way, count)
                return
            except OSError as alone:
                self._refused(alone, size, way)
                return
            self.segments = False
            self._send_singly(datagrams[1:], size, way)
            return
        self._refused(error, size, way)

    def _refused(self, error: OSError, size: int, way: Way) -> None:
        too_big = 0
        if error.errno == errno.EMSGSIZE:
            self.drops.count(DropReason.LINK_OVERSIZE)
            too_big = size
        elif error.errno == errno.ENOBUFS:
            self.drops.count(DropReason.LINK_FULL)
            return
        else:
            self.drops.count(DropReason.LINK_REFUSED)
        way.refused(error.strerror or str(error), too_big)

    def _wait(self, parts: list[Buffer], size: int, way: Way, count: int) -> None:
        """The socket is full: keep the burst, and have the loop tell when there is room."""
        self._queue.append((parts, size, way, count))
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
        if self._attached is not None:
            self._attached.drained()
        if self.native:
            self._arrivals.drained()

    # inbound

    def _readable(self) -> None:
        """Take what is waiting, bounded. Hot: one turn a system call."""
        now = time.monotonic()
        self._assembler.expire(now)
        quiet = now - self._woken_at > _QUIET_SECONDS
        self._woken_at = now
        if quiet:
            self._receive_one(now)
        else:
            self._receive_many(now)
        self._behind = self._arrivals.burst_end()
        if self._behind:
            self._woken_at = math.inf
        if self._attached is not None:
            self._attached.burst_end(now)

    def _receive_many(self, now: float) -> None:
        """Take what is waiting by few calls, the neighbours of one source together."""
        for _ in range(_READS):
            try:
                arrived = self._receiver.receive()
            except OSError:
                # An ICMP error for something sent earlier: it says nothing about what is still waiting.
                continue
            at, count = 0, len(arrived)
            while at < count:
                source = arrived[at].source
                bursts: list[tuple[memoryview, int]] = []
                while at < count and arrived[at].source == source:
                    bursts.append(arrived[at][1:])
                    at += 1
                if not self._behind or not self._crowded(source, bursts):
                    self._received(source, bursts, now, None)
            if count < self._receiver.most:
                break

    def _crowded(self, source: bytes, bursts: list[tuple[memoryview, int]]) -> bool:
        """Whether bursts are of a link of which enough waits: then they are dropped as they are, but for handshakes."""
        link = self._links.get(source)
        if link is None or not self._arrivals.crowded(link) or any(view[:1] != _RECORD for view, _ in bursts):
            return False
        self.drops.count(DropReason.RECORD_LATE, sum(-(-len(view) // max(1, size)) for view, size in bursts))
        return True

    def _receive_one(self, now: float) -> None:
        """Take one datagram or burst: mostly all there is, by the shortest way. If not, we are called again."""
        buffer = self._buffer
        try:
            length, ancillary, _flags, address = self._sock.recvmsg_into([buffer], 64)
        except OSError:
            return
        if not length:
            self.drops.count(DropReason.DATAGRAM_SHORT)
            return
        before, source, link = self._last
        if link is None or before != address:
            source = source_of(address)
            link = self._link_from(source)
            self._last = address, source, link
        self._received(source, [(buffer[:length], burst_size(ancillary, length))], now, link)

    def _received(self, source: bytes, bursts: list[tuple[memoryview, int]], now: float, link: UdpLink | None) -> None:
        """Bursts of one source, by the link to it if that is known already. Hot: once a system call, or so."""
        if self._attached is not None:
            bursts = self._divert(source, bursts, now)
            if not bursts:
                return
        if not self.native:
            self.drops.count(DropReason.DATAGRAM_TYPE, len(bursts))
            return
        records: list[Record] = []
        messages: list[bytes] = []
        burst, into = self._assembler.burst, (records, messages)
        for view, size in bursts:
            burst(source, view, size, now, into)
        if records:
            self._arrivals.records(link or self._link_from(source), records)
        if messages:
            self._arrivals.messages(link or self._link_from(source), messages)

    def _divert(self, source: bytes, bursts: list[tuple[memoryview, int]], now: float) -> list[tuple[memoryview, int]]:
        """Give QUIC what is QUIC's; returns the rest."""
        assert self._attached is not None
        theirs: list[tuple[memoryview, int]] = []
        ours: list[tuple[memoryview, int]] = []
        for view, size in bursts:
            if 0 < len(view) <= size:  # alone, as all are without GRO
                (theirs if view[0] & QUIC_BIT else ours).append((view, size))
                continue
            kinds = bytes(view[::size]).translate(_IS_QUIC) if size else b""
            quics = kinds.count(1)
            if 0 < quics < len(kinds):  # a far end that speaks both, from one socket: GRO looks at sizes only
                for start in range(0, len(view), size):
                    (theirs if view[start] & QUIC_BIT else ours).append((view[start : start + size], size))
            else:
                (theirs if quics else ours).append((view, size))
        if theirs:
            self._attached.receive(source, theirs, now)
        return ours

    def _link_from(self, source: bytes) -> UdpLink:
        """The link to where a message came from."""
        link = self._links.get(source)
        if link is None:
            link = self._links[source] = UdpLink(self, address_of(source))
        return link


def _singled(parts: list[Buffer], size: int, count: int) -> list[list[Buffer]]:
    """The parts of each datagram of a burst."""
    if len(parts) == 1:
        whole = memoryview(parts[0])
        return [[whole[at : at + size]] for at in range(0, len(whole), size)]
    each = len(parts) // count
    return [parts[at : at + each] for at in range(0, len(parts), each)]


def open_udp(host: str, port: int, family: socket.AddressFamily, drops: Drops, mark: int = 0) -> UdpEndpoint:
    """Bind a socket (`udp_socket.bind_socket`); raises NetworkError with reason and remedy."""
    return UdpEndpoint(bind_socket(host, port, family, mark), drops)
