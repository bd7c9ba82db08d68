"""Strangers at a hub that listens by every carrier, while a session runs: it goes on, and the hub does not grow.

client ---- door ---- hub
              \\----- stranger, in the place of the street's proxy

One session has all of them to bear, one after the other. The hub gives strangers a quarter of the usual time, so that a
test need not wait for what ends them.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import pytest

from caetun.lab import Lab
from caetun.transports.listener import MAX_GUESTS
from caetun.types import DropReason
from tests.tunnel.ends import INNER4, PATIENCE, End, ping
from tests.tunnel.flow import Flow
from tests.tunnel.street import Street, stop
from tests.tunnel.watch import descriptors, until, way

pytestmark = pytest.mark.needs("namespaces", "tun", "firewall", "ip", "ping")

# fixed by the specification
_QUIC_INITIAL: Final = 0xC0
"""RFC 9000, section 17.2.2."""
_TLS_HEAD: Final = b"\x16\x03\x01"
_UPGRADE: Final = (
    b"GET %b HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# chosen by us
_GROWTH: Final = 20 << 20
"""Bytes of memory that strangers may cost."""
_GAP: Final = 1.5
"""Seconds that the session's traffic may stand still: this machine's cores carry both ends and the strangers, too."""
_PORT: Final = 443
_MOST: Final = 300
"""Connections at once: more than a listener has room for."""
_FEW: Final = 48
"""Connections that are within something: each costs this machine a TLS handshake at both ends."""
_CALLS: Final = 100
"""QUIC handshakes at once: more than begin without a proof of address."""
_PROOF_SECONDS: Final = 2.5
_HASTY: Final = f"""
from caetun.cli.main import main
from caetun.transports import listener, quic_link
listener.PROOF_SECONDS = quic_link.PROVE_SECONDS = {_PROOF_SECONDS}
raise SystemExit(main())
"""


class Strangers:
    """What somebody does at the hub's port."""

    def __init__(self, street: Street) -> None:
        self.host = street.proxy
        self.where = (street.address, _PORT)
        self.chance = random.Random(3)
        self._open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """One more connection; all are closed in the end."""
        sock = self.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        self._open.append(sock)
        sock.connect(self.where)
        return sock

    def secured(self) -> ssl.SSLSocket:
        """One within TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(self.connect())
        self._open[-1] = sock
        return sock

    def datagrams(self, count: int, make: Callable[[], bytes]) -> None:
        """Send datagrams, from many ports."""
        for _ in range(20):
            with self.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(count // 20):
                    sock.sendto(make(), self.where)

    def ask(self, request: bytes, secure: bool) -> bytes:
        """What comes back, until the hub hangs up or has nothing more to say."""
        sock = self.secured() if secure else self.connect()
        sock.sendall(request)
        sock.settimeout(1)
        answer = b""
        with contextlib.suppress(OSError):
            while piece := sock.recv(1 << 16):
                answer += piece
        return answer

    def leave(self) -> None:
        """Close everything."""
        for sock in self._open:
            sock.close()


# what they do; each names the reasons that go up


def say_nothing(strangers: Strangers) -> Sequence[DropReason]:
    """Many connections, and not a word."""
    for _ in range(_MOST):
        strangers.connect()
    return DropReason.STREAM_CROWDED, DropReason.STREAM_TIMEOUT


def say_nothing_more(strangers: Strangers) -> Sequence[DropReason]:
    """Half open at every listener of streams: TCP, TLS, a WebSocket in either, and not a word after that."""
    for number in range(_FEW):
        sock = strangers.secured() if number % 2 else strangers.connect()
        if number % 4 > 1:
            sock.sendall(_UPGRADE % b"/")
            assert sock.recv(1 << 10).startswith(b"HTTP/1.1 101 ")
    return (DropReason.STREAM_TIMEOUT,)


def be_slow(strangers: Strangers) -> Sequence[DropReason]:
    """The beginning of something, a byte at a time."""
    beginnings = (
        _TLS_HEAD + b"\x02\0\x01\0\x01\xfc\x03\x03",
        _UPGRADE % b"/",
        b"\0\0\x01\0" + bytes(9),
        b"GET / HTTP/1.1",
    )
    slow = [(strangers.connect(), beginnings[number % 4]) for number in range(MAX_GUESTS - _FEW)]
    slow += [(strangers.secured(), beginnings[1 + number % 3]) for number in range(_FEW // 4)]
    for secure in (False, True):
        for _ in range(_FEW // 4):
            sock = strangers.secured() if secure else strangers.connect()
            sock.sendall(_UPGRADE % b"/")
            slow.append((sock, b"\x82\xfe\x04\x00" + bytes(4)))
    began = time.monotonic()
    for at in range(8):
        for sock, beginning in slow:
            with contextlib.suppress(OSError):
                sock.sendall(beginning[at : at + 1])
        until(lambda at=at: time.monotonic() > began + at * _PROOF_SECONDS / 8, "the next byte is due")  # type: ignore[misc]
    return (DropReason.STREAM_TIMEOUT,)


def talk_nonsense(strangers: Strangers) -> Sequence[DropReason]:
    """Frames that are too long, mutated, or cut short; plain, within TLS and within WebSocket."""
    chance = strangers.chance
    frames = [
        b"\0\xff\xff\xff" + chance.randbytes(5000),
        b"\0\0\0\0",
        b"\0\0\x05\0" + b"\x01" + chance.randbytes(0x4FF),
        b"\0\0\x05\0" + b"\x04" + chance.randbytes(0x4FF),
        b"\0\0\x01\0" + chance.randbytes(40),
        _TLS_HEAD + b"\xff\xff" + chance.randbytes(3000),
        _UPGRADE % b"/" + b"\x82\xff" + struct.pack(">Q", 1 << 62) + chance.randbytes(2000),
        _UPGRADE % b"/" + b"\x82\xfe\x04\x00" + chance.randbytes(1028),
        _UPGRADE % b"/" + b"\xf2\x00",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
        b"GET /" + bytes(100_000),
        chance.randbytes(10_000),
    ]
    for secure in (False, True):
        for frame in frames * 4:
            mutated = bytearray(frame)
            mutated[chance.randrange(min(len(mutated), 64))] ^= 1 << chance.randrange(8)
            for request in (frame, bytes(mutated)):
                with contextlib.suppress(OSError):
                    sock = strangers.secured() if secure else strangers.connect()
                    sock.sendall(request)
                    sock.close()
    return DropReason.STREAM_STRANGER, DropReason.STREAM_TLS


def flood_with_datagrams(strangers: Strangers) -> Sequence[DropReason]:
    """Datagrams with anything in them, many as QUIC's first packets look."""
    chance = strangers.chance

    def initial() -> bytes:
        head = struct.pack(">BIB8sB8sB", _QUIC_INITIAL, 1, 8, chance.randbytes(8), 8, chance.randbytes(8), 0)
        return head + b"\x44\xb0" + chance.randbytes(1200)

    strangers.datagrams(4000, initial)
    strangers.datagrams(4000, lambda: chance.randbytes(chance.randrange(1, 1400)))
    strangers.datagrams(100, lambda: bytes([1 + chance.randrange(4)]) + chance.randbytes(60_000))
    strangers.datagrams(100, lambda: initial() + bytes(40_000))
    strangers.datagrams(2000, lambda: bytes([0x40 | chance.randrange(64)]) + chance.randbytes(100))
    return DropReason.DATAGRAM_TYPE, DropReason.QUIC_UNKNOWN


