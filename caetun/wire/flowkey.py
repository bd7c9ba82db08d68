"""What the packets of one flow have in common, as one value: for whoever decides once a flow, not once a packet.

The key of a TCP or UDP packet without options and extension headers, behind at most one 802.1Q tag:

| Ethernet header, with the tag | version, traffic class | fragment (IPv4) | protocol | addresses | ports |

In IPv6 a part of the flow label stands beside the traffic class. Two frames of one key that are IP have the same
outline (`ip.outline`) but for their length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from caetun.types import Buffer, Mode
from caetun.wire import ip
from caetun.wire.ethernet import HEADER_SIZE, TAG_SIZE, TYPE_AT

FlowKey: TypeAlias = tuple[Any, ...]
KeyOf: TypeAlias = Callable[[Buffer, int, int], FlowKey | None]

# fixed by the specification
_IPV4_FIRST: Final = 0x45
"""Version 4, header of 20 bytes: no options."""
_TCP_SYN: Final = 0x02
_TAG: Final = 0x81
_OF_IP: Final = (0x08, 0x86)
"""First bytes of the EtherTypes 0x8100, 0x0800 and 0x86DD. The second one is in the key."""

# chosen by us
_TRAILER: Final = 10
"""Bytes that may stand behind a frame in a batch (`container.py`) and are counted in `stop`."""
_LEAST_IPV4: Final = ip.IPV4_HEADER_SIZE + 4 + _TRAILER
_LEAST_IPV6: Final = ip.IPV6_HEADER_SIZE + 4 + _TRAILER
_IPV4: Final = {size: struct.Struct(f">{size}sH4xHxB2xQI") for size in (0, HEADER_SIZE, HEADER_SIZE + TAG_SIZE)}
_IPV6: Final = {size: struct.Struct(f">{size}sH4xBx32sI") for size in (0, HEADER_SIZE, HEADER_SIZE + TAG_SIZE)}


def key_maker(mode: Mode) -> KeyOf:
    """What makes the key of the frame in `buffer[at:stop]`; up to 10 bytes before `stop` may be no part of it.

    None: it has none, or opens a TCP connection (SYN), which is where a connection's options are.
    """
    if mode is Mode.TUN:
        return _network_key

    def key(buffer: Buffer, at: int, stop: int) -> FlowKey | None:
        if stop - at < HEADER_SIZE + _LEAST_IPV4:
            return None
        link = HEADER_SIZE + TAG_SIZE if buffer[at + TYPE_AT] == _TAG else HEADER_SIZE
        return _network_key(buffer, at, stop, link) if buffer[at + link - 2] in _OF_IP else None

    return key


def _network_key(buffer: Buffer, at: int, stop: int, link: int = 0) -> FlowKey | None:
    """Of the packet behind `link` bytes. Hot: once a frame."""
    network = at + link
    size = stop - network
    if size < _LEAST_IPV4:
        return None
    first = buffer[network]
    if first == _IPV4_FIRST:
        protocol, transport = buffer[network + 9], network + ip.IPV4_HEADER_SIZE
        if not buffer[network + 2] and buffer[network + 3] < ip.IPV4_HEADER_SIZE:
            return None
        layout = _IPV4[link]
    elif first >> 4 == ip.IPV6 and size >= _LEAST_IPV6:
        protocol, transport = buffer[network + 6], network + ip.IPV6_HEADER_SIZE
        layout = _IPV6[link]
    else:
        return None
    if protocol == ip.TCP:
        if buffer[transport + ip.TCP_FLAGS_AT] & _TCP_SYN:
            return None
    elif protocol != ip.UDP:
        return None
    return layout.unpack_from(buffer, at)
