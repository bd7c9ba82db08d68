"""What hosts say of themselves and ask of others, for tests of the switch."""

from __future__ import annotations

import struct

from caetun.wire import arp, nd
from caetun.wire.checksum import ones_sum
from tests.l2.frames import ethernet, ipv4, ipv6, mac, packet4, packet6

BROADCAST = b"\xff" * 6
NOBODY = bytes(6)
ALL_NODES = bytes.fromhex("ff02" + "00" * 13 + "01")


def request(host: int, target: int, address: bytes | None = None) -> bytes:
    """Host asks by ARP for another's address, from its own or `address`."""
    sender = ipv4(host) if address is None else address
    return arp.frame_of(arp.Arp(arp.Operation.REQUEST, mac(host), sender, NOBODY, ipv4(target)), BROADCAST)


def announces(host: int, address: bytes | None = None) -> bytes:
    """Host says where its address, or `address`, is: gratuitous ARP, or an unsolicited advertisement of no router."""
    own = ipv4(host) if address is None else address
    return arp.gratuitous(mac(host), own) if len(own) == 4 else nd.unsolicited(mac(host), own, router=False)


def answers(host: int, target: int, address: bytes | None = None) -> bytes:
    """Host answers another's request by ARP for its own address, or for `address`."""
    own = ipv4(host) if address is None else address
    return arp.frame_of(arp.Arp(arp.Operation.REPLY, mac(host), own, mac(target), ipv4(target)), mac(target))


def solicits(host: int, target: int) -> bytes:
    """Host asks by neighbour solicitation for another's address."""
    group = nd.SOLICITED_NODE + ipv6(target)[13:]
    return nd.frame_of(nd.Solicitation(ipv6(host), group, ipv6(target), mac(host)), mac(host), nd.group_mac(group))


def advertises(host: int, target: int, router: bool = False) -> bytes:
    """Host answers another's solicitation."""
    message = nd.Advertisement(ipv6(host), ipv6(target), ipv6(host), mac(host), router, solicited=True)
    return nd.frame_of(message, mac(host), mac(target))


def sends(host: int, to: int, source: bytes | None = None, protocol: int = 17, payload: bytes = bytes(16)) -> bytes:
    """Host sends a packet to another, from its own IPv4 address or `source`."""
    own = ipv4(host) if source is None else source
    if len(own) == 4:
        return ethernet(mac(to), mac(host), 0x0800, packet4(own, ipv4(to), protocol, payload))
    return ethernet(mac(to), mac(host), 0x86DD, packet6(own, ipv6(to), protocol, payload))


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload


def acknowledges(server: int, host: int, address: bytes, seconds: int = 3600) -> bytes:
    """A DHCP server gives a host an address."""
    head = bytes((2, 1, 6, 0)) + bytes(12) + address + bytes(8) + mac(host).ljust(16, b"\0") + bytes(192)
    options = b"\x63\x82\x53\x63\x35\1\5\x33\4" + seconds.to_bytes(4, "big") + b"\xff"
    return sends(server, host, payload=udp(67, 68, head + options))


def replies6(server: int, host: int, address: bytes, seconds: int = 3600) -> bytes:
    """The same by DHCPv6."""
    inner = struct.pack(">HH", 5, 24) + address + bytes(4) + seconds.to_bytes(4, "big")
    message = b"\7abc" + struct.pack(">HH", 3, 12 + len(inner)) + bytes(12) + inner
    return sends(server, host, ipv6(server), payload=udp(547, 546, message))


def icmpv6(source: bytes, destination: bytes, body: bytes) -> bytes:
    """An ICMPv6 packet of hop limit 255, with its checksum."""
    total = ones_sum(body, ones_sum(source + destination) + len(body) + 58) ^ 0xFFFF
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    return struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + source + destination + body


def router_advertises(host: int) -> bytes:
    body = b"\x86\0\0\0\x40\0\x07\x08" + bytes(8)
    return ethernet(nd.group_mac(ALL_NODES), mac(host), 0x86DD, icmpv6(ipv6(host), ALL_NODES, body))


def redirects(host: int, to: int) -> bytes:
    body = b"\x89\0\0\0" + bytes(4) + ipv6(host) + ipv6(99) + b"\2\1" + mac(host)
    return ethernet(mac(to), mac(host), 0x86DD, icmpv6(ipv6(host), ipv6(to), body))
