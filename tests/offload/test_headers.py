"""Headers of a part, against headers built for that part from the start."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.offload.headers import part_headers
from caetun.offload.validate import divisible
from tests.offload.superframes import ACK, CWR, FIN, PSH, UDP, Superframe, superframes


def _part(made: Superframe, start: int, stop: int) -> bytes:
    whole = divisible(made.frame, len(made.frame), made.header, made.mode)
    return bytes(part_headers(whole, made.frame, start, stop)) + made.payload[start:stop]


@given(superframes(), st.data())
def test_any_part_has_the_headers_it_would_have_been_sent_with(made: Superframe, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(made.payload) - 1))
    stop = data.draw(st.integers(start + 1, len(made.payload)))
    assert _part(made, start, stop) == made.part(start, stop)


@given(superframes())
def test_the_whole_keeps_its_headers(made: Superframe) -> None:
    assert _part(made, 0, len(made.payload)) == made.frame


@pytest.mark.parametrize(
    ("start", "stop", "flags"),
    [(0, 4000, ACK | CWR | FIN | PSH), (0, 3999, ACK | CWR), (1, 3999, ACK), (1, 4000, ACK | FIN | PSH)],
)
def test_cwr_goes_with_the_first_byte_fin_and_psh_with_the_last(start: int, stop: int, flags: int) -> None:
    made = Superframe(flags=ACK | CWR | FIN | PSH)
    assert _part(made, start, stop)[made.transport + 13] == flags


def test_the_sequence_number_wraps() -> None:
    made = Superframe(sequence=(1 << 32) - 1)
    assert _part(made, 2, 3)[made.transport + 4 :][:4] == (1).to_bytes(4, "big")


def test_the_identification_is_that_of_the_first_segment_that_begins_in_the_part_and_wraps() -> None:
    made = Superframe(UDP, ident=0xFFFF)
    assert [_part(made, at, 4000)[18:20].hex() for at in (0, 1000, 1001, 3000)] == ["ffff", "0000", "0001", "0002"]
    assert _part(replace(made, ident=5), 2000, 4000)[18:20].hex() == "0007"
