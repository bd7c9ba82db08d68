"""The transport QUIC: `quic://host:443`. DATAGRAM frames (RFC 9221) on UDP sockets shared with the transport UDP.

quic.py             listen and dial
quic_endpoint.py    connections of one socket; strangers
quic_link.py        the link contract: sizes, what waits
quic_connection.py  aioquic, and the fast way past it
quic_packets.py     bytes of packets
quic_recovery.py    what is in flight, lost, acknowledged
quic_tls.py, quic_words.py   how it is set up, and what its end means
quic_late.py        aioquic, without what it rarely needs
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import caetun.transports.quic_late  # noqa: F401  # before whatever imports aioquic
from caetun.errors import NetworkError
from caetun.transports.base import Context, Endpoint, Link, Target
from caetun.transports.mmsg import address_of, source_of
from caetun.transports.quic_endpoint import QuicEndpoint
from caetun.transports.quic_link import QuicLink
from caetun.transports.quic_tls import check_server, client_configuration, server_configuration
from caetun.transports.registry import DEFAULT_PORTS
from caetun.transports.udp import udp_sockets
from caetun.transports.udp_endpoint import UdpEndpoint
from caetun.transports.udp_socket import Address

# chosen by us
DIAL_SECONDS: Final = 10.0
"""For the handshake: its first packet is repeated after 0.2, 0.6, 1.4, 3.0 and 6.2 s."""
GRACE_SECONDS: Final = 0.1
"""After the first address of a host has answered, for others to do so."""
MAX_ADDRESSES: Final = 8
"""Addresses of a name that are called."""


class Quic:
    """Fulfils `transports.base.Transport`."""

    name = "quic"
    default_port = DEFAULT_PORTS["quic"]

    def listen(self, where: Target, context: Context) -> Endpoint:
        """Wait for far ends. Raises NetworkError or ConfigurationError in one line."""
        configuration = server_configuration(context)
        endpoint = _endpoint_on(udp_sockets(context).listen(where), context)
        endpoint.serve(configuration)
        return endpoint

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        """None: a handshake takes its time."""
        return None

    async def dial(self, target: Target, context: Context) -> list[Link]:
        """Links to all addresses of a host that answer about as fast as the first. Raises NetworkError."""
        where = f"quic {target.host}:{target.port}"
        try:
            ways = (await udp_sockets(context).addresses(target))[:MAX_ADDRESSES]
        except NetworkError as error:
            raise NetworkError(f"{where}: {error}") from error
        calls = [asyncio.ensure_future(_call(udp, address, target, context)) for udp, address in ways]
        try:
            links = await _first_of(calls)
        except BaseException:
            _give_up(calls)
            raise
        if links:
            return list(links)
        failures = dict.fromkeys(str(call.exception()) for call in calls)
        raise NetworkError(f"{where}: {'; '.join(failures)}")


async def _call(udp: UdpEndpoint, address: Address, target: Target, context: Context) -> QuicLink:
    """One link, once the far end has completed the handshake. Raises NetworkError."""
    canonical = address_of(source_of(address))
    link = _endpoint_on(udp, context).call(client_configuration(target.host, context.options), canonical)
    link.waiter = asyncio.get_running_loop().create_future()
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            await link.waiter
        check_server(link.connection.quic, target.host, context)
    except TimeoutError:
        link.close()
        raise NetworkError(f"no answer within {DIAL_SECONDS:.0f} s" + _refusal(link)) from None
    except ConnectionError as error:
        raise NetworkError(f"{error}") from None
    except BaseException:
        link.close()
        raise
    link.waiter = None
    return link


def _refusal(link: QuicLink) -> str:
    return f": {link.refusal}" if link.refusal else ""


async def _first_of(calls: Iterable[asyncio.Task[QuicLink]]) -> list[QuicLink]:
    """Those that have succeeded soon after the first has; the rest is given up."""
    pending = set(calls)
    links: list[QuicLink] = []
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=GRACE_SECONDS if links else None, return_when=asyncio.FIRST_COMPLETED
        )
        links += [call.result() for call in done if call.exception() is None]
        if not done:
            break
    for call in pending:
        call.cancel()
    return links


def _give_up(calls: Iterable[asyncio.Task[QuicLink]]) -> None:
    for call in calls:
        if call.done() and not call.cancelled() and call.exception() is None:
            call.result().close()
        call.cancel()


def _endpoint_on(udp: UdpEndpoint, context: Context) -> QuicEndpoint:
    """The QUIC endpoint of a socket; whoever closes what is in `context.shared` closes it."""
    key = QuicEndpoint, udp
    endpoint = context.shared.get(key)
    if not isinstance(endpoint, QuicEndpoint):
        endpoint = context.shared[key] = QuicEndpoint(udp, context)
    return endpoint


QUIC: Final = Quic()
