"""Small names used everywhere: buffers, drop reasons, counters."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes somebody else may own. A function's docstring says how long a view stays valid."""

Iovec: TypeAlias = tuple[Buffer, ...]
"""The parts of one frame (its 10-byte virtio_net_hdr first), to be written with a single `writev`."""


class Mode(enum.StrEnum):
    """Which kind of device the tunnel joins: IP packets (tun) or Ethernet frames (tap)."""

    TUN = "tun"
    TAP = "tap"


class DropReason(enum.StrEnum):
    """Why something was thrown away. One counter, metric label and log word each."""

    # datagrams and records, as they come in
    DATAGRAM_SHORT = "datagram.short"
    DATAGRAM_TYPE = "datagram.type"
    STREAM_MALFORMED = "stream.malformed"
    QUIC_UNKNOWN = "quic.unknown-connection"
    QUIC_MALFORMED = "quic.malformed"
    QUIC_LIMIT = "quic.limit"
    QUIC_STRANGER = "quic.stranger"
    STREAM_STRANGER = "stream.stranger"
    STREAM_TIMEOUT = "stream.timeout"
    STREAM_CROWDED = "stream.crowded"
    STREAM_TLS = "stream.tls"
    RECORD_MALFORMED = "record.malformed"
    RECORD_UNKNOWN_SESSION = "record.unknown-session"
    RECORD_REPLAYED = "record.replayed"
    RECORD_OLD = "record.old"
    RECORD_EXPIRED_KEY = "record.expired-key"
    RECORD_FORGED = "record.forged"
    RECORD_INCOMPLETE = "record.incomplete"
    RECORD_LATE = "record.late"
    # handshake
    HANDSHAKE_MALFORMED = "handshake.malformed"
    HANDSHAKE_MAC = "handshake.mac"
    HANDSHAKE_FORGED = "handshake.forged"
    HANDSHAKE_REPLAYED = "handshake.replayed"
    HANDSHAKE_REFLECTED = "handshake.reflected"
    HANDSHAKE_UNKNOWN_PEER = "handshake.unknown-peer"
    HANDSHAKE_UNEXPECTED = "handshake.unexpected"
    HANDSHAKE_SUITE = "handshake.suite"
    HANDSHAKE_KEM = "handshake.kem"
    HANDSHAKE_INCOMPLETE = "handshake.incomplete"
    HANDSHAKE_OVERLOAD = "handshake.overload"
    HANDSHAKE_COOKIE = "handshake.cookie"
    HANDSHAKE_TLS = "handshake.tls"
    HANDSHAKE_CERTIFICATE = "handshake.certificate"
    AUTH_MALFORMED = "auth.malformed"
    AUTH_UNEXPECTED = "auth.unexpected"
    AUTH_CROWDED = "auth.crowded"
    AUTH_LIMITED = "auth.limited"
    AUTH_REFUSED = "auth.refused"
    # inside a record
    CONTAINER_MALFORMED = "container.malformed"
    ELEMENT_UNKNOWN = "container.unknown-element"
    COMPRESSION_MALFORMED = "compression.malformed"
    COMPRESSION_UNWANTED = "compression.unwanted"
    CONTROL_MALFORMED = "control.malformed"
    CONTROL_SURPLUS = "control.surplus"
    CHANNEL_STRANGER = "channel.stranger"
    CHANNEL_DUPLICATE = "channel.duplicate"
    CHANNEL_WINDOW = "channel.window"
    CHANNEL_OVERSIZE = "channel.oversize"
    CHANNEL_FULL = "channel.full"
    CHANNEL_UNKNOWN = "channel.unknown-kind"
    CHANNEL_MALFORMED = "channel.malformed"
    SEGMENT_MALFORMED = "segment.malformed"
    FRAGMENT_MALFORMED = "fragment.malformed"
    FRAGMENT_INCOMPLETE = "fragment.incomplete"
    FRAGMENT_OVERFLOW = "fragment.overflow"
    OFFLOAD_INVALID = "offload.invalid"
    FRAME_SHORT = "frame.short"
    FRAME_OVERSIZE = "frame.oversize"
    MULTICAST_MALFORMED = "multicast.malformed"
    MULTICAST_CHECKSUM = "multicast.checksum"
    MULTICAST_FULL = "multicast.full"
    MULTICAST_SCOPE = "multicast.scope"
    MULTICAST_VLANS = "multicast.vlans-full"
    MULTICAST_UNWANTED = "multicast.unwanted"
    ARP_MALFORMED = "arp.malformed"
    ND_MALFORMED = "nd.malformed"
    ND_CHECKSUM = "nd.checksum"
    DHCP_MALFORMED = "dhcp.malformed"
    # in the switch
    BRIDGE_MUTED = "bridge.muted"
    BRIDGE_VLAN = "bridge.vlan"
    BRIDGE_RESERVED = "bridge.reserved"
    BRIDGE_PAUSE = "bridge.pause"
    BRIDGE_SOURCE = "bridge.source"
    BRIDGE_FLAPPING = "bridge.flapping"
    BRIDGE_PINNED = "bridge.pinned"
    BRIDGE_FDB_FULL = "bridge.fdb-full"
    BRIDGE_SAME_PORT = "bridge.same-port"
    BRIDGE_ISOLATED = "bridge.isolated"
    BRIDGE_PORT_DOWN = "bridge.port-down"
    BRIDGE_STORM = "bridge.storm"
    GUARD_SOURCE = "guard.source"
    GUARD_SENDER = "guard.sender"
    GUARD_CLAIMED = "guard.claimed"
    GUARD_FULL = "guard.full"
    GUARD_DHCP = "guard.dhcp-server"
    GUARD_ROUTER = "guard.router"
    GUARD_HIDDEN = "guard.hidden"
    # between device and tunnel
    MANGLE_FILTER = "mangle.filter"
    MANGLE_TTL = "mangle.ttl"
    MANGLE_HOOK = "mangle.hook"
    # in the mesh
    MESH_MALFORMED = "mesh.malformed"
    MESH_STRANGER = "mesh.stranger"
    MESH_FULL = "mesh.full"
    MESH_GROUP = "mesh.group"
    # in the router
    ROUTE_MALFORMED = "route.malformed"
    ROUTE_SOURCE = "route.source"
    ROUTE_LINK_LOCAL = "route.link-local"
    ROUTE_MULTICAST = "route.multicast"
    ROUTE_NONE = "route.none"
    ROUTE_DOWN = "route.peer-down"
    ROUTE_SAME_PEER = "route.same-peer"
    ROUTE_PROHIBITED = "route.prohibited"
    ROUTE_HOP_LIMIT = "route.hop-limit"
    ICMP_LIMIT = "icmp.rate-limit"
    # on the way out
    PACKET_TOO_BIG = "packet.too-big"
    NO_SESSION = "peer.no-session"
    PEER_HELD = "peer.held"
    BACKLOG_FULL = "backlog.full"
    BACKLOG_CODEL = "backlog.codel"
    LINK_FULL = "link.full"
    LINK_OVERSIZE = "link.oversize"
    LINK_REFUSED = "link.refused"
    DEVICE_FULL = "device.full"
    DEVICE_REFUSED = "device.refused"


class Drops(Counter[DropReason]):
    """How often each reason applied. Shared by all parts of one node."""

    def count(self, reason: DropReason, times: int = 1) -> None:
        """Add to one reason's counter."""
        self[reason] += times
