"""The link contract: what every way to a far end promises, at its weakest.

Outbound the node hands a link sealed records; inbound an endpoint hands the shell whatever arrived in one burst.
A new transport is one file that fulfils `Link` and `Endpoint` and passes `tests/transports/test_contract.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from caetun.types import Drops
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

    def close(self) -> None:
        """Nobody will use the link any more: end its connection, if it has one. May be called twice."""


class Arrivals(Protocol):
    """Where an endpoint puts what came in. Views in records end with the call."""

    def records(self, link: Link, records: list[Record]) -> None:
        """Records from one far end, in order of arrival."""

    def messages(self, link: Link, messages: list[bytes]) -> None:
        """Datagrams that are not records: handshake messages, or garbage."""

    def drained(self) -> None:
        """A link of this endpoint that was full takes more again."""

    def burst_end(self) -> bool:
        """Nothing more was found waiting at this endpoint.

        Returns whether records wait to be opened: then all there is should be taken next time, for others' sake.
        """

    def crowded(self, link: Link) -> bool:
        """Whether what this link brings would be dropped: not worth a look. Need not be asked unless records wait."""

    def too_big(self, link: Link, datagram: int) -> None:
        """The local kernel refused a datagram of this size."""

    def closed(self, link: Link, why: str) -> None:
        """A link is gone, by the far end or the network, for a reason in words; not called after `Link.close`."""


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


class Target(NamedTuple):
    """Where a transport goes to, or waits."""

    host: str
    """Name or address without brackets; "" for every local address."""
    port: int
    """0..65535; 0 lets the kernel choose one to wait at."""
    path: str = ""
    """Of the URL, from its slash on; "" where there is none."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says about outer layers. Files are read when they are first needed."""

    proxy: str = field(default="", repr=False)
    """URL of a proxy for stream transports, `http://user:password@host:port` or `socks5://...`; "" for none."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    tls_pin: tuple[str, ...] = ()
    """Fingerprints of acceptable server certificates, `sha256:` and 64 hexadecimal digits."""
    tls_verify: str = "auto"
    """auto: report a certificate that does not verify, once, and go on; strict: refuse it; off: do not look."""
    sni: str = ""
    """Server name to send in TLS; "" for the target's host."""
    host: str = ""
    """Host header of HTTP requests; "" for the target's host."""
    alpn: str = "h3"
    """Application protocol that QUIC announces."""
    decoy: str = ""
    """What strangers see: a directory, the URL of a web server, or "" for a plain 404."""
    mark: int = 0
    """What every outer socket is marked with (`transports.marks.set_mark`); 0 for nothing."""
    state: Path | None = None
    """Directory for what is made on first use and kept (the self-signed certificate)."""


@dataclass(slots=True)
class Context:
    """What the shell lends to the transports of one tunnel."""

    loop: asyncio.AbstractEventLoop
    arrivals: Arrivals
    sessions: Sessions
    drops: Drops
    options: Options
    report: Callable[[str, str, str], None]
    """A line for the log: level (`info`, `warning`, ...), event (`tls.certificate`), text."""
    shared: dict[Hashable, Any] = field(default_factory=dict)
    """Sockets that several transports share, by a key they agree on."""


class Transport(Protocol):
    """A kind of carrier, by the scheme of its URLs. Third parties add theirs by the entry point `caetun.transports`."""

    name: str
    """The scheme: `udp`."""
    default_port: int

    def listen(self, where: Target, context: Context) -> Endpoint:
        """Wait for far ends, and hand over what comes by links of their own. Binds before it returns and has started.

        Raises NetworkError or ConfigurationError in one line.
        """

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        """Links to a target that take no waiting to make; None if it takes some (see `dial`)."""

    async def dial(self, target: Target, context: Context) -> list[Link]:
        """Links to a target, one for each of its addresses that may answer, at least one.

        Takes as long as it takes; cancelling leaves nothing behind. Raises NetworkError (why it failed, in words).
        """


SEND_QUEUE: Final = 64
"""Chosen by us: bursts a link keeps while its socket is full. The device is not read meanwhile, so that this holds only
what one wake-up produced, and control messages."""
