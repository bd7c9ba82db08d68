"""Heads of requests, in whatever pieces they come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caetun.wire.http import MAX_HEAD, MAX_LINE, BadRequest, BodySkimmer, HeadReader, Request, first_range, read_path

UPGRADE = (
    b"GET /secret/path?q=1 HTTP/1.1\r\nHost: Hub.Example:443\r\nUpgrade: WebSocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nCookie:  a=b \r\n\r\n"
)


def read(*pieces: bytes) -> tuple[Request | None, bytes]:
    """The head, and what comes behind it."""
    reader = HeadReader()
    for number, piece in enumerate(pieces):
        request = reader.feed(piece)
        if request is not None:
            return request, reader.rest + b"".join(pieces[number + 1 :])
    return None, b""


class TestHead:
    """What a request asks for."""

    def test_an_opening_request(self) -> None:
        request, rest = read(UPGRADE + b"behind")
        assert request is not None
        assert (request.method, request.target, request.path) == ("GET", "/secret/path?q=1", b"/secret/path")
        assert (request.version, request.host, request.length) == ((1, 1), "hub.example", 0)
        assert request.header("cookie") == "a=b"
        assert request.header("absent") == ""
        assert request.tokens("upgrade") == {"websocket"}
        assert request.tokens("connection") == {"keep-alive", "upgrade"}
        assert request.keep_alive
        assert rest == b"behind"

    @pytest.mark.parametrize(
        ("head", "expected"),
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: a\r\nConnection: b, close\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
            (b"GET /\r\n", False),
        ],
    )
    def test_whether_the_connection_stays(self, head: bytes, expected: bool) -> None:
        request, _ = read(head)
        assert request is not None
        assert request.keep_alive is expected

    @given(st.data())
    def test_pieces_make_no_difference(self, data: st.DataObject) -> None:
        text = UPGRADE + b"behind"
        cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
        pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert read(*pieces) == read(text)

    @given(st.binary(max_size=300), st.integers(0, 300))
    @example(b"\n\nGET / HTTP/1.1\nHost: [\n\n", 4)
    @example(b"GET http://[ HTTP/1.1\nHost: x\n\n", 9)
    @example(b"GET http://?x HTTP/1.0\n\n", 9)
    @example(b"GET http://x?y HTTP/1.0\n\n", 9)
    def test_any_bytes_give_a_head_or_a_refusal(self, garbage: bytes, cut: int) -> None:
        results = []
        for pieces in ((garbage,), (garbage[:cut], garbage[cut:])):
            try:
                results.append(read(*pieces))
            except BadRequest as bad:
                results.append((bad.status, b""))
        assert results[0] == results[1]

    @given(st.integers(0, len(UPGRADE) - 1), st.integers(0, 255))
    def test_any_mutation_gives_a_head_or_a_refusal(self, at: int, byte: int) -> None:
        mutated = bytearray(UPGRADE)
        mutated[at] = byte
        with contextlib.suppress(BadRequest):
            read(bytes(mutated))

    def test_bounds(self) -> None:
        lines = b"".join(b"A: " + b"x" * 1000 + b"\r\n" for _ in range(MAX_HEAD // 1000 + 1))
        for text, status in [
            (b"GET /" + b"a" * MAX_LINE, 414),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_LINE, 494),
            (b"GET / HTTP/1.1\r\n" + lines, 494),
        ]:
            for pieces in ((text,), [text[at : at + 1] for at in range(len(text))]):
                with pytest.raises(BadRequest) as refusal:
                    read(*pieces)
                assert refusal.value.status == status

    def test_no_more_than_a_head_is_kept(self) -> None:
        reader = HeadReader()
        reader.feed(b"GET / HTTP/1.1\r\n")
        taken = 0
        with contextlib.suppress(BadRequest):
            while taken < 10 * MAX_HEAD:
                reader.feed(b"A: b\r\n" * 100)
                taken += 600
        assert taken <= MAX_HEAD


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/a/./b//c/../d", b"/a/b/d"),
        (b"/a/", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/..", b"/"),
        (b"/%41%2fb%2F..?x=%zz#y", b"/A/"),
        (b"/...", b"/..."),
    ],
)
def test_paths_are_made_normal(target: bytes, path: bytes) -> None:
    assert read_path(target) == path


@pytest.mark.parametrize("target", [b"/..", b"/a/../..", b"/%2e%2E", b"/a%2f..%2f..", b"/%", b"/%0", b"/%0g", b"/%00"])
def test_paths_that_are_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        read_path(target)


@given(st.binary(max_size=60).map(lambda rest: b"/" + rest))
@example(b"/%2e%2e%2f")
def test_no_path_leads_out(target: bytes) -> None:
    try:
        path = read_path(target)
    except BadRequest:
        return
    assert path.startswith(b"/")
    assert not {b"..", b"."} & set(path.split(b"/"))
    assert b"\0" not in path
    assert b"//" not in path


class TestBody:
    """Where a body ends."""

    def test_of_a_length(self) -> None:
        body = BodySkimmer(5)
        assert body.feed(b"abc") == b""
        assert not body.ended
        assert body.feed(b"deNEXT") == b"NEXT"
        assert body.ended
        assert BodySkimmer(0).feed(b"NEXT") == b"NEXT"

    @given(st.lists(st.binary(min_size=1, max_size=40)), st.data())
    def test_in_chunks(self, chunks: list[bytes], data: st.DataObject) -> None:
        text = b"".join(b"%X;ext\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        text += b"0\r\nTrailer: x\r\n\r\n"
        cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
        body, behind = BodySkimmer(None), b""
        for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
            behind += body.feed(text[start:stop])
        assert body.ended
        assert behind == b""
        assert body.feed(b"NEXT") == b"NEXT"

    @pytest.mark.parametrize(
        "text", [b"zz\r\n", b"\r\n", b"-1\r\n", b"1\r\nabc\r\n", b"0\r\n" + b"a: b\r\n" * 65, b"1" * 2000]
    )
    def test_that_is_none(self, text: bytes) -> None:
        with pytest.raises(BadRequest):
            BodySkimmer(None).feed(text)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_body_or_refused(self, garbage: bytes) -> None:
        body = BodySkimmer(None)
        try:
            rest = body.feed(garbage)
        except BadRequest:
            return
        assert garbage.endswith(rest)


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True), st.integers(0, 2**40))
def test_a_range_is_within_what_there_is(header: str, size: int) -> None:
    found = first_range(header, size)
    if found is not None:
        assert 0 <= found[0] <= size
        assert found[1] <= size
