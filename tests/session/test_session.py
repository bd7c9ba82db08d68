"""Sessions: which keys seal and open, what is reported, when a path is doubted, and what becomes of bad containers."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.session.keypair import KeyPair
from caetun.session.session import (
    EVERY_OFFLOAD,
    MAX_PREVIOUS,
    MAX_UNCONFIRMED,
    REPORT_RECORDS,
    REPORT_SECONDS,
    SILENCE_RECORDS,
    SILENCE_SECONDS,
    SPARSE_RECORDS,
    SPARSE_SECONDS,
    TIE_SECONDS,
    UNCONFIRMED_SECONDS,
    Session,
)
from caetun.types import DropReason, Drops, Iovec, Mode
from caetun.wire import control
from caetun.wire.container import OFFLOAD_CHECKSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO, Batch
from caetun.wire.element import CONTROL, FRAGMENT, FRAME, FRAME_CHECKSUM, HEAD, PADDING, SEGMENT, SUPERFRAME
from caetun.wire.hello import Hello
from caetun.wire.record import Record
from caetun.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD, VnetHeader
from tests.offload.superframes import UDP, Superframe
from tests.session.established import HELLO, established
from tests.simulator import frame

UNIT = 1440
"""Bytes of a record body in one datagram."""
LONG = 64 * 1024
LIFETIME = 180.0
CHECKSUM = VnetHeader(NEEDS_CSUM, 0, 0, 0, 34, 16).encode()


class Ends:
    """Two sessions with the keys of handshake 0; A was the initiator, and B knows that A has them."""

    def __init__(self, hello: Hello = HELLO, span: int = 0, b_offloads: int = EVERY_OFFLOAD) -> None:
        """`hello`: what each has said to the other; `b_offloads`: what B accepts, whatever it has said."""
        self.drops = Drops()
        self.a, self.b = Session(Mode.TAP, self.drops, span), Session(Mode.TAP, self.drops, span, b_offloads)
        for session, side in zip((self.a, self.b), established(0, hello=hello), strict=True):
            session.install(side, 0.0)
        self.b.confirm(self.b.unconfirmed[0], 0.0)
        self.controls: list[control.Control] = []

    @property
    def pair(self) -> KeyPair:
        """What B opens with."""
        assert self.b.current is not None
        return self.b.current

    def deliver(self, records: list[Record], now: float = 0.0) -> list[bytes]:
        """B opens A's records; returns the frames."""
        frames: list[Iovec] = []
        for record in records:
            self.b.open(self.pair, record, now, frames, self.controls)
        self.b.burst_end(now, frames)
        return [b"".join(iovec)[10:] for iovec in frames]

    def send(self, *frames: bytes) -> list[Record]:
        """A's records for a batch."""
        return self.a.seal_batch(batch_of(*frames), UNIT, LONG)

    def refused(self, container: bytes) -> dict[DropReason, int]:
        """What is counted when A seals this."""
        assert self.a.current is not None
        self.deliver([self.a.current.seal(container)])
        return dict(self.drops)


def batch_of(*frames: bytes) -> Batch:
    batch = Batch()
    for content in frames:
        batch.append(content)
    return batch


def element(kind: int, body: bytes) -> bytes:
    return HEAD.pack(kind << 24 | len(body)) + body


def kinds(container: bytes) -> set[int]:
    """Of the elements in a container."""
    found = set()
    while container and container[0] != PADDING:
        found.add(container[0])
        container = container[4 + int.from_bytes(container[1:4], "big") :]
    return found


# frames


@given(sizes=st.lists(st.integers(28, 9000), min_size=1, max_size=12), span=st.sampled_from([1, 4, 44]))
def test_frames_of_any_size_arrive_whole_and_in_order(sizes: list[int], span: int) -> None:
    ends = Ends(span=span)
    frames = [frame(number, size) for number, size in enumerate(sizes)]
    records = ends.send(*frames)
    assert all(len(record.body) <= span * UNIT for record in records)
    assert ends.deliver(records) == frames
    assert ends.drops == {}


def test_what_fits_is_one_record_and_carries_nothing_but_the_batch() -> None:
    (record,) = Ends().send(frame(1), frame(2))
    assert len(record.body) == 2 * (4 + 100) + 16


def test_a_record_is_no_longer_than_the_far_end_takes() -> None:
    ends = Ends(dataclasses.replace(HELLO, max_record=2000), span=44)
    assert all(len(record.body) <= 2000 for record in ends.send(frame(1, 9000)))


