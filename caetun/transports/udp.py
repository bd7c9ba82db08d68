"""The transport UDP, and which socket of a tunnel serves what: transports over UDP share them.

One socket a family listens and calls. A far end that roams then sees one address of ours, and a firewall that lets in
what answers our call lets in the far end's call as well.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Final

from caetun.errors import ConfigurationError, NetworkError
from caetun.transports.base import Context, Endpoint, Link, Target
from caetun.transports.registry import DEFAULT_PORTS
from caetun.transports.udp_endpoint import UdpEndpoint, open_udp
from caetun.transports.udp_socket import Address, reaches

_ANY: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


class UdpSockets:
    """The UDP sockets of one tunnel; `udp_sockets` finds them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._listening: dict[tuple[str, int], UdpEndpoint] = {}
        """By host and port as they were asked for."""
        self._calling: dict[socket.AddressFamily, UdpEndpoint] = {}
        """Sockets that nobody listens on, made when none of those reaches a far end."""

    def listen(self, where: Target) -> UdpEndpoint:
        """The socket at an address of this host, for IPv6 and IPv4 at once if `where` has none.

        Raises NetworkError, or ConfigurationError if the host is a name.
        """
        key = where.host, where.port
        endpoint = self._listening.get(key)
        if endpoint is None:
            endpoint = self._listening[key] = self._started(self._bound(where))
        return endpoint

    def _bound(self, where: Target) -> UdpEndpoint:
        drops, mark = self._context.drops, self._context.options.mark
        if where.host:
            address = _numeric(where.host)
            if address is None:
                raise ConfigurationError(f"listen: {where.host!r} is a name: give an address of this host, or none")
            return open_udp(str(address), where.port, _family(address), drops, mark)
        try:
            return open_udp("::", where.port, socket.AF_INET6, drops, mark)
        except NetworkError as error:
            # No IPv6 on this host: IPv4 alone serves. A port that is taken fails again here, with its reason.
            self._context.report("debug", "listen.ipv4-only", f"no IPv6 here: {error}")
            return open_udp("0.0.0.0", where.port, socket.AF_INET, drops, mark)

    def _started(self, endpoint: UdpEndpoint, native: bool = False) -> UdpEndpoint:
        endpoint.native = native
        endpoint.start(self._context.loop, self._context.arrivals, self._context.sessions)
        return endpoint

    def towards(self, host: str, port: int) -> tuple[UdpEndpoint, Address]:
        """The socket to call a numeric address from, and that address in the socket's form.

        One that is listened on if it reaches there, or else one of its own. Raises NetworkError.
        """
        family = _family(ipaddress.ip_address(host))
        for endpoint in self._listening.values():
            address: Address = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
            if endpoint.dual_stack:
                return endpoint, (f"::ffff:{host}", port, 0, 0) if family == socket.AF_INET else address
            if endpoint.family == family and reaches(endpoint.local, family, address, endpoint.mark):
                return endpoint, address
        if family not in self._calling:
            opened = open_udp(_ANY[family], 0, family, self._context.drops, self._context.options.mark)
            self._calling[family] = self._started(opened)
        return self._calling[family], (host, port) if family == socket.AF_INET else (host, port, 0, 0)

    async def addresses(self, target: Target) -> list[tuple[UdpEndpoint, Address]]:
        """The same for every address that a name has, in the resolver's order (RFC 6724); raises NetworkError."""
        try:
            answers = await self._context.loop.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise NetworkError(f"name not found ({error.strerror}): check the name and this host's DNS") from error
        found: list[tuple[UdpEndpoint, Address]] = []
        for *_, address in answers:
            with contextlib.suppress(NetworkError):  # this host lacks the address family
                found.append(self.towards(str(address[0]), target.port))
        if not found:
            raise NetworkError("no address of this host's address families")
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Give all sockets back."""
        for endpoint in (*self._listening.values(), *self._calling.values()):
            endpoint.close()


def udp_sockets(context: Context) -> UdpSockets:
    """The UDP sockets of a tunnel; whoever closes what is in `context.shared` closes them."""
    sockets = context.shared.get(UdpSockets)
    if not isinstance(sockets, UdpSockets):
        sockets = context.shared[UdpSockets] = UdpSockets(context)
    return sockets


class Udp:
    """Datagrams as they are: `udp://host:4500`. Fulfils `transports.base.Transport`."""

    name = "udp"
    default_port = DEFAULT_PORTS["udp"]

    def listen(self, where: Target, context: Context) -> Endpoint:
        """Wait for far ends. Raises NetworkError or ConfigurationError in one line."""
        endpoint = udp_sockets(context).listen(where)
        endpoint.native = True
        return endpoint

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        """The link to a numeric address; None for a name. Raises NetworkError."""
        if _numeric(target.host) is None:
            return None
        return _links([udp_sockets(context).towards(target.host, target.port)])

    async def dial(self, target: Target, context: Context) -> list[Link]:
        """A link to every address of a name. Raises NetworkError."""
        return _links(await udp_sockets(context).addresses(target))


def _links(ways: list[tuple[UdpEndpoint, Address]]) -> list[Link]:
    links: list[Link] = []
    for endpoint, address in ways:
        endpoint.native = True
        links.append(endpoint.link(address))
    return links


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, if it is one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _family(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> socket.AddressFamily:
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


UDP: Final = Udp()
