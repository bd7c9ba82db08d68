"""What a rule asks of a frame: each condition is called with the frame and says whether it holds."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

from caetun.mangle.frame import ICMP, ICMPV6, IGMP, Frame
from caetun.mangle.pipeline import Condition
from caetun.wire import ip
from caetun.wire.ethernet import TYPE_IPV4, TYPE_IPV6

# fixed by the specification: IANA, protocol numbers and EtherTypes
PROTOCOLS: Final = {
    "icmp": ICMP,
    "igmp": IGMP,
    "tcp": ip.TCP,
    "udp": ip.UDP,
    "gre": 47,
    "esp": 50,
    "ah": ip.AUTHENTICATION,
    "icmp6": ICMPV6,
    "ospf": 89,
    "sctp": 132,
}
ETHERTYPES: Final = {"ip": TYPE_IPV4, "ip6": TYPE_IPV6, "arp": 0x0806}
SOURCE: Final = 0
DESTINATION: Final = 1

Ports: TypeAlias = tuple[int, int]
"""First and last."""
Network: TypeAlias = IPv4Network | IPv6Network


def protocol(number: int) -> Condition:
    """IP packets that carry this protocol; of a fragmented one the first fragment only."""
    return lambda frame: frame.packet is not None and frame.packet.protocol == number


def ethertype(number: int) -> Condition:
    """Frames of this kind, behind all VLAN tags."""
    return lambda frame: frame.ethertype == number


def vlan(first: int, last: int) -> Condition:
    """Frames whose outermost 802.1Q tag names one of these VLANs."""
    return lambda frame: frame.vlan is not None and first <= frame.vlan <= last


def untagged(frame: Frame) -> bool:
    """Frames without an 802.1Q tag."""
    return frame.vlan is None


def address(which: int, network: Network) -> Condition:
    """IP packets whose source (0) or destination (1) is of a network."""
    mask, wanted, size = int(network.netmask), int(network.network_address), network.max_prefixlen // 8

    def holds(frame: Frame) -> bool:
        found = frame.destination if which else frame.source
        return len(found) == size and int.from_bytes(found, "big") & mask == wanted

    return holds


def station(which: int, mac: bytes) -> Condition:
    """Ethernet frames from (0) or to (1) a MAC address. There are none with --mode tun."""
    at = 0 if which else 6
    return lambda frame: frame.network > 0 and bytes(frame.head[at : at + 6]) == mac


def port(which: int | None, ranges: tuple[Ports, ...]) -> Condition:
    """Packets whose source (0) or destination (1) port is in one of these ranges; None: one of the two is."""

    def holds(frame: Frame) -> bool:
        found = frame.ports()
        if found is None:
            return False
        some = found if which is None else (found[which],)
        return any(first <= each <= last for each in some for first, last in ranges)

    return holds


def negated(condition: Condition) -> Condition:
    """The opposite."""
    return lambda frame: not condition(frame)
