"""What a far end has made smaller: by a method it was offered, once a record, and as long as it says."""

from __future__ import annotations

import pytest

from caetun.errors import Malformed
from caetun.session.inflation import Inflater
from caetun.types import Buffer, DropReason
from caetun.wire.compressed import MAX_INFLATED, OVERHEAD, encode
from caetun.wire.element import HEAD

RECORD, NEXT = object(), object()


class Named:
    """A method whose output says whose it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def deflate(self, plain: Buffer) -> bytes:
        raise AssertionError("nothing is deflated here")

    def inflate(self, packed: Buffer, length: int) -> bytes:
        return f"{self.name} {length} {bytes(packed).decode()}".encode()


def body(method: int, length: int = 5, packed: bytes = b"small") -> memoryview:
    """Of an element."""
    return memoryview(encode(method, length, packed))[HEAD.size :]


def inflater() -> Inflater:
    return Inflater([Named("first"), Named("second")])


def refused(one: Inflater, element: memoryview, record: object = RECORD) -> DropReason:
    with pytest.raises(Malformed) as caught:
        one.inflate(record, element)
    return caught.value.reason


@pytest.mark.parametrize(("number", "name"), [(0, "first"), (1, "second")])
def test_the_number_is_the_place_in_what_we_have_offered(number: int, name: str) -> None:
    assert inflater().inflate(RECORD, body(number, 1000)) == f"{name} 1000 small".encode()


def test_a_method_that_was_not_offered_is_refused() -> None:
    assert refused(inflater(), body(2)) is DropReason.COMPRESSION_UNWANTED
    assert refused(inflater(), body(255)) is DropReason.COMPRESSION_UNWANTED
    assert refused(Inflater([]), body(0)) is DropReason.COMPRESSION_UNWANTED


def test_one_run_a_record() -> None:
    one = inflater()
    one.inflate(RECORD, body(0))
    assert refused(one, body(0)) is DropReason.COMPRESSION_UNWANTED
    assert one.inflate(NEXT, body(1)) == b"second 5 small"


def test_a_run_that_was_refused_is_one_too() -> None:
    """Else a record could make us try as many as it has room for."""
    one = inflater()
    assert refused(one, body(7)) is DropReason.COMPRESSION_UNWANTED
    assert refused(one, body(0)) is DropReason.COMPRESSION_UNWANTED


@pytest.mark.parametrize("length", [0, MAX_INFLATED + 1, (1 << 24) - 1])
def test_a_length_that_no_container_has_never_reaches_the_method(length: int) -> None:
    assert refused(inflater(), body(0, length)) is DropReason.COMPRESSION_MALFORMED


@pytest.mark.parametrize("size", range(OVERHEAD - HEAD.size + 1))
def test_cut_short(size: int) -> None:
    assert refused(inflater(), body(0)[:size]) is DropReason.COMPRESSION_MALFORMED
