"""Who has which IPv6 address, and who routes: Neighbour Discovery (RFC 4861), duplicate addresses (RFC 4862).

Behind an IPv6 header with hop limit 255, from `transport` on:

     0        1        2                 4
    +--------+--------+-----------------+-----------------------------------+
    |  type  | code 0 |    checksum     |  flags, lifetimes, or reserved    |
    +--------+--------+-----------------+-----------------------------------+
    135 solicitation, 136 advertisement: | target (16) | options
    133 router solicitation:             | options
    134 router advertisement:            | reachable (4) | retrans timer (4) | options
    137 redirect:                        | target (16) | destination (16) | options

    option: | type (1) | length in units of 8 bytes (1) | data |      1: source's, 2: target's link-layer address
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.checksum import ones_sum
from caetun.wire.ethernet import TYPE_IPV6
from caetun.wire.ip import IPV6, Packet

# fixed by the specification
ICMPV6: Final = 58
ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
REDIRECT: Final = 137
TYPES: Final = range(ROUTER_SOLICITATION, REDIRECT + 1)
SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")
"""The first 13 bytes of the group that listens for an address; its last three follow (RFC 4291, section 2.7.1)."""
_ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
_NOWHERE: Final = bytes(16)
_HOP_LIMIT: Final = 255
_HOP_LIMIT_AT: Final = 7
_SOURCE_AT: Final = 8
_PAYLOAD_AT: Final = 40
_LEAST: Final = {
    ROUTER_SOLICITATION: 8,
    ROUTER_ADVERTISEMENT: 16,
    SOLICITATION: 24,
    ADVERTISEMENT: 24,
    REDIRECT: 40,
}
"""Sizes without options."""
_OF_SOURCE: Final = 1
_OF_TARGET: Final = 2
_ROUTER: Final = 0x80
_SOLICITED: Final = 0x40
_OVERRIDE: Final = 0x20


class Solicitation(NamedTuple):
    """Somebody asks for a neighbour (section 4.3)."""

    source: bytes
    """:: for duplicate address detection (RFC 4862, section 5.4.2)."""
    destination: bytes
    target: bytes
    link_address: bytes | None = None
    """Of the source."""

    @property
    def probe(self) -> bool:
        """Whether it only asks if an address is free, and claims none."""
        return self.source == _NOWHERE


class Advertisement(NamedTuple):
    """Somebody tells where an address is (section 4.4)."""

    source: bytes
    destination: bytes
    target: bytes
    link_address: bytes | None = None
    """Of the target."""
    router: bool = False
    solicited: bool = False
    override: bool = True


class RouterSolicitation(NamedTuple):
    """A host asks for routers (section 4.1)."""

    source: bytes
    link_address: bytes | None = None


class RouterAdvertisement(NamedTuple):
    """A router tells of itself (section 4.2)."""

    source: bytes
    lifetime: int
    """Seconds that it is a default router; 0: it is none."""
    link_address: bytes | None = None


class Redirect(NamedTuple):
    """A router tells of a better first hop (section 4.5)."""

    source: bytes
    target: bytes
    about: bytes
    """The destination that is better reached by `target`."""
    link_address: bytes | None = None
    """Of the target."""


Discovery: TypeAlias = Solicitation | Advertisement | RouterSolicitation | RouterAdvertisement | Redirect


def kind(frame: Buffer, packet: Packet) -> int | None:
    """The ICMPv6 type of a packet of that outline, whatever else is wrong with it; None if it has none."""
    if packet.version != IPV6 or packet.protocol != ICMPV6 or packet.transport >= min(len(frame), packet.end):
        return None
    return frame[packet.transport]


def decode(frame: Buffer, at: int, packet: Packet) -> Discovery | None:
    """What the IPv6 packet at `at`, of that outline, says about neighbours; None if nothing.

    Raises Malformed, where hosts have to ignore it: `ND_CHECKSUM`, else `ND_MALFORMED` (RFC 4861, sections 6.1, 7.1 and
    8.1; RFC 6980, section 5: fragments).
    """
    number = kind(frame, packet)
    if number is None or number not in TYPES:
        return None
    if packet.end > len(frame) or at + _PAYLOAD_AT > packet.transport:
        raise Malformed(DropReason.ND_MALFORMED, "packet is cut short")
    if not packet.whole:
        raise Malformed(DropReason.ND_MALFORMED, "in fragments")
    body = bytes(frame[packet.transport : packet.end])
    if len(body) < _LEAST[number]:
        raise Malformed(DropReason.ND_MALFORMED, "message is cut short")
    addresses = bytes(frame[at + _SOURCE_AT : at + _PAYLOAD_AT])
    if ones_sum(body, ones_sum(addresses) + len(body) + ICMPV6) != 0xFFFF:
        raise Malformed(DropReason.ND_CHECKSUM)
    if frame[at + _HOP_LIMIT_AT] != _HOP_LIMIT:
        raise Malformed(DropReason.ND_MALFORMED, "from another link")
    if body[1]:
        raise Malformed(DropReason.ND_MALFORMED, f"code {body[1]}")
    source, destination = addresses[:16], addresses[16:]
    if source[0] == 0xFF:
        raise Malformed(DropReason.ND_MALFORMED, "sent by a group")
    links = _link_addresses(body, _LEAST[number])
    if number in (SOLICITATION, ADVERTISEMENT):
        return _neighbour(source, destination, body, links)
    return _router(source, body, links)


def _link_addresses(body: bytes, at: int) -> dict[int, bytes]:
    """The link-layer addresses in the options (section 4.6); other options are passed over."""
    found: dict[int, bytes] = {}
    while at < len(body):
        if at + 2 > len(body) or not body[at + 1] or at + body[at + 1] * 8 > len(body):
            raise Malformed(DropReason.ND_MALFORMED, "option of no length, or cut short")
        kind, size, data = body[at], body[at + 1] * 8, body[at + 2 : at + 8]
        # Hosts differ in whether the first or the last of two counts: two different ones are nobody's mistake.
        if kind in (_OF_SOURCE, _OF_TARGET) and size == 8 and found.setdefault(kind, data) != data:
            raise Malformed(DropReason.ND_MALFORMED, "two link-layer addresses")
        at += size
    return found


def _neighbour(source: bytes, destination: bytes, body: bytes, links: dict[int, bytes]) -> Discovery:
    """Sections 7.1.1 and 7.1.2."""
    target = body[8:24]
    if target[0] == 0xFF:
        raise Malformed(DropReason.ND_MALFORMED, "the target is a group")
    if body[0] == SOLICITATION:
        link_address = links.get(_OF_SOURCE)
        if source == _NOWHERE and (link_address is not None or not destination.startswith(SOLICITED_NODE)):
            raise Malformed(DropReason.ND_MALFORMED, "duplicate address detection asks a group, and tells nothing")
        return Solicitation(source, destination, target, link_address)
    flags = body[4]
    if destination[0] == 0xFF and flags & _SOLICITED:
        raise Malformed(DropReason.ND_MALFORMED, "solicited by everybody")
    return Advertisement(
        *(source, destination, target, links.get(_OF_TARGET)),
        *(bool(flags & _ROUTER), bool(flags & _SOLICITED), bool(flags & _OVERRIDE)),
    )


def _router(source: bytes, body: bytes, links: dict[int, bytes]) -> Discovery:
    """Sections 6.1.1, 6.1.2 and 8.1."""
    if body[0] == ROUTER_SOLICITATION:
        if source == _NOWHERE and _OF_SOURCE in links:
            raise Malformed(DropReason.ND_MALFORMED, "a link-layer address of nobody")
        return RouterSolicitation(source, links.get(_OF_SOURCE))
    if not (source[0] == 0xFE and source[1] & 0xC0 == 0x80):
        raise Malformed(DropReason.ND_MALFORMED, "a router has a link-local address")
    if body[0] == ROUTER_ADVERTISEMENT:
        return RouterAdvertisement(source, int.from_bytes(body[6:8], "big"), links.get(_OF_SOURCE))
    return Redirect(source, body[8:24], body[24:40], links.get(_OF_TARGET))


# what is written


def encode(message: Solicitation | Advertisement) -> bytes:
    """The ICMPv6 message, with its checksum."""
    if isinstance(message, Solicitation):
        number, flags, option = SOLICITATION, 0, _OF_SOURCE
    else:
        number, option = ADVERTISEMENT, _OF_TARGET
        flags = _ROUTER * message.router | _SOLICITED * message.solicited | _OVERRIDE * message.override
    link = b"" if message.link_address is None else bytes((option, 1)) + message.link_address
    body = struct.pack(">BBHB3x", number, 0, 0, flags) + message.target + link
    pseudo = ones_sum(message.source + message.destination) + len(body) + ICMPV6
    return body[:2] + (ones_sum(body, pseudo) ^ 0xFFFF).to_bytes(2, "big") + body[4:]


def frame_of(message: Solicitation | Advertisement, source: bytes, destination: bytes) -> bytes:
    """The whole frame, untagged, between two MAC addresses."""
    body = encode(message)
    head = struct.pack(">IHBB", IPV6 << 28, len(body), ICMPV6, _HOP_LIMIT) + message.source + message.destination
    return destination + source + TYPE_IPV6.to_bytes(2, "big") + head + body


def unsolicited(mac: bytes, address: bytes, router: bool, override: bool = True) -> bytes:
    """The frame that tells all nodes that `address` is at `mac` (RFC 4861, section 7.2.6).

    `router`: whether it is one. It has to be right: hosts forget a router that says it is none (section 7.2.5).
    `override`: whether hosts that know another MAC address take this one instead.
    """
    message = Advertisement(address, _ALL_NODES, address, mac, router, override=override)
    return frame_of(message, mac, group_mac(_ALL_NODES))


def answer(asked: Solicitation, mac: bytes, router: bool, destination: bytes) -> bytes:
    """The frame that answers a solicitation for another host: its target is at `mac`.

    Without Override, as a proxy answers (RFC 4861, section 7.2.8), so that the host's own word stands above it.
    `destination`: the MAC address of who asked.
    """
    message = Advertisement(asked.target, asked.source, asked.target, mac, router, solicited=True, override=False)
    return frame_of(message, mac, destination)


def probe(mac: bytes, target: bytes, destination: bytes | None = None) -> bytes:
    """The frame that asks whether `target` is in use, and leaves nobody's cache changed (RFC 4862, section 5.4.2).

    `mac`: who asks; `destination`: a single host, if only that one is to be asked.
    """
    group = SOLICITED_NODE + target[13:]
    return frame_of(Solicitation(_NOWHERE, group, target), mac, destination or group_mac(group))


def group_mac(group: bytes) -> bytes:
    """The MAC address of an IPv6 group (RFC 2464, section 7)."""
    return b"\x33\x33" + group[12:]
