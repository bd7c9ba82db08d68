"""Names looked up outside of the tunnel, for the tunnel's own use: where the far end is, or a proxy.

The host's resolver asks through the tunnel, once all traffic goes there: it could not find the far end of a tunnel that
is down. So this asks the name servers that the host had before, by sockets that have the tunnel's mark, after
/etc/hosts; if none of them answers, the addresses that a name had the last time serve again.
"""

from __future__ import annotations

import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, TypeAlias

from caetun.gateway import dns
from caetun.transports.marks import set_mark
from caetun.wire.dns import AAAA, MAX_MESSAGE, A, decode_answer, encode_query

Address: TypeAlias = IPv4Address | IPv6Address

# fixed by the specification
_HOSTS: Final = Path("/etc/hosts")
_PORT: Final = 53

# chosen by us
SERVERS: Final = 3
"""Name servers that are asked, as the system's resolver does (resolv.conf(5), MAXNS)."""
TRIES: Final = 2
"""Rounds through the servers."""
PATIENCE: Final = 1.5
"""Seconds for a server to answer."""
MAX_REMEMBERED: Final = 64
"""Names whose addresses are kept."""
_HOSTS_LIMIT: Final = 1 << 20
"""Bytes of /etc/hosts that are read."""


class OuterLookup:
    """A resolver in place of the system's; may be used by several threads at once."""

    def __init__(self, mark: int, servers: Callable[[], Sequence[str]]) -> None:
        """`servers`: those to ask, now."""
        self._mark = mark
        self._servers = servers
        self._remembered: OrderedDict[str, list[Address]] = OrderedDict()
        """The latest last."""

    def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """As `socket.getaddrinfo`; raises OSError. Waits for at most some 9 s."""
        try:
            addresses: Sequence[Address] = [ip_address(host)]
        except ValueError:
            addresses = self._addresses(str(host))
        found: list[Any] = []
        for each in addresses:
            # numeric: nobody is asked any more
            found += _numeric(str(each), port, family, kind, proto, flags)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address for this name")
        return found

    def _addresses(self, name: str) -> list[Address]:
        known = _in_hosts(name)
        if known:
            return known
        try:
            found = self._asked(name)
        except OSError:
            found = self._remembered.get(name, [])
            if not found:
                raise
            return found
        self._remembered.pop(name, None)
        self._remembered[name] = found
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def _asked(self, name: str) -> list[Address]:
        """What the servers say; raises OSError if none says anything, or the name does not exist."""
        servers = list(self._servers())[:SERVERS]
        if not servers:
            raise socket.gaierror(socket.EAI_AGAIN, "no name server is known")
        for server in servers * TRIES:
            try:
                return self._ask(server, name)
            except ValueError as error:
                why = str(error)
            except socket.gaierror:
                raise
            except OSError as error:
                why = error.strerror or "no answer"
        raise socket.gaierror(socket.EAI_AGAIN, f"the name servers cannot tell ({why})")

    def _ask(self, server: str, name: str) -> list[Address]:
        """Both kinds of addresses at once. Raises OSError, ValueError if an answer makes no sense."""
        queries = {int.from_bytes(os.urandom(2), "big") for _ in range(8)}
        identities = sorted(queries)[:2]
        waiting = {
            identity.to_bytes(2, "big"): encode_query(identity, name, kind)
            for identity, kind in zip(identities, (AAAA, A), strict=True)
        }
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        found: list[Address] = []
        exists, refusal = False, ""
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            set_mark(sock, self._mark)
            sock.connect((server, _PORT))  # from now on the kernel takes answers of this server only
            for query in waiting.values():
                sock.send(query)
            until = time.monotonic() + PATIENCE
            while waiting:
                sock.settimeout(max(until - time.monotonic(), 0.001))
                try:
                    message = sock.recv(MAX_MESSAGE)
                except TimeoutError:
                    if found:
                        break
                    raise
                answered = waiting.pop(message[:2], None)
                if answered is None:
                    continue
                try:
                    addresses, known = decode_answer(message, answered)
                except ValueError as error:
                    refusal = str(error)  # of one kind of address: there may be the other
                    continue
                found += addresses
                exists = exists or known
        if not found and refusal:
            raise ValueError(refusal)
        if not found:
            what = "this name has no addresses" if exists else "there is no such name"
            raise socket.gaierror(socket.EAI_NONAME, what)
        return found


class OuterServers:
    """The name servers that the host would ask if there were no tunnel."""

    def __init__(self, device: Callable[[], str], ours: Callable[[], Sequence[str]]) -> None:
        """`device`: the tunnel's, `ours`: the servers that it has brought."""
        self._device = device
        self._ours = ours

    def __call__(self) -> list[str]:
        """Their addresses, best first. What replaces resolv.conf while we run counts as soon as we keep it."""
        kept = dns.kept_as(self._device())
        ours_is_there = dns.is_ours(dns.RESOLV_CONF, self._device())
        servers = dns.servers_in(kept if ours_is_there else dns.RESOLV_CONF)
        if dns.STUBS.intersection(servers):
            # The tunnel's servers are among those of systemd-resolved, too.
            servers = [each for each in dns.servers_in(dns.RESOLVED_UPSTREAM) if each not in self._ours()]
        return servers


def _numeric(address: str, port: Any, family: int, kind: int, proto: int, flags: int) -> list[Any]:
    if family not in (0, socket.AF_INET6 if ":" in address else socket.AF_INET):
        return []
    try:
        return list(socket.getaddrinfo(address, port, family, kind, proto, flags | socket.AI_NUMERICHOST))
    except socket.gaierror:
        return []  # this host has no such address family


def _in_hosts(name: str) -> list[Address]:
    """The addresses that /etc/hosts (hosts(5)) gives a name."""
    try:
        with _HOSTS.open("rb") as file:
            text = file.read(_HOSTS_LIMIT).decode(errors="replace")
    except OSError:
        return []
    found: list[Address] = []
    wanted = name.rstrip(".").lower()
    for line in text.splitlines():
        words = line.partition("#")[0].lower().split()
        if wanted in words[1:]:
            try:
                found.append(ip_address(words[0]))
            except ValueError:
                continue
    return found
