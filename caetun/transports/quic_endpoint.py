"""QUIC on a UDP socket: tells connections apart by their connection ids, takes in strangers, within limits.

An incoming packet:  UdpEndpoint -> QuicEndpoint.receive -> (by connection id) Connection.receive -> QuicLink.received
and what it leads to is sent when nothing more is waiting:  burst_end -> QuicLink.settle

A stranger's first packet makes a connection, a TLS handshake of some milliseconds. So there are at most `MAX_STRANGERS`
of them, and when there are many, a stranger first has to show that it gets what is sent to its address (Retry, RFC 9000
section 8.1.2). Whoever the core does not answer is a stranger still, and is sent away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from aioquic._buffer import Buffer as QuicBuffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from caetun.transports.base import Arrivals, Context, Reactor, Sessions
from caetun.transports.mmsg import address_of
from caetun.transports.pieces import Assembler
from caetun.transports.quic_link import MAX_STRANGER_BYTES, QuicLink
from caetun.transports.quic_packets import CID_SIZE, GAP, LONG_HEADER, apart, cid_of
from caetun.transports.quic_tls import without_streams
from caetun.transports.udp_endpoint import UdpEndpoint
from caetun.transports.udp_link import Elsewhere
from caetun.transports.udp_socket import Address
from caetun.types import DropReason

# fixed by the specification
MIN_INITIAL: Final = 1200
"""Bytes of a datagram with a client's Initial packet, at least (RFC 9000 section 14.1)."""

# chosen by us
MAX_STRANGERS: Final = 256
"""Connections that the core has not answered on; the oldest gives way."""
RETRY_STRANGERS: Final = 32
"""So many of them, and a new one must show that its address is its own."""
MAX_LINKS: Final = 4096
"""Connections at one socket."""


