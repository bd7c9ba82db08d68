"""What a virtio_net_hdr claims, held against the frame: nothing a peer wrote into one reaches the kernel unchecked.

The kernel trusts the header enough that wrong fields have been security bugs there, so each is derived from the frame's
own bytes, or refused. `hdr_len` is only ever a hint (virtio 1.2, 5.1.6.2): it is computed anew.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason, Mode
from caetun.wire import ip
from caetun.wire.ethernet import TYPE_IPV4, TYPE_IPV6, network_header
from caetun.wire.virtio_net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    VNET,
)

# fixed by the specification
_GSO_BY_FRAGS: Final = 0xFFFF
"""A gso_size that means something else inside Linux (linux/skbuff.h)."""
_TCP_TYPE_OF_VERSION: Final = {ip.IPV4: GSO_TCPV4, ip.IPV6: GSO_TCPV6}
_VERSION_OF_TYPE: Final = {TYPE_IPV4: ip.IPV4, TYPE_IPV6: ip.IPV6}
MAX_UDP_SEGMENTS: Final = 128
"""Datagrams in one UDP superframe, at most: Linux's UDP_MAX_SEGMENTS."""

# chosen by us
LEAST_TCP_GSO_SIZE: Final = 8
"""Bytes. Linux's own TCP never goes below (TCP_MIN_GSO_SIZE), and a peer shall not make the host spend more packets."""
LEAST_CSUM_START: Final = ip.IPV4_HEADER_SIZE
"""Bytes: no transport header begins before the smallest IP header ends."""
_CACHED_HEADERS: Final = 256
"""Pairs of csum_start and csum_offset remembered; traffic uses a handful."""


class Superframe(NamedTuple):
    """A frame whose payload may be divided among frames of their own. Positions in bytes from the frame's start."""

    header: bytes
    """virtio_net_hdr, safe to give to the kernel."""
    version: int
    network: int
    protocol: int
    """TCP or UDP."""
    transport: int
    payload: int
    """Where the headers end."""
    length: int
    """Of the whole frame."""
    gso_type: int
    gso_size: int
    """0 for TCP that is one full-size segment already (gso_type GSO_NONE)."""

    @property
    def unit(self) -> int:
        """Bytes of payload in one packet on the wire: gso_size, or all there is."""
        return self.gso_size or self.length - self.payload


def divisible(headers: Buffer, length: int, header: Buffer, mode: Mode) -> Superframe:
    """Judge a superframe by its headers: TCP with open checksum, with or without GSO, or UDP with GSO.

    `headers`: the frame, or at least all of its headers; `length`: of the whole frame. Raises Malformed
    (OFFLOAD_INVALID) if it is anything else, or if any field of `header` (10 bytes) does not fit it.
    """
    if len(header) != VNET.size:
        raise _refused("virtio_net_hdr is not 10 bytes")
    flags, gso_type, _, gso_size, csum_start, csum_offset = VNET.unpack(header)
    if not flags & NEEDS_CSUM or flags & ~(NEEDS_CSUM | DATA_VALID):
        raise _refused(f"flags {flags:#x}")
    try:
        network, packet = _packet(headers, mode)
        if packet.protocol == ip.TCP:
            payload, csum_at = ip.tcp_payload(headers, packet.transport), ip.TCP_CHECKSUM_AT
        elif packet.protocol == ip.UDP:
            payload, csum_at = ip.udp_payload(headers, packet.transport), ip.UDP_CHECKSUM_AT
        else:
            raise _refused(f"protocol {packet.protocol} cannot be divided")
    except Malformed as error:
        raise _refused(str(error)) from None
    if not packet.whole or packet.end != length or payload >= length:
        raise _refused("a fragment, authenticated, empty, or of another length than its IP header says")
    if csum_start != packet.transport or csum_offset != csum_at:
        raise _refused("checksum is not where the transport header has it")
    if packet.protocol == ip.TCP:
        gso_size = _tcp_gso_size(gso_type, gso_size, packet.version)
    else:
        _check_udp(headers, packet.transport, length, gso_type, gso_size)
    safe = VNET.pack(NEEDS_CSUM, gso_type, payload if gso_size else 0, gso_size, csum_start, csum_offset)
    return Superframe(
        safe, packet.version, network, packet.protocol, packet.transport, payload, length, gso_type, gso_size
    )


def _tcp_gso_size(gso_type: int, gso_size: int, version: int) -> int:
    """The size to go on with; raises Malformed if it or the type does not fit TCP over that IP version."""
    if gso_type == GSO_NONE:
        return 0
    if gso_type & ~GSO_ECN != _TCP_TYPE_OF_VERSION[version]:
        raise _refused(f"gso_type {gso_type:#x} for TCP over IPv{version}")
    if not LEAST_TCP_GSO_SIZE <= gso_size < _GSO_BY_FRAGS:
        raise _refused(f"gso_size {gso_size}")
    return gso_size


def _check_udp(headers: Buffer, transport: int, length: int, gso_type: int, gso_size: int) -> None:
    if gso_type != GSO_UDP_L4:
        raise _refused(f"gso_type {gso_type:#x} for UDP")
    size = length - transport
    if headers[transport + ip.UDP_LENGTH_AT] << 8 | headers[transport + ip.UDP_LENGTH_AT + 1] != size:
        raise _refused("UDP length differs from the frame's")
    if gso_size == _GSO_BY_FRAGS or gso_size * MAX_UDP_SEGMENTS < size - ip.UDP_HEADER_SIZE:
        raise _refused(f"gso_size {gso_size} for {size} bytes")


