"""QUIC packets that hold one DATAGRAM frame and nothing else, built and opened a burst at a time.

 0        1              1+n       3+n      4+n
+--------+---- - - ------+---------+--------+---- - - ---+---- - - ---+
| first  | connection id | number  |  0x30  |  message   |  tag (16)  |      short header, RFC 9000 section 17.3.1
+--------+---- - - ------+---------+--------+---- - - ---+---- - - ---+
          n bytes          2 bytes  sealed: DATAGRAM frame without length, to the packet's end (RFC 9221 section 4)

`first` is 01SRRKPP: fixed bit, spin, two reserved zeros, key phase, bytes of the packet number less one. The bits RRKPP
and the number are masked by AES of 16 bytes of ciphertext (RFC 9001 section 5.4): for a burst that is one call of
AES-ECB, and the masks are laid over whole columns of the burst. What that saves is most of what a packet costs in
Python: 2 us remain of aioquic's 24, of which the cipher has 1.2. Everything else goes through aioquic;
`tests/transports/test_quic_packets.py` holds one against the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidTag

from caetun.types import Buffer

if TYPE_CHECKING:
    from aioquic.quic.crypto import CryptoContext

# fixed by the specification
FIXED_BIT: Final = 0x40
LONG_HEADER: Final = 0x80
SPIN_BIT: Final = 0x20
DATAGRAM: Final = 0x30
"""Type of a DATAGRAM frame that extends to the end of its packet."""
_PHASE_SHIFT: Final = 2
_NUMBER_SIZE: Final = 2
"""Bytes of packet numbers that we send, and that the fast way opens: enough while fewer than 32,768 are under way."""
_TWO_BYTES: Final = _NUMBER_SIZE - 1
"""How the first byte says so."""
_MASKED: Final = 0x1F
"""Bits of the first byte that header protection covers."""
_SAMPLE_AFTER: Final = 4
"""Bytes from the packet number's beginning to the sample."""
_SAMPLE: Final = 16
_TAG: Final = 16
_NUMBERS: Final = 1 << (8 * _NUMBER_SIZE)
_NONCE: Final = 12

# chosen by us
MAX_PACKETS: Final = 64
"""Packets built or opened in one go: what the kernel cuts (UDP_MAX_SEGMENTS), and one recvmmsg of ours."""
CID_SIZE: Final = 8
"""Bytes of the connection ids that we give out, aioquic's default."""

GAP: Final = 1
"""Bytes between two messages that were opened together: the frame type of the second one."""
_MAX_PICKERS: Final = 256
"""Remembered ways to take samples: one for each size and number of packets in a burst."""

_FRAME_TYPE: Final = bytes((DATAGRAM,))
_BYTES: Final = [bytes((byte,)) for byte in range(256)]
_exhaust: Final = deque[object](maxlen=0).extend
"""Calls what `map` would call: what a turn of a loop costs in Python is a tenth of what a packet does."""
_HIGH: Final = b"".join([high * 256 for high in (*_BYTES, _BYTES[0])])
_LOW: Final = bytes(range(256)) * 257
"""Packet numbers in a row, as two columns: a burst's are a slice of each."""
_KEEP_MASKED: Final = bytes(byte & _MASKED for byte in range(256))
_DROP_SPIN: Final = bytes(byte & ~SPIN_BIT for byte in range(256))


def overhead(cid: int) -> int:
    """Bytes of a packet that are not the message, for a connection id of `cid` bytes."""
    return 1 + cid + _NUMBER_SIZE + 1 + _TAG


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


@cache
def _masked(first: int) -> bytes:
    """A first byte as it goes out, by the mask's first byte."""
    return bytes(first ^ (mask & _MASKED) for mask in range(256))


@lru_cache(maxsize=_MAX_PICKERS)
def _picker(first: int, size: int, count: int) -> Callable[[Buffer], tuple[bytes, ...]]:
    """Takes the samples out of `count` packets of `size` bytes, the first sample at `first`: one call, no slices."""
    return Struct(f"{first}x{_SAMPLE}s" + f"{size - _SAMPLE}x{_SAMPLE}s" * (count - 1)).unpack_from


