"""Joining segments: nothing lost gives the superframe itself, anything lost gives smaller ones that are right."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.offload.cut import Cutter
from caetun.offload.fragment import Reassembly
from caetun.offload.join import MAX_PIECES, Joiner
from caetun.offload.segment import segment
from caetun.offload.validate import validated
from caetun.types import DropReason, Drops, Iovec, Mode
from caetun.wire.element import FRAGMENT, FRAME, SEGMENT, SEGMENT_FIELDS
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.offload.superframes import ACK, CWR, FIN, PSH, TCP, UDP, Superframe, superframes, verified


class _Receiver:
    """A joiner, and what it writes: (virtio_net_hdr, frame)."""

    def __init__(self, mode: Mode = Mode.TAP) -> None:
        self.drops = Drops()
        self.joiner = Joiner(mode, self.drops)
        self.reassembly = Reassembly(self.drops)
        self.out: list[Iovec] = []

    def take(self, element: bytes) -> None:
        """One element arrives, in memory that is used again at once."""
        body = bytearray(element[4:])
        if element[0] == SEGMENT:
            self.joiner.segment(memoryview(body), self.out)
        elif element[0] == FRAGMENT:
            whole = self.reassembly.fragment(body, 0.0)
            if whole is not None:
                self.out.append((bytes(whole),))
        else:
            assert element[0] == FRAME
            self.out.append((NO_OFFLOAD, bytes(body)))
        body[:] = b"\xee" * len(body)

    def flush(self) -> None:
        """The burst is over."""
        self.joiner.flush(self.out)

    def written(self) -> list[tuple[bytes, bytes]]:
        """All frames so far, the open run included."""
        self.flush()
        frames = [b"".join(iovec) for iovec in self.out]
        return [(frame[:10], frame[10:]) for frame in frames]


def _cut(made: Superframe, room: int = 1000) -> list[bytes]:
    return Cutter(made.mode).cut(made.frame, made.header, room)


def _body(made: Superframe, start: int, stop: int, ident: int = 1) -> bytes:
    """A segment element (head zero but its kind) with payload bytes `start` to `stop`."""
    fields = SEGMENT_FIELDS.pack(ident, start, len(made.payload), made.headers)
    return b"\4\0\0\0" + fields + made.header + made.frame[: made.headers] + made.payload[start:stop]


@given(superframes(), st.integers(256, 4000))
def test_nothing_lost_gives_what_was_sent(made: Superframe, room: int) -> None:
    receiver = _Receiver(made.mode)
    for element in _cut(made, room):
        receiver.take(element)
    written = receiver.written()
    if len(written) == 1:
        assert written == [(made.header, made.frame)]
    else:  # datagrams that fit no datagram of ours were cut apart
        assert written == [(NO_OFFLOAD, packet) for packet in made.packets()]
    assert not receiver.drops


@given(superframes(TCP), st.integers(600, 3000), st.data())
def test_tcp_through_any_link_is_right_in_every_byte(made: Superframe, room: int, data: st.DataObject) -> None:
    elements = _cut(made, room)
    receiver = _Receiver(made.mode)
    arrived: Counter[int] = Counter()
    for at in data.draw(st.lists(st.integers(0, len(elements) - 1), max_size=2 * len(elements))):
        receiver.take(elements[at])
        _, start, _, _ = SEGMENT_FIELDS.unpack_from(elements[at], 4)
        arrived.update(range(start, start + len(elements[at]) - 24 - made.headers))
        if data.draw(st.integers(0, 3)) == 0:
            receiver.flush()
    delivered: Counter[int] = Counter()
    for header, frame in receiver.written():
        assert validated(frame, header, made.mode) == header
        for packet in segment(frame, header, made.mode):
            delivered.update(_check_tcp_packet(made, packet))
    assert set(delivered) == set(arrived)
    assert not delivered - arrived  # nothing more often than it came


def _check_tcp_packet(made: Superframe, packet: bytes) -> range:
    """Compare a complete packet with the superframe sent; returns which of its payload bytes it carries."""
    upper = verified(packet, made.mode)
    start = upper.seq - made.sequence & 0xFFFFFFFF
    stop = start + len(upper.data)
    assert upper.data == made.payload[start:stop]
    assert len(upper.data) <= made.unit
    last_only = FIN | PSH if stop == len(made.payload) else 0
    first_only = CWR if start == 0 else 0
    assert upper.flags & 0xFF == made.flags & (~(FIN | PSH | CWR) | last_only | first_only)
    if start % made.unit == 0:
        assert packet == made.part(start, stop, complete=True)
    return range(start, stop)


@given(superframes(UDP), st.integers(600, 3000), st.data())
def test_udp_through_any_link_gives_datagrams_that_were_sent(made: Superframe, room: int, data: st.DataObject) -> None:
    packets = made.packets()
    elements = _cut(made, room)
    receiver = _Receiver(made.mode)
    arrived: Counter[int] = Counter()
    order = data.draw(st.lists(st.integers(0, len(elements) - 1), max_size=2 * len(elements)))
    if elements[0][0] != SEGMENT:
        return
    for at in order:
        receiver.take(elements[at])
        _, start, _, _ = SEGMENT_FIELDS.unpack_from(elements[at], 4)
        size = len(elements[at]) - 24 - made.headers
        arrived.update(range(start // made.gso_size, -(-(start + size) // made.gso_size)))
        if data.draw(st.integers(0, 3)) == 0:
            receiver.flush()
    delivered: Counter[int] = Counter()
    for header, frame in receiver.written():
        assert validated(frame, header, made.mode) == header
        delivered.update(packets.index(packet) for packet in segment(frame, header, made.mode))
    assert set(delivered) == set(arrived)
    assert not delivered - arrived


@given(superframes(), st.data())
def test_a_run_is_the_superframe_that_would_have_been_sent_for_it(made: Superframe, data: st.DataObject) -> None:
    unit = made.gso_size if made.protocol == UDP else 1
    units = -(-len(made.payload) // unit)
    first = data.draw(st.integers(0, units - 1))
    start, stop = first * unit, min(data.draw(st.integers(first + 1, units)) * unit, len(made.payload))
    receiver = _Receiver(made.mode)
    receiver.take(_body(made, start, stop))
    assert receiver.written() == [(made.part_header(start, stop), made.part(start, stop))]


def test_a_loss_in_the_middle_leaves_two_runs() -> None:
    made = Superframe(flags=ACK | PSH | CWR)
    receiver = _Receiver()
    for start in (0, 500, 1500, 2000, 3500):
        receiver.take(_body(made, start, start + 500))
    expected = [(0, 1000), (1500, 2500), (3500, 4000)]
    assert receiver.written() == [(made.part_header(*run), made.part(*run)) for run in expected]


def test_a_whole_superframe_is_written_at_once_without_waiting_for_the_end_of_the_burst() -> None:
    made = Superframe()
    receiver = _Receiver()
    receiver.take(_body(made, 0, 2000))
    assert receiver.out == []
    receiver.take(_body(made, 2000, 4000))
    assert b"".join(receiver.out[0]) == made.header + made.frame


def test_a_flush_without_an_open_run_writes_nothing() -> None:
    receiver = _Receiver()
    receiver.flush()
    assert receiver.out == []


def test_another_id_ends_the_run() -> None:
    made = Superframe()
    receiver = _Receiver()
    receiver.take(_body(made, 0, 2000, ident=1))
    receiver.take(_body(made, 2000, 4000, ident=2))
    assert [frame for _, frame in receiver.written()] == [made.part(0, 2000), made.part(2000, 4000)]


def test_another_total_or_header_length_under_the_same_id_ends_the_run() -> None:
    made = Superframe()
    for other in (replace(made, payload=bytes(4001)), replace(made, tcp_options=bytes(4))):
        receiver = _Receiver()
        receiver.take(_body(made, 0, 2000))
        receiver.take(_body(other, 2000, 4000))
        assert [frame for _, frame in receiver.written()] == [made.part(0, 2000), other.part(2000, 4000)]


def test_a_duplicate_inside_the_run_is_ignored() -> None:
    made = Superframe()
    receiver = _Receiver()
    for start, stop in ((0, 1000), (1000, 2000), (0, 1000), (1000, 2000), (2000, 4000)):
        receiver.take(_body(made, start, stop))
    assert receiver.written() == [(made.header, made.frame)]


def test_the_parts_of_a_frame_are_never_more_than_writev_takes() -> None:
    made = Superframe(payload=bytes(2 * MAX_PIECES + 5))
    receiver = _Receiver()
    for at in range(len(made.payload)):
        receiver.take(_body(made, at, at + 1))
    assert [len(iovec) for iovec in receiver.out] == [MAX_PIECES + 1, MAX_PIECES + 1, 6]
    assert b"".join(frame[made.headers :] for _, frame in receiver.written()) == made.payload


@pytest.mark.parametrize("cut_off", [1, 10, 60])
def test_a_segment_cut_short_is_malformed(cut_off: int) -> None:
    receiver = _Receiver()
    receiver.take(_body(Superframe(), 0, 0)[:-cut_off])
    assert receiver.drops == {DropReason.SEGMENT_MALFORMED: 1}
    assert receiver.written() == []


@pytest.mark.parametrize(
    ("offset", "total", "size"),
    [(0, 4000, 0), (3999, 4000, 2), (4000, 4000, 1), (0, 0, 0), (5000, 4000, 1)],
)
def test_a_segment_beyond_its_superframe_is_malformed(offset: int, total: int, size: int) -> None:
    made = Superframe()
    receiver = _Receiver()
    fields = SEGMENT_FIELDS.pack(1, offset, total, made.headers)
    receiver.take(b"\4\0\0\0" + fields + made.header + made.frame[: made.headers] + bytes(size))
    assert receiver.drops == {DropReason.SEGMENT_MALFORMED: 1}
    assert receiver.written() == []


@pytest.mark.parametrize(("start", "stop"), [(0, 999), (500, 1000), (1000, 2500)])
def test_udp_is_only_taken_in_whole_datagrams(start: int, stop: int) -> None:
    receiver = _Receiver()
    receiver.take(_body(Superframe(UDP), start, stop))
    assert receiver.drops == {DropReason.SEGMENT_MALFORMED: 1}
    assert receiver.written() == []


def test_udp_is_only_continued_in_whole_datagrams() -> None:
    made = Superframe(UDP)
    receiver = _Receiver()
    receiver.take(_body(made, 0, 1000))
    receiver.take(_body(made, 1000, 1500))
    assert receiver.drops == {DropReason.SEGMENT_MALFORMED: 1}
    assert receiver.written() == [(made.part_header(0, 1000), made.part(0, 1000))]


def test_headers_must_end_where_the_payload_begins() -> None:
    made = Superframe()
    fields = SEGMENT_FIELDS.pack(1, 0, len(made.payload) - 4, made.headers + 4)
    receiver = _Receiver()
    receiver.take(b"\4\0\0\0" + fields + made.header + made.frame)
    assert receiver.drops == {DropReason.SEGMENT_MALFORMED: 1}
    assert receiver.written() == []


def test_metadata_that_does_not_fit_is_refused_and_leaves_the_open_run_alone() -> None:
    made = Superframe()
    bad = bytearray(_body(made, 0, 1000, ident=9))
    bad[4 + 10 + 6] ^= 1  # csum_start
    receiver = _Receiver()
    receiver.take(_body(made, 0, 2000))
    receiver.take(bytes(bad))
    receiver.take(_body(made, 2000, 4000))
    assert receiver.drops == {DropReason.OFFLOAD_INVALID: 1}
    assert receiver.written() == [(made.header, made.frame)]


def test_headers_once_judged_do_not_vouch_for_another_total() -> None:
    made = Superframe()
    lie = SEGMENT_FIELDS.pack(2, 0, len(made.payload) + 1, made.headers)
    receiver = _Receiver()
    receiver.take(_body(made, 0, 1000))
    receiver.take(b"\4\0\0\0" + lie + made.header + made.frame[: made.headers] + bytes(1000))
    assert receiver.drops == {DropReason.OFFLOAD_INVALID: 1}
    assert receiver.written() == [(made.part_header(0, 1000), made.part(0, 1000))]


@given(superframes(), st.lists(st.tuples(st.integers(4, 160), st.integers(0, 255)), max_size=5), st.integers(1, 400))
def test_total_and_never_unchecked(made: Superframe, changes: list[tuple[int, int]], size: int) -> None:
    elements = _cut(made, 600)
    receiver = _Receiver(made.mode)
    for element in elements:
        changed = bytearray(element)
        for at, value in changes:
            changed[at % len(changed)] = value
        changed[0] = SEGMENT
        receiver.take(bytes(changed[: len(changed) - size % 7]))
        receiver.take(b"\4\0\0\0" + random.Random(size).randbytes(size))
    for header, frame in receiver.written():
        assert validated(frame, header, made.mode) == header
        assert segment(frame, header, made.mode)
