"""WebSocket frames (RFC 6455, section 5): one binary message is one message of the tunnel.

 0        1        2                 4                10
+--------+--------+--------+--------+-------- ... --------+--------+
|F000 op |M length| length, 16 bits | or 64 bits          | masking key (4), if M
+--------+--------+--------+--------+-------- ... --------+--------+
|  payload ...                                                     |
+------------------------------------------------------------------+

F: the last frame of a message. length: 0..125 is meant so, 126: 16 bits follow, 127: 64 bits follow. What a client
sends is masked, what a server sends is not. No extension is agreed upon, so the three bits behind F are zero.

The key is random for every frame, although our payload is ciphertext, and a key of zeros would save the client the
XOR: "the masking key needs to be unpredictable" (section 5.3), a row of zeros is what a middlebox tells us by, and
with the package's C function it costs 1.3 us per 64 KiB more than a copy.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from caetun.types import Buffer
from caetun.wire.framing import MAX_MESSAGE, Decoded

try:
    from websockets.speedups import apply_mask
except ImportError:  # where there is no C compiler and no wheel: 300 us per 64 KiB instead of 4
    from websockets.utils import apply_mask

# fixed by the specification
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_FIN: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASK: Final = 0x80
_CONTROL: Final = 0x8
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_KEY_SIZE: Final = 4
_MAX_CONTROL: Final = 125
_HEAD: Final = struct.Struct(">BB")
_HEAD_16: Final = struct.Struct(">BBH")
_HEAD_64: Final = struct.Struct(">BBQ")
_CODE: Final = struct.Struct(">H")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: (.*))?")
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
POLICY: Final = 1008
TOO_BIG: Final = 1009
_SENDABLE: Final = range(1000, 5000)
_NEVER_SENT: Final = (1004, 1005, 1006, 1015)
"""Codes that stand for what has no frame (section 7.4.1)."""
CLOSE_CODES: Final = {
    1000: "it is done",
    1001: "it is going away",
    1002: "it says that we broke the protocol",
    1003: "it does not take such data",
    1005: "it gives no reason",
    1006: "the connection broke",
    1007: "it says that data and type do not agree",
    1008: "it refuses us by its policy",
    1009: "a message was too big for it",
    1010: "it misses an extension",
    1011: "it met an error of its own",
    1012: "it restarts",
    1013: "it is overloaded, try again later",
    1014: "the server behind it gave no valid answer",
    1015: "TLS failed",
}
"""Section 7.4.1 and the IANA registry, in words that follow "closed by the far end:"."""

# chosen by us
MAX_TEXT: Final = 200
"""Bytes of what a server says that we repeat to people."""
_KEYS: Final = 256
"""Masking keys drawn at a time: asking the system for four bytes costs a third of what masking 64 KiB does."""


class Answer(NamedTuple):
    """The head of an HTTP answer, as far as it tells why there is no WebSocket."""

    status: int
    """100..999."""
    reason: str
    location: str
    """Where a redirect leads to; "" if it does not say."""


class FrameHead(NamedTuple):
    """What stands in front of a frame's payload, and where that lies."""

    opcode: int
    final: bool
    reserved: bool
    """Whether a reserved bit is set."""
    masked: bool
    start: int
    """Where the payload begins; the masking key, if there is one, ends there."""
    length: int
    """Bytes of payload, 0..2^64 - 1: not all of them need be there yet."""


def read_answer(head: bytes) -> Answer | None:
    """What the head of an HTTP answer says, in printable ASCII of bounded length; None if it is not HTTP/1."""
    line, *headers = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return None
    location = ""
    for header in headers:
        name, _, value = header.partition(b":")
        if name.lower() == b"location":
            location = _text(value.strip())
    return Answer(int(match[1]), _text(match[2] or b""), location)


def _text(value: bytes) -> str:
    """What a terminal may show of it."""
    return "".join(letter for letter in value[:MAX_TEXT].decode("ascii", "replace") if letter.isprintable())