def test_offloads_that_the_far_end_does_not_take_are_done_here() -> None:
    ends = Ends(dataclasses.replace(HELLO, offloads=0))
    batch = Batch()
    batch.append(bytes(14) + bytes(50), VnetHeader(1, 0, 0, 0, 14, 16).encode())
    assert len(ends.deliver(ends.a.seal_batch(batch, UNIT, LONG))) == 1
    assert batch.offloads
    assert ends.drops == {}


def test_short_tails_are_sent_twice_where_much_is_lost() -> None:
    ends = Ends(span=1)
    tail = [frame(1, 1300), frame(2, 300)]
    assert len(ends.send(*tail)) == 2
    ends.a.span.loss = 0.01
    records = ends.send(*tail)
    assert len(records) == 3
    assert records[1] is records[2]
    assert ends.deliver(records) == tail
    assert ends.drops == {DropReason.RECORD_REPLAYED: 1}
    assert len(ends.send(frame(1, 1300), frame(2, 1300))) == 2
    assert len(ends.send(frame(1))) == 1


# what a far end may not send


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        (element(FRAME, bytes(13)), DropReason.FRAME_SHORT),
        (element(FRAME, bytes(20))[:-1], DropReason.CONTAINER_MALFORMED),
        (element(SUPERFRAME, bytes(12)), DropReason.FRAME_SHORT),
        (element(SUPERFRAME, bytes(60) + b"\xff" * 10), DropReason.OFFLOAD_INVALID),
        (element(SEGMENT, bytes(5)), DropReason.SEGMENT_MALFORMED),
        (element(FRAGMENT, bytes(8)), DropReason.FRAGMENT_MALFORMED),
        (element(CONTROL, b""), DropReason.CONTROL_MALFORMED),
        (element(CONTROL, b"\x01\x00"), DropReason.CONTROL_MALFORMED),
        (element(99, b"from the future"), DropReason.ELEMENT_UNKNOWN),
    ],
)
def test_bad_elements_are_counted_by_name(container: bytes, reason: DropReason) -> None:
    assert Ends().refused(container) == {reason: 1}


TCP4, TCP6, UDP4 = Superframe(), Superframe(version=6), Superframe(protocol=UDP)
NEEDS = [(TCP4, OFFLOAD_CHECKSUM), (TCP4, OFFLOAD_TSO4), (TCP6, OFFLOAD_TSO6), (UDP4, OFFLOAD_USO)]
UNAGREED = [
    # no TCP or UDP in there: where it is too long it goes in fragments
    (FRAME_CHECKSUM, bytes(64), CHECKSUM, 44, OFFLOAD_CHECKSUM),
    (FRAGMENT, bytes(2000), CHECKSUM, 1, OFFLOAD_CHECKSUM),
    *((SUPERFRAME, each.frame, each.header, 44, needed) for each, needed in NEEDS),
    *((SEGMENT, each.frame, each.header, 1, needed) for each, needed in NEEDS),
]
"""Kind of element, a frame that goes as such, its metadata, the span at which it does, an offload that it relies on."""
NAMES = [f"kind {kind} needs {needed}" for kind, _, _, _, needed in UNAGREED]


@pytest.mark.parametrize(("kind", "content", "header", "span", "needed"), UNAGREED, ids=NAMES)
def test_offloads_that_this_side_did_not_accept_do_not_reach_the_device(
    kind: int, content: bytes, header: bytes, span: int, needed: int
) -> None:
    batch = batch_of(frame(1))
    batch.append(content, header)
    batch.append(frame(2))
    accepting = dataclasses.replace(HELLO, offloads=EVERY_OFFLOAD)
    ends = Ends(accepting, span)
    records = ends.a.seal_batch(batch, UNIT, LONG)
    opener = Ends(accepting).pair
    assert kind in {each for record in records for each in kinds(opener.open(record.counter, record.body))}
    assert ends.deliver(records) == [frame(1), content, frame(2)]
    ends = Ends(accepting, span, EVERY_OFFLOAD & ~needed)
    assert ends.deliver(ends.a.seal_batch(batch, UNIT, LONG)) == [frame(1), frame(2)]
    assert ends.drops.keys() == {DropReason.OFFLOAD_INVALID}


def test_a_control_message_of_a_later_version_is_no_error() -> None:
    ends = Ends()
    assert ends.refused(element(CONTROL, b"\x63new")) == {}
    assert ends.controls == []


@given(container=st.binary(max_size=200))
def test_any_authentic_container_is_frames_controls_and_drops(container: bytes) -> None:
    ends = Ends()
    assert ends.a.current is not None
    ends.deliver([ends.a.current.seal(container)])