class QuicEndpoint:
    """All QUIC connections of one UDP socket, dialled and accepted; fulfils `udp_endpoint.Attached`."""

    def __init__(self, udp: UdpEndpoint, context: Context) -> None:
        """Has started when it is made: the socket has."""
        self.udp = udp
        self.context = context
        self.assembler = Assembler(context.drops, context.sessions, GAP)
        self._server: QuicConfiguration | None = None
        self._routes: dict[bytes, QuicLink] = {}
        """By connection id, and by what clients call us before they know one."""
        self._links: dict[QuicLink, None] = {}
        self._strangers: dict[QuicLink, int] = {}
        """Links that the core has not answered on, the oldest first, and bytes that came in of their handshake."""
        self._touched: dict[QuicLink, None] = {}
        self._retry = QuicRetryTokenHandler()
        udp.attach(self)

    @property
    def name(self) -> str:
        """For people: transport and local address."""
        return f"quic {self.udp.where}"

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def serve(self, configuration: QuicConfiguration) -> None:
        """Take in connections from now on."""
        self._server = configuration

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        """Nothing: it has."""

    def close(self) -> None:
        """End all connections, and take in no more; the socket is the UDP endpoint's."""
        self._server = None
        for link in list(self._links):
            link.close()

    # links

    def call(self, configuration: QuicConfiguration, address: Address) -> QuicLink:
        """A link whose handshake begins now; `address` as `mmsg.address_of` writes it."""
        link = self._add(without_streams(QuicConnection(configuration=configuration)), address, accepted=False)
        now = time.monotonic()
        link.connection.connect(now)
        link.settle(now)
        return link

    def _add(self, quic: QuicConnection, address: Address, accepted: bool) -> QuicLink:
        link = QuicLink(self, quic, address, accepted)
        self._links[link] = None
        self._routes[quic.host_cid] = link
        return link

    def route(self, cid: bytes, link: QuicLink | None) -> None:
        """What comes for a connection id is for this link; None: for nobody."""
        if link is None:
            self._routes.pop(cid, None)
        else:
            self._routes[cid] = link

    def proven(self, link: QuicLink) -> None:
        """The core has answered on a link."""
        self._strangers.pop(link, None)

    def forget(self, link: QuicLink) -> None:
        """A link is gone."""
        self._links.pop(link, None)
        self._strangers.pop(link, None)
        self._touched.pop(link, None)
        for cid in [*link.connection.cids, link.connection.quic.original_destination_connection_id]:
            if self._routes.get(cid) is link:
                del self._routes[cid]

    # inbound

    def receive(self, source: bytes, bursts: Sequence[tuple[memoryview, int]], now: float) -> None:
        """Datagrams of one source. Hot: neighbours for one connection go to it together."""
        link: QuicLink | None = None
        waiting: list[tuple[memoryview, int]] = []
        for burst in bursts:
            view, _size = burst
            if view[0] & LONG_HEADER:
                for packet in apart([burst]):
                    self._long(packet, source, now)
                continue
            here = self._routes.get(cid_of(view))
            if here is not link:
                if link is not None:
                    self._hand_over_unless_crowded(link, source, waiting, now)
                link, waiting = here, []
            if here is None:
                self.context.drops.count(DropReason.QUIC_UNKNOWN)
            else:
                waiting.append(burst)
        if link is not None:
            self._hand_over_unless_crowded(link, source, waiting, now)

    def _hand_over_unless_crowded(
        self, link: QuicLink, source: bytes, bursts: Sequence[tuple[memoryview, int]], now: float
    ) -> None:
        """Packets of a far end of which enough waits are dropped as they are: opening them would hold up the others,
        and what is not acknowledged tells its congestion control to slow down. Its own acknowledgements are among
        them: what it gets is slowed down, too, until it floods less."""
        if self.context.arrivals.crowded(link):
            self.context.drops.count(DropReason.RECORD_LATE, sum(-(-len(view) // size) for view, size in bursts))
        else:
            self._hand_over(link, source, bursts, now)

    def _hand_over(self, link: QuicLink, source: bytes, bursts: Sequence[tuple[memoryview, int]], now: float) -> None:
        self._touched[link] = None
        link.connection.receive(source, bursts, now)

    def _long(self, packet: memoryview, source: bytes, now: float) -> None:
        """A packet of a handshake: of a connection that is there, or a stranger's first. Or a short one among such."""
        data = bytes(packet)
        try:
            header = pull_quic_header(QuicBuffer(data=data), host_cid_length=CID_SIZE)
        except ValueError:
            self.context.drops.count(DropReason.QUIC_MALFORMED)
            return
        link = self._routes.get(header.destination_cid)
        if link is None:
            link = self._greet(header, data, address_of(source), now)
        if link is None:
            return
        if link in self._strangers:
            self._strangers[link] += len(data)
            if self._strangers[link] > MAX_STRANGER_BYTES and not link.connection.is_open:
                link.send_away(now)
                return
        self._hand_over(link, source, [(packet, len(packet))], now)

    def stray(self, packet: memoryview, source: bytes, now: float, came_to: QuicLink) -> None:
        """A packet that came in a burst for one link carries the connection id of another, or of none."""
        link = self._routes.get(cid_of(packet))
        if link is None or link is came_to:
            self.context.drops.count(DropReason.QUIC_UNKNOWN)
        else:
            self._hand_over(link, source, [(packet, len(packet))], now)

    def burst_end(self, now: float) -> None:
        """Nothing more is waiting: what came is acknowledged, what waited for that is sent."""
        while self._touched:
            link, _ = self._touched.popitem()
            link.settle(now)

    def drained(self) -> None:
        """The socket takes more again."""
        now = time.monotonic()
        links = list(self._links)
        for link in links:
            link.settle(now)
        if not any(link.full for link in links):
            self.context.arrivals.drained()

    # strangers

    def _greet(self, header: QuicHeader, data: bytes, address: Address, now: float) -> QuicLink | None:
        """A link to whoever sends a first packet; None if it gets another answer, or none."""
        drops, server = self.context.drops, self._server
        negotiates = header.packet_type == QuicPacketType.VERSION_NEGOTIATION
        if server is None or negotiates or header.version is None or len(data) < MIN_INITIAL:
            drops.count(DropReason.QUIC_UNKNOWN)
            return None
        if header.version not in server.supported_versions:
            answer = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=server.supported_versions,
            )
            self.udp.send_burst([answer], len(answer), Elsewhere(address), 1)
            return None
        if header.packet_type != QuicPacketType.INITIAL:
            drops.count(DropReason.QUIC_UNKNOWN)
            return None
        if len(self._links) >= MAX_LINKS:
            drops.count(DropReason.QUIC_LIMIT)
            return None
        return self._admit(server, header, address, now)

    def _admit(self, server: QuicConfiguration, header: QuicHeader, address: Address, now: float) -> QuicLink | None:
        """Let a stranger in, if its address is its own where there are many."""
        original, retried = header.destination_cid, None
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=address, destination_cid=header.destination_cid, token=header.token, now=now
                )
            except ValueError:
                self.context.drops.count(DropReason.QUIC_MALFORMED)
                return None
            retried = header.destination_cid
        elif len(self._strangers) >= RETRY_STRANGERS:
            self._ask_again(header, address, now)
            return None
        if len(self._strangers) >= MAX_STRANGERS:
            self.context.drops.count(DropReason.QUIC_LIMIT)
            next(iter(self._strangers)).send_away(now)
        quic = without_streams(
            QuicConnection(
                configuration=server,
                original_destination_connection_id=original,
                retry_source_connection_id=retried,
            )
        )
        link = self._add(quic, address, accepted=True)
        link.connection.cids.add(header.destination_cid)
        self._routes[header.destination_cid] = link
        self._strangers[link] = 0
        return link

    def _ask_again(self, header: QuicHeader, address: Address, now: float) -> None:
        """Have a stranger repeat its first packet with a token that only its address gets."""
        assert header.version is not None
        cid = os.urandom(CID_SIZE)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=cid,
            now=now,
        )
        answer = encode_quic_retry(
            version=header.version,
            source_cid=cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self.udp.send_burst([answer], len(answer), Elsewhere(address), 1)
