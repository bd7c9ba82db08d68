"""Superframes for tests, and the packets they stand for, built from their fields.

Nothing here uses what is tested: headers are packed anew for every part, and checksums are those of dpkt.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import dpkt
from hypothesis import strategies as st

from caetun.types import Mode

TCP, UDP = 6, 17
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
_EXTENSION_KINDS = (0, 43, 60)
_MACS = bytes.fromhex("02000000000b02000000000a")


@dataclass(frozen=True)
class Superframe:
    """All that distinguishes one superframe from another. `gso_size` 0: one TCP packet with open checksum."""

    protocol: int = TCP
    version: int = 4
    mode: Mode = Mode.TAP
    payload: bytes = field(default=b"x" * 4000, repr=False)
    gso_size: int = 1000
    tags: tuple[int, ...] = ()
    """TPIDs of VLAN tags, outermost first."""
    ip_options: bytes = b""
    extensions: tuple[tuple[int, int], ...] = ()
    """IPv6 extension headers: (protocol number, length in units of 8 bytes)."""
    tcp_options: bytes = b""
    flags: int = ACK | PSH
    sequence: int = 1000
    ident: int = 77

    @property
    def network(self) -> int:
        """Where the IP header begins."""
        return 0 if self.mode is Mode.TUN else 14 + 4 * len(self.tags)

    @property
    def transport(self) -> int:
        """Where the TCP or UDP header begins."""
        if self.version == 4:
            return self.network + 20 + len(self.ip_options)
        return self.network + 40 + sum(size * 8 for _, size in self.extensions)

    @property
    def headers(self) -> int:
        """Bytes of all headers."""
        return self.transport + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    @property
    def unit(self) -> int:
        """Bytes of payload in one packet."""
        return self.gso_size or len(self.payload)

    @property
    def frame(self) -> bytes:
        """The superframe as a device hands it over."""
        return self.part(0, len(self.payload))

    @property
    def header(self) -> bytes:
        """Its virtio_net_hdr."""
        return self.part_header(0, len(self.payload))

    def packets(self) -> list[bytes]:
        """The complete packets it stands for."""
        size = len(self.payload)
        return [self.part(at, min(at + self.unit, size), complete=True) for at in range(0, size, self.unit)]

    def part_header(self, start: int, stop: int) -> bytes:
        """virtio_net_hdr of the smaller superframe with payload bytes `start` to `stop`."""
        csum_offset = 16 if self.protocol == TCP else 6
        gso = self.gso_size
        whole = start == 0 and stop == len(self.payload)
        if not gso or (stop - start <= gso and not whole):
            return struct.pack("<BBHHHH", 1, 0, 0, 0, self.transport, csum_offset)
        kind = 5 if self.protocol == UDP else {4: 1, 6: 4}[self.version]
        if self.protocol == TCP and self.flags & CWR and start == 0:
            kind |= 0x80
        return struct.pack("<BBHHHH", 1, kind, self.headers, gso, self.transport, csum_offset)

    def part(self, start: int, stop: int, complete: bool = False) -> bytes:
        """The frame with payload bytes `start` to `stop`; its checksum open, or complete as in a packet on the wire."""
        payload = self.payload[start:stop]
        upper_size = self.headers - self.transport + len(payload)
        source, destination = self._addresses()
        pseudo = source + destination + struct.pack(">IHBB", upper_size, 0, 0, self.protocol)
        partial = dpkt.in_cksum(pseudo) ^ 0xFFFF
        upper = self._upper(start, stop, partial) + payload
        if complete:
            check = dpkt.in_cksum(upper)
            if self.protocol == UDP:
                check = check or 0xFFFF
            upper = self._upper(start, stop, check) + payload
        return self._ethernet() + self._ip(upper_size, -(-start // self.unit)) + upper

    def _addresses(self) -> tuple[bytes, bytes]:
        if self.version == 4:
            return bytes((10, 9, 0, 1)), bytes((10, 9, 0, 2))
        return bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "02")

    def _ethernet(self) -> bytes:
        if self.mode is Mode.TUN:
            return b""
        tags = b"".join(struct.pack(">HH", tpid, 0x2000 | 100 + at) for at, tpid in enumerate(self.tags))
        return _MACS + tags + (b"\x08\x00" if self.version == 4 else b"\x86\xdd")

    def _ip(self, upper_size: int, index: int) -> bytes:
        source, destination = self._addresses()
        if self.version == 4:
            size = 20 + len(self.ip_options)
            ident = self.ident + index & 0xFFFF
            fields = (0x40 | size // 4, 0x02, size + upper_size, ident, 0x4000, 64, self.protocol)
            start = struct.pack(">BBHHHBB", *fields)
            end = source + destination + self.ip_options
            return start + struct.pack(">H", dpkt.in_cksum(start + b"\0\0" + end)) + end
        kinds = [kind for kind, _ in self.extensions] + [self.protocol]
        chain = b"".join(
            _extension(kind, following, size)
            for (kind, size), following in zip(self.extensions, kinds[1:], strict=True)
        )
        start = struct.pack(">IHBB", 0x60200000, len(chain) + upper_size, kinds[0], 64)
        return start + source + destination + chain

    def _upper(self, start: int, stop: int, check: int) -> bytes:
        if self.protocol == UDP:
            return struct.pack(">HHHH", 4000, 5000, 8 + stop - start, check)
        flags = self.flags & ~CWR if start else self.flags
        if stop < len(self.payload):
            flags &= ~(FIN | PSH)
        size = 20 + len(self.tcp_options)
        sequence = self.sequence + start & 0xFFFFFFFF
        fields = (4000, 5000, sequence, 99, size // 4 << 4, flags, 500, check, 0)
        return struct.pack(">HHIIBBHHH", *fields) + self.tcp_options


def _extension(kind: int, following: int, size: int) -> bytes:
    if kind == 43:  # routing, of a type for experiments (RFC 4727), at its last segment
        return struct.pack(">BBBB", following, size - 1, 253, 0).ljust(size * 8, b"\0")
    return struct.pack(">BBBB", following, size - 1, 1, size * 8 - 4).ljust(size * 8, b"\0")  # PadN (RFC 8200, 4.2)


def _words(most: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, most).map(lambda count: b"\x01" * (4 * count))


@st.composite
def superframes(draw: st.DrawFn, protocol: int | None = None, plain: bool = False) -> Superframe:
    """Any superframe, of up to some 12 KB. `plain`: without what not every kernel path takes (IP options)."""
    protocol = protocol or draw(st.sampled_from((TCP, UDP)))
    version = draw(st.sampled_from((4, 6)))
    mode = draw(st.sampled_from(Mode)) if not plain else Mode.TAP
    gso_size = draw(st.integers(8, 1460))
    count = draw(st.integers(1, 12))
    size = gso_size * count + draw(st.integers(1, gso_size))
    if protocol == TCP and draw(st.integers(0, 7)) == 0:
        gso_size, size = 0, draw(st.integers(1, 9000))
    extension = st.tuples(st.sampled_from(_EXTENSION_KINDS), st.integers(1, 4))
    tag = st.sampled_from((0x8100, 0x88A8))
    return Superframe(
        protocol,
        version,
        mode,
        payload=random.Random(draw(st.integers(0, 1 << 16))).randbytes(size),
        gso_size=gso_size,
        tags=tuple(draw(st.lists(tag, max_size=2))) if mode is Mode.TAP else (),
        ip_options=draw(_words(10)) if version == 4 else b"",
        extensions=tuple(draw(st.lists(extension, max_size=3))) if version == 6 and not plain else (),
        tcp_options=draw(_words(10)) if protocol == TCP else b"",
        flags=draw(st.integers(0, 0xFF)) & ~0x06,
        sequence=draw(st.one_of(st.integers(0, (1 << 32) - 1), st.just((1 << 32) - 500))),
        ident=draw(st.one_of(st.integers(0, 0xFFFF), st.just(0xFFFE))),
    )


def verified(frame: bytes, mode: Mode) -> dpkt.tcp.TCP | dpkt.udp.UDP:
    """The transport packet that dpkt finds in a complete frame, after checking all lengths and checksums by dpkt."""
    packet = dpkt.ethernet.Ethernet(frame).data if mode is Mode.TAP else None
    if packet is None:
        packet = dpkt.ip.IP(frame) if frame[0] >> 4 == 4 else dpkt.ip6.IP6(frame)
    upper = packet.data
    assert isinstance(upper, dpkt.tcp.TCP | dpkt.udp.UDP)
    raw = frame[len(frame) - len(bytes(upper)) :]
    if isinstance(packet, dpkt.ip.IP):
        assert packet.len == packet.hl * 4 + len(raw)
        assert dpkt.in_cksum(frame[-packet.len :][: packet.hl * 4]) == 0
    else:
        assert packet.plen == len(raw) + sum(extension.length for extension in packet.all_extension_headers)
    protocol = TCP if isinstance(upper, dpkt.tcp.TCP) else UDP
    if protocol == UDP:
        assert upper.ulen == len(raw)
    pseudo = packet.src + packet.dst + struct.pack(">II", len(raw), protocol)
    assert dpkt.in_cksum(pseudo + raw) == 0
    return upper