def test_records_are_opened_once_and_only_if_they_are_authentic() -> None:
    ends = Ends()
    (record,) = ends.send(frame(1))
    assert ends.deliver([record._replace(body=bytes(len(record.body)))]) == []
    assert ends.deliver([record, record]) == [frame(1)]
    assert ends.drops == {DropReason.RECORD_FORGED: 1, DropReason.RECORD_REPLAYED: 1}


def test_a_frame_that_never_becomes_whole_is_given_up() -> None:
    ends = Ends(span=1)
    first, *_ = ends.send(frame(1, 5000))
    assert ends.deliver([first], now=1.0) == []
    due = ends.b.next_deadline(LIFETIME)
    assert due is not None
    assert due == pytest.approx(2.0)
    assert ends.b.expire(due, LIFETIME) == []
    assert ends.b.next_deadline(LIFETIME) is None
    assert ends.drops == {DropReason.FRAGMENT_INCOMPLETE: 1}


# keys


def test_a_responder_uses_keys_only_once_the_initiator_does() -> None:
    session = Session(Mode.TAP, Drops())
    assert session.install(established(0)[1], 0.0) == []
    assert session.current is None
    (pair,) = session.unconfirmed
    assert session.confirm(pair, 1.0) == []
    assert session.current is pair
    assert session.unconfirmed == []


def test_of_answered_handshakes_only_the_newest_are_kept() -> None:
    session = Session(Mode.TAP, Drops())
    answered = range(MAX_UNCONFIRMED + 6)
    stale = [pair for number in answered for pair in session.install(established(number)[1], float(number))]
    assert [pair.local_index for pair in stale] == [2000 + number for number in range(6)]
    oldest, used, *newer = session.unconfirmed
    assert session.confirm(used, 20.0) == [oldest]
    assert session.unconfirmed == newer
    assert session.expire(answered[-1] + UNCONFIRMED_SECONDS, LIFETIME) == newer
    assert session.unconfirmed == []


def test_former_keys_open_until_they_are_too_old_or_too_many() -> None:
    ends = Ends()
    under_way = ends.send(frame(1))
    ends.a.install(established(1)[0], 100.0)
    ends.b.install(established(1)[1], 100.0)
    old = ends.pair
    ends.b.confirm(ends.b.unconfirmed[0], 100.0)
    frames: list[Iovec] = []
    assert ends.b.open(old, under_way[0], 100.0, frames, [])
    assert len(frames) == 1
    assert ends.deliver(ends.send(frame(2))) == [frame(2)]
    assert ends.b.next_deadline(LIFETIME) == 180.0
    assert ends.b.expire(180.0, LIFETIME) == [old]
    assert ends.b.previous == []
    stale = [pair for number in range(2, 9) for pair in ends.a.install(established(number)[0], 101.0)]
    assert [pair.local_index for pair in stale] == [1000, 1001, 1002, 1003, 1004]
    assert len(ends.a.previous) == MAX_PREVIOUS


def test_a_session_that_is_over_gives_back_every_key_pair_once() -> None:
    session = Session(Mode.TAP, Drops())
    for number in range(3):
        session.install(established(number)[0], 0.0)
        session.install(established(10 + number)[1], 0.0)
    assert sorted(pair.local_index for pair in session.forget()) == [1000, 1001, 1002, 2010, 2011, 2012]
    assert session.forget() == []
    assert session.expire(1e6, LIFETIME) == []


@given(indices=st.lists(st.integers(1, 2**32 - 1), min_size=4, max_size=4, unique=True), late=st.floats(0, 1.9))
def test_both_sides_of_simultaneous_handshakes_prefer_the_same_pair(indices: list[int], late: float) -> None:
    a, b = Session(Mode.TAP, Drops()), Session(Mode.TAP, Drops())
    by_a, by_b = established(1, (indices[0], indices[1])), established(2, (indices[2], indices[3]))
    a.install(by_b[1], 0.0)
    b.install(by_a[1], 0.0)
    a.install(by_a[0], late)
    b.install(by_b[0], late)
    assert a.prefers(a.unconfirmed[0], late + 0.01) is not b.prefers(b.unconfirmed[0], late + 0.01)


def test_a_pair_that_lost_against_ours_is_used_if_the_far_end_never_uses_ours() -> None:
    session = Session(Mode.TAP, Drops())
    session.install(established(2, (9, 9))[1], 0.0)
    session.install(established(1, (1, 1))[0], 0.1)
    (theirs,) = session.unconfirmed
    assert not session.prefers(theirs, 0.2)
    assert not session.prefers(theirs, 0.1 + TIE_SECONDS - 0.01)
    assert session.prefers(theirs, 0.1 + TIE_SECONDS)
    assert session.current is not None
    session.current.window.mark(0)
    assert not session.prefers(theirs, 0.1 + TIE_SECONDS)


