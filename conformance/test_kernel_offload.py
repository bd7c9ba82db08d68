"""Superframes against the Linux kernel: it makes them, takes them back, and judges our own segmentation.

host A: socket -> tap -> (cut, lose some, join) -> tap -> socket: host B
host C: superframe -> offloading tap -> bridge -> plain tap -> packets
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caetun.devices.tuntap import TunTap, open_device
from caetun.lab.namespaces import HostNamespaces, in_thread
from caetun.offload.cut import Cutter
from caetun.offload.fragment import Reassembly
from caetun.offload.join import Joiner
from caetun.offload.segment import segment
from caetun.offload.validate import validated
from caetun.types import Drops, Iovec, Mode
from caetun.wire.container import OFFLOAD_USO
from caetun.wire.element import FRAGMENT, SEGMENT
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.offload.superframes import UDP, Superframe, superframes

pytestmark = pytest.mark.needs("namespaces", "tun", "ip")

# fixed by the kernel's interface: linux/udp.h
_UDP_SEGMENT: Final = 103

# chosen by us
_ROOM: Final = 1440
_STREAM_BYTES: Final = 4 << 20
_PATIENCE: Final = 20.0
"""Seconds after which something that should have arrived is missing."""
_ADDRESSES: Final = {
    socket.AF_INET: ("10.9.0.1", "10.9.0.2"),
    socket.AF_INET6: ("fd00:9::1", "fd00:9::2"),
}
_FAMILIES: Final = [pytest.param(socket.AF_INET, id="ipv4"), pytest.param(socket.AF_INET6, id="ipv6")]


class _End:
    """A host with one tap of ours."""

    def __init__(self, number: int) -> None:
        self.namespaces = HostNamespaces()
        self.drops = Drops()
        self.tap: TunTap = in_thread(lambda: self._set_up(number))

    def _set_up(self, number: int) -> TunTap:
        self.namespaces.enter()
        tap = open_device("tap0", Mode.TAP, self.drops)
        _ip(f"addr add 10.9.0.{number}/24 dev tap0", f"addr add fd00:9::{number}/64 dev tap0 nodad", "link set tap0 up")
        return tap

    def socket(self, family: int, kind: int) -> socket.socket:
        """A socket in this host."""

        def make() -> socket.socket:
            self.namespaces.enter()
            return socket.socket(family, kind)

        made = in_thread(make)
        made.settimeout(_PATIENCE)
        return made

    def close(self) -> None:
        self.tap.close()
        self.namespaces.close()


class _Direction:
    """Carries frames from one tap to the other as elements, some of which get lost."""

    def __init__(self, source: TunTap, target: TunTap, loss: float) -> None:
        self.source = source
        self._target = target
        self._loss = loss
        self._chance = random.Random(1)
        self._cutter = Cutter(Mode.TAP)
        self.drops = Drops()
        self._joiner = Joiner(Mode.TAP, self.drops)
        self._reassembly = Reassembly(self.drops)
        self.lost = 0
        """Elements that did not arrive."""
        self.kinds: set[int] = set()
        """Which kinds of element were made."""
        self.largest = 0
        """Bytes of the largest frame written."""

    def carry(self) -> None:
        """Everything that waits now."""
        out: list[Iovec] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data = os.read(self.source.fileno(), 70000)
                header, frame = data[:10], data[10:]
                if len(frame) + 4 <= _ROOM:
                    self._joiner.flush(out)
                    out.append((validated(frame, header, Mode.TAP), frame))
                    continue
                for element in self._cutter.cut(frame, header, _ROOM):
                    assert len(element) <= _ROOM
                    self.kinds.add(element[0])
                    if self._chance.random() < self._loss:
                        self.lost += 1
                    else:
                        self._take(element, out)
        self._joiner.flush(out)
        self.largest = max([self.largest, *(sum(map(len, iovec)) for iovec in out)])
        self._target.write_batch(out)

    def _take(self, element: bytes, out: list[Iovec]) -> None:
        body = memoryview(element)[4:]
        if element[0] == SEGMENT:
            self._joiner.segment(body, out)
        elif element[0] == FRAGMENT:
            whole = self._reassembly.fragment(body, 0.0)
            if whole is not None:
                out.append((validated(whole[10:], bytes(whole[:10]), Mode.TAP), whole[10:]))
        else:
            out.append((NO_OFFLOAD, body))


class _Tunnel:
    """Two hosts, and a thread that carries frames between them."""

    def __init__(self, loss: float = 0.0) -> None:
        self.one, self.two = _End(1), _End(2)
        self.there = _Direction(self.one.tap, self.two.tap, loss)
        self.back = _Direction(self.two.tap, self.one.tap, loss)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="tunnel")
        self._thread.start()

    def _run(self) -> None:
        directions = {direction.source.fileno(): direction for direction in (self.there, self.back)}
        poll = select.poll()
        for descriptor in (*directions, self._stop):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._stop:
                    return
                directions[descriptor].carry()

    def close(self) -> None:
        """Stop; afterwards the counters may be read."""
        os.write(self._stopped, b"x")
        self._thread.join()
        for end in (self.one, self.two):
            end.close()
        os.close(self._stop)
        os.close(self._stopped)

    def refused(self) -> int:
        """Frames that the kernel or our own checks refused."""
        return sum(sum(drops.values()) for drops in (self.one.drops, self.two.drops, self.there.drops, self.back.drops))


def _ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def _received(listener: socket.socket, into: bytearray) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(_PATIENCE)
        while data := connection.recv(1 << 20):
            into += data


@pytest.mark.parametrize("loss", [0.0, 0.01], ids=["no loss", "loss"])
@pytest.mark.parametrize("family", _FAMILIES)
def test_a_tcp_stream_arrives_as_it_was_sent(family: int, loss: float) -> None:
    sent, received = random.Random(7).randbytes(_STREAM_BYTES), bytearray()
    tunnel = _Tunnel(loss)
    with contextlib.closing(tunnel), tunnel.two.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((_ADDRESSES[family][1], 5000))
        listener.listen()
        receiver = threading.Thread(target=_received, args=(listener, received))
        receiver.start()
        with tunnel.one.socket(family, socket.SOCK_STREAM) as sender:
            sender.connect((_ADDRESSES[family][1], 5000))
            sender.sendall(sent)
        receiver.join()
    assert received == sent
    assert SEGMENT in tunnel.there.kinds
    assert bool(tunnel.there.lost) == bool(loss)
    assert tunnel.there.largest > 10000, "superframes reached the receiver as superframes"
    assert tunnel.refused() == 0


@pytest.mark.parametrize(
    ("size", "kinds"),
    [(300, {SEGMENT}), (1200, {SEGMENT}), pytest.param(1420, {FRAGMENT}, id="1420-larger than a datagram")],
)
@pytest.mark.parametrize("family", _FAMILIES)
def test_a_burst_of_udp_arrives_as_it_was_sent(family: int, size: int, kinds: set[int]) -> None:
    datagrams = [random.Random(at).randbytes(size) for at in range(40)] + [b"the last one is shorter"]
    tunnel = _Tunnel()
    if not tunnel.one.tap.offloads & OFFLOAD_USO:
        tunnel.close()
        pytest.skip("this kernel gives UDP superframes to no tap (they came with Linux 6.2)")
    with (
        contextlib.closing(tunnel),
        tunnel.two.socket(family, socket.SOCK_DGRAM) as receiver,
        tunnel.one.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((_ADDRESSES[family][1], 5000))
        sender.bind((_ADDRESSES[family][0], 0))
        sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, size)
        sender.sendto(b"".join(datagrams), (_ADDRESSES[family][1], 5000))
        assert [receiver.recv(65536) for _ in datagrams] == datagrams
    assert kinds <= tunnel.there.kinds
    assert tunnel.refused() == 0


class _Bridge:
    """A host whose bridge has a tap that takes superframes and one that does not: the kernel segments in between."""

    def __init__(self) -> None:
        self._namespaces = HostNamespaces()
        self._drops = Drops()
        self._offloading, self._plain = in_thread(self._set_up)

    def _set_up(self) -> tuple[TunTap, TunTap]:
        self._namespaces.enter()
        for scope in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")  # so that it says nothing itself
        offloading = open_device("offloading", Mode.TAP, self._drops)
        plain = open_device("plain", Mode.TAP, self._drops, offload=False)
        _ip("link add bridge type bridge mcast_snooping 0", "link set bridge up")
        for name in ("offloading", "plain"):
            _ip(f"link set {name} mtu 9500", f"link set {name} master bridge", f"link set {name} up")
        return offloading, plain

    def forward(self, frame: bytes, header: bytes, count: int) -> list[bytes]:
        """What comes out for a superframe: waits for `count` packets, and then takes all there are."""
        self._offloading.write_batch([(header, frame)])
        assert not self._drops, "the kernel takes what our checks accept"
        poll = select.poll()
        poll.register(self._plain.fileno(), select.POLLIN)
        packets: list[bytes] = []
        while poll.poll(0 if len(packets) >= count else _PATIENCE * 1000):
            packets.append(os.read(self._plain.fileno(), 70000))
        return packets

    def close(self) -> None:
        self._offloading.close()
        self._plain.close()
        self._namespaces.close()


@pytest.fixture(scope="module")
def bridge() -> Iterator[_Bridge]:
    try:
        made = _Bridge()
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"this kernel has no bridge: {refused.stderr.decode().strip()}")
    with contextlib.closing(made):
        yield made


_BRIDGED = superframes().filter(lambda made: made.mode is Mode.TAP)


@settings(max_examples=150)
@given(made=_BRIDGED)
def test_our_segmentation_is_the_kernels(bridge: _Bridge, made: Superframe) -> None:
    expected = segment(made.frame, made.header, Mode.TAP)
    assert bridge.forward(made.frame, made.header, len(expected)) == expected


@settings(max_examples=100)
@given(made=_BRIDGED, data=st.data())
def test_what_is_left_of_a_superframe_is_one_to_the_kernel(
    bridge: _Bridge, made: Superframe, data: st.DataObject
) -> None:
    unit = made.gso_size if made.protocol == UDP else 1
    units = -(-len(made.payload) // unit)
    first = data.draw(st.integers(0, units - 1))
    start, stop = first * unit, min(data.draw(st.integers(first + 1, units)) * unit, len(made.payload))
    fields = struct.pack(">IHHH", 1, start, len(made.payload), made.headers)
    body = fields + made.header + made.frame[: made.headers] + made.payload[start:stop]
    joiner, out = Joiner(Mode.TAP, Drops()), list[Iovec]()
    joiner.segment(memoryview(body), out)
    joiner.flush(out)
    written = b"".join(out[0])
    header, frame = written[:10], written[10:]
    expected = segment(frame, header, Mode.TAP)
    if start % made.unit == 0 and made.gso_size:
        assert expected[:-1] == made.packets()[start // made.unit :][: len(expected) - 1]
    assert bridge.forward(frame, header, len(expected)) == expected
