"""A transport of somebody else: CaeTun's messages straight in IPv4 packets, under an IP protocol number of one's own.

    caetun --listen rawip://10.0.0.1:253 ...        caetun --connect rawip://10.0.0.1:253 ...

What stands for the port is the protocol number; 253 and 254 are for experiments (RFC 3692, section 2.1). Needs
CAP_NET_RAW. `docs/plugins.md` goes through this file step by step.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence

from caetun.errors import NetworkError
from caetun.transports.base import SEND_QUEUE, Arrivals, Context, Link, Reactor, Sessions, Target
from caetun.transports.marks import set_mark
from caetun.transports.pieces import Assembler, cut_record
from caetun.types import DropReason, Drops
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, Record, encode_header

_FLOOR = 1200  # bytes of a packet's content before the path is known
_READS = 64  # packets at one wake-up, before others have their turn


class RawLink:
    """The way to one address; fulfils the link contract."""

    def __init__(self, endpoint: RawEndpoint, address: str) -> None:
        self._endpoint = endpoint
        self.address = address
        self.name = f"rawip {address}:{endpoint.protocol}"
        self.source = f"{address} {endpoint.protocol}"
        self.datagram_ceiling = 1480  # of Ethernet: 1,500 bytes less the IPv4 header
        self.resize(_FLOOR)

    @property
    def full(self) -> bool:
        return self._endpoint.full

    def resize(self, datagram: int) -> None:
        self.datagram = datagram
        self.unit = datagram - HEADER_SIZE
        self.max_record = min(MAX_PIECES, 65536 // self.unit) * self.unit

    def send(self, records: Sequence[Record]) -> None:
        for record in records:
            if len(record.body) > self.max_record:
                self._endpoint.drops.count(DropReason.LINK_OVERSIZE)
                continue
            pieces = cut_record(record, self.unit)  # header, body, header, body, ...
            for at in range(0, len(pieces), 2):
                self._endpoint.send(b"".join(pieces[at : at + 2]), self.address)

    def probe(self, record: Record) -> None:
        self._endpoint.send(encode_header(0, 1, record.session, record.counter) + bytes(record.body), self.address)

    def send_messages(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._endpoint.send(message, self.address)

    def close(self) -> None:
        """Nothing: there is no connection."""


class RawEndpoint:
    """A raw socket: any number of links."""

    def __init__(self, protocol: int, host: str, drops: Drops, mark: int = 0) -> None:
        self.protocol, self.drops, self.full = protocol, drops, False
        self.name = f"rawip {host or '0.0.0.0'}:{protocol}"
        self._queue: deque[tuple[bytes, str]] = deque()
        self._links: dict[str, RawLink] = {}
        self._reactor: Reactor | None = None
        try:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
            set_mark(self.sock, mark)  # keeps the tunnel's own packets out of it, with --gateway
            self.sock.bind((host, 0))
        except OSError as error:
            raise NetworkError(f"{self.name}: {error.strerror}: raw sockets need CAP_NET_RAW") from error

    def link(self, address: str) -> RawLink:
        if len(self._links) >= 1024:  # anybody can send a packet: no address may cost memory for ever
            self._links.clear()
        return self._links.setdefault(address, RawLink(self, address))

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        self._reactor, self._arrivals, self._assembler = reactor, arrivals, Assembler(self.drops, sessions)
        reactor.add_reader(self.sock.fileno(), self._readable)

    def close(self) -> None:
        if self._reactor is not None and self.sock.fileno() >= 0:
            self._reactor.remove_reader(self.sock.fileno())
            self._reactor.remove_writer(self.sock.fileno())
        self.sock.close()

    def send(self, packet: bytes, address: str) -> None:
        if self.full:
            if len(self._queue) < SEND_QUEUE:
                self._queue.append((packet, address))
            else:
                self.drops.count(DropReason.LINK_FULL)
            return
        try:
            self.sock.sendto(packet, (address, 0))
        except BlockingIOError:
            self._queue.append((packet, address))
            self.full = True
            if self._reactor is not None:
                self._reactor.add_writer(self.sock.fileno(), self._writable)
        except OSError:
            self.drops.count(DropReason.LINK_REFUSED)

    def _writable(self) -> None:
        assert self._reactor is not None
        self.full, waiting = False, list(self._queue)
        self._queue.clear()
        self._reactor.remove_writer(self.sock.fileno())
        for packet, address in waiting:
            self.send(packet, address)
        if not self.full:
            self._arrivals.drained()

    def _readable(self) -> None:
        for _ in range(_READS):
            try:
                packet, (address, _) = self.sock.recvfrom(65535)
            except OSError:
                break
            content = memoryview(packet)[(packet[0] & 15) * 4 :]  # behind the IPv4 header, which raw sockets give too
            records: list[Record] = []
            messages: list[bytes] = []
            now = 0.0 if self._reactor is None else self._reactor.time()  # type: ignore[attr-defined]
            self._assembler.burst(address, content, max(len(content), 1), now, (records, messages))
            if records:
                self._arrivals.records(self.link(address), records)
            if messages:
                self._arrivals.messages(self.link(address), messages)
        self._arrivals.burst_end()


class RawIp:
    """What the entry point names."""

    name = "rawip"
    default_port = 253

    def listen(self, where: Target, context: Context) -> RawEndpoint:
        key = (self.name, where.port)
        if key not in context.shared:  # one socket to a protocol number, for calls in both directions
            context.shared[key] = RawEndpoint(where.port, where.host, context.drops, context.options.mark)
            context.shared[key].start(context.loop, context.arrivals, context.sessions)
        endpoint: RawEndpoint = context.shared[key]
        return endpoint

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        return None

    async def dial(self, target: Target, context: Context) -> list[Link]:
        try:
            found = await context.loop.getaddrinfo(target.host, None, family=socket.AF_INET, type=socket.SOCK_RAW)
        except OSError as error:
            raise NetworkError(f"{target.host}: name not found ({error.strerror})") from error
        endpoint = self.listen(Target("", target.port), context)
        return [endpoint.link(str(address[0])) for *_, address in found]


TRANSPORT = RawIp()
