"""The way to one far end over one QUIC connection; fulfils the link contract.

A message or piece of a record travels in one DATAGRAM frame, as it does in one datagram over UDP. Sizes are those of
messages: `datagram` is what one QUIC packet carries of them, so that path MTU discovery, which counts messages, probes
sizes that the path can have. Congestion control says what may leave: the rest waits here, and the link is full.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aioquic.quic.connection import QuicConnection

from caetun.transports.base import SEND_QUEUE
from caetun.transports.bursts import bursts_of
from caetun.transports.pieces import Assembler
from caetun.transports.quic_connection import Connection
from caetun.transports.quic_words import GOING, STRANGER
from caetun.transports.udp_link import names_of
from caetun.transports.udp_socket import FLOOR, MAX_BURST, Address
from caetun.types import Buffer, DropReason
from caetun.wire.handshake import only_challenges
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, Record, encode_header

if TYPE_CHECKING:
    import asyncio

    from caetun.transports.quic_endpoint import QuicEndpoint

# chosen by us
PROVE_SECONDS: Final = 10.0
"""For a stranger to complete the handshake and send a message that the core answers."""
MAX_STRANGER_MESSAGES: Final = 16
"""Messages that nobody answers before a stranger is sent away; the longest handshake message has 4 pieces."""
MAX_STRANGER_BYTES: Final = 1 << 16
"""Bytes taken in of a handshake: ten times what one takes, and little against what aioquic would keep of it."""
TIMER_COARSE: Final = 0.02
"""Seconds: while a timer comes so soon, nobody looks for a sooner one but those of `Connection.soon`: what else can
become due is a probe timeout, at least the 25 ms after a packet that the far end may take for its acknowledgement, or
during the handshake, where one may come so much late."""
TIMER_SLACK: Final = 0.0005
"""Seconds by which a timer may come early: it is not set anew for less."""


class QuicLink:
    """A QUIC connection to one far end."""

    def __init__(self, home: QuicEndpoint, quic: QuicConnection, address: Address, accepted: bool) -> None:
        self._home = home
        self._context = home.context
        self.accepted = accepted
        self.proven = not accepted
        """Whether the core has answered on it."""
        now = time.monotonic()
        self._prove_by = now + PROVE_SECONDS
        self._strange_messages = 0
        self.connection = Connection(quic, self, home.udp, address)
        self._assembler: Assembler = home.assembler
        self._arrived: tuple[list[Record], list[bytes]] = [], []
        """Records and other messages that the core has not been given yet."""
        self._queue: deque[list[Buffer]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._was_full = False
        self.refusal = ""
        """Why the network last refused a datagram; "" if it never did."""
        self.waiter: asyncio.Future[None] | None = None
        """Who waits for the end of the handshake."""
        self.source, self.name = names_of("quic", address)
        self.resize(FLOOR)

    # what the node uses

    @property
    def address(self) -> Address:
        """The far address now."""
        return self.connection.address

    @property
    def full(self) -> bool:
        """Whether the network takes no more just now."""
        return bool(self._queue) or self._home.udp.full

    @property
    def datagram_ceiling(self) -> int:
        """Longest message in bytes that the local interface and the far end take in one packet."""
        carried = self._home.udp.ceiling(self.address) - self.connection.overhead
        return min(carried, self._longest) if self._longest else carried

    @property
    def _longest(self) -> int:
        """Bytes of message that the far end takes in one frame (RFC 9221 section 3); 0 if it takes none."""
        return max(0, (self.connection.quic._remote_max_datagram_frame_size or 0) - 1)

    def resize(self, datagram: int) -> None:
        """Use messages of up to this many bytes from now on."""
        self.datagram = datagram
        self.unit = datagram - HEADER_SIZE
        size = datagram + self.connection.overhead
        self.max_record = min(MAX_PIECES, MAX_BURST // size) * self.unit
        self._resize_connection()

    def send(self, records: Sequence[Record]) -> None:
        """Send records, in order. Hot: once a batch."""
        self._prove()
        now = time.monotonic()
        if len(records) == 1 and len(records[0].body) <= self.unit:
            record = records[0]
            self._offer([encode_header(0, 1, record.session, record.counter), record.body], now)
        else:
            for parts, _size in bursts_of(records, self.unit, self.max_record, self._context.drops):
                self._offer(parts, now)
        self._arm(now)

    def probe(self, record: Record) -> None:
        """Send a record in a single packet, however large."""
        self._prove()
        now = time.monotonic()
        head = encode_header(0, 1, record.session, record.counter)
        if self.connection.send([head, record.body], now, probe=True):
            self._context.drops.count(DropReason.LINK_FULL)
        self._arm(now)

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Send handshake messages. Who only gets challenges is as much a stranger as before."""
        if not self.proven and not only_challenges(messages):
            self._prove()
        now = time.monotonic()
        for message in messages:
            if message:
                self._offer([b"", message], now)
        self._arm(now)

    def close(self) -> None:
        """End the connection."""
        if not self.connection.over:
            self.connection.close(GOING, "", time.monotonic())
        self._gone("closed")

    # sending

    def _prove(self) -> None:
        """The core has answered: whoever is there is no stranger."""
        if not self.proven:
            self.proven = True
            self._home.proven(self)

    def _offer(self, parts: list[Buffer], now: float) -> None:
        """Send messages of equal size, or keep what must wait."""
        if self.connection.over:
            self._context.drops.count(DropReason.LINK_REFUSED)
        elif self._queue:
            if len(self._queue) >= SEND_QUEUE:
                self._context.drops.count(DropReason.LINK_FULL)
            else:
                self._queue.append(parts)
        else:
            rest = self.connection.send(parts, now)
            if rest:
                self._queue.append(rest)
                self._was_full = True

    def _send_waiting(self, now: float) -> None:
        """More may be sent, perhaps."""
        queue = self._queue
        while queue:
            rest = self.connection.send(queue[0], now)
            if rest:
                queue[0] = rest
                return
            queue.popleft()

    def settle(self, now: float) -> None:
        """Nothing more is waiting at the socket, or it takes more: acknowledge, send, set the timer."""
        if self.connection.over:
            return
        if self._queue:
            self._send_waiting(now)
        self.connection.settle(now)
        if self._was_full and not self.full:
            self._was_full = False
            self._context.arrivals.drained()
        self._arm(now)

    def refused(self, why: str, too_big: int) -> None:
        """The network took a datagram not."""
        self.refusal = why
        if too_big and self.connection.is_open:
            self._context.arrivals.too_big(self, too_big - self.connection.overhead)

    def _resize_connection(self) -> None:
        if self.connection.is_open:
            self.connection.resize(self.datagram + self.connection.overhead)

    # what the connection tells

    def established(self, now: float) -> None:
        """The handshake is over."""
        self._resize_connection()
        if self._longest < FLOOR:
            self.end("the far end takes no datagrams: it is no tunnel", now)
            return
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def received(self, messages: memoryview, size: int, now: float) -> None:
        """Messages have come in. Hot: once a burst."""
        self._assembler.burst(self, messages, size, now, self._arrived)

    def delivered(self) -> None:
        """Give the core what has come in, in one go: the host then answers several bursts by one frame."""
        records, others = self._arrived
        if not records and not others:
            return
        self._arrived = [], []
        if records:
            self._context.arrivals.records(self, records)
        if others:
            self._context.arrivals.messages(self, others)
            if not self.proven:
                self._strange_messages += len(others)
                if self._strange_messages > MAX_STRANGER_MESSAGES:
                    self.send_away(time.monotonic())

    def known_as(self, cid: bytes, known: bool) -> None:
        """The far end may use this connection id from now on, or no more."""
        self._home.route(cid, self if known else None)

    def stray(self, packet: memoryview, source: bytes, now: float) -> None:
        """A packet for another connection came in the same burst."""
        self._home.stray(packet, source, now, self)

    def moved(self) -> None:
        """The far end has another address now: the link is the same."""
        self.source, self.name = names_of("quic", self.address)

    def ended(self, why: str) -> None:
        """The connection is over."""
        self.delivered()
        known = self.waiter is None and self.proven
        self._gone(why)
        if known:
            self._context.arrivals.closed(self, why)

    def end(self, why: str, now: float) -> None:
        """End the connection ourselves, for a reason."""
        self.connection.close(STRANGER, "", now)
        self.ended(why)

    def send_away(self, now: float) -> None:
        """Nobody knows who this is."""
        self._context.drops.count(DropReason.QUIC_STRANGER)
        self.connection.close(STRANGER, "", now)
        self._gone("a stranger")

    def _gone(self, why: str) -> None:
        """Give everything back."""
        self._queue.clear()
        self._arrived = [], []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionError(why))
        self._home.forget(self)

    # time

    def _arm(self, now: float) -> None:
        """Set the timer, unless it comes early enough anyway."""
        soon, coarse = self.connection.soon(), now + TIMER_COARSE
        if self._timer is not None and self._timer_at <= min(coarse, soon + TIMER_SLACK):
            return
        # What is overdue may be what the path does not take yet: then aioquic knows what to wait for.
        due = soon if now < soon < coarse else self.connection.next_deadline()
        if not self.proven and not self.connection.over:
            due = self._prove_by if due is None else min(due, self._prove_by)
        if due is None:
            return
        if self._timer is not None:
            if self._timer_at <= due + TIMER_SLACK:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._context.loop.call_later(max(0.0, due - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        if not self.proven and now >= self._prove_by:
            self.send_away(now)
            return
        due = self.connection.next_deadline()
        if due is not None and now >= due - TIMER_SLACK:
            self.connection.tick(max(now, due))
        self.settle(now)