def encode_head(opcode: int, length: int, key: bytes = b"", final: bool = True) -> bytes:
    """The head of a frame with so many bytes of payload, masked if there is a key (4 bytes)."""
    first, mask = opcode | (_FIN if final else 0), _MASK if key else 0
    if length < _LENGTH_16:
        return _HEAD.pack(first, mask | length) + key
    if length < 1 << 16:
        return _HEAD_16.pack(first, mask | _LENGTH_16, length) + key
    return _HEAD_64.pack(first, mask | _LENGTH_64, length) + key


def decode_head(view: Buffer, at: int) -> FrameHead | None:
    """The head that begins at `at`, or None if it is not all there.

    A length written in more bytes than it needs is taken: who could be harmed by it is not us.
    """
    size = len(view)
    if size - at < _HEAD.size:
        return None
    first, second = _HEAD.unpack_from(view, at)
    length = second & ~_MASK
    start = at + _HEAD.size
    if length == _LENGTH_16:
        start = at + _HEAD_16.size
        if size < start:
            return None
        length = _HEAD_16.unpack_from(view, at)[2]
    elif length == _LENGTH_64:
        start = at + _HEAD_64.size
        if size < start:
            return None
        length = _HEAD_64.unpack_from(view, at)[2]
    masked = second >= _MASK
    if masked:
        start += _KEY_SIZE
        if size < start:
            return None
    return FrameHead(first & _OPCODE, first >= _FIN, bool(first & _RESERVED), masked, start, length)


