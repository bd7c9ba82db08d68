"""Messages on a byte stream: what is framed comes back, however the network cuts it, and nothing else does."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.framing import (
    LENGTH_SIZE,
    MAX_BODY,
    MAX_MESSAGE,
    FirstWords,
    LengthCodec,
    read_record,
)
from caetun.wire.record import COOKIE_REPLY, HEADER_SIZE, INITIATION, MAX_PIECES, RESPONSE, Record, encode_header

CODEC = LengthCodec()
messages = st.lists(st.binary(min_size=1, max_size=300), max_size=12)


def framed(contents: list[bytes]) -> bytes:
    return b"".join(part for content in contents for part in CODEC.frame([content]))


class Reader:
    """Gives a codec the bytes of a stream as a link does: what is not taken is given again."""

    def __init__(self) -> None:
        self.rest = b""
        self.got: list[bytes] = []
        self.ended = ""
        self.malformed = False

    def feed(self, chunk: bytes) -> None:
        if self.ended:
            return
        stream = self.rest + chunk
        decoded = CODEC.feed(memoryview(stream))
        self.got += map(bytes, decoded.messages)
        self.rest = stream[decoded.taken :]
        self.ended, self.malformed = decoded.ended, decoded.malformed


def read(stream: bytes, cuts: list[int]) -> Reader:
    """A reader who was given the stream cut at these places."""
    reader = Reader()
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, stop in pairwise(places):
        reader.feed(stream[start:stop])
    return reader


class TestLength:
    def test_bytes_on_the_wire(self) -> None:
        assert CODEC.frame([b"ab", b"", b"c"]) == [b"\0\0\0\x03", b"ab", b"", b"c"]

    def test_the_longest_message_begins_as_every_other_does(self) -> None:
        head, *_ = CODEC.frame([bytes(HEADER_SIZE), bytes(MAX_BODY)])
        assert head[0] == 0, "neither TLS (0x16) nor HTTP (a letter) does"
        decoded = CODEC.feed(memoryview(bytes(head) + bytes(MAX_MESSAGE)))
        assert ([len(one) for one in decoded.messages], decoded.taken) == ([MAX_MESSAGE], LENGTH_SIZE + MAX_MESSAGE)

    @given(contents=messages, cuts=st.lists(st.integers(0, 4000)))
    def test_messages_survive_every_way_of_cutting(self, contents: list[bytes], cuts: list[int]) -> None:
        reader = read(framed(contents), cuts)
        assert (reader.got, reader.rest, reader.ended) == (contents, b"", "")

    @given(contents=messages, rest=st.binary(max_size=40), cuts=st.lists(st.integers(0, 4000)))
    def test_any_stream_reads_the_same_however_it_is_cut(
        self, contents: list[bytes], rest: bytes, cuts: list[int]
    ) -> None:
        stream = framed(contents) + rest
        whole, cut = read(stream, []), read(stream, cuts)
        assert whole.got[: len(contents)] == contents
        assert (cut.got, cut.ended, cut.malformed) == (whole.got, whole.ended, whole.malformed)

    @given(stream=st.binary(max_size=400))
    def test_what_is_kept_is_the_beginning_of_one_message(self, stream: bytes) -> None:
        reader = read(stream, [])
        assert reader.malformed == bool(reader.ended)
        if not reader.ended:
            assert len(reader.rest) < LENGTH_SIZE + MAX_MESSAGE
            assert len(reader.rest) < LENGTH_SIZE or int.from_bytes(reader.rest[:4], "big") > len(reader.rest) - 4

    @pytest.mark.parametrize("length", [0, MAX_MESSAGE + 1, 1 << 24, (1 << 32) - 1])
    def test_a_length_out_of_bounds_ends_the_stream_behind_what_was_right(self, length: int) -> None:
        reader = read(framed([b"right"]) + length.to_bytes(4, "big") + bytes(10), [])
        assert reader.got == [b"right"]
        assert (reader.ended, reader.malformed) == (f"a message of {length} bytes", True)

    def test_messages_are_views_on_what_was_given(self) -> None:
        stream = bytearray(framed([b"abc"]))
        (message,) = CODEC.feed(memoryview(stream)).messages
        stream[-1:] = b"x"
        assert message == b"abx"

    def test_there_is_no_farewell(self) -> None:
        assert CODEC.farewell() == b""


class TestReadRecord:
    @given(session=st.integers(0, 2**32 - 1), counter=st.integers(0, 2**64 - 1), body=st.binary(min_size=1))
    def test_a_record_survives(self, session: int, counter: int, body: bytes) -> None:
        message = memoryview(encode_header(0, 1, session, counter) + body)
        assert read_record(message) == Record(session, counter, body)

    @given(message=st.binary(min_size=1).filter(lambda message: message[0] != 4))
    def test_other_messages_are_not_records(self, message: bytes) -> None:
        assert read_record(message) is None

    @given(message=st.binary())
    def test_anything_is_read_or_refused(self, message: bytes) -> None:
        record = None
        with suppress(Malformed):
            record = read_record(message)
        assert record is None or record.body == message[HEADER_SIZE:]

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (b"", DropReason.DATAGRAM_SHORT),
            (b"\x04", DropReason.DATAGRAM_SHORT),
            (encode_header(0, 1, 7, 1), DropReason.DATAGRAM_SHORT),
            (encode_header(0, 2, 7, 1) + b"x", DropReason.RECORD_MALFORMED),
            (encode_header(1, MAX_PIECES, 7, 1) + b"x", DropReason.RECORD_MALFORMED),
            (b"\x04\0\x01\x01" + bytes(12) + b"x", DropReason.RECORD_MALFORMED),
        ],
    )
    def test_what_is_wrong_has_a_name(self, message: bytes, reason: DropReason) -> None:
        with pytest.raises(Malformed) as malformed:
            read_record(message)
        assert malformed.value.reason == reason


class TestFirstWords:
    @pytest.mark.parametrize(
        ("first", "count"),
        [
            (bytes([INITIATION, 0, 1]), 1),
            (bytes([INITIATION, 0, 2, 1]), 2),
            (bytes([INITIATION, 3, 4, 1]), 4),
            (bytes([INITIATION, 0, 5]), 1),
            (bytes([INITIATION, 0, 0]), 1),
            (bytes([INITIATION, 0]), 1),
            (bytes([RESPONSE, 0, 4]), 1),
            (bytes([COOKIE_REPLY, 0, 4]), 1),
            (encode_header(0, 4, 7, 1), 1),
            (b"", 1),
        ],
    )
    def test_an_initiation_may_need_its_pieces_and_nothing_else_more_than_itself(
        self, first: bytes, count: int
    ) -> None:
        words = FirstWords()
        words.heard(first)
        for _ in range(count - 1):
            assert not words.over
            words.heard(first)
        assert words.over

    def test_who_is_challenged_may_say_it_again(self) -> None:
        words = FirstWords()
        words.heard(bytes([INITIATION, 0, 2]))
        assert not words.answered([bytes([COOKIE_REPLY]) + bytes(60)])
        for _ in range(3):
            assert not words.over
            words.heard(bytes([INITIATION, 1, 2]))
        assert words.over
        assert words.answered([bytes([RESPONSE])])
        assert words.answered([bytes([COOKIE_REPLY]), bytes([RESPONSE])])
