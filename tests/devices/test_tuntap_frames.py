"""Frames and superframes through TUN and TAP devices of the real kernel, in the Lab."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final

import pytest

from caetun.devices import tuntap
from caetun.devices.tuntap import TunTap
from caetun.errors import DeviceError
from caetun.lab import Lab
from caetun.types import DropReason, Drops, Mode
from caetun.wire.checksum import checksum
from caetun.wire.container import Batch
from caetun.wire.virtio_net import GSO_NONE, NEEDS_CSUM, NO_OFFLOAD, VnetHeader
from tests.devices.machine import Machine, frames_of

in_lab = pytest.mark.needs("namespaces", "tun", "ip")
both_modes = pytest.mark.parametrize("mode", list(Mode))

# chosen by us
STREAM_BYTES: Final = 2 << 20
PATIENCE: Final = 20.0
"""Seconds after which something that should have happened has not."""


def packet(size: int = 60, ident: int = 0) -> bytes:
    """An IPv4 packet to nobody we know; with `ident` in front of its payload."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 253, 0, bytes((10, 9, 0, 9)), bytes((10, 9, 0, 1)))
    return head + ident.to_bytes(4) + bytes(size - 24)


def waiting(device: TunTap, count: int) -> list[tuple[bytes, bytes]]:
    """At least so many frames, however many batches it takes."""
    poll, frames = select.poll(), list[tuple[bytes, bytes]]()
    poll.register(device.fileno(), select.POLLIN)
    while len(frames) < count:
        assert poll.poll(PATIENCE * 1000), f"only {len(frames)} frames"
        frames += frames_of(device)
    return frames


# -- frames --


@in_lab
@both_modes
@pytest.mark.parametrize("offload", [True, False])
def test_what_is_written_reaches_the_host(machine: Machine, mode: Mode, offload: bool) -> None:
    device = machine.up(machine.open("dev0", mode, offload))
    machine.host.set("net.ipv4.conf.all.rp_filter", 0)
    with machine.host.socket(socket.AF_INET, socket.SOCK_RAW, 253) as inbox:
        inbox.settimeout(PATIENCE)
        sent = packet(ident=7)
        checked = sent[:10] + struct.pack(">H", checksum(sent[:20])) + sent[12:]
        mac = bytes.fromhex("ffffffffffff 020000000009 0800")
        frame = mac + checked if mode is Mode.TAP else checked
        device.write_batch([(NO_OFFLOAD, memoryview(frame)), (NO_OFFLOAD, frame[:20], memoryview(frame)[20:])])
        assert [inbox.recv(2000), inbox.recv(2000)] == [checked, checked]
    assert not machine.drops
    device.close()


@in_lab
@both_modes
@pytest.mark.parametrize("offload", [True, False])
def test_what_the_host_sends_is_read(machine: Machine, mode: Mode, offload: bool) -> None:
    device = machine.up(machine.open("dev0", mode, offload))
    device._read_at = float("inf")
    machine.host.run(["ip", "neigh", "add", "10.9.0.9", "lladdr", "02:00:00:00:00:09", "dev", "dev0"], timeout=PATIENCE)
    with machine.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        for number in range(20):
            outbox.sendto(b"%d" % number, ("10.9.0.9", 9))
    frames = waiting(device, 20)
    transport = 34 if mode is Mode.TAP else 20
    assert [frame[transport + 8 :] for frame, _ in frames] == [b"%d" % number for number in range(20)]
    headers = {VnetHeader.decode(header) for _, header in frames}
    if offload:
        assert headers == {VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, transport, 6)}
    else:
        assert headers == {VnetHeader.decode(NO_OFFLOAD)}
    assert frames_of(device) == []
    device.close()


@in_lab
def test_without_headers_nothing_is_left_of_an_older_one(machine: Machine) -> None:
    device = machine.up(machine.open("dev0", Mode.TUN, offload=False))
    with machine.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        outbox.sendto(b"some", ("10.9.0.9", 9))
    used = Batch()
    used.append(bytes(60), VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, 34, 6).encode())
    assert [header for _, header in frames_of(device, used)] == [NO_OFFLOAD]
    device.close()


