"""Packets for rules, built by dpkt, whose checksums are dpkt's own."""

from __future__ import annotations

import copy
import socket
import struct

import dpkt

from caetun.devices.mangled import MangledDevice
from caetun.devices.memory import MemoryDevice
from caetun.mangle.frame import Frame
from caetun.mangle.pipeline import Pipeline, Rule
from caetun.mangle.rules import make_pipeline
from caetun.types import Drops, Mode
from caetun.wire.container import Batch
from caetun.wire.virtio_net import NO_OFFLOAD

MSS = dpkt.tcp.TCP_OPT_MSS


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def packet(
    upper: dpkt.Packet, source: str = "10.1.0.5", destination: str = "10.2.0.9", ttl: int = 64, tos: int = 0
) -> bytes:
    """An IP packet; of which version, the addresses say."""
    upper = copy.deepcopy(upper)
    upper.sum = 0  # dpkt computes it, if it is, and keeps it
    if ":" in source:
        header = dpkt.ip6.IP6(src=packed(source), dst=packed(destination), nxt=_number(upper), hlim=ttl)
        header.fc = tos
        header.data, header.plen = upper, len(upper)
        return bytes(header)
    plain = dpkt.ip.IP(src=packed(source), dst=packed(destination), p=_number(upper), ttl=ttl, tos=tos, data=upper)
    plain.len = len(plain)
    return bytes(plain)


def _number(upper: dpkt.Packet) -> int:
    kinds = {dpkt.tcp.TCP: 6, dpkt.udp.UDP: 17, dpkt.icmp.ICMP: 1, dpkt.icmp6.ICMP6: 58}
    return kinds[type(upper)]


def syn(mss: int = 8960, before: bytes = b"") -> dpkt.tcp.TCP:
    """The first segment of a connection; `before`: options in front of that of the segment size."""
    options = before + struct.pack(">BBH", MSS, 4, mss)
    options += b"\1" * (-len(options) % 4)
    return dpkt.tcp.TCP(sport=1234, dport=80, seq=7, flags=dpkt.tcp.TH_SYN, off=5 + len(options) // 4, opts=options)


def udp(sport: int = 5000, dport: int = 53, content: bytes = b"content") -> dpkt.udp.UDP:
    return dpkt.udp.UDP(sport=sport, dport=dport, ulen=8 + len(content), data=content)


def echo(content: bytes = b"abcdefgh") -> dpkt.icmp.ICMP:
    return dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=1, seq=2, data=content))


def ethernet(content: bytes, tags: bytes = b"", kind: int | None = None) -> bytes:
    """A frame from 02:..:0a to 02:..:0b; `tags`: VLAN tags, whole."""
    if kind is None:
        kind = 0x0800 if content[0] >> 4 == 4 else 0x86DD
    return bytes.fromhex("02000000000b02000000000a") + tags + struct.pack(">H", kind) + content


def tag(vlan: int, tpid: int = 0x8100) -> bytes:
    return struct.pack(">HH", tpid, vlan)


def sound(packet: bytes) -> bool:
    """Whether every checksum of an IP packet is right, by adding up all words."""
    version, protocol, start, addresses = packet[0] >> 4, packet[9], (packet[0] & 15) * 4, packet[12:20]
    if version == 4:
        size = struct.unpack_from(">H", packet, 2)[0] - start
        if dpkt.in_cksum(packet[:start]):
            return False
    else:
        protocol, start, addresses = packet[6], 40, packet[8:40]
        size = struct.unpack_from(">H", packet, 4)[0]
    upper = packet[start : start + size]
    pseudo = b"" if protocol == 1 else addresses + struct.pack(">II", size, protocol)
    if protocol == 17 and upper[6:8] == b"\0\0":
        return version == 4
    return dpkt.in_cksum(pseudo + upper) == 0


class Host:
    """A device in memory behind rules."""

    def __init__(self, *rules: str, mode: Mode = Mode.TUN, mtu: int = 1500, pipeline: Pipeline | None = None) -> None:
        self.drops = Drops()
        self.pipeline = pipeline or make_pipeline(rules, mtu)
        self.memory = MemoryDevice(mode, 15)
        self.device = MangledDevice(self.memory, self.pipeline, self.drops)

    def send(self, *frames: bytes, header: bytes = NO_OFFLOAD) -> list[bytes]:
        """What comes out of frames that the host sends."""
        return [bytes(frame) for frame, _ in self.batch(*frames, header=header).frames()]

    def batch(self, *frames: bytes, header: bytes = NO_OFFLOAD) -> Batch:
        for frame in frames:
            self.memory.put(frame, header)
        batch = Batch()
        self.device.read_batch(batch)
        return batch

    def receive(self, *frames: bytes, header: bytes = NO_OFFLOAD, cut: int = 20) -> list[bytes]:
        """What the host is given of frames from the tunnel, each in two parts, headers beside its virtio_net_hdr."""
        self.device.write_batch([(bytearray(header + frame[:cut]), memoryview(frame)[cut:]) for frame in frames])
        written = [frame for frame, _ in self.memory.written]
        self.memory.written.clear()
        return written

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.pipeline.rules


def frame(content: bytes, mode: Mode = Mode.TUN, header: bytes = NO_OFFLOAD) -> Frame:
    return Frame(bytearray(content), len(content), header, mode)
