"""What stream links carry, from one process to another over loopback. Prints a Markdown table.

    python benchmarks/streams.py [seconds]

Links only: no device, no seal. `bare` is the same bytes by blocking `sendmsg` and `recv_into` on a like socket.
"""

from __future__ import annotations

import asyncio
import datetime
import multiprocessing
import os
import socket
import ssl
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from caetun.transports.base import Context, Link, Options
from caetun.transports.pipes import Pipe, PlainPipe, TlsPipe, tune
from caetun.transports.stream import StreamLink
from caetun.types import Drops
from caetun.wire.framing import LengthCodec
from caetun.wire.record import Record

SECONDS: Final = 2.0
SESSION: Final = 7
KINDS: Final = ("bare", "tcp", "tls")
SHAPES: Final = ((1, 65_000), (45, 1_440), (1, 1_440))
"""Records of one call and bytes of each: a superframe, full-size frames as records of their own, one of them."""


class Counting:
    """Fulfils `Arrivals`: counts what comes, and sends more whenever there is room."""

    def __init__(self, burst: list[Record]) -> None:
        self.burst = burst
        self.link: Link | None = None
        self.bytes = 0
        self.records_seen = 0
        self.wakeups = 0
        self.gone = asyncio.Event()

    def send(self) -> None:
        """Until the link is full."""
        link, burst = self.link, self.burst
        assert link is not None
        while not link.full and not self.gone.is_set():
            link.send(burst)

    def records(self, link: Link, records: list[Record]) -> None:
        self.records_seen += len(records)
        for record in records:
            self.bytes += len(record.body)

    def messages(self, link: Link, messages: list[bytes]) -> None:
        """There are none."""

    def drained(self) -> None:
        self.send()

    def burst_end(self) -> bool:
        self.wakeups += 1

    def too_big(self, link: Link, datagram: int) -> None:
        """There are no datagrams."""

    def closed(self, link: Link, why: str) -> None:
        self.gone.set()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def make_link(kind: str, sock: socket.socket, arrivals: Counting, files: tuple[Path, Path] | None) -> StreamLink:
    """A link on a connected socket; as the TLS server if there are files."""
    loop = asyncio.get_running_loop()
    context = Context(loop, arrivals, {SESSION}, Drops(), Options(), lambda *line: None)
    tune(sock)
    pipe: Pipe = PlainPipe(sock)
    if kind == "tls":
        if files:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*files)
            pipe = tls_pipe = TlsPipe(sock, tls)
        else:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            pipe = tls_pipe = TlsPipe(sock, tls, "localhost")
        await tls_pipe.handshake(loop)
    link = StreamLink(pipe, LengthCodec(), context, name=kind, proven=True)
    arrivals.link = link
    link.start()
    return link


def receive(kind: str, listener: socket.socket, files: tuple[Path, Path], results: Connection) -> None:
    """The receiving process: (bytes, records, wake-ups, CPU seconds, seconds) until the sender closes."""
    sock, _ = listener.accept()
    started = time.monotonic()
    if kind == "bare":
        tune(sock)
        sock.setblocking(True)
        buffer = bytearray(1 << 20)
        count = wakeups = 0
        while got := sock.recv_into(buffer):
            count += got
            wakeups += 1
        results.send((count, 0, wakeups, sum(os.times()[:2]), time.monotonic() - started))
        return

    async def run() -> None:
        arrivals = Counting([])
        await make_link(kind, sock, arrivals, files)
        await arrivals.gone.wait()
        results.send(
            (arrivals.bytes, arrivals.records_seen, arrivals.wakeups, sum(os.times()[:2]), time.monotonic() - started)
        )

    new_loop().run(run())


def new_loop() -> asyncio.Runner:
    """The loop that the daemon takes."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def send(kind: str, address: tuple[str, int], shape: tuple[int, int], seconds: float) -> None:
    """The sending process."""
    count, size = shape
    burst = [Record(SESSION, counter, os.urandom(size)) for counter in range(count)]
    sock = socket.create_connection(address)
    if kind == "bare":
        tune(sock)
        sock.setblocking(True)
        parts = [part for record in burst for part in (bytes(20), record.body)]
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            sock.sendmsg(parts)
        sock.close()
        return

    async def run() -> None:
        arrivals = Counting(burst)
        link = await make_link(kind, sock, arrivals, None)
        asyncio.get_running_loop().call_later(seconds, arrivals.gone.set)
        arrivals.send()
        await arrivals.gone.wait()
        link.close()

    new_loop().run(run())


def measure(kind: str, shape: tuple[int, int], seconds: float, files: tuple[Path, Path]) -> str:
    """One line of the table."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=receive, args=(kind, listener, files, theirs))
    sender = multiprocessing.Process(target=send, args=(kind, listener.getsockname(), shape, seconds))
    receiver.start()
    sender.start()
    total, records, wakeups, cpu, elapsed = ours.recv()
    sender.join()
    receiver.join()
    listener.close()
    rate = total * 8 / elapsed / 1e9
    each = f"{total / max(1, wakeups) / 1024:.0f}"
    return f"| {kind} | {shape[0]} x {shape[1]} | {rate:.1f} | {records / elapsed / 1e3:.0f} | {each} | {cpu:.2f} |"


def main(seconds: float) -> None:
    """All figures."""
    multiprocessing.set_start_method("fork")
    print("| link | records a call | Gbit/s | 1,000 records/s | KiB a wake-up | receiver CPU s |")
    print("|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(Path(folder))
        for shape in SHAPES:
            for kind in KINDS:
                print(measure(kind, shape, seconds, files), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
