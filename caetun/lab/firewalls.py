"""Firewalls, middleboxes and NAT, as hosts of a Lab put them up: nftables and connection tracking of the real kernel.

    with drop_udp(router):
        ...                                     # or keep what it returns, and `lift` it when the scenario says so

A firewall looks at what comes in at its host, on its way to it or through it: put it up on a router (`routers.py`), and
it stands in both directions; on an end, in one. Neighbour discovery (RFC 4861) and the host's own loopback always pass.
Several may stand on one host. Needs the feature `firewall` (`needs.py`).
"""

from __future__ import annotations

import itertools
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from caetun.errors import HostError
from caetun.lab.network import Host

# -- fixed by the specification: linux/netlink.h, linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h --
_NETLINK_NETFILTER: Final = 12
_DELETE_CONNECTIONS: Final = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACKNOWLEDGED: Final = 0x1 | 0x4
_NETLINK_HEADER: Final = struct.Struct("=IHHII4x")  # length, type, flags, sequence, port; nfgenmsg: all families
_CTA_MARK, _CTA_MARK_MASK = 8, 21
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_MARK: Final = struct.Struct("!I")
_ERROR: Final = struct.Struct("=i")
_ERROR_AT: Final = 16

# -- chosen by us --
_UDP_MARK: Final = 1
"""Connection mark of what a NAT forgets when it is rebound."""

# Behind connection tracking (-200) and the NAT of answers (-100), so that rules see true addresses and states.
_CHAIN: Final = """
    chain comes_in {{
        type filter hook prerouting priority 0;
        iif lo accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert }} accept
        {rules}
    }}
"""

_REBINDER: Final = """
import socket, sys, time
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, int(sys.argv[1])) as conntrack:
    while True:
        time.sleep(float(sys.argv[2]))
        conntrack.send(bytes.fromhex(sys.argv[3]))
        conntrack.recv(4096)
"""

_numbers = itertools.count()