def _packet(frame: Buffer, mode: Mode) -> tuple[int, ip.Packet]:
    """The IP packet in a frame and where it begins; raises Malformed if there is none."""
    if mode is Mode.TUN:
        return 0, ip.outline(frame, 0)
    ethertype, network = network_header(frame)
    packet = ip.outline(frame, network)
    if _VERSION_OF_TYPE.get(ethertype) != packet.version:
        raise _refused(f"EtherType {ethertype:#06x} with IP version {packet.version}")
    return network, packet


def validated(frame: Buffer, header: Buffer, mode: Mode) -> bytes:
    """The virtio_net_hdr (10 bytes) that is safe to give the kernel with `frame`; raises Malformed (OFFLOAD_INVALID).

    Of the flags only NEEDS_CSUM is kept: that a checksum was verified is not for a peer to say.
    """
    if header == NO_OFFLOAD:
        return NO_OFFLOAD
    if len(header) == VNET.size and header[1] == GSO_NONE:
        return _validated_whole(frame, header, mode)
    return divisible(frame, len(frame), header, mode).header


class Validator:
    """`validated` for the frames of one peer: what looks like the last superframe is judged by what can differ.

    A flow's superframes share their metadata and the shape of their headers; whatever the judgement of the last one was
    based on is compared with it, and only the lengths are judged anew. Anything else goes the long way.
    """

    __slots__ = ("_fixed", "_header", "_last", "_mode", "_shape_at", "_sum")

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._last: Superframe | None = None
        self._header = b""
        self._shape_at: tuple[tuple[int, int], ...] = ()
        self._fixed: tuple[bytes, ...] = ()
        self._sum = 0

    def validated(self, frame: memoryview, header: bytes) -> bytes:
        """The virtio_net_hdr that is safe to hand to the kernel; raises Malformed (OFFLOAD_INVALID). Hot."""
        last = self._last
        if last is not None and header == self._header and len(frame) > last.payload:
            for (start, stop), fixed in zip(self._shape_at, self._fixed, strict=True):
                if frame[start:stop] != fixed:
                    break
            else:
                at = last.network + (ip.IPV4_LENGTH_AT if last.version == ip.IPV4 else ip.IPV6_LENGTH_AT)
                if (frame[at] << 8 | frame[at + 1]) + self._sum == len(frame):
                    return last.header
        if header == NO_OFFLOAD or header[1] == GSO_NONE or header[1] == GSO_UDP_L4:
            return validated(frame, header, self._mode)
        last = divisible(frame, len(frame), header, self._mode)
        self._remember(last, frame, header)
        return last.header

    def _remember(self, last: Superframe, frame: memoryview, header: bytes) -> None:
        """TCP: from the EtherType to the data offset all counts but lengths, identifiers, addresses and numbers."""
        network, transport = last.network, last.transport
        link = (12, network) if network else (0, 0)
        if last.version == ip.IPV4:
            # version and header length; flags and fragment offset; protocol. Options cannot make it another packet.
            shape = link, (network, network + 1), (network + 6, network + 8), (network + 9, network + 10)
            self._sum = network
        else:
            # version; next header; all extension headers
            shape = link, (network, network + 1), (network + 6, network + 7), (network + 40, transport)
            self._sum = network + ip.IPV6_HEADER_SIZE
        data_offset = transport + ip.TCP_DATA_OFFSET_AT
        self._shape_at = (*shape, (data_offset, data_offset + 1))
        self._fixed = tuple(bytes(frame[start:stop]) for start, stop in self._shape_at)
        self._last, self._header = last, header


def _validated_whole(frame: Buffer, header: Buffer, mode: Mode) -> bytes:
    """The same for a frame that is one packet, with its checksum open or not.

    An open checksum may belong to any protocol, and inside a tunnel to an inner one; so it has to lie behind the
    outermost IP header, not at a certain place.
    """
    flags, _, _, _, csum_start, csum_offset = VNET.unpack(header)
    if flags & ~(NEEDS_CSUM | DATA_VALID):
        raise _refused(f"flags {flags:#x}")
    if not flags & NEEDS_CSUM:
        return NO_OFFLOAD
    try:
        least = _packet(frame, mode)[1].transport
    except Malformed:
        least = LEAST_CSUM_START
    if csum_start < least:
        raise _refused(f"csum_start {csum_start} lies in the IP header")
    return validated_checksum(len(frame), csum_start, csum_offset)


def validated_checksum(frame_length: int, start: int, offset: int) -> bytes:
    """The virtio_net_hdr of a frame of `frame_length` bytes whose checksum is open; raises Malformed (OFFLOAD_INVALID).

    `start`, `offset`: csum_start and csum_offset, bytes. Hot: runs per frame, and checks bounds only.
    """
    if start < LEAST_CSUM_START or offset < 0 or start + offset + 2 > frame_length:
        raise _refused(f"csum_start {start} and csum_offset {offset} in {frame_length} bytes")
    return _checksum_header(start, offset)


@lru_cache(maxsize=_CACHED_HEADERS)
def _checksum_header(start: int, offset: int) -> bytes:
    return VNET.pack(NEEDS_CSUM, GSO_NONE, 0, 0, start, offset)


def _refused(why: str) -> Malformed:
    return Malformed(DropReason.OFFLOAD_INVALID, why)
