"""The Internet checksum (RFC 1071), and mending it when a field changes (RFC 1624).

2**16 is 1 modulo 0xFFFF, so the ones' complement sum of 16-bit words is the whole string, taken as one number, modulo
0xFFFF. Python does that division at about 1.5 GB/s; a loop over the words would take a hundred times as long.
"""

from __future__ import annotations

from caetun.types import Buffer


def ones_sum(data: Buffer, start: int = 0) -> int:
    """The ones' complement sum of `data` (padded with a zero byte to 16-bit words) and `start`: 0..0xFFFF.

    As in the kernel's `csum_fold`, the sum is 0 only if all of it is zero; otherwise 0xFFFF stands for zero.
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    number += start
    return number % 0xFFFF or (0xFFFF if number else 0)


def checksum(data: Buffer, start: int = 0) -> int:
    """The checksum of `data` whose checksum field is zero, or holds a partial sum that is to be included."""
    return ones_sum(data, start) ^ 0xFFFF


def fold(number: int) -> int:
    """Add the carries of a sum of 16-bit words (0 <= number < 2**32) back in: 0..0xFFFF."""
    number = (number & 0xFFFF) + (number >> 16)
    return (number & 0xFFFF) + (number >> 16)


def adjusted(check: int, old: int, new: int) -> int:
    """The checksum `check` after a 16-bit word it covers went from `old` to `new` (RFC 1624, section 3, equation 3)."""
    return fold((check ^ 0xFFFF) + (old ^ 0xFFFF) + new) ^ 0xFFFF


def adjusted_sum(partial: int, old: int, new: int) -> int:
    """The same for a partial sum, which is not complemented: what NEEDS_CSUM leaves in the checksum field."""
    return fold(partial + (old ^ 0xFFFF) + new)


def exchanged(check: int, old: bytes, new: bytes, odd: bool = False) -> int:
    """The checksum `check` after bytes it covers went from `old` to `new`, of one length (RFC 1624, equation 3).

    `odd`: whether they begin at an odd place of what is covered. The result is never 0xFFFF.
    """
    return exchanged_sum(check ^ 0xFFFF, old, new, odd) ^ 0xFFFF


def exchanged_sum(partial: int, old: bytes, new: bytes, odd: bool = False) -> int:
    """The same for a partial sum, which is not complemented; never 0, as some word of a real packet is not."""
    difference = int.from_bytes(new, "big") - int.from_bytes(old, "big")
    if (len(new) + odd) & 1:  # the last byte is the high one of its word; 256 is a rotation by one byte
        difference <<= 8
    return (partial + difference) % 0xFFFF or 0xFFFF
