"""The link contract: what every way to a far end promises, at its weakest.

Outbound the node hands a link sealed records; inbound an endpoint hands the shell whatever arrived in one burst.
A new transport is one file that fulfils `Link` and `Endpoint` and passes `tests/transports/test_contract.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Protocol, TypeAlias

from caetun.wire.record import Record


class Link(Protocol):
    """One way to one far end.

    What it promises, and no more:

    - A record arrives whole or not at all, and unchanged as far as the network is honest: the seal proves it.
    - Records may be lost, duplicated and reordered.
    - `send` never blocks and keeps the records' bodies only until they are on their way: bodies are immutable bytes.
    - A link that cannot take more says so by `full`; what is sent nevertheless may be dropped, counted as `link.full`.
    - Records of up to `unit` bytes of body are lost one by one; a longer one, up to `max_record`, is lost as a whole
      when any part of it is.
    """

    @property
    def name(self) -> str:
        """For people: transport and far address, `udp 192.0.2.1:4500`."""

    @property
    def source(self) -> str:
        """The far address in the form that handshake cookies are bound to: address, space, port."""

    @property
    def unit(self) -> int:
        """Longest record body in bytes that travels in one piece."""

    @property
    def max_record(self) -> int:
        """Longest record body in bytes at all, at least `unit`."""

    @property
    def full(self) -> bool:
        """Whether the network takes no more just now."""

    @property
    def datagram(self) -> int:
        """Bytes of the datagrams in use; 0 on a stream link."""

    @property
    def datagram_ceiling(self) -> int | None:
        """Largest datagram in bytes that the local interface could send to this far end; None on a stream link."""

    def resize(self, datagram: int) -> None:
        """Use datagrams of this many bytes from now on (path MTU discovery). Nothing on a stream link."""

    def send(self, records: Sequence[Record]) -> None:
        """Send records, in order."""

    def probe(self, record: Record) -> None:
        """Send a record in a single datagram, whatever `unit` is: it asks whether one of that size gets through."""

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Send handshake messages, each at most 1,200 bytes, each whole or not at all."""


class Arrivals(Protocol):
    """Where an endpoint puts what came in. Views in records end with the call."""

    def records(self, link: Link, records: list[Record]) -> None:
        """Records from one far end, in order of arrival."""

    def messages(self, link: Link, messages: list[bytes]) -> None:
        """Datagrams that are not records: handshake messages, or garbage."""

    def drained(self) -> None:
        """A link of this endpoint that was full takes more again."""

    def burst_end(self) -> None:
        """Nothing more is waiting at this endpoint right now."""

    def too_big(self, link: Link, datagram: int) -> None:
        """The local kernel refused a datagram of this size."""


class Reactor(Protocol):
    """The part of an event loop that endpoints and devices use; `asyncio.AbstractEventLoop` has it."""

    def add_reader(self, fd: int, callback: Callable[[], object]) -> object:
        """Call back whenever the descriptor is readable."""

    def remove_reader(self, fd: int) -> object:
        """Stop that."""

    def add_writer(self, fd: int, callback: Callable[[], object]) -> object:
        """Call back whenever the descriptor is writable."""

    def remove_writer(self, fd: int) -> object:
        """Stop that."""


Sessions: TypeAlias = Container[int]
"""The session indices this side has given out: a piece of a record for another is dropped before it takes memory."""


class Endpoint(Protocol):
    """A local socket, or what else links start from."""

    @property
    def name(self) -> str:
        """For people: transport and local address."""

    def start(self, reactor: Reactor, arrivals: Arrivals, sessions: Sessions) -> None:
        """Begin to receive."""

    def close(self) -> None:
        """Stop, and give everything back. May be called twice."""


SEND_QUEUE: int = 64
"""Chosen by us: bursts a link keeps while its socket is full. The device is not read meanwhile, so that this holds only
what one wake-up produced, and control messages."""
