"""A compressed run of elements: an element that stands for a container (docs/wire.md, section 4.3).

 0        1        2        3
+--------+--------+--------+--------+
|    length inflated       | method |     1..65,520; place in the list of the receiver's hello, from 0
+--------+--------+--------+--------+
|  compressed elements ...          |
+-----------------------------------+
"""

from __future__ import annotations

import struct
from typing import Final

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason
from caetun.wire.element import COMPRESSED, HEAD

# fixed by the specification: docs/wire.md, section 4.3
MAX_INFLATED: Final = 65520
"""Bytes that one record may stand for: a record of 64 KiB, less its tag."""
_HEAD: Final = struct.Struct(">I")
OVERHEAD: Final = HEAD.size + _HEAD.size
"""Bytes in front of what was compressed."""


def encode(method: int, length: int, packed: bytes) -> bytes:
    """A container with one element: `packed` stands for `length` bytes."""
    return HEAD.pack(COMPRESSED << 24 | _HEAD.size + len(packed)) + _HEAD.pack(length << 8 | method) + packed


def decode(body: Buffer) -> tuple[int, int, Buffer]:
    """(method, length, packed) of an element's body; raises Malformed."""
    if len(body) <= _HEAD.size:
        raise Malformed(DropReason.COMPRESSION_MALFORMED, "cut short")
    (head,) = _HEAD.unpack_from(body)
    length = head >> 8
    if not 0 < length <= MAX_INFLATED:
        raise Malformed(DropReason.COMPRESSION_MALFORMED, f"stands for {length} bytes")
    return head & 0xFF, length, body[_HEAD.size :]