def _laid_out(messages: Sequence[Buffer], prefix: bytes) -> bytearray:
    """Packets as they will be sent, still in the clear: `prefix`, room for a number, the message, room for a tag."""
    head = prefix + bytes(_NUMBER_SIZE) + _FRAME_TYPE
    parts: list[Buffer] = [bytes(_TAG) + head] * (len(messages) // 2 * 3 + 1)
    parts[0], parts[-1] = head, bytes(_TAG)
    parts[1::3], parts[2::3] = messages[::2], messages[1::2]
    return bytearray().join(parts)


class _Keys:
    """One direction's keys under one key phase, taken from aioquic's."""

    def __init__(self, context: CryptoContext) -> None:
        assert context.aead is not None
        assert context.hp is not None
        self.origin = context.aead
        """aioquic's own, another one after each change of keys."""
        self._phase = context.key_phase
        self._aead = context.aead._aead
        self._iv = context.aead._iv
        # The key of header protection stays when others change (RFC 9001 section 6).
        self._masks = context.hp._encryptor.update

    def _columns(self, prefix: bytes, numbers: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """Nonces and headers of packets (RFC 9001 section 5.3); `prefix`: what of a header is before the number."""
        start = numbers[0]
        low = start % len(_BYTES)
        if isinstance(numbers, range) and low + len(numbers) <= len(_BYTES):  # they differ in the last byte only
            nonce = (self._iv ^ start).to_bytes(_NONCE, "big")
            same, last = nonce[:-1], nonce[-1] ^ low
            head = prefix + _BYTES[start >> 8 & 0xFF]
            lows = range(low, low + len(numbers))
            return [same + _BYTES[last ^ byte] for byte in lows], [head + byte for byte in _BYTES[low : lows.stop]]
        return (
            [(self._iv ^ number).to_bytes(_NONCE, "big") for number in numbers],
            [prefix + (number % _NUMBERS).to_bytes(_NUMBER_SIZE, "big") for number in numbers],
        )


class Sealer(_Keys):
    """Builds packets."""

    def __init__(self, context: CryptoContext) -> None:
        super().__init__(context)
        self.sealed = 0
        """Packets built under these keys (RFC 9001 section 6.6 limits them)."""

    def seal(self, messages: Sequence[Buffer], cid: bytes, number: int, spin: bool) -> tuple[memoryview, int]:
        """Packets for at most `MAX_PACKETS` messages, each given as two parts; all as long as the first but the last,
        which may be shorter. `number`: packet number of the first. Returns the packets one after the other, and the
        bytes of each but the last. Hot: once a burst.
        """
        first = FIXED_BIT | (SPIN_BIT if spin else 0) | self._phase << _PHASE_SHIFT | _TWO_BYTES
        count = len(messages) // 2
        if count == 1:
            packet = self.seal_payload(b"".join((_FRAME_TYPE, *messages)), cid, number, spin)
            return memoryview(packet), len(packet)
        prefix = bytes((first,)) + cid
        buffer = _laid_out(messages, prefix)
        view = memoryview(buffer)
        head = len(prefix) + _NUMBER_SIZE
        size = head + 1 + len(messages[0]) + len(messages[1]) + _TAG
        # Each is sealed where it lies. The last is a run of its own, as it may be shorter.
        starts = range(head, len(buffer), size)
        plain = [view[start : start + size - head - _TAG] for start in starts[:-1]]
        plain.append(view[starts[-1] : -_TAG])
        sealed = [view[start : start + size - head] for start in starts]
        nonces, heads = self._columns(prefix, range(number, number + count))
        _exhaust(map(self._aead.encrypt_into, nonces, plain, heads, sealed))
        at = len(prefix)
        masks = self._masks(b"".join(_picker(at + _SAMPLE_AFTER, size, count)(buffer)))
        low = number % _NUMBERS
        buffer[::size] = masks[::_SAMPLE].translate(_masked(first))
        buffer[at::size] = _xor(_HIGH[low : low + count], masks[1::_SAMPLE])
        buffer[at + 1 :: size] = _xor(_LOW[low : low + count], masks[2::_SAMPLE])
        self.sealed += count
        return view, size

    def seal_payload(self, payload: bytes, cid: bytes, number: int, spin: bool) -> bytes:
        """One packet with frames of any kind; `payload` is at least 2 bytes."""
        first = FIXED_BIT | (SPIN_BIT if spin else 0) | self._phase << _PHASE_SHIFT | _TWO_BYTES
        short = (number % _NUMBERS).to_bytes(_NUMBER_SIZE, "big")
        sealed = self._aead.encrypt((self._iv ^ number).to_bytes(_NONCE, "big"), payload, bytes((first,)) + cid + short)
        after = _SAMPLE_AFTER - _NUMBER_SIZE
        mask = self._masks(sealed[after : after + _SAMPLE])
        self.sealed += 1
        return bytes((first ^ (mask[0] & _MASKED),)) + cid + _xor(short, mask[1 : 1 + _NUMBER_SIZE]) + sealed


class Opened(NamedTuple):
    """What became of some packets. Numbers of places are indices into what was given."""

    messages: memoryview
    """Of all packets: one every `size` bytes, the last maybe shorter, and `GAP` bytes between two."""
    size: int
    numbers: Sequence[int]
    """Packet number of each; meaningless where it failed."""
    failed: Sequence[int]
    """Places whose bytes in `messages` mean nothing, in order: not authentic under these keys, or another."""
    others: Sequence[tuple[int, bytes]]
    """Places of authentic packets that hold something else than one DATAGRAM frame, and their payload. Also failed."""
    spin: bool

    def run(self, start: int, stop: int) -> memoryview:
        """The messages from place `start` to `stop - 1`."""
        return self.messages[start * self.size : stop * self.size - GAP if stop < len(self.numbers) else None]


class Opener(_Keys):
    """Opens packets."""

    def open(self, view: memoryview, size: int, cid: bytes, expected: int) -> Opened | None:
        """Open at most `MAX_PACKETS` packets, one after the other in `view`, each `size` bytes, the last maybe shorter
        but at least `shortest()`.

        `cid`: the connection id they are to have; `expected`: the packet number after the highest so far. None if their
        first bytes differ from each other, or are not those of short headers under our key phase: then they are to be
        tried one by one, and a lone one is aioquic's. Hot: once a burst.
        """
        at = 1 + len(cid)
        if len(view) <= size:
            return self._open_lone(view, cid, expected)
        count = -(-len(view) // size)
        masks = self._masks(b"".join(_picker(at + _SAMPLE_AFTER, size, count)(view)))
        firsts = _xor(bytes(view[::size]), masks[::_SAMPLE].translate(_KEEP_MASKED))
        first = firsts[:1]
        if firsts != first * count or first.translate(_DROP_SPIN)[0] != (
            FIXED_BIT | self._phase << _PHASE_SHIFT | _TWO_BYTES
        ):
            return None
        high = _xor(bytes(view[at::size]), masks[1::_SAMPLE])
        low = _xor(bytes(view[at + 1 :: size]), masks[2::_SAMPLE])
        numbers = _numbers(high, low, expected)
        payloads, stride, failed = self._decrypt(view, size, first + cid, numbers)
        others: list[tuple[int, bytes]] = []
        if failed or bytes(payloads[::stride]).count(DATAGRAM) != count:
            others = [
                (place, bytes(payloads[place * stride : (place + 1) * stride]))
                for place in range(count)
                if payloads[place * stride] != DATAGRAM and place not in failed
            ]
            failed = sorted([*failed, *(place for place, _ in others)])
        return Opened(payloads[1:], stride, numbers, failed, others, bool(first[0] & SPIN_BIT))

    def _open_lone(self, view: memoryview, cid: bytes, expected: int) -> Opened | None:
        """The same for one packet."""
        at = 1 + len(cid)
        mask = self._masks(view[at + _SAMPLE_AFTER : at + _SAMPLE_AFTER + _SAMPLE])
        first = view[0] ^ (mask[0] & _MASKED)
        if first & ~SPIN_BIT != FIXED_BIT | self._phase << _PHASE_SHIFT | _TWO_BYTES:
            return None
        number = _whole((view[at] ^ mask[1]) << 8 | (view[at + 1] ^ mask[2]), expected)
        head = bytes((first,)) + cid + (number % _NUMBERS).to_bytes(_NUMBER_SIZE, "big")
        nonce = (self._iv ^ number).to_bytes(_NONCE, "big")
        spin = bool(first & SPIN_BIT)
        try:
            payload = self._aead.decrypt(nonce, view[at + _NUMBER_SIZE :], head)
        except InvalidTag:
            return Opened(memoryview(b""), 0, (number,), (0,), (), spin)
        size = len(payload) - 1 + GAP
        if payload[0] != DATAGRAM:
            return Opened(memoryview(b""), size, (number,), (0,), ((0, payload),), spin)
        return Opened(memoryview(payload)[1:], size, range(number, number + 1), (), (), spin)

    def _decrypt(
        self, view: memoryview, size: int, prefix: bytes, numbers: Sequence[int]
    ) -> tuple[memoryview, int, list[int]]:
        """The payloads of packets side by side, the bytes of each but the last, and the places of those that are not
        authentic."""
        head = len(prefix) + _NUMBER_SIZE
        payload = size - head - _TAG
        sealed = [view[at : at + payload + _TAG] for at in range(head, len(view), size)]
        nonces, heads = self._columns(prefix, numbers)
        decrypt = self._aead.decrypt
        try:
            return memoryview(b"".join(map(decrypt, nonces, sealed, heads))), payload, []
        except InvalidTag:  # one of them; all once more, so that each has its own fate
            failed: list[int] = []
            opened: list[bytes] = []
            for place, packet in enumerate(zip(nonces, sealed, heads, strict=True)):
                try:
                    opened.append(decrypt(*packet))
                except InvalidTag:
                    failed.append(place)
                    opened.append(bytes(len(packet[1]) - _TAG))
        return memoryview(b"".join(opened)), payload, failed


def joined(bursts: Sequence[tuple[memoryview, int]]) -> Iterator[tuple[memoryview, int]]:
    """The same datagrams in fewer bursts: lone ones of one size, as a path without GRO brings them, go together."""
    lone: list[memoryview] = []
    for view, size in bursts:
        if lone and (len(view) > size or len(view) > len(lone[0]) or len(lone[-1]) < len(lone[0])):
            yield memoryview(b"".join(lone)) if len(lone) > 1 else lone[0], len(lone[0])
            lone = []
        if len(view) > size:
            yield view, size
        else:
            lone.append(view)
    if lone:
        yield memoryview(b"".join(lone)) if len(lone) > 1 else lone[0], len(lone[0])


def cid_of(packet: memoryview) -> bytes:
    """The connection id in a short header, one of ours; fewer bytes if the packet ends before."""
    return bytes(packet[1 : 1 + CID_SIZE])


def apart(bursts: Sequence[tuple[memoryview, int]]) -> Iterator[memoryview]:
    """The datagrams in bursts, one by one."""
    for view, size in bursts:
        for at in range(0, len(view), size):
            yield view[at : at + size]


def shortest(cid: int) -> int:
    """Bytes below which a packet with a connection id of `cid` bytes cannot be a packet: there is nothing to sample."""
    return 1 + cid + _SAMPLE_AFTER + _SAMPLE


def _numbers(high: bytes, low: bytes, expected: int) -> Sequence[int]:
    """Whole packet numbers from their two low bytes (RFC 9000 appendix A.3)."""
    short = high[0] << 8 | low[0]
    count = len(high)
    if high == _HIGH[short : short + count] and low == _LOW[short : short + count]:
        start = _whole(short, expected)
        return range(start, start + count)
    return [_whole(one << 8 | other, expected) for one, other in zip(high, low, strict=True)]


def _whole(short: int, expected: int) -> int:
    number = expected - expected % _NUMBERS + short
    if number <= expected - _NUMBERS // 2:
        return number + _NUMBERS
    if number > expected + _NUMBERS // 2 and number >= _NUMBERS:
        return number - _NUMBERS
    return number
