"""Compression of containers, inbound: elements of a record that were made smaller become elements again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.compressed import decode

if TYPE_CHECKING:
    from caetun.compression.base import Method


class Inflater:
    """What this side has said that it accepts."""

    __slots__ = ("_last", "_methods")

    def __init__(self, methods: Sequence[Method]) -> None:
        """`methods`: in the order in which the far end numbers them."""
        self._methods = methods
        self._last: object = None
        """The record that was last inflated for."""

    def inflate(self, record: object, body: memoryview) -> bytes:
        """The elements within one: at most one run of them in a `record`, and none within another. Raises Malformed."""
        if record is self._last:
            raise Malformed(DropReason.COMPRESSION_UNWANTED, "more than one in a record")
        self._last = record
        number, length, packed = decode(body)
        if number >= len(self._methods):
            raise Malformed(DropReason.COMPRESSION_UNWANTED, f"method {number}")
        return self._methods[number].inflate(packed, length)
