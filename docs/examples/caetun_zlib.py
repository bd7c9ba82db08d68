"""A compression method of somebody else: DEFLATE (RFC 1951), of which every Python has an implementation.

    caetun --compress zlib ...         on both ends

Slower than lz4 and zstd; `docs/modules.md` goes through this file.
"""

from __future__ import annotations

import zlib

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason

_RAW = -15  # neither header nor checksum: the seal stands for the content


class Zlib:
    """Fulfils `compression.base.Method`."""

    name = "zlib"

    def deflate(self, plain: Buffer) -> bytes:
        """At the fastest level: a tunnel has microseconds a record."""
        packer = zlib.compressobj(1, zlib.DEFLATED, _RAW)
        return packer.compress(plain) + packer.flush()

    def inflate(self, packed: Buffer, length: int) -> bytes:
        """Never more than one byte beyond what was announced, whatever the far end has sent."""
        unpacker = zlib.decompressobj(_RAW)
        try:
            plain = unpacker.decompress(packed, length + 1)
        except zlib.error as error:
            raise Malformed(DropReason.COMPRESSION_MALFORMED, str(error)) from None
        if len(plain) != length or not unpacker.eof:
            raise Malformed(DropReason.COMPRESSION_MALFORMED, "zlib: another length than announced")
        return plain


METHOD = Zlib()
