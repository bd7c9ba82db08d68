"""WebSocket frames, and what decoders make of whatever comes instead (caetun/wire/websocket.py)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from caetun.types import Buffer
from caetun.wire.framing import MAX_MESSAGE, Decoded
from caetun.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketCodec,
    close_words,
    decode_head,
    encode_head,
    mask,
    read_answer,
    read_close,
)

_chance = random.Random(6455)
KEY = b"\x01\x80\xfe\x33"

Messages = st.lists(st.binary(max_size=300), max_size=8)


def client() -> WebSocketCodec:
    return WebSocketCodec(client=True, entropy=_chance.randbytes)


def server() -> WebSocketCodec:
    return WebSocketCodec(client=False, entropy=_chance.randbytes)


def joined(parts: Sequence[Buffer]) -> bytes:
    return b"".join(parts)


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True) -> bytes:
    """A frame as nobody but a test would build it."""
    key = KEY if masked else b""
    return encode_head(opcode, len(payload), key, final) + joined(mask([payload], key) if masked else [payload])


def fed(codec: WebSocketCodec, stream: bytes, sizes: Callable[[], int]) -> tuple[list[bytes], Decoded, bytes]:
    """What a codec makes of a stream that comes in pieces; as a link it gives again what was not taken."""
    messages: list[bytes] = []
    answers = b""
    waiting = bytearray()
    at = 0
    decoded = Decoded([], 0)
    while at < len(stream):
        piece = stream[at : at + sizes()]
        at += len(piece)
        waiting += piece
        view = memoryview(bytearray(waiting))
        decoded = codec.feed(view)
        messages += [bytes(message) for message in decoded.messages]
        answers += decoded.answer
        assert 0 <= decoded.taken <= len(waiting)
        del waiting[: decoded.taken]
        assert len(codec._fragments or b"") <= MAX_MESSAGE
        if decoded.ended:
            break
        assert len(waiting) < MAX_MESSAGE + 14
    return messages, decoded, answers


def at_once(codec: WebSocketCodec, stream: bytes) -> tuple[list[bytes], Decoded, bytes]:
    return fed(codec, stream, lambda: max(1, len(stream)))


class TestHeads:
    @pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 2**63 - 1])
    @pytest.mark.parametrize("key", [b"", KEY])
    @pytest.mark.parametrize("final", [True, False])
    def test_what_is_encoded_is_decoded(self, length: int, key: bytes, final: bool) -> None:
        head = encode_head(BINARY, length, key, final)
        assert decode_head(b"??" + head, 2) == (BINARY, final, False, bool(key), 2 + len(head), length)
        for size in range(len(head)):
            assert decode_head(head[:size], 0) is None

    @given(st.binary(max_size=64), st.binary(min_size=4, max_size=4))
    def test_masking_is_that_of_the_specification(self, payload: bytes, key: bytes) -> None:
        plain = bytes(byte ^ key[number % 4] for number, byte in enumerate(payload))
        assert joined(mask([payload], key)) == plain
        assert joined(mask([payload[:5], payload[5:6], payload[6:]], key)) == plain


class TestConversation:
    """Both ends are ours."""

    @given(Messages, st.data())
    def test_messages_arrive_however_the_stream_is_cut(self, messages: list[bytes], data: Any) -> None:
        for sender, receiver in ((client(), server()), (server(), client())):
            stream = b"".join(joined(sender.frame([message[:16], message[16:]])) for message in messages)
            sizes = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=20))
            got, decoded, answers = fed(receiver, stream, lambda sizes=sizes: _chance.choice(sizes))  # type: ignore[misc]
            assert got == messages
            assert not decoded.ended
            assert not answers

    @pytest.mark.parametrize("size", [1, 125, 126, 1216, 65535, 65536, MAX_MESSAGE])
    def test_sizes_at_which_a_head_changes(self, size: int) -> None:
        message = _chance.randbytes(size)
        for sender, receiver in ((client(), server()), (server(), client())):
            stream = joined(sender.frame([message[:16], message[16:]]))
            assert at_once(receiver, stream)[0] == [message]

    def test_keys_differ_from_frame_to_frame(self) -> None:
        sender = client()
        keys = {joined(sender.frame([b"x"]))[2:6] for _ in range(600)}
        assert len(keys) == 600

    def test_a_ping_is_answered_with_what_it_said(self) -> None:
        _, _, answer = at_once(server(), frame(PING, b"there?"))
        assert answer == frame(PONG, b"there?", masked=False)

    def test_of_several_pings_the_last_is_answered(self) -> None:
        got, _, answer = at_once(server(), frame(PING, b"1") + frame(BINARY, b"data") + frame(PING, b"2"))
        assert got == [b"data"]
        assert answer == frame(PONG, b"2", masked=False)

    def test_our_own_ping_is_answered_by_our_other_end(self) -> None:
        near, far = client(), server()
        _, _, answer = at_once(far, near.ping())
        assert not near.heard
        assert at_once(near, answer) == ([], Decoded([], len(answer)), b"")
        assert near.heard

    def test_it_knows_whether_it_spoke_and_heard(self) -> None:
        near = client()
        assert (near.spoke, near.heard) == (False, False)
        near.feed(memoryview(frame(PONG, masked=False)))
        assert (near.spoke, near.heard) == (False, True)
        near.frame([b"x"])
        assert near.spoke

    def test_a_message_in_fragments_with_a_ping_between_them(self) -> None:
        stream = frame(BINARY, b"in ", final=False) + frame(PING) + frame(CONTINUATION, b"", final=False)
        stream += frame(CONTINUATION, b"pieces") + frame(BINARY, b"whole")
        for size in (1, 2, 7, 100):
            got, decoded, answer = fed(server(), stream, lambda size=size: size)  # type: ignore[misc]
            assert got == [b"in pieces", b"whole"]
            assert not decoded.ended
            assert answer == frame(PONG, masked=False)

    @given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=5), max_size=5), st.integers(1, 60))
    def test_any_fragmentation(self, messages: list[list[bytes]], size: int) -> None:
        stream = b""
        for parts in messages:
            for number, part in enumerate(parts, 1):
                stream += frame(CONTINUATION if number > 1 else BINARY, part, final=number == len(parts))
        got, decoded, _ = fed(server(), stream, lambda: size)
        assert got == [b"".join(parts) for parts in messages]
        assert not decoded.ended


class TestBrokenRules:
    """Each is told in words, and to the far end by its code."""

    @pytest.mark.parametrize(
        ("stream", "code", "words"),
        [
            (frame(BINARY, b"x", masked=False), 1002, "a frame without mask from a client"),
            (frame(0x3, b"x"), 1002, "a frame of unknown type 3"),
            (frame(0xB, b"x"), 1002, "a frame of unknown type 11"),
            (frame(CONTINUATION, b"x"), 1002, "a continuation of nothing"),
            (frame(BINARY, b"x", final=False) + frame(BINARY, b"y"), 1002, "a message within another"),
            (frame(PING, bytes(126)), 1002, "a control frame that is too long"),
            (frame(PING, b"x", final=False), 1002, "a control frame that is too long"),
            (frame(TEXT, b"hello"), 1003, "text"),
            (frame(BINARY, bytes(MAX_MESSAGE + 1)), 1009, f"a message of more than {MAX_MESSAGE} bytes"),
            (encode_head(BINARY, 2**64 - 1, KEY), 1009, f"a message of more than {MAX_MESSAGE} bytes"),
            (b"\xc2\x80" + KEY, 1002, "an extension nobody agreed upon"),
        ],
    )
    def test_by_name(self, stream: bytes, code: int, words: str) -> None:
        codec = server()
        before = frame(BINARY, b"before")
        got, decoded, answer = at_once(codec, before + stream + frame(BINARY, b"after"))
        assert got == [b"before"]
        assert (decoded.ended, decoded.malformed) == (f"WebSocket: {words}", True)
        assert answer == frame(CLOSE, code.to_bytes(2, "big"), masked=False)
        assert codec.farewell() == b""

    def test_a_server_does_not_mask(self) -> None:
        _, decoded, _ = at_once(client(), frame(BINARY, b"x"))
        assert decoded.ended == "WebSocket: a masked frame from a server"

    def test_fragments_are_bounded_together(self) -> None:
        codec = server()
        stream = frame(BINARY, bytes(60_000), final=False) + frame(CONTINUATION, bytes(60_000))
        _, decoded, answer = at_once(codec, stream)
        assert decoded.malformed
        assert answer[-2:] == (1009).to_bytes(2, "big")

    def test_an_oversized_message_is_refused_by_its_head(self) -> None:
        _, decoded, _ = at_once(server(), encode_head(BINARY, MAX_MESSAGE + 1, KEY))
        assert decoded.malformed


class TestClosing:
    def test_we_say_goodbye_once(self) -> None:
        near, far = client(), server()
        goodbye = near.farewell()
        assert near.farewell() == b""
        _, decoded, answer = at_once(far, goodbye)
        assert (decoded.ended, decoded.malformed) == ("closed by the far end: it is done (WebSocket 1000)", False)
        assert far.farewell() == b""
        _, decoded, answer = at_once(near, answer)
        assert decoded.ended
        assert answer == b""

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            (b"", "closed by the far end: it gives no reason (WebSocket 1005)"),
            (b"\x03\xe9", "closed by the far end: it is going away (WebSocket 1001)"),
            (b"\x03\xf0too much", "closed by the far end: it refuses us by its policy (WebSocket 1008): too much"),
            (b"\x03\xf4", "closed by the far end: it restarts (WebSocket 1012)"),
            (b"\x0f\xa0a\x1b[31mb\n", "closed by the far end: it gives a reason of its own (WebSocket 4000): a[31mb"),
        ],
    )
    def test_reasons_in_words(self, payload: bytes, words: str) -> None:
        _, decoded, answer = at_once(server(), frame(CLOSE, payload) + frame(BINARY, b"after"))
        assert decoded == Decoded([], 6 + len(payload), words, answer=answer)
        assert answer == frame(CLOSE, payload[:2], masked=False)

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 1014])
    def test_every_code_of_the_registry_has_words(self, code: int) -> None:
        assert "reason of its own" not in close_words(code)

    @pytest.mark.parametrize("payload", [b"\x03", b"\0\0", b"\x03\xee", b"\xff\xff"])
    def test_a_code_that_nobody_may_send_is_a_broken_rule(self, payload: bytes) -> None:
        assert at_once(server(), frame(CLOSE, payload))[2] == frame(CLOSE, b"\x03\xea", masked=False)

    def test_a_code_of_one_byte_is_none(self) -> None:
        assert read_close(b"\x03") == (1002, "")


class TestAgainstThePackage:
    """The `websockets` package at the other end, in memory."""

    @given(Messages)
    def test_it_reads_what_we_write(self, messages: list[bytes]) -> None:
        for codec, side in ((client(), SERVER), (server(), CLIENT)):
            other = Protocol(side, state=OPEN, max_size=MAX_MESSAGE)
            for message in messages:
                other.receive_data(joined(codec.frame([message])))
            other.receive_data(codec.ping())
            other.receive_data(codec.farewell())
            events = other.events_received()
            assert all(isinstance(event, Frame) for event in events)
            opcodes = [Opcode.BINARY] * len(messages) + [Opcode.PING, Opcode.CLOSE]
            assert [event.opcode for event in events if isinstance(event, Frame)] == opcodes
            assert [bytes(event.data) for event in events[:-2] if isinstance(event, Frame)] == messages

    @given(Messages, st.integers(1, 100))
    def test_we_read_what_it_writes(self, messages: list[bytes], size: int) -> None:
        for codec, side in ((client(), SERVER), (server(), CLIENT)):
            other = Protocol(side, state=OPEN)
            for message in messages:
                other.send_binary(message[:10], fin=len(message) <= 10)
                if len(message) > 10:
                    other.send_continuation(message[10:], fin=True)
            other.send_ping(b"x")
            other.send_close(1001)
            got, decoded, answer = fed(codec, b"".join(other.data_to_send()), lambda: size)
            assert got == messages
            assert decoded.ended == close_words(1001)
            other.receive_data(answer)
            assert other.close_rcvd is not None
            assert other.close_rcvd.code == 1001


class TestGarbage:
    @given(st.binary(max_size=2000), st.integers(1, 300))
    def test_anything(self, stream: bytes, size: int) -> None:
        for codec in (client(), server()):
            fed(codec, stream, lambda: size)

    @given(Messages, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=6), st.integers(1, 300))
    def test_mutated_frames(self, messages: list[bytes], changes: list[tuple[int, int]], size: int) -> None:
        stream = bytearray(b"".join(joined(client().frame([message])) for message in messages) + frame(PING, b"x"))
        for at, byte in changes:
            stream[at % len(stream)] = byte
        whole = at_once(server(), bytes(stream))
        cut = fed(server(), bytes(stream), lambda: size)
        assert whole[0] == cut[0]
        assert (whole[1].ended, whole[1].malformed) == (cut[1].ended, cut[1].malformed)


class TestAnswers:
    """The head of what a web server says instead."""

    def test_status_and_reason(self) -> None:
        assert read_answer(b"HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n") == (404, "Not Found", "")
        assert read_answer(b"HTTP/1.0 200\r\n\r\n") == (200, "", "")

    def test_where_it_sends_us(self) -> None:
        head = b"HTTP/1.1 301 Moved\r\nlocation:  https://other.example/\x1b[0m \r\n\r\n"
        assert read_answer(head) == (301, "Moved", "https://other.example/[0m")

    @pytest.mark.parametrize(
        "head", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 99 X\r\n\r\n"]
    )
    def test_what_is_not_http(self, head: bytes) -> None:
        assert read_answer(head) is None

    @given(st.binary(max_size=400))
    def test_anything(self, head: bytes) -> None:
        for given_ in (head, b"HTTP/1.1 200 " + head, b"HTTP/1.1 302 x\r\nLocation: " + head):
            answer = read_answer(given_)
            assert answer is None or (answer.reason + answer.location).isprintable()
            assert answer is None or len(answer.reason) + len(answer.location) <= 400
