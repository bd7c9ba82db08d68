"""Batches through the switch: what a port gives is sorted by where it goes, and stays together if it goes one way.

    device batch   --outbound-->  (ports, batch) ...              the batch itself if all of it goes to the same ports
    peer's frames  --inbound-->   for the device: as they are     for other peers: (ports, batch) ...

A superframe stays one. Frames for the same ports are sealed together and in order; a flooded frame is copied once,
however many ports it leaves by, and sealed once for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caetun.board import LOCAL, Batches, Parcel, parted
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.outcome import NOWHERE, Egress, Notice
from caetun.l2.queries import query_frame
from caetun.types import Iovec
from caetun.wire.container import HEAD_SIZE, VNET_SIZE, Batch
from caetun.wire.virtio_net import NO_OFFLOAD


class Switchboard:
    """The switch between a device and peers. Ports other than `LOCAL` are the peers'."""

    def __init__(self, bridge: Bridge, address: bytes) -> None:
        """`address`: the source of frames of our own, 6 bytes."""
        self.bridge = bridge
        self._address = address
        self.batches = Batches()

    # hot

    def outbound(self, batch: Batch, now: float) -> list[Parcel]:
        """Frames that the host sends. Hot: once a batch, and one decision a frame."""
        self.batches.reclaim()
        bridge = self.bridge
        forward, view, aware = bridge.forward, batch.view, bridge.ports.aware
        ways = [forward(LOCAL, view[start + HEAD_SIZE : stop], now) for start, stop in batch.spans()]
        first = ways[0] if ways else NOWHERE
        if not aware and all(way is first or way == first for way in ways):
            return [Parcel(first.ports, batch)] if first.ports else []
        sorter = _Sorter(self)
        for (frame, header), way in zip(batch.frames(), ways, strict=True):
            sorter.add(way, (header, frame))
        return sorter.parcels

    def inbound(self, port: int, frames: Sequence[Iovec], now: float) -> tuple[list[Iovec], list[Parcel]]:
        """Frames that a peer sent: what the host gets, and what goes on to other peers. Hot: once a burst."""
        self.batches.reclaim()
        forward, aware = self.bridge.forward, self.bridge.ports.aware
        local: list[Iovec] = []
        sorter: _Sorter | None = None
        for frame in frames:
            way = forward(port, frame[1] if len(frame[0]) == VNET_SIZE else memoryview(frame[0])[VNET_SIZE:], now)
            if way.ports == (LOCAL,) and not aware:
                local.append(frame)
                continue
            if not way.ports:
                continue
            if sorter is None:
                sorter = _Sorter(self)
            sorter.add(way, parted(frame), local)
        return local, [] if sorter is None else sorter.parcels

    # ports

    def add_port(self, number: int, settings: PortSettings, now: float) -> None:
        """A peer has come up."""
        self.bridge.add_port(number, settings, now)

    def remove_port(self, number: int) -> None:
        """A peer has gone down."""
        self.bridge.remove_port(number)

    def port_moved(self, number: int, now: float) -> None:
        """A peer is reached by another link than before."""
        self.bridge.port_moved(number, now)

    # time

    def tick(self, now: float) -> tuple[list[Iovec], list[Parcel]]:
        """Frames of the switch's own that are due: for the host, and for peers."""
        self.batches.reclaim()
        emissions, wanted = self.bridge.tick(now)
        local: list[Iovec] = []
        sorter = _Sorter(self)
        for emission in emissions:
            sorter.add(Egress(emission.vlan, (emission.port,)), (NO_OFFLOAD, memoryview(emission.frame)), local)
        for vlan, query, only in wanted:
            frame = memoryview(query_frame(query, self._address))
            ports = tuple([port for port in self.bridge.ports.members(vlan) if only in (None, port)])
            sorter.add(Egress(vlan, ports), (NO_OFFLOAD, frame), local)
        return local, sorter.parcels

    @property
    def waiting(self) -> bool:
        """Whether the switch has frames of its own to send at once."""
        return bool(self.bridge.waiting)

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        return self.bridge.next_deadline()

    def notices(self) -> list[Notice]:
        """What people should hear of since this was last asked."""
        notices, self.bridge.notices = self.bridge.notices, []
        return notices


class _Sorter:
    """Puts frames into one batch for each set of ports they go to."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._open: dict[tuple[int, ...], Batch] = {}
        self.parcels: list[Parcel] = []

    def add(self, way: Egress, frame: Iovec, local: list[Iovec] | None = None) -> None:
        """A frame and where it goes; what is for the host is put into `local`."""
        ports = way.ports
        if self._board.bridge.ports.aware:
            for form, some in self._forms(way, frame):
                self._put(some, form, local)
        else:
            self._put(ports, frame, local)

    def _forms(self, way: Egress, frame: Iovec) -> Iterable[tuple[Iovec, tuple[int, ...]]]:
        """The frame with and without its tag, each with the ports that want it so."""
        bridge = self._board.bridge
        header, *parts = frame
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        forms: dict[bool, list[int]] = {}
        for port in way.ports:
            forms.setdefault(bridge.ports.vlans(port).native == way.vlan, []).append(port)
        for some in forms.values():
            yield bridge.ports.vlans(some[0]).egress(bytes(header), memoryview(whole), way.vlan), tuple(some)

    def _put(self, ports: tuple[int, ...], frame: Iovec, local: list[Iovec] | None) -> None:
        if LOCAL in ports:
            assert local is not None, "what the host sent does not go back to it"
            local.append(frame)
            ports = tuple([port for port in ports if port != LOCAL])
        if not ports:
            return
        batch = self._open.get(ports)
        if batch is None or batch.full:
            batch = self._open[ports] = self._board.batches.lend()
            self.parcels.append(Parcel(ports, batch))
        batch.append_parts(frame[0], frame[1:])
