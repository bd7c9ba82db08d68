"""What a hub and its members say to each other so that members find direct ways (docs/wire.md, section 5.3).

Bodies of messages of the control channel, kind `MESH`:

    1 join, member to hub        type (1) | places
    2 introduce, hub to member   type (1) | key (32) | psk (32) | name | places | prefixes
    3 gone, hub to member        type (1) | key (32)
    4 hosts, member to member    type (1) | hosts that are new | hosts that are no more

    name      length (1) | UTF-8
    places    count (1) | each: size of address, 4 or 16 (1) | address | port (2)
    prefixes  count (2) | each: size of address (1) | bits (1) | address
    hosts     count (2) | each: VLAN (2) | MAC address (6)
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.types import DropReason

# fixed by the specification
KEY_SIZE: Final = 32
MAX_PLACES: Final = 4
MAX_PREFIXES: Final = 256
MAX_NAME: Final = 32
"""Bytes."""
MAX_HOSTS: Final = 512
"""In each of the two lists of a message."""
_MAX_VLAN: Final = 4094
_MAC_SIZE: Final = 6
_GROUP_BIT: Final = 1
"""Of the first byte: nobody has such an address."""
_JOIN: Final = 1
_INTRODUCE: Final = 2
_GONE: Final = 3
_HOSTS: Final = 4
_SIZES: Final = (4, 16)
"""Bytes of addresses."""

Network: TypeAlias = IPv4Network | IPv6Network


class Place(NamedTuple):
    """Where a member may be reached over UDP."""

    address: IPv4Address | IPv6Address
    port: int


class Join(NamedTuple):
    """The sender wants to know other members, and to be known to them."""

    places: tuple[Place, ...] = ()
    """Its own addresses, as it sees them."""


class Introduce(NamedTuple):
    """Another member: whoever gets this calls it at all its places, as the other does."""

    key: bytes
    psk: bytes
    """Of this pair only."""
    name: str
    places: tuple[Place, ...]
    prefixes: tuple[Network, ...]


class Gone(NamedTuple):
    """A member is gone: what is for it goes to the hub."""

    key: bytes


class Host(NamedTuple):
    """Where a MAC address is to be found on Ethernet, in the form that frames have on their way to the hub."""

    vlan: int
    """Of the tag; 0: without one."""
    mac: bytes


class Hosts(NamedTuple):
    """The sender has these hosts behind it, or no more."""

    come: tuple[Host, ...]
    gone: tuple[Host, ...] = ()


Message: TypeAlias = Join | Introduce | Gone | Hosts


def encode(message: Message) -> bytes:
    """The body of a control message."""
    match message:
        case Join(places):
            return bytes((_JOIN,)) + _places(places)
        case Introduce(key, psk, name, places, prefixes):
            raw = name.encode()[:MAX_NAME]
            head = bytes((_INTRODUCE,)) + key + psk + bytes((len(raw),)) + raw + _places(places)
            return head + struct.pack(">H", len(prefixes)) + b"".join(map(_prefix, prefixes))
        case Gone(key):
            return bytes((_GONE,)) + key
        case Hosts(come, gone):
            return bytes((_HOSTS,)) + _hosts(come) + _hosts(gone)


def _hosts(hosts: tuple[Host, ...]) -> bytes:
    return struct.pack(">H", len(hosts)) + b"".join(struct.pack(">H", vlan) + mac for vlan, mac in hosts)


def _places(places: tuple[Place, ...]) -> bytes:
    packed = [(place.address.packed, place.port) for place in places]
    return bytes((len(packed),)) + b"".join(bytes((len(at),)) + at + struct.pack(">H", port) for at, port in packed)


def _prefix(prefix: Network) -> bytes:
    packed = prefix.network_address.packed
    return bytes((len(packed), prefix.prefixlen)) + packed


def decode(body: bytes) -> Message:
    """The message in a body; raises Malformed."""
    reader = _Reader(body)
    kind = reader.number(1)
    message: Message
    if kind == _JOIN:
        message = Join(reader.places())
    elif kind == _INTRODUCE:
        key, psk = reader.take(KEY_SIZE), reader.take(KEY_SIZE)
        message = Introduce(key, psk, reader.name(), reader.places(), reader.prefixes())
    elif kind == _GONE:
        message = Gone(reader.take(KEY_SIZE))
    elif kind == _HOSTS:
        message = Hosts(reader.hosts(), reader.hosts())
    else:
        raise _malformed(f"type {kind}")
    reader.end()
    return message


class _Reader:
    """Takes a body apart, from the front."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._body):
            raise _malformed("cut short")
        return self._body[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def end(self) -> None:
        if self._at < len(self._body):
            raise _malformed("something follows")

    def name(self) -> str:
        raw = self.take(self.number(1))
        if len(raw) > MAX_NAME or not raw.isascii() or not raw.decode().isprintable():
            raise _malformed("name")
        return raw.decode()

    def places(self) -> tuple[Place, ...]:
        count = self.number(1)
        if count > MAX_PLACES:
            raise _malformed(f"{count} places")
        return tuple(self._place() for _ in range(count))

    def _place(self) -> Place:
        size = self.number(1)
        if size not in _SIZES:
            raise _malformed(f"address of {size} bytes")
        address, port = ip_address(self.take(size)), self.number(2)
        if not port or address.is_multicast or address.is_unspecified or address.is_loopback:
            raise _malformed("nobody can be there")
        return Place(address, port)

    def hosts(self) -> tuple[Host, ...]:
        count = self.number(2)
        if count > MAX_HOSTS:
            raise _malformed(f"{count} hosts")
        return tuple(self._host() for _ in range(count))

    def _host(self) -> Host:
        vlan, mac = self.number(2), self.take(_MAC_SIZE)
        if vlan > _MAX_VLAN or mac[0] & _GROUP_BIT or not any(mac):
            raise _malformed("nobody can have that address")
        return Host(vlan, mac)

    def prefixes(self) -> tuple[Network, ...]:
        count = self.number(2)
        if count > MAX_PREFIXES:
            raise _malformed(f"{count} prefixes")
        return tuple(self._prefix() for _ in range(count))

    def _prefix(self) -> Network:
        size, bits = self.number(1), self.number(1)
        if size not in _SIZES or bits > size * 8:
            raise _malformed(f"prefix of {bits} bits in {size} bytes")
        try:
            return ip_network((self.take(size), bits))
        except ValueError:
            raise _malformed("bits behind the prefix") from None


def _malformed(detail: str) -> Malformed:
    return Malformed(DropReason.MESH_MALFORMED, detail)
