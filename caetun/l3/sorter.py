"""Packets that go to peers, put together by where they go."""

from __future__ import annotations

from caetun.board import Batches, Parcel
from caetun.types import Iovec
from caetun.wire import ip
from caetun.wire.container import HEAD_SIZE, Batch


class Sorter:
    """Puts packets into one batch for each peer they go to."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._open: dict[tuple[int, ...], Batch] = {}
        self.parcels: list[Parcel] = []

    def add(self, ports: tuple[int, ...], frame: Iovec, forwarded: bool = False) -> None:
        """A packet and where it goes; one that is `forwarded` has one hop less to go."""
        batch = self._open.get(ports)
        if batch is None or batch.full:
            batch = self._open[ports] = self._batches.lend()
            self.parcels.append(Parcel(ports, batch))
        batch.append_parts(frame[0], frame[1:])
        if forwarded:
            ip.take_hop(batch.buffer, batch.starts[-1] + HEAD_SIZE)
