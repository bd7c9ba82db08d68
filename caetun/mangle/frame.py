"""A frame as rules see it: its headers found once, its bytes replaced with every checksum following.

A superframe has one set of headers for all its packets, and its TCP or UDP checksum is open: the field holds the sum
of the pseudo-header only, so a new address changes that sum, and a new byte behind it nothing.

| replaced                | IPv4 header checksum | TCP, UDP, ICMPv6 | ICMP, IGMP | open checksum  |
|-------------------------|----------------------|------------------|------------|----------------|
| an address              | follows (IPv4)       | follows          | -          | its sum follows |
| another byte of IP      | follows (IPv4)       | -                | -          | -              |
| behind the IP header    | -                    | follows          | follows    | -              |
"""

from __future__ import annotations

import struct
from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer, Iovec, Mode
from caetun.wire import ip
from caetun.wire.checksum import exchanged, exchanged_sum
from caetun.wire.ethernet import TPID_8021Q, TYPE_AT, TYPE_IPV4, TYPE_IPV6, network_header
from caetun.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD, VNET

# fixed by the specification
ICMP: Final = 1
IGMP: Final = 2
ICMPV6: Final = 58
_CHECKSUM_AT: Final = {ip.TCP: 16, ip.UDP: 6, 136: 6, 33: 6, ICMPV6: 2, ICMP: 2, IGMP: 2}
"""Where a protocol's header has its checksum (136 UDP-Lite, 33 DCCP)."""
_WITHOUT_PSEUDO_HEADER: Final = frozenset((ICMP, IGMP))
_TYPE_OF_VERSION: Final = {ip.IPV4: TYPE_IPV4, ip.IPV6: TYPE_IPV6}
_ADDRESSES: Final = {ip.IPV4: (12, 20), ip.IPV6: (8, 40)}
_WORD: Final = struct.Struct(">H")
_VLAN_MASK: Final = 0x0FFF
_VNET_SIZE: Final = VNET.size

# chosen by us
HEAD: Final = 512
"""Bytes from a frame's start that rules see and change: all headers, and what an ICMP error quotes of them."""


