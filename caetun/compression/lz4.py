"""LZ4 blocks (github.com/lz4/lz4, doc/lz4_Block_format.md): quick, and saves less than zstd."""

from __future__ import annotations

from lz4 import block

from caetun.errors import Malformed
from caetun.types import Buffer, DropReason


class Lz4:
    """Fulfils `compression.base.Method`."""

    name = "lz4"

    def deflate(self, plain: Buffer) -> bytes:
        """A raw block: its length is told by the element around it."""
        packed: bytes = block.compress(plain, store_size=False)
        return packed

    def inflate(self, packed: Buffer, length: int) -> bytes:
        """The `length` bytes of a block; raises Malformed."""
        try:
            plain: bytes = block.decompress(packed, uncompressed_size=length)
        except block.LZ4BlockError as error:
            raise Malformed(DropReason.COMPRESSION_MALFORMED, f"lz4: {error}") from None
        if len(plain) != length:
            raise Malformed(DropReason.COMPRESSION_MALFORMED, f"lz4: {len(plain)} bytes, not {length}")
        return plain


METHOD = Lz4()