def mask(parts: Sequence[Buffer], key: bytes) -> list[Buffer]:
    """The parts of one payload, masked (section 5.3): byte i by byte i modulo 4 of the key."""
    masked: list[Buffer] = []
    for part in parts:
        masked.append(apply_mask(part, key))
        turn = len(part) % _KEY_SIZE
        key = key[turn:] + key[:turn]
    return masked


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a Close frame (section 5.5.1), the reason without what a terminal would act upon.

    A payload of one byte, which is none, has the code of a broken rule.
    """
    if not payload:
        return 1005, ""
    if len(payload) < _CODE.size:
        return PROTOCOL_ERROR, ""
    (code,) = _CODE.unpack_from(payload)
    reason = payload[_CODE.size : _MAX_CONTROL].decode("utf-8", "replace")
    return code, "".join(letter for letter in reason if letter.isprintable())


def close_words(code: int, reason: str = "") -> str:
    """Why the far end closed, for people."""
    words = f"closed by the far end: {CLOSE_CODES.get(code, 'it gives a reason of its own')} (WebSocket {code})"
    return f"{words}: {reason}" if reason else words


class WebSocketCodec:
    """Fulfils `transports.stream.Codec`, for one end of one connection whose opening handshake is over."""

    __slots__ = ("_broken", "_client", "_closed", "_entropy", "_fragments", "_keys", "heard", "spoke")

    def __init__(self, client: bool, entropy: Callable[[int], bytes]) -> None:
        """As the client or the server of the opening handshake; `entropy(n)` gives n unpredictable bytes."""
        self._client = client
        self._entropy = entropy
        self._keys: list[bytes] = []
        self._fragments: bytearray | None = None
        """What is there of a message that comes in several frames, at most MAX_MESSAGE bytes."""
        self._broken = 0
        """The code for what the far end did wrong."""
        self._closed = False
        """Whether a Close frame has been sent: it is the last thing that may be."""
        self.spoke = False
        """Set by whatever is sent, for whoever asks and clears it."""
        self.heard = False
        """Set by every whole frame that comes in."""

    # outbound

    def frame(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """The frame of one outgoing message, whose bytes are `parts` one after the other. Hot: once a message."""
        self.spoke = True
        size = sum(map(len, parts))
        if not self._client:
            return [encode_head(BINARY, size), *parts]
        key = self._key()
        return [encode_head(BINARY, size, key), *mask(parts, key)]

    def ping(self) -> bytes:
        """A frame that the far end answers by itself."""
        return self._control(PING, b"")

    def farewell(self, code: int = NORMAL) -> bytes:
        """The Close frame to send before we close; nothing if one was sent. A broken rule has a code of its own."""
        if self._closed:
            return b""
        self._closed = True
        return self._control(CLOSE, _CODE.pack(self._broken or code))

    def _control(self, opcode: int, payload: Buffer) -> bytes:
        self.spoke = True
        key = self._key() if self._client else b""
        return encode_head(opcode, len(payload), key) + (apply_mask(payload, key) if key else payload)

    def _key(self) -> bytes:
        if not self._keys:
            drawn = self._entropy(_KEYS * _KEY_SIZE)
            self._keys = [drawn[at : at + _KEY_SIZE] for at in range(0, len(drawn), _KEY_SIZE)]
        return self._keys.pop()

    # inbound

    def feed(self, view: memoryview) -> Decoded:
        """The whole messages at the beginning of `view`, as views on it or bytes. Hot: one turn a frame."""
        messages: list[Buffer] = []
        asked: Buffer | None = None
        at, size, client = 0, len(view), self._client
        while (head := decode_head(view, at)) is not None:
            opcode, final, reserved, masked, start, length = head
            plain = opcode == BINARY and final and not reserved and masked is not client and length <= MAX_MESSAGE
            if not (plain and self._fragments is None) and (wrong := self._wrong(head)):
                return Decoded(messages, at, wrong, malformed=True, answer=self.farewell())
            end = start + length
            if end > size:
                break
            payload: Buffer = view[start:end]
            if masked:
                payload = apply_mask(payload, bytes(view[start - _KEY_SIZE : start]))
            at = end
            self.heard = True
            if opcode == BINARY and final:
                messages.append(payload)
            elif opcode <= BINARY:
                self._fragment(payload, final, messages)
            elif opcode == PING:
                asked = bytes(payload)
            elif opcode == CLOSE:
                return self._over(messages, at, bytes(payload))
        return Decoded(messages, at, answer=self._pong(asked))

    def _wrong(self, head: FrameHead) -> str:
        """Why a frame with that head is not acceptable, in words; "" if it is. Sets the code to close with."""
        opcode, final, reserved, masked, _, length = head
        begun = self._fragments
        code, wrong = PROTOCOL_ERROR, ""
        if masked is self._client:
            wrong = "a masked frame from a server" if masked else "a frame without mask from a client"
        elif reserved:
            wrong = "an extension nobody agreed upon"
        elif opcode & _CONTROL:
            if opcode > PONG:
                wrong = f"a frame of unknown type {opcode}"
            elif not final or length > _MAX_CONTROL:
                wrong = "a control frame that is too long"
        elif opcode > BINARY:
            wrong = f"a frame of unknown type {opcode}"
        elif (opcode == CONTINUATION) is (begun is None):
            wrong = "a continuation of nothing" if begun is None else "a message within another"
        elif opcode == TEXT:
            code, wrong = UNSUPPORTED, "text"
        elif length + (len(begun) if begun else 0) > MAX_MESSAGE:
            code, wrong = TOO_BIG, f"a message of more than {MAX_MESSAGE} bytes"
        if not wrong:
            return ""
        self._broken = code
        return f"WebSocket: {wrong}"

    def _fragment(self, payload: Buffer, final: bool, messages: list[Buffer]) -> None:
        """Keep a part of a message that something on the way cut; append the message if that is the last."""
        if self._fragments is None:
            self._fragments = bytearray()
        self._fragments += payload
        if final:
            messages.append(bytes(self._fragments))
            self._fragments = None

    def _pong(self, asked: Buffer | None) -> Buffer:
        """The answer to the latest of several pings (section 5.5.3), so that they cannot make us keep many."""
        return b"" if asked is None or self._closed else self._control(PONG, asked)

    def _over(self, messages: list[Buffer], taken: int, payload: bytes) -> Decoded:
        """A Close frame has come: it is answered by one with its code, and nothing after it counts (section 5.5.1)."""
        code, reason = read_close(payload)
        answer: Buffer = b""
        if not self._closed:
            echo = code if code in _SENDABLE and code not in _NEVER_SENT else PROTOCOL_ERROR
            answer = self._control(CLOSE, _CODE.pack(echo) if payload else b"")
        self._closed = True
        return Decoded(messages, taken, close_words(code, reason), answer=answer)