class Frame:
    """One frame, or superframe. Positions in bytes from the frame's start."""

    __slots__ = ("changed", "check_at", "ethertype", "head", "header", "length", "network", "packet", "partial", "vlan")

    def __init__(self, head: bytearray | memoryview, length: int, header: Buffer, mode: Mode) -> None:
        """`head`: the frame or its first `HEAD` bytes, changed in place; `length`: of all of it; `header`: its
        virtio_net_hdr (10 bytes)."""
        self.head = head
        self.header = header
        self.length = length
        self.changed = False
        self.vlan: int | None = None
        """Of the outermost 802.1Q tag, 0..4095; None without one."""
        self.ethertype = 0
        """Behind all tags; of an IP packet also without Ethernet. 0: there is none."""
        self.network = 0
        self.packet: ip.Packet | None = None
        """The IP packet's outline; None if there is none, or it is cut short."""
        self.check_at: int | None = None
        """Where the checksum over what is behind the IP header is; None: there is none that we know."""
        self.partial = False
        """Whether that one is open."""
        try:
            if mode is Mode.TAP:
                self.ethertype, self.network = network_header(head)
                if head[TYPE_AT] << 8 | head[TYPE_AT + 1] == TPID_8021Q:
                    self.vlan = (head[TYPE_AT + 2] << 8 | head[TYPE_AT + 3]) & _VLAN_MASK
                if self.ethertype not in (TYPE_IPV4, TYPE_IPV6):
                    return
            packet = ip.outline(head, self.network)
        except Malformed:
            return
        ethertype = _TYPE_OF_VERSION[packet.version]
        if self.ethertype in (0, ethertype):
            self.ethertype, self.packet = ethertype, packet
        self._find_checksum()

    def _find_checksum(self) -> None:
        """Which checksum covers what is behind the IP header, if one does."""
        packet = self.packet
        offset = None if packet is None else _CHECKSUM_AT.get(packet.protocol)
        if packet is None or offset is None or packet.transport + offset + 2 > len(self.head):
            return
        at = packet.transport + offset
        header = self.header
        self.partial = bool(header[0] & NEEDS_CSUM) and at == (header[6] | header[7] << 8) + header[8]
        if packet.protocol == ip.UDP and not self.partial and not self.head[at] and not self.head[at + 1]:
            return  # sent without one (RFC 768)
        self.check_at = at

    @property
    def source(self) -> bytes:
        """The IP source address; b"" if this is no IP packet."""
        return self._address(0)

    @property
    def destination(self) -> bytes:
        """The IP destination address; b"" if this is no IP packet."""
        return self._address(1)

    def _address(self, which: int) -> bytes:
        if self.packet is None:
            return b""
        at, size = self.address_at(which)
        return bytes(self.head[at : at + size])

    def address_at(self, which: int) -> tuple[int, int]:
        """(position, bytes) of an IP packet's source (0) or destination (1) address."""
        assert self.packet is not None
        start, stop = _ADDRESSES[self.packet.version]
        size = (stop - start) // 2
        return self.network + start + which * size, size

    def ports(self) -> tuple[int, int] | None:
        """Source and destination port of TCP, UDP, SCTP, DCCP and UDP-Lite; None of anything else."""
        packet = self.packet
        if packet is None or packet.protocol not in (ip.TCP, ip.UDP, 132, 33, 136):
            return None
        if packet.transport + 4 > len(self.head):
            return None
        (ports,) = struct.unpack_from(">I", self.head, packet.transport)
        return ports >> 16, ports & 0xFFFF

    def replace(self, at: int, new: bytes) -> None:
        """Put `new` in place of as many bytes at `at`, within one header; every checksum over them follows."""
        stop = at + len(new)
        assert at >= 0
        assert stop <= len(self.head)
        old = bytes(self.head[at:stop])
        if old == new:
            return
        self.head[at:stop] = new
        self.changed = True
        packet = self.packet
        if packet is None or at < self.network:
            return
        if at >= packet.transport:
            if self.check_at is not None and not self.partial:
                self._follow(self.check_at, old, new, bool((at - packet.transport) & 1))
            return
        odd = bool((at - self.network) & 1)
        if packet.version == ip.IPV4:
            self._follow(self.network + ip.IPV4_CHECKSUM_AT, old, new, odd)
        start, end = _ADDRESSES[packet.version]
        in_addresses = self.network + start <= at < self.network + end
        if in_addresses and self.check_at is not None and packet.protocol not in _WITHOUT_PSEUDO_HEADER:
            self._follow(self.check_at, old, new, odd, self.partial)

    def _follow(self, check_at: int, old: bytes, new: bytes, odd: bool, partial: bool = False) -> None:
        """Mend the checksum at `check_at`."""
        (check,) = _WORD.unpack_from(self.head, check_at)
        check = exchanged_sum(check, old, new, odd) if partial else exchanged(check, old, new, odd)
        if not check and check_at == self.check_at and self.packet is not None and self.packet.protocol == ip.UDP:
            check = 0xFFFF  # 0 means "no checksum" (RFC 768)
        _WORD.pack_into(self.head, check_at, check)


def quoted(frame: Frame, at: int) -> Frame:
    """A copy of the packet that an ICMP error quotes at `at`, to be changed and put back with `replace`."""
    copy = bytearray(frame.head[at:])
    return Frame(copy, len(copy), NO_OFFLOAD, Mode.TUN)


def gathered(iovec: Iovec, mode: Mode) -> tuple[Frame, Iovec]:
    """A frame that lies in parts behind its virtio_net_hdr: its first bytes copied, and the parts that follow them."""
    first = iovec[0]
    # Headers of a joined superframe share one part with the virtio_net_hdr.
    header, parts = first[:_VNET_SIZE], (first[_VNET_SIZE:], *iovec[1:])
    head = bytearray()
    for number, part in enumerate(parts):
        missing = HEAD - len(head)
        head += part[:missing]
        if len(part) > missing:
            rest: Iovec = (memoryview(part)[missing:], *parts[number + 1 :])
            return Frame(head, len(head) + sum(map(len, rest)), header, mode), rest
    return Frame(head, len(head), header, mode), ()