@in_lab
def test_a_lone_frame_is_not_waited_behind(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(tuntap, "time", SimpleNamespace(monotonic=lambda: clock.now))
    device = machine.up(machine.open("dev0", Mode.TUN))
    with machine.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        for number in range(6):
            outbox.sendto(b"%d" % number, ("10.9.0.9", 9))
    assert len(frames_of(device)) == 1, "after silence: it goes out before more is asked for"
    assert len(frames_of(device)) == 5, "it was not alone"
    assert frames_of(device) == []
    device.close()


@in_lab
def test_a_batch_takes_as_much_as_it_holds(machine: Machine) -> None:
    device = machine.up(machine.open("dev0", Mode.TUN))
    with machine.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        for _ in range(10):
            outbox.sendto(bytes(1000), ("10.9.0.9", 9))
    small = Batch(limit=3500)
    for expected in (4, 4, 2, 0):
        device._read_at = float("inf")  # never silence, however slow this machine is
        assert len(frames_of(device, small)) == expected
    device.close()


@in_lab
@both_modes
def test_what_the_kernel_refuses_is_counted(machine: Machine, mode: Mode) -> None:
    device = machine.open("dev0", mode)
    frame = packet() if mode is Mode.TUN else bytes(14) + packet()
    device.write_batch([(NO_OFFLOAD, frame)] * 3)
    assert machine.drops == {DropReason.DEVICE_REFUSED: 3}, "the interface is down"
    machine.up(device)
    impossible = VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, 5000, 16).encode()
    device.write_batch([(impossible, frame), (NO_OFFLOAD, frame)])
    assert machine.drops == {DropReason.DEVICE_REFUSED: 4}
    device.close()


def test_a_device_that_is_full_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def writev(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(tuntap, "os", SimpleNamespace(writev=writev))
    drops = Drops()
    TunTap(-1, "full0", Mode.TAP, drops).write_batch([(NO_OFFLOAD, bytes(60))] * 2)
    assert drops == {DropReason.DEVICE_FULL: 2}


@in_lab
@pytest.mark.parametrize("offload", [True, False])
def test_a_device_that_was_deleted_says_so(machine: Machine, offload: bool) -> None:
    device = machine.open("dev0", Mode.TUN, offload)
    machine.host.run(["ip", "link", "del", "dev0"])
    with pytest.raises(DeviceError, match=r"dev0: cannot be read any more: .*: was it deleted\?"):
        frames_of(device)
    device.write_batch([(NO_OFFLOAD, packet())])
    assert machine.drops == {DropReason.DEVICE_REFUSED: 1}
    device.close()


# -- superframes --


class Wire:
    """Carries what two devices read to the other one, and keeps the header of each frame."""

    def __init__(self, one: TunTap, other: TunTap) -> None:
        self._ways = {one.fileno(): (one, other), other.fileno(): (other, one)}
        self.headers: list[VnetHeader] = []
        self.longest = 0
        """Bytes of the longest frame."""
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="wire")
        self._thread.start()

    def _run(self) -> None:
        poll, batch = select.poll(), Batch()
        for descriptor in (*self._ways, self._stop):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._stop:
                    return
                source, target = self._ways[descriptor]
                batch.clear()
                source.read_batch(batch)
                frames = list(batch.frames())
                self.headers += [VnetHeader.decode(header) for _, header in frames]
                self.longest = max([self.longest, *(len(frame) for frame, _ in frames)])
                target.write_batch([(header, frame) for frame, header in frames])

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._stopped)


@pytest.fixture(params=[(Mode.TAP, True), (Mode.TUN, True), (Mode.TAP, False)], ids=["tap", "tun", "tap, bare"])
def wired(request: pytest.FixtureRequest, lab: Lab) -> Iterator[tuple[Machine, Machine, Wire, bool]]:
    """Two hosts whose devices are joined, 10.9.0.1 and 10.9.0.2, and whether they have offloads."""
    mode, offload = request.param
    machines = Machine(lab, 1), Machine(lab, 2)
    devices = [machine.up(machine.open("dev0", mode, offload)) for machine in machines]
    wire = Wire(*devices)
    yield *machines, wire, offload
    wire.close()
    for device in devices:
        device.close()


def send_all(sender: socket.socket, content: bytes) -> None:
    sender.sendall(content)
    sender.shutdown(socket.SHUT_WR)


@in_lab
def test_a_tcp_stream_crosses_in_superframes(wired: tuple[Machine, Machine, Wire, bool]) -> None:
    one, other, wire, offload = wired
    sent, received = random.Random(7).randbytes(STREAM_BYTES), bytearray()
    with (
        other.host.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
        one.host.socket(socket.AF_INET, socket.SOCK_STREAM) as sender,
    ):
        listener.settimeout(PATIENCE)
        listener.bind(("10.9.0.2", 5000))
        listener.listen()
        sender.settimeout(PATIENCE)
        sender.connect(("10.9.0.2", 5000))
        connection, _ = listener.accept()
        writer = threading.Thread(target=send_all, args=(sender, sent))
        writer.start()
        with connection:
            connection.settimeout(PATIENCE)
            while data := connection.recv(1 << 20):
                received += data
        writer.join()
    assert received == sent
    assert not one.drops + other.drops
    if offload:
        assert wire.longest > 10_000
        assert any(header.gso_type and header.gso_size for header in wire.headers)
    else:
        assert wire.longest <= 1514
        assert set(wire.headers) == {VnetHeader.decode(NO_OFFLOAD)}