def test_a_newer_pair_of_a_far_end_that_was_started_again_is_preferred() -> None:
    session = Session(Mode.TAP, Drops())
    session.install(established(1, (1, 1))[0], 0.0)
    assert session.current is not None
    session.current.window.mark(0)
    session.install(established(2, (9, 9))[1], TIE_SECONDS)
    assert session.prefers(session.unconfirmed[0], TIE_SECONDS)


# reports


def arrive(ends: Ends, records: int) -> None:
    for _ in range(records):
        ends.b.open(ends.pair, ends.a.seal_elements(b""), 0.0, [], [])


def test_reports_come_often_under_load_and_soon_without() -> None:
    ends = Ends()
    arrive(ends, SPARSE_RECORDS - 1)
    assert ends.b.burst_end(100.0, []) == b""
    arrive(ends, 1)
    assert ends.b.burst_end(100.0, []) == control.encode(control.Report(2, 3))
    arrive(ends, REPORT_RECORDS - 1)
    assert ends.b.burst_end(100.0 + REPORT_SECONDS, []) == b""
    arrive(ends, 1)
    assert ends.b.burst_end(100.0 + REPORT_SECONDS - 0.001, []) == b""
    assert ends.b.burst_end(100.0 + REPORT_SECONDS + 0.001, []) != b""
    arrive(ends, SPARSE_RECORDS)
    assert ends.b.burst_end(100.0 + REPORT_SECONDS + SPARSE_SECONDS, []) == b""
    assert ends.b.burst_end(100.0 + REPORT_SECONDS + SPARSE_SECONDS + 0.002, []) != b""


def test_a_path_is_doubted_when_a_report_is_overdue() -> None:
    session = Ends().a
    session.span.datagrams = 44
    for _ in range(SILENCE_RECORDS - 1):
        session.seal_elements(b"")
    assert session.suspect_at(5.0) is None
    session.seal_elements(b"")
    assert session.suspect_at(None) is None
    assert session.suspect_at(5.0) == 5.0 + SILENCE_SECONDS
    assert not session.path_suspect(5.0 + SILENCE_SECONDS - 0.001, 5.0)
    assert session.span.datagrams == 44
    assert session.path_suspect(5.0 + SILENCE_SECONDS, 5.0)
    assert session.span.datagrams == 1


@pytest.mark.parametrize(
    ("highest", "opened", "doubt"), [(99, 100, False), (99, 95, False), (99, 80, True), (9, 9, False), (9, 8, True)]
)
def test_a_path_is_doubted_when_a_report_misses_much(highest: int, opened: int, doubt: bool) -> None:
    session = Ends().a
    for _ in range(100):
        session.seal_elements(b"")
    assert session.current is not None
    session.reported(session.current, control.Report(highest, opened), 7.0)
    assert (session.suspect_at(None) == 7.0) is doubt
    assert session.path_suspect(7.0, None) is doubt
    assert not session.path_suspect(7.0, None)


def test_a_report_about_former_keys_says_nothing() -> None:
    session = Ends().a
    former = session.current
    session.install(established(1)[0], 1.0)
    assert former is not None
    session.reported(former, control.Report(99, 1), 2.0)
    assert not session.path_suspect(2.0, None)


def test_metadata_of_plain_frames_is_none() -> None:
    ends = Ends()
    frames: list[Iovec] = []
    (record,) = ends.send(frame(1))
    ends.b.open(ends.pair, record, 0.0, frames, [])
    assert frames[0][0] == NO_OFFLOAD


# compression that was agreed upon later


class Named:
    """A method that is known by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def deflate(self, plain: object) -> bytes:
        return bytes(cast(bytes, plain))

    def inflate(self, packed: object, length: int) -> bytes:
        return bytes(cast(bytes, packed))


def test_methods_of_later_are_used_and_numbers_of_before_stay() -> None:
    one, two, three = map(Named, ("one", "two", "three"))
    session = Session(Mode.TAP, Drops(), compression=(one,))
    ours, _ = established(1, hello=dataclasses.replace(HELLO, compression=("two", "one")))
    session.install(ours, 0.0)
    current = session.current
    assert current is not None
    assert current.deflater is not None
    assert current.deflater.name == "one"
    assert session.compress((two, one)) == ("one", "two"), "the far end may still send what is number 0"
    assert current.deflater.name == "two"
    assert session.compress((three,)) == ("one", "two", "three")
    assert current.deflater is None, "the far end does not take it"
    assert len(session.compress([Named(str(number)) for number in range(20)])) == 8
