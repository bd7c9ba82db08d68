"""What two peers share above any link: key pairs, span, and the state of what is half sent or half received.

Outbound:  seal_batch -> soften -> pack -> KeyPair.seal -> records
Inbound:   open -> KeyPair.open -> unpack -> frames (whole, joined, reassembled) and control messages

A session outlives its links and its keys: a handshake installs a key pair, a link is whatever it is told to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from caetun.errors import Malformed, Refused
from caetun.offload.cut import Cutter
from caetun.offload.fragment import Reassembly
from caetun.offload.join import Joiner
from caetun.offload.validate import Validator
from caetun.session.keypair import KeyPair
from caetun.session.liveness import REPORT_DUE
from caetun.session.packing import GSO_TYPE_AT, OFFLOADS_OF_GSO, pack, soften
from caetun.session.span import Span
from caetun.session.unpacking import unpack
from caetun.types import Buffer, DropReason, Drops, Iovec, Mode
from caetun.wire import control
from caetun.wire.container import OFFLOAD_CHECKSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO, VNET_SIZE, Batch
from caetun.wire.element import COMPRESSED, CONTROL, FRAGMENT, SEGMENT, SEGMENT_FIELDS, SUPERFRAME
from caetun.wire.record import TAG_SIZE, Record
from caetun.wire.virtio_net import GSO_ECN, NO_OFFLOAD

if TYPE_CHECKING:
    from caetun.compression.base import Method
    from caetun.session.deflation import Deflater
    from caetun.session.inflation import Inflater
    from caetun.session.security import Established

# chosen by us
MAX_UNCONFIRMED: Final = 12
"""Key pairs of answered handshakes, kept until the initiator uses one of them: as many as it keeps attempts open."""
UNCONFIRMED_SECONDS: Final = 30.0
"""An initiator that waits for a response no longer (`handshake.ATTEMPT_SECONDS`) will not use its keys either."""
MAX_PREVIOUS: Final = 3
"""Former key pairs that still open: the one before, one that lost against it in a tie, and one before these."""
MAX_METHODS: Final = 8
"""Compression methods that are accepted: as many as a hello has room for (docs/wire.md, 2.3)."""
TIE_SECONDS: Final = 2.0
"""Both sides began a handshake within so long, and each has ended well: one rule for both decides which one counts."""
REPEAT_LOSS: Final = 0.004
"""Share of records lost on a path: above it, short tails are worth sending twice."""
REPEAT_SIZE: Final = 0.3
"""Share of a full record that a tail may have to be sent twice."""
REPORT_RECORDS: Final = 32
"""Records that arrive before it is worth telling the far end."""
REPORT_SECONDS: Final = 0.02
SPARSE_RECORDS: Final = 3
SPARSE_SECONDS: Final = REPORT_DUE
"""Where records are rare, so few of them in so long: more than one, or reports of reports would never end."""
HEAVY_LOSS: Final = 0.1
"""Share of records missing from a report that makes us doubt the datagram size."""
SILENCE_RECORDS: Final = 4
SILENCE_SECONDS: Final = 0.5
"""So many records, and so long since a report was due: the path has changed, perhaps carries shorter datagrams only."""
_NOTHING: Final = control.Report(-1, 0)
_SEGMENT_GSO_TYPE_AT: Final = SEGMENT_FIELDS.size + GSO_TYPE_AT
EVERY_OFFLOAD: Final = OFFLOAD_CHECKSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_USO
_SMALLEST: Final = {Mode.TUN: 20, Mode.TAP: 14}
"""Bytes of the shortest frame there can be: an IPv4 header, an Ethernet header."""


class Session:
    """The keys and traffic state shared with one peer."""

    def __init__(
        self,
        mode: Mode,
        drops: Drops,
        span: int = 0,
        offloads: int = EVERY_OFFLOAD,
        compression: Sequence[Method] = (),
    ) -> None:
        """`span`: datagrams a record may take, 1..44; 0 lets measured loss decide.

        `offloads`, `compression`: what this side has said that it accepts (docs/wire.md 2.3, fields 3 and 9).
        """
        self.mode = mode
        """What frames are."""
        self._validator = Validator(mode)
        self._drops = drops
        self._smallest = _SMALLEST[mode]
        self._methods = tuple(compression)
        """What is inflated, by number. Numbers stay what they are: the far end knows them from a hello."""
        self._order = self._methods
        """What is deflated with, best first."""
        self._inflater = _inflater(self._methods) if compression else None
        self._open_checksums = bool(offloads & OFFLOAD_CHECKSUM)
        self._unwanted = frozenset(gso for gso, needed in OFFLOADS_OF_GSO.items() if needed & ~offloads)
        """Each gso_type that relies on what this side did not accept; mostly none."""
        self._cutter = Cutter(mode, drops)
        self._joiner = Joiner(mode, drops)
        self._reassembly = Reassembly(drops)
        self.span = Span(fixed=span)
        self.current: KeyPair | None = None
        """What records are sealed with."""
        self.previous: list[KeyPair] = []
        """What records under way may still be sealed with, newest first."""
        self.unconfirmed: list[KeyPair] = []
        """Answered handshakes that nothing has arrived under yet; the first record under one makes it current."""
        self._opening: tuple[float, list[Iovec], list[control.Control]] = (0.0, [], [])
        """What `open` was called with, for the elements of the container it is walking."""
        self._reported_at = 0.0
        self._sent_at_report = 0
        self._report = _NOTHING
        self._doubt_at: float | None = None
        """When a report showed heavy loss that nobody has looked into yet."""

    def compress(self, methods: Sequence[Method]) -> tuple[str, ...]:
        """Deflate with the first of these that the far end takes; returns the names for the next hello."""
        self._order = tuple(methods)
        fresh = [method for method in methods if method not in self._methods]
        self._methods = (*self._methods, *fresh)[:MAX_METHODS]
        self._inflater = _inflater(self._methods) if self._methods else None
        if self.current is not None:
            from caetun.session.deflation import deflater

            self.current.deflater = deflater(self._order, self.current.established.hello)
        return tuple(method.name for method in self._methods)

    # keys

    def install(self, established: Established, now: float) -> list[KeyPair]:
        """Take the keys of a finished handshake into use; returns the pairs that are of no more use."""
        pair = KeyPair(established, now)
        if self._order:
            from caetun.session.deflation import deflater

            pair.deflater = deflater(self._order, established.hello)
        if established.initiator:
            return self._make_current(pair, now)
        self.unconfirmed.append(pair)
        if len(self.unconfirmed) > MAX_UNCONFIRMED:
            return [self.unconfirmed.pop(0)]
        return []

    def prefers(self, pair: KeyPair, now: float) -> bool:
        """Whether to use an answered handshake's keys, now that the far end does.

        If both sides have shaken hands at the same time, each may have a current pair that it initiated itself, and see
        records under the other one. Then the indices, which both know, say which pair both keep: reports are about one.
        """
        current = self.current
        if current is None or not current.initiator:
            return True
        if abs(pair.born - current.born) < TIE_SECONDS and now < current.born + TIE_SECONDS:
            return (pair.remote_index, pair.local_index) < (current.local_index, current.remote_index)
        # An older one, while the far end uses ours: a straggler from before it did.
        return pair.born > current.born or not current.window.opened

    def confirm(self, pair: KeyPair, now: float) -> list[KeyPair]:
        """The far end uses an answered handshake's keys: so do we; returns the pairs that are of no more use."""
        self.unconfirmed.remove(pair)
        stale = [other for other in self.unconfirmed if other.born <= pair.born]
        self.unconfirmed = [other for other in self.unconfirmed if other.born > pair.born]
        return stale + self._make_current(pair, now)

    def _make_current(self, pair: KeyPair, now: float) -> list[KeyPair]:
        if self.current is not None:
            self.previous.insert(0, self.current)
        stale = self.previous[MAX_PREVIOUS:]
        del self.previous[MAX_PREVIOUS:]
        self.current = pair
        self.span.restart_counts()
        self._sent_at_report = 0
        self._report = _NOTHING
        return stale

    def end(self) -> list[KeyPair]:
        """The session is over; returns its key pairs.

        Answered handshakes are newer than it: whoever was started again may have overtaken its own goodbye.
        """
        pairs = [*self.previous]
        if self.current is not None:
            pairs.append(self.current)
        self.current = None
        self.previous = []
        return pairs

    def forget(self) -> list[KeyPair]:
        """The same, and nobody is to come back by a handshake that was answered before; returns all key pairs."""
        pairs = self.end() + self.unconfirmed
        self.unconfirmed = []
        return pairs

    def _retire(self, now: float, lifetime: float) -> list[KeyPair]:
        """Give up pairs, other than the current one, that have outlived their use; returns them."""
        stale = [pair for pair in self.previous if now >= pair.born + lifetime]
        stale += [pair for pair in self.unconfirmed if now >= pair.born + UNCONFIRMED_SECONDS]
        if stale:
            self.previous = [pair for pair in self.previous if pair not in stale]
            self.unconfirmed = [pair for pair in self.unconfirmed if pair not in stale]
        return stale

    # outbound

    def seal_batch(self, batch: Batch, unit: int, max_record: int) -> list[Record]:
        """Records for a batch of frames on a link of these sizes; there must be a current key pair. Hot."""
        pair = self.current
        assert pair is not None
        hello = pair.established.hello
        span = self.span.datagrams
        room = span * unit  # the least of three, without a call of min()
        if room > max_record:
            room = max_record
        if room > hello.max_record:
            room = hello.max_record
        room -= TAG_SIZE
        small = pair.deflater
        if small is not None and not small.rests(batch):
            return self._seal_deflated(pair, small, batch, room)
        if batch.end <= room and not batch.offloads & ~hello.offloads:
            return [pair.seal(batch.view[: batch.end])]
        batches = soften(batch, hello.offloads, self.mode, self._drops) if batch.offloads & ~hello.offloads else [batch]
        records: list[Record] = []
        for some in batches:
            containers = pack(some, room, self._cutter, pad=span == 1)
            records += [pair.seal(container) for container in containers]
            if span == 1 and len(containers) > 1 and self.span.loss > REPEAT_LOSS:
                self._repeat_tail(records, room)
        return records

    def _seal_deflated(self, pair: KeyPair, small: Deflater, batch: Batch, room: int) -> list[Record]:
        """The same, made smaller."""
        offloads = pair.established.hello.offloads
        batches = soften(batch, offloads, self.mode, self._drops) if batch.offloads & ~offloads else [batch]
        return [pair.seal(container) for some in batches for container in small.containers(some, room, self._cutter)]

    def _repeat_tail(self, records: list[Record], room: int) -> None:
        """On a path that loses, send a short last record twice; the far end's replay window drops one of them.

        Two full segments take three datagrams, the last of them short. To lose it costs TCP as much as to lose a full
        one, so that half as much again would be lost as without a tunnel; to send it twice costs a few per cent.
        """
        if len(records[-1].body) <= room * REPEAT_SIZE:
            records.append(records[-1])

    def seal_elements(self, elements: Buffer) -> Record:
        """A record of its own for control elements, or for none: a keepalive."""
        assert self.current is not None
        return self.current.seal(elements)

    def path_suspect(self, now: float, overdue_since: float | None) -> bool:
        """Whether the path may not carry what it did: its size is worth a probe. Tells the span of silence, too.

        `overdue_since`: when frames were sent that should have been reported at once; None if there were none.
        """
        suspect_at = self.suspect_at(overdue_since)
        if suspect_at is None or now < suspect_at:
            return False
        if self._doubt_at is None:
            self.span.silence(now)
        self._doubt_at = None
        return True

    def suspect_at(self, overdue_since: float | None) -> float | None:
        """When `path_suspect` will say yes, unless a report comes before."""
        if self._doubt_at is not None:
            return self._doubt_at
        pair = self.current
        if pair is None or overdue_since is None or pair.sent - self._sent_at_report < SILENCE_RECORDS:
            return None
        return overdue_since + SILENCE_SECONDS

    # inbound

    def open(
        self, pair: KeyPair, record: Record, now: float, frames: list[Iovec], controls: list[control.Control]
    ) -> bool:
        """Open a record: append its frames and control messages. False if it was refused (and counted). Hot."""
        try:
            plain = pair.open(record.counter, record.body)
        except Refused as refused:
            self._drops.count(refused.reason)
            return False
        self._opening = now, frames, controls
        try:
            unpack(plain, self._smallest, frames, self._drops, self._other, self._open_checksums)
        except Malformed as bad:
            self._drops.count(bad.reason)
        return True

    def _other(self, kind: int, body: memoryview) -> None:
        """An element that is not a plain frame."""
        now, frames, controls = self._opening
        if kind != SEGMENT and kind != COMPRESSED:
            self._joiner.flush(frames)
        if kind == SUPERFRAME:
            self._offloaded(body[: len(body) - VNET_SIZE], bytes(body[len(body) - VNET_SIZE :]), frames)
        elif kind == SEGMENT:
            unwanted = self._unwanted
            if unwanted and len(body) > _SEGMENT_GSO_TYPE_AT and body[_SEGMENT_GSO_TYPE_AT] & ~GSO_ECN in unwanted:
                self._drops.count(DropReason.OFFLOAD_INVALID)
            else:
                self._joiner.segment(body, frames)
        elif kind == FRAGMENT:
            whole = self._reassembly.fragment(body, now)
            if whole is not None:
                self._offloaded(memoryview(whole)[VNET_SIZE:], bytes(whole[:VNET_SIZE]), frames)
        elif kind == CONTROL:
            try:
                message = control.decode(body)
            except Malformed as bad:
                self._drops.count(bad.reason)
                return
            if message is not None:
                controls.append(message)
        elif kind == COMPRESSED:
            self._inflate(body)
        else:
            self._drops.count(DropReason.ELEMENT_UNKNOWN)

    def _offloaded(self, frame: memoryview, header: bytes, frames: list[Iovec]) -> None:
        """A frame that may rely on offloads: nothing of its metadata reaches the kernel unchecked."""
        if len(frame) < self._smallest or len(header) < VNET_SIZE:
            self._drops.count(DropReason.FRAME_SHORT)
            return
        try:
            safe = self._validator.validated(frame, header)
        except Malformed as bad:
            self._drops.count(bad.reason)
            return
        if self._unwanted and safe != NO_OFFLOAD and safe[GSO_TYPE_AT] & ~GSO_ECN in self._unwanted:
            self._drops.count(DropReason.OFFLOAD_INVALID)
            return
        frames.append((safe, frame))

    def _inflate(self, body: memoryview) -> None:
        """Elements that were made smaller."""
        opening = self._opening
        try:
            if self._inflater is None:
                raise Malformed(DropReason.COMPRESSION_UNWANTED, "we have not said that we take any")
            plain = self._inflater.inflate(opening, body)
            unpack(plain, self._smallest, opening[1], self._drops, self._other, self._open_checksums)
        except Malformed as bad:
            self._drops.count(bad.reason)

    def burst_end(self, now: float, frames: list[Iovec]) -> bytes:
        """Nothing more is waiting: give out what is half joined; returns a control element to send, or nothing."""
        self._joiner.flush(frames)
        pair = self.current
        if pair is None:
            return b""
        opened = pair.window.opened
        fresh = opened - pair.reported
        if fresh < SPARSE_RECORDS:
            return b""
        if now - self._reported_at < (SPARSE_SECONDS if fresh < REPORT_RECORDS else REPORT_SECONDS):
            return b""
        self._reported_at = now
        pair.reported = opened
        return control.encode(control.Report(pair.window.highest, opened))

    def reported(self, pair: KeyPair, report: control.Report, now: float) -> None:
        """The far end tells what it opened."""
        if pair is not self.current:
            return
        records = report.highest - self._report.highest
        if records > 0:
            missing = records - (report.opened - self._report.opened)
            if missing > max(1, records * HEAVY_LOSS):
                self._doubt_at = now
            self._report = report
        self._sent_at_report = pair.sent
        self.span.report(pair.sent - 1, report.highest, report.opened, now)

    def expire(self, now: float, lifetime: float) -> list[KeyPair]:
        """Give up what has waited too long for its missing parts, and returns key pairs that are of no more use.

        `lifetime`: seconds that a key pair is used.
        """
        self._reassembly.expire(now)
        return self._retire(now, lifetime)

    def next_deadline(self, lifetime: float) -> float | None:
        """When `expire` next has something to do."""
        due = [pair.born + lifetime for pair in self.previous]
        due += [pair.born + UNCONFIRMED_SECONDS for pair in self.unconfirmed]
        incomplete = self._reassembly.next_deadline()
        if incomplete is not None:
            due.append(incomplete)
        return min(due, default=None)


def _inflater(methods: Sequence[Method]) -> Inflater:
    # Imported here: most tunnels compress nothing.
    from caetun.session.inflation import Inflater

    return Inflater(methods)
