"""Segments of superframes, joined again as far as they arrived (docs/wire.md, section 4.1). The opposite is `cut.py`.

1. A segment that continues the open run is added to it: the usual case, no header is looked at.
2. Any other one ends that run and begins the next; its headers are judged first (`validate.py`).
3. A run that reaches the end of its superframe, or that is ended, is written as one frame. If it is not the whole
   superframe it becomes a smaller one with headers of its own (`headers.py`); TCP neither notices nor sends it again.
"""

from __future__ import annotations

from typing import Final

from caetun.errors import Malformed
from caetun.offload.headers import part_headers
from caetun.offload.validate import Superframe, divisible
from caetun.types import Buffer, DropReason, Drops, Iovec, Mode
from caetun.wire import ip
from caetun.wire.element import SEGMENT_FIELDS
from caetun.wire.virtio_net import GSO_ECN, GSO_NONE, NEEDS_CSUM, VNET

# fixed by the specification
_TEMPLATE_AT: Final = SEGMENT_FIELDS.size
_HEADERS_AT: Final = SEGMENT_FIELDS.size + VNET.size

# chosen by us
MAX_PIECES: Final = 1000
"""Pieces in one frame: `writev` takes 1,024 parts (IOV_MAX), and cut.py makes at most 512."""


class _Run:
    """Contiguous pieces of one superframe's payload, from `start` to `stop`."""

    __slots__ = ("headers", "ident", "pieces", "start", "stop", "template", "total", "unit", "whole")

    def __init__(self, ident: int, template: bytes, whole: Superframe, start: int) -> None:
        self.ident = ident
        self.template = template
        self.whole = whole
        self.headers = whole.payload
        self.total = whole.length - whole.payload
        self.unit = whole.gso_size if whole.protocol == ip.UDP else 1
        """Pieces begin and end at multiples of this."""
        self.start = self.stop = start
        self.pieces: list[Buffer] = []

    def frame(self) -> Iovec:
        """What to write: virtio_net_hdr and headers, then the pieces."""
        whole = self.whole
        if self.start == 0 and self.stop == self.total:
            return (whole.header + self.template[VNET.size :], *self.pieces)
        headers = part_headers(whole, self.template[VNET.size :], self.start, self.stop)
        gso_type, gso_size, hdr_len = whole.gso_type, whole.gso_size, whole.payload
        if self.start:
            gso_type &= ~GSO_ECN  # it announces CWR, which goes with the first byte only
        if self.stop - self.start <= gso_size or not gso_size:
            gso_type, gso_size, hdr_len = GSO_NONE, 0, 0
        check_at = ip.TCP_CHECKSUM_AT if whole.protocol == ip.TCP else ip.UDP_CHECKSUM_AT
        vnet = VNET.pack(NEEDS_CSUM, gso_type, hdr_len, gso_size, whole.transport, check_at)
        return (vnet + headers, *self.pieces)


class Joiner:
    """Joins the segments from one peer. Holds one run at a time: at most 65,535 bytes of payload."""

    def __init__(self, mode: Mode, drops: Drops) -> None:
        self._mode = mode
        self._drops = drops
        self._run: _Run | None = None
        self._judged: tuple[bytes, int, Superframe] | None = None
        """The last template and total found good, so that a superframe is judged once however often it is broken."""

    def segment(self, body: memoryview, out: list[Iovec]) -> None:
        """Take in the body of a segment element; append to `out` the frames that are finished by it.

        `body` is valid during the call only: its payload is copied. A malformed one is dropped and counted. Frames stay
        in order if the caller calls `flush` before it appends one of its own. Hot: runs once per datagram.
        """
        size = len(body)
        if size <= _HEADERS_AT:
            self._drops.count(DropReason.SEGMENT_MALFORMED)
            return
        ident, offset, total, headers = SEGMENT_FIELDS.unpack_from(body)
        at = _HEADERS_AT + headers
        stop = offset + size - at
        run = self._run
        if not offset < stop <= total:
            self._drops.count(DropReason.SEGMENT_MALFORMED)
            return
        if (
            run is None
            or run.stop != offset
            or run.ident != ident
            or run.total != total
            or run.headers != headers
            or len(run.pieces) >= MAX_PIECES
        ):
            run = self._begin(body, stop, out)
            if run is None:
                return
        elif stop % run.unit and stop != total:
            self._drops.count(DropReason.SEGMENT_MALFORMED)
            return
        run.pieces.append(body[at:].tobytes())
        run.stop = stop
        if stop == total:
            self.flush(out)

    def flush(self, out: list[Iovec]) -> None:
        """Append the open run to `out`, if there is one: nothing more is waiting. To be called after each burst."""
        run, self._run = self._run, None
        if run is not None:
            out.append(run.frame())

    def _begin(self, body: memoryview, stop: int, out: list[Iovec]) -> _Run | None:
        """End the open run and begin one with the segment in `body`; None if that one is of no use."""
        ident, offset, total, headers = SEGMENT_FIELDS.unpack_from(body)
        run = self._run
        if run is not None and run.ident == ident and run.total == total and run.start <= offset and stop <= run.stop:
            return None  # a duplicate
        template = bytes(body[_TEMPLATE_AT : _HEADERS_AT + headers])
        try:
            whole = self._judge(template, total)
        except Malformed as bad:
            self._drops.count(bad.reason)
            return None
        begun = _Run(ident, template, whole, offset)
        if whole.payload != headers or offset % begun.unit or (stop % begun.unit and stop != total):
            self._drops.count(DropReason.SEGMENT_MALFORMED)
            return None
        self.flush(out)
        self._run = begun
        return begun

    def _judge(self, template: bytes, total: int) -> Superframe:
        """The superframe that virtio_net_hdr and headers in `template` describe; raises Malformed if there is none."""
        if self._judged is None or self._judged[0] != template or self._judged[1] != total:
            headers = template[VNET.size :]
            whole = divisible(headers, len(headers) + total, template[: VNET.size], self._mode)
            self._judged = (template, total, whole)
        return self._judged[2]
