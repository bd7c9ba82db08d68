"""The web site that strangers see: held against a real nginx, request by request."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from caetun.transports import site
from tests.transports.strangers import House, visit_unix

FILES: Final = {
    "index.html": b"<h1>hi</h1>\n",
    "a.txt": b"text\n",
    "style.css": b"p{}",
    "page.js": b"1",
    "noextension": b"raw",
    "html": b"raw",
    "empty.txt": b"",
    "sub/inner.txt": b"inner",
    "big.bin": bytes(range(256)) * 1024,
}
CONFIGURATION: Final = """
pid {here}/pid;
error_log {here}/error.log;
worker_processes 1;
{user}
events {{}}
http {{
    access_log off;
    server_tokens off;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    {temporary}
    server {{ listen unix:{here}/socket; root {root}; }}
}}
"""
HOST: Final = b"Host: hub.example\r\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with something to see."""
    directory = tmp_path_factory.mktemp("root")
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    os.mkfifo(directory / "fifo")
    (directory / "odd nameé+&(x)~!*,:;=@$'[]\"%?#<\\{^`").mkdir()
    (directory.parent / "outside.txt").write_text("outside")
    return directory


@pytest.fixture(scope="module")
def nginx(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of a socket where a real one serves the same directory."""
    here = tmp_path_factory.mktemp("nginx")
    temporary = " ".join(f"{kind}_temp_path {here};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = here / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(here=here, user=user, root=root, temporary=temporary))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    arguments = [program, "-c", str(configuration), "-p", str(here), "-e", str(here / "error.log")]
    # It goes to the background once it listens.
    subprocess.run(arguments, check=True, capture_output=True)
    yield str(here / "socket")
    subprocess.run([*arguments, "-s", "stop"], check=True, capture_output=True)


@pytest.fixture
async def house(root: Path) -> AsyncIterator[House]:
    made = House(decoy=str(root))
    yield made
    await made.close()


def request(line: str, headers: bytes = HOST, body: bytes = b"") -> bytes:
    return line.encode("latin-1") + b" HTTP/1.1\r\n" + headers + b"\r\n" + body


ORDINARY: Final = {
    "index": request("GET /"),
    "text": request("GET /a.txt"),
    "css": request("GET /style.css"),
    "js": request("GET /page.js"),
    "no extension": request("GET /noextension"),
    "nothing but an extension": request("GET /html"),
    "empty": request("GET /empty.txt"),
    "missing": request("GET /nope"),
    "directory without slash": request("GET /sub"),
    "directory without slash, with query": request("GET /sub?a=b"),
    "directory by an encoded name": request("GET /%73ub?%73"),
    "directory by a long way": request("GET /./sub/../sub?a"),
    "directory of an odd name": request("GET /odd%20name%c3%a9+&(x)~!*,:;=@$'[]%22%25%3f%23%3c%5c%7b%5e%60"),
    "directory without index": request("GET /sub/"),
    "missing directory": request("GET /nope/"),
    "file as directory": request("GET /a.txt/"),
    "below a file": request("GET /a.txt/b"),
    "dots": request("GET /sub/../a.txt"),
    "dot": request("GET /./a.txt"),
    "slashes": request("GET //a.txt"),
    "encoded": request("GET /%61.txt"),
    "encoded slash": request("GET /sub%2finner.txt"),
    "query and fragment": request("GET /a.txt?x#y"),
    "beyond ASCII": request("GET /\xe9"),
    "absolute": request("GET http://other.example/a.txt"),
    "absolute without path": request("GET http://other.example"),
    "absolute directory": request("GET http://Other.example:81/sub"),
    "host with port": request("GET /sub", b"Host: Hub.Example:99\r\n"),
    "host with last dot": request("GET /sub", b"Host: hub.example.\r\n"),
    "host in brackets": request("GET /sub", b"Host: [fd00::1]:99\r\n"),
    "old, keep-alive": b"GET /nope HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "post to a file": request("POST /", HOST + b"Content-Length: 3\r\n", b"abc"),
    "post to nothing": request("POST /nope", HOST + b"Content-Length: 3\r\n", b"abc"),
    "post in chunks": request("POST /", HOST + b"Transfer-Encoding: chunked\r\n", b"3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"),
    "delete": request("DELETE /"),
    "options": request("OPTIONS /"),
    "unknown method": request("FOO /nope"),
    "expect": request("GET /nope", HOST + b"Expect: 100-continue\r\n"),
    "range": request("GET /a.txt", HOST + b"Range: bytes=1-2\r\n"),
    "range to the end": request("GET /a.txt", HOST + b"Range: bytes=1-\r\n"),
    "range beyond the end": request("GET /a.txt", HOST + b"Range: bytes=1-99\r\n"),
    "last bytes": request("GET /a.txt", HOST + b"Range: bytes=-2\r\n"),
    "more last bytes than there are": request("GET /a.txt", HOST + b"Range: bytes=-20\r\n"),
    "range behind the end": request("GET /a.txt", HOST + b"Range: bytes=9-\r\n"),
    "range backwards": request("GET /a.txt", HOST + b"Range: bytes=3-1\r\n"),
    "range of another unit": request("GET /a.txt", HOST + b"Range: lines=1-2\r\n"),
    "range if it is the same": request("GET /a.txt", HOST + b'If-Range: "6553f100-5"\r\nRange: bytes=1-2\r\n'),
    "range if it were another": request("GET /a.txt", HOST + b'If-Range: "other"\r\nRange: bytes=1-2\r\n'),
    "not modified": request("GET /", HOST + b"If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n"),
    "modified": request("GET /", HOST + b"If-Modified-Since: Tue, 14 Nov 2023 22:13:21 GMT\r\n"),
    "same tag": request("GET /", HOST + b'If-None-Match: "x", "6553f100-c"\r\n'),
    "weak tag": request("GET /", HOST + b'If-None-Match: W/"6553f100-c"\r\n'),
    "any tag": request("GET /", HOST + b"If-None-Match: *\r\n"),
    "other tag": request("GET /", HOST + b'If-None-Match: "6553f100-d"\r\n'),
    "header of an odd name": request("GET /nope", HOST + b"x@y: 1\r\nA\x80: b\r\nunder_score: 1\r\n"),
    "control character in a header": request("GET /nope", HOST + b"A: \x01\r\n"),
    "bare line feeds": b"GET /nope HTTP/1.1\nHost: x\n\n",
    "empty lines first": b"\r\n\r\n" + request("GET /nope"),
    "spaces": b"GET  /nope  HTTP/1.1 \r\nHost: x\r\n\r\n",
    "minor version": b"GET /nope HTTP/1.12\r\nHost: x\r\n\r\n",
    "upgrade": request("GET /nope", HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    "fifo": request("GET /fifo"),
}
"""After these the connection goes on."""
FINAL: Final = {
    "asked to close": request("GET /nope", HOST + b"Connection: close\r\n"),
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "very old": b"GET /\r\n",
    "no host": request("GET /", b""),
    "two hosts": request("GET /", HOST + HOST),
    "empty host": request("GET /", b"Host:\r\n"),
    "host with space": request("GET /", b"Host: a b\r\n"),
    "host with slash": request("GET /", b"Host: a/\r\n"),
    "host with dots": request("GET /", b"Host: a..b\r\n"),
    "trace": request("TRACE /"),
    "connect": request("CONNECT /"),
    "connect to": request("CONNECT a:1"),
    "next version and a path that is none": b"GET /%zz HTTP/2.0\r\n\r\n",
    "next version and no slash": b"GET a HTTP/2.0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "next version": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "later version": b"GET / HTTP/3.0\r\n\r\n",
    "version nought": b"GET / HTTP/0.9\r\n\r\n",
    "version with nought": b"GET / HTTP/01.1\r\n\r\n",
    "version in small": b"GET / http/1.1\r\n\r\n",
    "other protocol": b"GET / FTP/1.1\r\n\r\n",
    "above the root": request("GET /../outside.txt"),
    "above the root, encoded": request("GET /%2e%2e/outside.txt"),
    "above the root, far": request("GET /sub/../../outside.txt"),
    "zero in the path": request("GET /a%00b"),
    "half an escape": request("GET /%zz"),
    "space in the path": request("GET /a b"),
    "control character in the path": request("GET /\x01"),
    "no slash": request("GET a"),
    "asterisk": request("OPTIONS *"),
    "both lengths": request("GET /", HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", b"0\r\n\r\n"),
    "negative length": request("GET /", HOST + b"Content-Length: -1\r\n"),
    "two lengths": request("POST /", HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"),
    "unknown coding": request("GET /", HOST + b"Transfer-Encoding: gzip\r\n"),
    "no colon": request("GET /", HOST + b"Bad Header\r\n"),
    "space before the colon": request("GET /", HOST + b"A : 1\r\n"),
    "no name": request("GET /", HOST + b": 1\r\n"),
    "folded": request("GET /", HOST + b"A: b\r\n c\r\n"),
    "zero in a header": request("GET /", HOST + b"A: \x00\r\n"),
    "huge body": request("POST /nope", HOST + b"Content-Length: 2000000\r\n"),
    "long line": request("GET /" + "a" * 9000),
    "long method": b"G" * 9000,
    "long header": request("GET /", HOST + b"A: " + b"a" * 9000 + b"\r\n"),
    "method in small": b"get / HTTP/1.1\r\n\r\n",
    "bad method, early": b"GET\x01",
    "binary": b"\x01\x02",
    "one zero": b"\0",
    "beyond ASCII at once": b"\xff\xfe\xfd",
    "TLS where there is none": b"\x16\x03\x01\x00\x10garbage",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
}
"""After these it ends."""


@pytest.mark.needs("nginx")
class TestAsNginx:
    """What differs from the real one would give us away."""

    @pytest.mark.parametrize("words", ORDINARY.values(), ids=ORDINARY)
    async def test_answers_and_goes_on(self, house: House, nginx: str, words: bytes) -> None:
        async with house.stranger() as ours, visit_unix(nginx) as theirs:
            answers = []
            for stranger in (ours, theirs):
                stranger.say(words, request("HEAD /sub/inner.txt"))
                first = await stranger.hears()
                if first.status == 100:
                    first = await stranger.hears()
                answers.append((first, await stranger.hears("HEAD")))
            (mine, after), expected = answers
            plain = mine.head.replace(f":{house.port}/", "/")
            assert (mine._replace(head=plain), after) == expected

    @pytest.mark.parametrize("words", FINAL.values(), ids=FINAL)
    async def test_answers_and_ends(self, house: House, nginx: str, words: bytes) -> None:
        answers = []
        for way in (house.stranger(), visit_unix(nginx)):
            async with way as stranger:
                stranger.say(words)
                said = await stranger.everything()
                lines = said.split(b"\r\n")
                answers.append([line for line in lines if not line.startswith(b"Date: ")])
        assert answers[0] == answers[1]

    async def test_head_is_get_without_content(self, house: House, nginx: str) -> None:
        for name in ("", "a.txt", "nope", "sub", "sub/"):
            heads = []
            for way in (house.stranger(), visit_unix(nginx)):
                async with way as stranger:
                    stranger.say(request(f"HEAD /{name}"))
                    heads.append((await stranger.hears("HEAD")).head.replace(f":{house.port}/", "/"))
            assert heads[0] == heads[1]


class TestSite:
    """Files and pages."""

    async def test_a_file_larger_than_what_is_sent_at_once(self, house: House) -> None:
        async with house.stranger() as stranger:
            stranger.say(request("GET /big.bin"))
            assert (await stranger.hears()).body == FILES["big.bin"]

    async def test_a_site_that_has_nothing_answers_404(self) -> None:
        house = House()
        async with house.stranger() as stranger:
            for words, status in [("GET /", 404), ("HEAD /", 404), ("GET /index.html", 404), ("PUT /", 405)]:
                stranger.say(request(words))
                assert (await stranger.hears(words.split()[0])).status == status
        await house.close()

    async def test_a_byte_at_a_time(self, house: House) -> None:
        async with house.stranger() as stranger:
            for byte in request("GET /a.txt"):
                stranger.say(bytes([byte]))
                await stranger.writer.drain()
            assert (await stranger.hears()).body == b"text\n"

    async def test_who_is_slow_with_a_head_is_left(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(site, "HEAD_SECONDS", 0.05)
        async with house.stranger() as stranger:
            stranger.say(b"GET / HTTP/1.1\r\nHo")
            assert await stranger.everything() == b""

    async def test_who_asks_no_more_is_left(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(site, "KEEPALIVE_SECONDS", 0.05)
        async with house.stranger() as stranger:
            stranger.say(request("GET /nope"))
            assert (await stranger.hears()).status == 404
            assert await stranger.everything() == b""

    async def test_a_body_without_end_is_not_waited_for(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(site, "BODY_SECONDS", 0.05)
        async with house.stranger() as stranger:
            stranger.say(request("POST /", HOST + b"Content-Length: 10\r\n", b"abc"))
            assert (await stranger.hears()).status == 405
            assert await stranger.everything() == b""

    async def test_chunks_without_end_are_not_read_for_ever(self, house: House) -> None:
        async with house.stranger() as stranger:
            stranger.say(request("POST /", HOST + b"Transfer-Encoding: chunked\r\n"))
            stranger.say(b"10000\r\n" + bytes(65536) + b"\r\n", *[b"10000\r\n" + bytes(65536) + b"\r\n"] * 20)
            assert (await stranger.hears()).status == 405
            assert await stranger.everything() == b""

    async def test_no_file_stays_open(self, house: House) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for words in ORDINARY.values():
            async with house.stranger() as stranger:
                stranger.say(words)
                await stranger.hears()
        await house.until(lambda: not house.listener.guests)
        assert len(os.listdir("/proc/self/fd")) == before
