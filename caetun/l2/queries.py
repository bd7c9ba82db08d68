"""The frames that carry the switch's own IGMP and MLD queries (RFC 9776, section 4; RFC 9777, section 5)."""

from __future__ import annotations

import struct
from typing import Final

from caetun.wire.checksum import ones_sum
from caetun.wire.membership import PROTOCOL_IGMP, Query, encode_query, mld_checksum

# fixed by the specification
_ALL_SYSTEMS4: Final = bytes((224, 0, 0, 1))
_ALL_NODES6: Final = bytes.fromhex("ff020000000000000000000000000001")
_ROUTER_ALERT4: Final = bytes((0x94, 4, 0, 0))
"""RFC 2113."""
_ROUTER_ALERT6: Final = bytes((58, 0, 5, 2, 0, 0, 1, 0))
"""A hop-by-hop header before ICMPv6, with the option of RFC 2711 and padding."""
_INTERNETWORK_CONTROL: Final = 0xC0
_TYPE_IPV4: Final = b"\x08\x00"
_TYPE_IPV6: Final = b"\x86\xdd"


def query_frame(query: Query, source: bytes) -> bytes:
    """An Ethernet frame with a query, from `source` (6 bytes), to the group asked about or to all hosts."""
    asked = any(query.group)
    if len(query.group) == 4:
        destination = query.group if asked else _ALL_SYSTEMS4
        message = encode_query(query)
        length = 24 + len(message)
        head = struct.pack(">BBHHHBBH", 0x46, _INTERNETWORK_CONTROL, length, 0, 0, 1, PROTOCOL_IGMP, 0)
        head += query.source + destination + _ROUTER_ALERT4
        head = head[:10] + (ones_sum(head) ^ 0xFFFF).to_bytes(2, "big") + head[12:]
        mac = b"\x01\0\x5e" + bytes((destination[1] & 0x7F,)) + destination[2:]
        return (mac + source + _TYPE_IPV4 + head + message).ljust(60, b"\0")
    destination = query.group if asked else _ALL_NODES6
    body = _ROUTER_ALERT6 + mld_checksum(query.source, destination, encode_query(query))
    head = struct.pack(">IHBB", 6 << 28, len(body), 0, 1) + query.source + destination
    return b"\x33\x33" + destination[12:] + source + _TYPE_IPV6 + head + body
