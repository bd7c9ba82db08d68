"""From a batch of frames to containers that fit a link, and what the far end cannot take done for it.

The usual batch fits one record and is sealed as it lies. Otherwise frames are put into containers in order; one that is
larger than a container is cut (`offload/cut.py`).
"""

from __future__ import annotations

from typing import Final, Protocol

from caetun.errors import Malformed
from caetun.offload.segment import complete, segment
from caetun.types import Buffer, Drops, Mode
from caetun.wire.container import OFFLOAD_CHECKSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO, Batch
from caetun.wire.virtio_net import GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NO_OFFLOAD

# chosen by us
_WORTH_PADDING: Final = 3 / 4
"""A container filled at least so far is padded to full size: datagrams of equal size leave in one burst."""
OFFLOADS_OF_GSO: Final = {
    GSO_NONE: OFFLOAD_CHECKSUM,
    GSO_TCPV4: OFFLOAD_CHECKSUM | OFFLOAD_TSO4,
    GSO_TCPV6: OFFLOAD_CHECKSUM | OFFLOAD_TSO6,
    GSO_UDP_L4: OFFLOAD_CHECKSUM | OFFLOAD_USO,
}
"""What a frame of each gso_type relies on if its checksum is open: whoever segments it also completes its checksums."""
GSO_TYPE_AT: Final = 1
"""Where a virtio_net_hdr has its gso_type."""


class FrameCutter(Protocol):
    """What packing needs of `offload.cut.Cutter`."""

    def cut(self, frame: Buffer, header: bytes, room: int) -> list[bytes]:
        """Elements of at most `room` bytes that carry the frame."""


def pack(batch: Batch, room: int, cutter: FrameCutter, pad: bool) -> list[Buffer]:
    """Containers of at most `room` bytes that carry the batch's frames in order.

    With `pad`, those nearly full are padded to `room`, except the last. Containers may be views on the batch's memory.
    """
    if batch.end <= room:
        return [batch.view[: batch.end]]
    containers: list[Buffer] = []
    begin = 0
    for start, stop in batch.spans():
        if stop - begin <= room:
            continue
        if start > begin:
            containers.append(_padded(batch.view[begin:start], room) if pad else batch.view[begin:start])
        begin = start
        if stop - start > room:
            containers += cutter.cut(*batch.frame(start, stop), room)
            begin = stop
    if begin < batch.end:
        containers.append(batch.view[begin : batch.end])
    return containers


def _padded(container: memoryview, room: int) -> Buffer:
    if len(container) < room * _WORTH_PADDING:
        return container
    return b"".join((container, bytes(room - len(container))))


def soften(batch: Batch, offloads: int, mode: Mode, drops: Drops) -> list[Batch]:
    """The same frames, with done in software whatever is not in `offloads` (bits of docs/wire.md 2.3, field 3).

    What the device's metadata does not allow to do is dropped and counted.
    """
    softened = [Batch()]
    for frame, header in batch.frames():
        try:
            parts = _softened(frame, header, offloads, mode)
        except Malformed as bad:
            drops.count(bad.reason)
            continue
        for plain, plain_header in parts:
            if softened[-1].full:
                softened.append(Batch())
            softened[-1].append(plain, plain_header)
    return softened if len(softened[-1]) else softened[:-1]


def _softened(frame: memoryview, header: bytes, offloads: int, mode: Mode) -> list[tuple[Buffer, bytes]]:
    if header == NO_OFFLOAD:
        return [(frame, header)]
    gso_type = header[GSO_TYPE_AT] & ~GSO_ECN
    needed = OFFLOADS_OF_GSO.get(gso_type, ~0)
    if needed & offloads == needed:
        return [(frame, header)]
    if gso_type:
        return [(part, NO_OFFLOAD) for part in segment(frame, header, mode)]
    return [(complete(frame, header), NO_OFFLOAD)]
