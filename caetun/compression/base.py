"""The contract of a compression method."""

from __future__ import annotations

from typing import Protocol

from caetun.types import Buffer


class Method(Protocol):
    """One way to make bytes fewer; each call stands for itself, as records may be lost."""

    name: str
    """As in `--compress` and in the hello: 1 to 16 of a-z, 0-9 and '-'."""

    def deflate(self, plain: Buffer) -> bytes:
        """`plain` (1..65,520 bytes) in other words, fewer or not. Hot: once a record."""

    def inflate(self, packed: Buffer, length: int) -> bytes:
        """The `length` bytes (1..65,520) that were deflated.

        What comes in was written by the far end: raises Malformed (COMPRESSION_MALFORMED) if it stands for anything
        else than `length` bytes, and takes no memory for more than that, whatever it claims.
        """
