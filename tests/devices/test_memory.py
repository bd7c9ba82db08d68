"""The device's double keeps the device contract."""

from __future__ import annotations

from caetun.devices.base import Device
from caetun.devices.memory import MemoryDevice
from caetun.types import Mode
from caetun.wire.container import OFFLOAD_CHECKSUM, Batch
from caetun.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD, VnetHeader
from tests.devices.machine import frames_of

CHECKSUM = VnetHeader(NEEDS_CSUM, 0, 0, 0, 34, 16).encode()


def test_frames_put_in_are_read() -> None:
    device = MemoryDevice()
    device.put(b"first frame...", CHECKSUM)
    device.put(bytearray(b"second frame.."))
    assert frames_of(device) == [(b"first frame...", CHECKSUM), (b"second frame..", NO_OFFLOAD)]
    assert frames_of(device) == []


def test_a_batch_takes_as_much_as_it_holds() -> None:
    device, small = MemoryDevice(), Batch(limit=3500)
    for _ in range(10):
        device.put(bytes(1000))
    assert [len(frames_of(device, small)) for _ in range(4)] == [4, 4, 2, 0]


def test_frames_written_are_kept_in_order() -> None:
    device: Device = MemoryDevice(Mode.TUN, OFFLOAD_CHECKSUM, "double0")
    frame = bytearray(b"in two parts")
    device.write_batch([(CHECKSUM, memoryview(frame)[:6], memoryview(frame)[6:]), (NO_OFFLOAD, b"whole")])
    frame[:] = bytes(len(frame))
    assert isinstance(device, MemoryDevice)
    assert device.written == [(b"in two parts", CHECKSUM), (b"whole", NO_OFFLOAD)]
    assert (device.name, device.mode, device.offloads) == ("double0", Mode.TUN, OFFLOAD_CHECKSUM)
    device.close()
    device.close()