class Firewall:
    """One nftables table of a host, and settings that go with it; all undone by `lift`, or with the Lab."""

    def __init__(self, host: Host, chains: str, settings: Mapping[str, int] | None = None) -> None:
        """Put it up. `chains`: of a table of the family inet; `settings`: sysctls. Raises HostError."""
        self.host = host
        self._table = f"inet firewall{next(_numbers)}"
        host.run(["nft", "-f", "-"], text=f"table {self._table} {{\n{chains}\n}}\n")
        # after the rules: they make the kernel track connections, and only then it may have the settings for it
        self._before = {name: host.get(name) for name in settings or {}}
        for name, value in (settings or {}).items():
            host.set(name, value)

    def lift(self) -> None:
        """Take it away: what comes in passes as before. Once only."""
        self.host.run(["nft", "delete", "table", *self._table.split()])
        for name, value in self._before.items():
            self.host.set(name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.lift()


# -- filters --


def drop_udp(host: Host) -> Firewall:
    """Let no UDP through, and say nothing about it."""
    return _filter(host, "meta l4proto udp drop")


def allow_only_tcp(host: Host, port: int = 443) -> Firewall:
    """Let nothing through but TCP to and from this port."""
    return _filter(host, f"tcp dport {port} accept\n        tcp sport {port} accept\n        drop")


def allow_only_via(host: Host, *addresses: str) -> Firewall:
    """Let nothing through but what goes to or comes from these addresses: those of a proxy."""
    rules = [
        f"{'ip6' if ':' in address else 'ip'} {side} {address} accept"
        for address in addresses
        for side in ("saddr", "daddr")
    ]
    return _filter(host, "\n        ".join([*rules, "drop"]))


def drop_udp_flows(host: Host, after: int, port: int = 443) -> Firewall:
    """Let each flow of UDP to this port have so many packets, both directions together, and no more.

    A QUIC handshake takes 6 (aioquic, measured). A superframe counts as one. Another source port is another flow.
    """
    rules = [f"udp {side} {port} ct packets > {after} drop" for side in ("dport", "sport")]
    return Firewall(host, _CHAIN.format(rules="\n        ".join(rules)), {"net.netfilter.nf_conntrack_acct": 1})


def block_icmp(host: Host) -> Firewall:
    """Let no ICMP through, and none out that the host would say itself: nobody learns that a packet was too big."""
    rules = "meta l4proto { icmp, icmpv6 } drop"
    own = f"""
    chain goes_out {{
        type filter hook output priority 0;
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        {rules}
    }}
    """
    return Firewall(host, _CHAIN.format(rules=rules) + own)


def _filter(host: Host, rules: str) -> Firewall:
    return Firewall(host, _CHAIN.format(rules=rules))


# -- boxes that remember --


def reset_idle_tcp(host: Host, seconds: int) -> Firewall:
    """Forget TCP connections that were idle for so long (1 at least), and answer what comes on them with a reset.

    As load balancers and cheap routers do: the reset goes to whoever speaks next, and the other end is not told.
    Connections from before are not known either.
    """
    rules = "meta l4proto tcp ct state invalid reject with tcp reset"
    settings = {
        "net.netfilter.nf_conntrack_tcp_timeout_established": seconds,
        "net.netfilter.nf_conntrack_tcp_loose": 0,  # the middle of a connection does not make one
    }
    return Firewall(host, _CHAIN.format(rules=rules), settings)


class Nat(Firewall):
    """Hides what goes out at one device of a router behind its address there, with source ports by chance.

    What comes from outside without being an answer is dropped in silence.
    """

    def __init__(self, host: Host, device: str) -> None:
        """Put it up; `device`: the one outside."""
        chains = f"""
    chain note {{
        type filter hook forward priority 0;
        meta l4proto udp ct mark set {_UDP_MARK}
    }}
    chain hide {{
        type nat hook postrouting priority 100;
        oifname "{device}" masquerade fully-random
    }}
    chain unasked {{
        type filter hook input priority 0;
        iifname "{device}" meta l4proto {{ tcp, udp }} drop
    }}
    chain unasked_through {{
        type filter hook forward priority 0;
        iifname "{device}" ct state new drop
    }}
        """
        super().__init__(host, chains)
        self._rebinder: subprocess.Popen[bytes] | None = None

    def rebind(self, *, tcp: bool = False) -> None:
        """Forget all UDP flows now: the next packet of each leaves from another port.

        `tcp`: forget TCP connections too, which break by that. Raises HostError.
        """
        with self.host.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as conntrack:
            conntrack.send(_forget(tcp))
            (error,) = _ERROR.unpack_from(conntrack.recv(4096), _ERROR_AT)
        if error:
            raise HostError(f"{self.host.name}: the kernel does not forget its connections (error {-error})")

    def rebind_every(self, seconds: float, *, tcp: bool = False) -> None:
        """Do so every so many seconds from now on, until it is lifted."""
        self._stop()
        command = [sys.executable, "-I", "-c", _REBINDER, str(_NETLINK_NETFILTER), str(seconds), _forget(tcp).hex()]
        self._rebinder = self.host.spawn(command)

    def lift(self) -> None:
        """Take it away."""
        self._stop()
        super().lift()
        self.rebind(tcp=True)  # what is known of connections would go on without the rules

    def _stop(self) -> None:
        if self._rebinder is not None:
            self._rebinder.kill()
            self._rebinder.wait()
            self._rebinder = None


def _forget(tcp: bool) -> bytes:
    """The netlink message to connection tracking: forget everything, or what is marked."""
    chosen = b"" if tcp else _mark(_CTA_MARK, _UDP_MARK) + _mark(_CTA_MARK_MASK, 0xFFFF_FFFF)
    length = _NETLINK_HEADER.size + len(chosen)
    return _NETLINK_HEADER.pack(length, _DELETE_CONNECTIONS, _REQUEST_ACKNOWLEDGED, 1, 0) + chosen


def _mark(kind: int, value: int) -> bytes:
    """A netlink attribute: length and type in the host's byte order, the mark in the network's."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + _MARK.size, kind) + _MARK.pack(value)
