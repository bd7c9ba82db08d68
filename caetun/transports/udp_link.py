"""The way to one far address over UDP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from caetun.transports.bursts import bursts_of
from caetun.transports.udp_socket import FLOOR, MAX_BURST, Address
from caetun.wire.record import HEADER_SIZE, MAX_PIECES, Record, encode_header

if TYPE_CHECKING:
    from caetun.transports.udp_endpoint import UdpEndpoint


class Way(Protocol):
    """Where a burst goes, and who is told when the network refuses it."""

    @property
    def address(self) -> Address:
        """The far address now."""

    def refused(self, why: str, too_big: int) -> None:
        """The network took a datagram not; `too_big`: its bytes if that is why, else 0."""


class Elsewhere:
    """An address that something is sent to once, and nobody waits for."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def refused(self, why: str, too_big: int) -> None:
        """The network took a datagram not."""


class UdpLink:
    """The way to one far address; fulfils the link contract."""

    __slots__ = ("__weakref__", "_endpoint", "address", "datagram", "max_record", "name", "refusal", "source", "unit")

    def __init__(self, endpoint: UdpEndpoint, address: Address) -> None:
        self._endpoint = endpoint
        self.address = address
        self.source, self.name = names_of("udp", address)
        self.refusal = ""
        """Why the network last refused a datagram to this address; "" if it never did."""
        self.resize(FLOOR)

    @property
    def full(self) -> bool:
        """Whether the socket takes no more just now."""
        return self._endpoint.full

    @property
    def datagram_ceiling(self) -> int:
        """Largest datagram in bytes that the local interface could send to this far end, now."""
        return self._endpoint.ceiling(self.address)

    @property
    def seen_from(self) -> tuple[str, int]:
        """The address and port of ours from which datagrams leave for there, before any NAT."""
        return self._endpoint.seen_from(self.address)

    def resize(self, datagram: int) -> None:
        """Use datagrams of this many bytes from now on."""
        self.datagram = datagram
        self.unit = datagram - HEADER_SIZE
        self.max_record = min(MAX_PIECES, MAX_BURST // datagram) * self.unit

    def send(self, records: Sequence[Record]) -> None:
        """Send records. Hot: once a batch."""
        endpoint, unit = self._endpoint, self.unit
        if len(records) == 1 and len(records[0].body) <= unit:
            record = records[0]
            endpoint.send_burst(
                [encode_header(0, 1, record.session, record.counter), record.body], self.datagram, self, 1
            )
            return
        for parts, size in bursts_of(records, unit, self.max_record, endpoint.drops):
            endpoint.send_burst(parts, size, self, len(parts) // 2)

    def probe(self, record: Record) -> None:
        """Send a record in a single datagram, however large."""
        head = encode_header(0, 1, record.session, record.counter)
        self._endpoint.send_burst([head, record.body], HEADER_SIZE + len(record.body), self, 1)

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Send handshake messages."""
        for message in messages:
            self._endpoint.send_burst([message], len(message), self, 1)

    def classify(self, traffic_class: int) -> None:
        """Send with these bits of the IP header from now on: all links of the socket do."""
        self._endpoint.classify(traffic_class)

    def close(self) -> None:
        """Nothing: there is no connection."""

    def refused(self, why: str, too_big: int) -> None:
        """The network took a datagram not."""
        self.refusal = why
        if too_big:
            self._endpoint.too_big(self, too_big)


def names_of(transport: str, address: Address) -> tuple[str, str]:
    """Source (what a cookie is bound to: address, space, port) and name (for people) of a far address."""
    host = address[0].removeprefix("::ffff:")
    return f"{host} {address[1]}", f"{transport} {f'[{host}]' if ':' in host else host}:{address[1]}"
