"""Which records leave together on a datagram link, as one burst of datagrams of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from caetun.transports.pieces import cut_record
from caetun.types import Buffer, DropReason, Drops
from caetun.wire.record import HEADER_SIZE, Record, encode_header


class Burst(NamedTuple):
    """Datagrams of `size` bytes, the last one maybe shorter."""

    parts: list[Buffer]
    """Two for each datagram: its header and its body."""
    size: int


def bursts_of(records: Sequence[Record], unit: int, max_record: int, drops: Drops) -> list[Burst]:
    """A long record as one burst of pieces, short ones of equal size as one burst together.

    `unit`, `max_record`: bytes of record body, as in the link contract; what is longer is dropped under its name.
    """
    bursts: list[Burst] = []
    most = 2 * (max_record // unit)
    group: list[Buffer] = []
    group_size = 0
    for record in records:
        size = len(record.body)
        if group and (size + HEADER_SIZE > group_size or len(group) >= most):
            bursts.append(Burst(group, group_size))
            group = []
        if size > unit:
            if size > max_record:
                drops.count(DropReason.LINK_OVERSIZE)
            else:
                bursts.append(Burst(cut_record(record, unit), unit + HEADER_SIZE))
            continue
        if not group:
            group_size = size + HEADER_SIZE
        group += encode_header(0, 1, record.session, record.counter), record.body
        if size + HEADER_SIZE < group_size:
            bursts.append(Burst(group, group_size))
            group = []
    if group:
        bursts.append(Burst(group, group_size))
    return bursts
