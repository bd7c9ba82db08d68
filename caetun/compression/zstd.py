"""Zstandard frames (RFC 8878): saves more than lz4, at the fastest level."""

from __future__ import annotations

from typing import Final

import zstandard

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

# chosen by us
LEVEL: Final = 1
"""A tunnel has microseconds a record: higher levels save a few per cent more for several times the time."""
MAX_WINDOW: Final = 1 << 17
"""Bytes of memory a frame may ask for (RFC 8878, 3.1.1.1.2): twice what a record can stand for."""


class Zstd:
    """Fulfils `compression.base.Method`."""

    name = "zstd"

    def __init__(self) -> None:
        # Neither length nor checksum: the element around it tells the one, the seal stands for the other.
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=False)
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)

    def deflate(self, plain: Buffer) -> bytes:
        """One frame."""
        return self._compressor.compress(plain)

    def inflate(self, packed: Buffer, length: int) -> bytes:
        """The `length` bytes of a frame; raises Malformed."""
        try:
            # The library makes room for what a frame says of its own length, if it says something.
            if zstandard.frame_content_size(packed) not in (-1, length):
                raise Malformed(DropReason.COMPRESSION_MALFORMED, "zstd: a frame of another length")
            plain = self._decompressor.decompress(packed, max_output_size=length, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Malformed(DropReason.COMPRESSION_MALFORMED, f"zstd: {error}") from None
        if len(plain) != length:
            raise Malformed(DropReason.COMPRESSION_MALFORMED, f"zstd: {len(plain)} bytes, not {length}")
        return plain


METHOD = Zstd()