def begin_quic(strangers: Strangers) -> Sequence[DropReason]:
    """QUIC handshakes that are right as far as they go: the first flight, and nothing after it; mutated ones before."""
    quic = pytest.importorskip("aioquic.quic.connection")
    configuration = pytest.importorskip("aioquic.quic.configuration").QuicConfiguration
    flights = []
    for _ in range(_CALLS):
        connection = quic.QuicConnection(configuration=configuration(alpn_protocols=["h3"], server_name="hub"))
        connection.connect(strangers.where, 0.0)
        flights.append([data for data, _ in connection.datagrams_to_send(0.0)])
    mutated = [[_mutated(datagram, strangers.chance) for datagram in flight] for flight in flights]
    for flight in mutated + flights:
        with strangers.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for datagram in flight:
                sock.sendto(datagram, strangers.where)
    return (DropReason.QUIC_STRANGER,)


def finish_quic(strangers: Strangers) -> Sequence[DropReason]:
    """QUIC connections that come up, and then nothing, garbage, or what is longer than any message."""
    quic = pytest.importorskip("aioquic.quic.connection")
    configuration = pytest.importorskip("aioquic.quic.configuration").QuicConfiguration
    for number in range(_FEW // 4):
        made = configuration(alpn_protocols=["h3"], server_name="hub", verify_mode=ssl.CERT_NONE)
        made.max_datagram_frame_size = 65535
        made.max_datagram_size = 1452
        connection = quic.QuicConnection(configuration=made)
        with strangers.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            connection.connect(strangers.where, time.monotonic())
            _converse(sock, connection, strangers.where, until_up=True)
            for size in (0, 1, 100, 1380) if number % 2 else ():
                connection.send_datagram_frame(strangers.chance.randbytes(size))
            _converse(sock, connection, strangers.where)
    return (DropReason.QUIC_STRANGER,)


def _converse(sock: socket.socket, connection: Any, where: tuple[str, int], *, until_up: bool = False) -> None:
    """Send what there is to send, and go on, if wanted, until the connection is up or the hub falls silent."""
    with contextlib.suppress(TimeoutError):
        while True:
            for datagram, _ in connection.datagrams_to_send(time.monotonic()):
                sock.sendto(datagram, where)
            if not until_up or connection._handshake_complete:
                return
            connection.receive_datagram(*sock.recvfrom(1 << 16), time.monotonic())


def _mutated(datagram: bytes, chance: random.Random) -> bytes:
    """With a few bits another way."""
    changed = bytearray(datagram)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def scan(strangers: Strangers) -> Sequence[DropReason]:
    """What scanners ask: they find an ordinary web server."""
    for secure in (False, True):
        for request, status in (
            (b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n", b"404 Not Found"),
            (b"HEAD /admin HTTP/1.0\r\n\r\n", b"404 Not Found"),
            (_UPGRADE % b"/wrong", b"404 Not Found"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"400 Bad Request"),
            (b"\x03\0\0\x13\x0e\xe0\0\0", b"400 Bad Request"),
            (b"\0\0\x01\0" + bytes(256), b"400 Bad Request"),
        ):
            answer = strangers.ask(request, secure)
            assert answer.startswith(b"HTTP/1.1 " + status), (secure, request, answer[:100])
            assert b"caetun" not in answer.lower()
    return (DropReason.STREAM_STRANGER,)


# the session


class Session(NamedTuple):
    """A hub that listens by every carrier, a client, and traffic."""

    street: Street
    hub: End
    client: End
    flow: Flow


@pytest.fixture(
    scope="module", params=["wss", "udp", *(pytest.param(each, marks=pytest.mark.slow) for each in ("quic", "tcp"))]
)
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    with Lab() as lab:
        street = Street(lab)
        arguments = [*street.far, "--listen", ":443", "--transport", "udp,quic,tcp,tls,ws,wss"]
        hub = End(street.hub, *arguments, command=(sys.executable, "-c", _HASTY))
        hub.wait_for("start")
        client = street.call(transport=request.param)
        assert way(client) == request.param
        with Flow(street.client, street.hub, INNER4[0]) as flow:
            until(lambda: flow.octets > 64 << 20, "traffic flows, and buffers are as large as they get")
            Strangers(street).ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", secure=True)  # imports what is rare
            yield Session(street, hub, client, flow)
            assert flow.error is None
        stop(client, hub)


@pytest.mark.parametrize(
    "nuisance",
    [say_nothing, say_nothing_more, be_slow, talk_nonsense, flood_with_datagrams, begin_quic, finish_quic, scan],
    ids=lambda one: one.__name__,
)
def test_strangers_do_no_harm(session: Session, nuisance: Callable[[Strangers], Sequence[DropReason]]) -> None:
    street, hub, client, flow = session
    strangers = Strangers(street)
    before, memory, drops = len(descriptors(hub)), hub.memory(), hub.drops()
    flow.reset()
    reasons = nuisance(strangers)
    grown = hub.memory() - memory
    took = until(lambda: not missing(hub, drops, reasons), f"{reasons} are counted")
    strangers.leave()
    until(lambda: len(descriptors(hub)) <= before, f"all is closed: {before} before, {descriptors(hub)}", 40)
    later = hub.memory() - memory
    print(
        f"memory +{grown / 2**20:.1f} MiB, later +{later / 2**20:.1f} MiB; standstill {flow.gap():.2f} s; "
        f"counted after {took:.1f} s: {more(hub, drops)}"
    )
    assert flow.gap() < _GAP
    assert max(grown, later) < _GROWTH
    assert ping(street.client, INNER4[0]), "others have their share of the tunnel"
    assert "Traceback" not in hub.said()
    for end in (hub, client):
        assert not end.events("peer.down", "peer.moved", "link.lost")
        assert not [event for event in end.events() if event["level"] == "error"]


def more(hub: End, before: dict[str, int]) -> dict[str, int]:
    """Which reasons have been counted since then, and how often."""
    return {
        reason: times - before.get(reason, 0) for reason, times in hub.drops().items() if times > before.get(reason, 0)
    }


def missing(hub: End, before: dict[str, int], reasons: Sequence[DropReason]) -> list[DropReason]:
    """Which of these have not."""
    counted = more(hub, before)
    return [reason for reason in reasons if reason not in counted]
