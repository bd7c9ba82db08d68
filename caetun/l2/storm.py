"""Storm control: how much of what goes to everybody one port may send, by class, so that none starves another.

| class                     | what it is                                               | frames a second, burst |
|---------------------------|----------------------------------------------------------|------------------------|
| neighbours                | ARP; IPv6 neighbour discovery                            | 500, 1,000             |
| dhcp                      | DHCP, DHCPv6                                             | 50, 200                |
| discovery                 | mDNS, SSDP, WS-Discovery, LLMNR                          | 500, 2,000             |
| broadcast                 | other frames to ff:ff:ff:ff:ff:ff                        | 500, 2,000             |
| unknown                   | to an address nobody has been seen with                  | 2,000, 4,000           |
| multicast                 | to a group nobody has joined                             | 20,000, 20,000         |

The rates are far above what a busy segment of some hundred hosts makes, and far below what a loop makes. A superframe
counts as the full frames it stands for; of one that lies in several pieces only the first is seen.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer
from caetun.wire.ethernet import network_header
from caetun.wire.ip import UDP, outline

# fixed by the specification
_BROADCAST: Final = b"\xff" * 6
_TYPE_ARP: Final = 0x0806
_TYPE_IPV4: Final = 0x0800
_TYPE_IPV6: Final = 0x86DD
_ICMPV6: Final = 58
_ND_TYPES: Final = range(133, 138)
"""Router and neighbour solicitation and advertisement, redirect (RFC 4861, section 4)."""
_DHCP_PORTS: Final = frozenset((67, 68, 546, 547))
_DISCOVERY_PORTS: Final = frozenset((5353, 1900, 3702, 5355))
"""mDNS (RFC 6762), SSDP (UPnP 1.1), WS-Discovery, LLMNR (RFC 4795)."""


class Storm(enum.StrEnum):
    """Classes with a budget of their own."""

    NEIGHBOURS = "neighbours"
    DHCP = "dhcp"
    DISCOVERY = "discovery"
    BROADCAST = "broadcast"
    UNKNOWN = "unknown"
    MULTICAST = "multicast"


class Rate(NamedTuple):
    """Frames a second, and how many at once after a pause."""

    rate: float
    burst: float


# chosen by us: see the table above
DEFAULTS: Final[Mapping[Storm, Rate]] = {
    Storm.NEIGHBOURS: Rate(500, 1000),
    Storm.DHCP: Rate(50, 200),
    Storm.DISCOVERY: Rate(500, 2000),
    Storm.BROADCAST: Rate(500, 2000),
    Storm.UNKNOWN: Rate(2000, 4000),
    Storm.MULTICAST: Rate(20_000, 20_000),
}


def classify(frame: Buffer) -> Storm:
    """The class of a frame that would be flooded. `frame` may be the beginning of a superframe."""
    group = frame[0] & 1
    try:
        ethertype, at = network_header(frame)
        if ethertype == _TYPE_ARP:
            return Storm.NEIGHBOURS
        if ethertype in (_TYPE_IPV4, _TYPE_IPV6):
            special = _classify_ip(frame, at)
            if special is not None:
                return special
    except (Malformed, IndexError):
        pass  # it is carried, as any frame of a protocol that is not known
    if not group:
        return Storm.UNKNOWN
    return Storm.BROADCAST if bytes(frame[:6]) == _BROADCAST else Storm.MULTICAST


def _classify_ip(frame: Buffer, at: int) -> Storm | None:
    packet = outline(frame, at)
    if packet.protocol == _ICMPV6:
        return Storm.NEIGHBOURS if frame[packet.transport] in _ND_TYPES else None
    if packet.protocol != UDP or packet.transport + 4 > len(frame):
        return None
    port = frame[packet.transport + 2] << 8 | frame[packet.transport + 3]
    if port in _DHCP_PORTS:
        return Storm.DHCP
    return Storm.DISCOVERY if port in _DISCOVERY_PORTS else None


class StormControl:
    """The token buckets of one port."""

    __slots__ = ("_rates", "_tokens", "_updated")

    def __init__(self, rates: Mapping[Storm, Rate] = DEFAULTS) -> None:
        """`rates`: a class that is missing has no limit."""
        self._rates = rates
        self._tokens = {each: rate.burst for each, rate in rates.items()}
        self._updated = dict.fromkeys(rates, 0.0)

    def passes(self, storm: Storm, now: float, frames: int = 1) -> bool:
        """Whether `frames` more frames of a class fit its budget, which they then use up."""
        rate = self._rates.get(storm)
        if rate is None:
            return True
        tokens = min(rate.burst, self._tokens[storm] + (now - self._updated[storm]) * rate.rate)
        self._updated[storm] = now
        fits = tokens >= frames
        self._tokens[storm] = tokens - frames if fits else tokens
        return fits
