"""QUIC links: how they begin, move and end, and what strangers get. Real sockets on loopback, or in the Lab."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from caetun.errors import NetworkError
from caetun.lab import Cable, Lab
from caetun.transports import quic, quic_connection, quic_link
from caetun.transports.base import Context, Options, Target
from caetun.transports.mmsg import source_of
from caetun.transports.quic import QUIC
from caetun.transports.quic_endpoint import MAX_STRANGERS, RETRY_STRANGERS, QuicEndpoint
from caetun.transports.quic_link import MAX_STRANGER_MESSAGES
from caetun.transports.udp import UDP
from caetun.types import DropReason, Drops
from caetun.wire.record import HEADER_SIZE, Record
from tests.transports.quic_ends import SESSION, QuicEnd, context_of, meet
from tests.transports.recorder import PATIENCE, Recorder

lab_features = pytest.mark.needs("namespaces")


def record(counter: int, size: int) -> Record:
    return Record(SESSION, counter, random.Random(counter).randbytes(size))


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


class Two:
    """Two ends on loopback, connected; the far one has answered."""

    def __init__(self) -> None:
        self.near, self.far = (QuicEnd(socket.AF_INET, "127.0.0.1") for _ in range(2))
        self.near.begin()
        self.far.begin()
        self.link = self.near.call(self.far.address)
        meet(self.link, self.near, self.far)
        (self.back,) = self.far.quic._links
        self.back.send_messages([b"\x02hello"])

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    made = Two()
    await until(lambda: made.near.hears.heard)
    yield made
    made.close()


class Tunnel:
    """A tunnel's context, and what it hears and reports."""

    def __init__(self, **options: Any) -> None:
        self.drops, self.hears = Drops(), Recorder()
        self.reports: list[tuple[str, str, str]] = []
        self.context: Context = context_of(
            asyncio.get_running_loop(), self.hears, self.drops, Options(**options), frozenset({SESSION})
        )
        self.context.report = lambda *line: self.reports.append(line)

    def listen(self, host: str = "127.0.0.1") -> Target:
        endpoint = QUIC.listen(Target(host, 0), self.context)
        assert isinstance(endpoint, QuicEndpoint)
        return Target("127.0.0.1", endpoint.udp._sock.getsockname()[1])

    @property
    def quic(self) -> QuicEndpoint:
        (found,) = (one for one in self.context.shared.values() if isinstance(one, QuicEndpoint))
        return found

    def close(self) -> None:
        for shared in self.context.shared.values():
            shared.close()


@pytest.fixture
async def tunnels(tmp_path: Any) -> AsyncIterator[Callable[..., Tunnel]]:
    made: list[Tunnel] = []

    def make(**options: Any) -> Tunnel:
        made.append(Tunnel(**{"state": tmp_path, **options}))
        return made[-1]

    yield make
    for tunnel in made:
        tunnel.close()


# -- beginning --


async def test_who_calls_gets_a_link_that_works(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels()
    target = hub.listen()
    assert QUIC.dial_now(target, guest.context) is None
    (link,) = await QUIC.dial(target, guest.context)
    assert link.name == hub.quic.name == f"quic 127.0.0.1:{target.port}"
    assert link.source == f"127.0.0.1 {target.port}"
    link.send_messages([b"\x01hello"])
    await hub.hears.until(lambda: hub.hears.heard)
    hub.hears.links[0].send([record(1, 5000)])
    await guest.hears.until(lambda: guest.hears.got)
    assert guest.hears.got == [record(1, 5000)]
    assert guest.hears.links == [link]
    assert [event for _, event, _ in hub.reports] == ["tls.certificate"]
    assert [event for _, event, _ in guest.reports] == ["tls.unverified"], "self-signed: said once, and taken"


async def test_a_name_is_looked_up(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels()
    target = hub.listen("")
    links = await QUIC.dial(Target("localhost", target.port), guest.context)
    assert links
    assert all(link.name.endswith(f":{target.port}") for link in links)


async def test_an_address_where_nobody_listens_says_so(
    tunnels: Callable[..., Tunnel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic, "DIAL_SECONDS", 0.3)
    guest = tunnels()
    with pytest.raises(NetworkError, match=r"quic 127\.0\.0\.1:9: no answer within 0 s"):
        await QUIC.dial(Target("127.0.0.1", 9), guest.context)
    assert len(guest.quic) == 0
    assert not guest.hears.gone


async def test_a_call_given_up_leaves_nothing_behind(tunnels: Callable[..., Tunnel]) -> None:
    guest = tunnels()
    call = asyncio.ensure_future(QUIC.dial(Target("127.0.0.1", 9), guest.context))
    await until(lambda: any(isinstance(one, QuicEndpoint) for one in guest.context.shared.values()))
    await until(lambda: len(guest.quic))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not len(guest.quic))
    assert not guest.quic._routes


async def test_another_application_protocol_is_refused_in_words(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels(alpn="other")
    with pytest.raises(NetworkError, match="TLS: no application protocol: No common ALPN protocols"):
        await QUIC.dial(hub.listen(), guest.context)
    assert len(guest.quic) == 0


async def test_a_strict_guest_refuses_a_self_signed_hub(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels(tls_verify="strict")
    with pytest.raises(NetworkError, match="TLS: we found: bad certificate"):
        await QUIC.dial(hub.listen(), guest.context)


async def test_a_pin_is_insisted_on(tunnels: Callable[..., Tunnel]) -> None:
    hub = tunnels()
    target = hub.listen()
    pin = hub.reports[0][2].rpartition(" ")[2]
    (link,) = await QUIC.dial(target, tunnels(tls_pin=(pin,)).context)
    assert link.name
    with pytest.raises(NetworkError, match="not one given by --tls-pin"):
        await QUIC.dial(target, tunnels(tls_pin=("sha256:" + "0" * 64,)).context)


async def test_udp_and_quic_share_a_port(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels()
    target = hub.listen()
    raw = UDP.listen(Target("127.0.0.1", 0), hub.context)
    assert raw is hub.quic.udp
    (plain,) = UDP.dial_now(target, guest.context) or []
    (link,) = await QUIC.dial(target, guest.context)
    for turn in range(5):
        plain.send([record(2 * turn, 1200 - HEADER_SIZE)] * 3)
        link.send([record(2 * turn + 1, 3000)])
        await hub.hears.until(lambda turn=turn: len(hub.hears.got) >= 4 * turn + 4)
    assert len({link.name.split()[0] for link in hub.hears.links}) == 2
    assert not hub.drops


async def test_a_port_that_speaks_only_quic_hears_no_udp(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels()
    target = hub.listen()
    (plain,) = UDP.dial_now(target, guest.context) or []
    plain.send_messages([b"\x01hello"])
    await until(lambda: hub.drops)
    assert hub.drops == {DropReason.DATAGRAM_TYPE: 1}
    assert not hub.hears.heard


async def test_guests_call_from_where_they_listen(tunnels: Callable[..., Tunnel]) -> None:
    hub, guest = tunnels(), tunnels()
    here = guest.listen("")
    await QUIC.dial(hub.listen(), guest.context)
    (link,) = hub.quic._links
    assert link.address[1] == here.port


# -- sizes --


async def test_sizes_leave_room_for_quic(two: Two) -> None:
    assert two.link.connection.overhead == 28
    assert two.link.datagram_ceiling == 65507 - 28
    assert two.link.connection.quic._max_datagram_size == two.link.datagram + 28 == 1228


@lab_features
async def test_a_probe_is_just_as_long_as_the_path_and_a_longer_one_is_refused(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    lab.link(one, other, left=["10.0.0.1/24"], right=["10.0.0.2/24"], cable=Cable(mtu=1400))
    near, far = QuicEnd(socket.AF_INET, "10.0.0.1", one), QuicEnd(socket.AF_INET, "10.0.0.2", other)
    near.begin()
    far.begin()
    link = near.call(far.address)
    meet(link, near, far)
    ceiling = one.inside(lambda: link.datagram_ceiling)
    assert ceiling == 1400 - 28 - 28
    link.probe(record(1, ceiling - HEADER_SIZE))
    await far.hears.until(lambda: far.hears.got)
    link.probe(record(2, ceiling + 1 - HEADER_SIZE))
    assert near.hears.refused == [(link, ceiling + 1)]
    assert link.refusal == "Message too long"
    link.resize(ceiling)
    link.send([record(3, link.max_record)])
    await far.hears.until(lambda: len(far.hears.got) == 2)
    assert near.drops == {DropReason.LINK_OVERSIZE: 1}
    near.close()
    far.close()


# -- moving --


async def test_a_far_end_whose_address_changes_keeps_its_link(two: Two) -> None:
    for turn in range(4):
        before = two.back.address
        old = two.near.udp._sock
        fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        fresh.bind(("127.0.0.1", 0))
        asyncio.get_running_loop().remove_reader(old.fileno())
        os.dup2(fresh.fileno(), old.fileno())
        fresh.close()
        old.setblocking(False)
        asyncio.get_running_loop().add_reader(old.fileno(), two.near.udp._readable)
        two.link.send([record(2 * turn, 1000)])
        await two.far.hears.until(lambda turn=turn: len(two.far.hears.got) == turn + 1)
        await until(lambda before=before: two.back.address != before)
        two.back.send([record(2 * turn + 1, 20_000)])
        await two.near.hears.until(lambda turn=turn: len(two.near.hears.got) == turn + 1)
        await until(lambda: two.back.connection._path.is_validated)
        assert two.back.source == f"127.0.0.1 {two.back.address[1]}"
    assert set(map(id, two.far.hears.links)) == {id(two.back)}
    assert (two.near.hears.gone, two.far.hears.gone) == ([], [])


async def test_what_comes_at_one_wake_up_reaches_the_core_in_one_go(two: Two) -> None:
    hears = two.far.hears
    before = len(hears.links)
    for counter in range(1, 4):
        two.link.send([record(counter, 3000)])
    two.far.udp._woken_at = time.monotonic()
    two.far.udp._readable()
    assert hears.got == [record(counter, 3000) for counter in range(1, 4)]
    assert len(hears.links) == before + 1


async def test_a_link_that_is_closed_waits_for_no_time(two: Two) -> None:
    two.link.close()
    two.link.send([record(1, 100)])
    assert two.link._timer is None


async def test_connection_ids_change(two: Two) -> None:
    await until(lambda: two.link.connection.quic._peer_cid_available)
    used = set()
    for turn in range(5):
        used.add(two.link.connection.quic._peer_cid.cid)
        two.link.connection.quic.change_connection_id()
        two.link.send([record(turn, 5000)])
        two.link.connection.flush(time.monotonic())
        await two.far.hears.until(lambda turn=turn: len(two.far.hears.got) == turn + 1)
        await until(lambda: two.link.connection.quic._peer_cid_available)
    assert len(used) == 5
    await until(lambda: not used & two.far.quic._routes.keys() - {two.back.connection.quic._host_cids[0].cid})
    assert len(two.far.quic._routes) <= 10


async def test_of_a_far_end_that_floods_packets_are_dropped_unopened_and_it_slows_down(two: Two) -> None:
    two.far.hears.crowds.add(two.back)
    opened, window = two.back.connection._received.space.largest_received_packet, two.link.connection.recovery.window
    two.link.send([record(1, 20_000)])
    await until(lambda: two.far.drops[DropReason.RECORD_LATE] >= 20_000 // two.link.datagram)
    assert two.back.connection._received.space.largest_received_packet == opened
    two.far.hears.crowds.clear()
    before = window.congestion_window
    two.link.send([record(2, 5000)])
    await two.far.hears.until(lambda: two.far.hears.got)
    assert [each.counter for each in two.far.hears.got] == [2]
    await until(lambda: window.congestion_window < before)


async def test_a_handshake_is_no_flood(two: Two) -> None:
    two.far.hears.crowds.add(two.back)
    another = two.near.call(two.far.address)
    await until(lambda: another.connection.is_open)


# -- ending --


async def test_a_link_that_closes_tells_the_far_end_and_nobody_here(two: Two) -> None:
    two.link.close()
    two.link.close()
    await two.far.hears.until(lambda: two.far.hears.gone)
    assert two.far.hears.gone == [(two.back, "closed by the far end")]
    assert two.near.hears.gone == []
    for end in (two.near, two.far):
        assert (len(end.quic), end.quic._routes, end.quic._strangers) == (0, {}, {})
    two.link.send([record(1, 100)])
    assert two.near.drops[DropReason.LINK_REFUSED] == 1
    assert two.near.drops.keys() <= {DropReason.LINK_REFUSED, DropReason.QUIC_UNKNOWN}, "its last words may come late"


async def test_silence_ends_a_link(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.far.udp._sock.close()
    quic = two.link.connection.quic
    two.link._timer and two.link._timer.cancel()
    quic._close_at = time.monotonic() - 1
    two.link.connection._received._idle_from -= 60
    two.link._timer = None
    two.link._tick()
    assert two.near.hears.gone == [(two.link, "nothing heard for 30 s")]
    assert len(two.near.quic) == 0


async def test_a_quiet_link_asks_whether_somebody_is_there(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_connection, "KEEPALIVE_SECONDS", 0.02)
    heard = two.link.connection._received.space.largest_received_packet
    two.link.send([record(1, 100)])
    await until(lambda: two.link.connection._received.space.largest_received_packet > heard + 4)
    assert two.near.hears.gone == []


async def test_reserved_bits_end_the_connection_with_a_reason(two: Two) -> None:
    connection = two.link.connection
    assert connection._keys is not None
    two.near.udp.send_burst(
        [connection._keys.sealer.seal_payload(b"\x1e\x00", connection.quic._peer_cid.cid, 5000, False)], 40, two.link, 1
    )
    await two.far.hears.until(lambda: two.far.hears.gone)
    ((_, why),) = two.far.hears.gone
    assert why == "QUIC: we found: protocol violation: Clients must not send HANDSHAKE_DONE frames"
    await two.near.hears.until(lambda: two.near.hears.gone)


async def test_a_far_end_that_takes_no_datagrams_is_no_tunnel() -> None:
    end = QuicEnd(socket.AF_INET, "127.0.0.1")
    end.begin()
    peer = Stranger(end, max_datagram_frame_size=None)
    await until(lambda: peer.ended)
    assert peer.quic._close_event is not None
    assert end.hears.gone == []
    assert len(end.quic) == 0
    end.close()
    peer.close()


# -- strangers --


class Stranger:
    """Somebody with aioquic and a socket of its own, who does nothing by itself."""

    def __init__(self, end: QuicEnd, **configuration: Any) -> None:
        self.end = end
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.received: list[bytes] = []
        made = {"alpn_protocols": ["h3"], "verify_mode": 0, "max_datagram_frame_size": 65535, **configuration}
        self.quic = QuicConnection(configuration=QuicConfiguration(is_client=True, **made))
        self.quic.connect(end.address, time.monotonic())
        asyncio.get_running_loop().add_reader(self.socket, self._readable)
        self.flush()

    @property
    def ended(self) -> bool:
        return self.quic._close_event is not None

    def _readable(self) -> None:
        data, address = self.socket.recvfrom(65536)
        self.received.append(data)
        self.quic.receive_datagram(data, address, time.monotonic())
        self.flush()

    def flush(self) -> None:
        for data, address in self.quic.datagrams_to_send(time.monotonic()):
            self.socket.sendto(data, address)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()


@pytest.fixture
async def end() -> AsyncIterator[QuicEnd]:
    made = QuicEnd(socket.AF_INET, "127.0.0.1")
    made.begin()
    yield made
    made.close()


async def test_whoever_talks_and_is_not_answered_is_sent_away(end: QuicEnd) -> None:
    stranger = Stranger(end)
    await until(lambda: stranger.quic._handshake_complete)
    for number in range(MAX_STRANGER_MESSAGES + 1):
        stranger.quic.send_datagram_frame(b"\x01who is there? %d" % number)
        stranger.flush()
    await until(lambda: stranger.ended)
    assert end.drops[DropReason.QUIC_STRANGER] == 1
    assert len(end.hears.heard) == MAX_STRANGER_MESSAGES + 1
    assert (end.hears.gone, len(end.quic)) == ([], 0)
    stranger.close()


async def test_whoever_says_nothing_is_sent_away_in_time(end: QuicEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_link, "PROVE_SECONDS", 0.1)
    stranger = Stranger(end)
    await until(lambda: stranger.ended)
    assert end.drops == {DropReason.QUIC_STRANGER: 1}
    stranger.close()


async def test_who_is_only_asked_for_a_cookie_is_a_stranger_still(
    end: QuicEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic_link, "PROVE_SECONDS", 0.5)
    stranger = Stranger(end)
    await until(lambda: stranger.quic._handshake_complete)
    stranger.quic.send_datagram_frame(b"\x01\0\x01hello")
    stranger.flush()
    await until(lambda: end.hears.links)
    (link,) = end.hears.links
    link.send_messages([b"\x03cookie"])
    assert len(end.quic._strangers) == 1
    await until(lambda: stranger.ended)
    assert end.drops == {DropReason.QUIC_STRANGER: 1}
    assert len(end.quic) == 0
    stranger.close()


async def test_of_many_strangers_the_new_ones_must_show_their_address(end: QuicEnd) -> None:
    strangers = [Stranger(end) for _ in range(RETRY_STRANGERS + 4)]
    await until(lambda: all(stranger.quic._handshake_complete for stranger in strangers))
    assert [stranger.quic._retry_count for stranger in strangers] == [0] * RETRY_STRANGERS + [1] * 4
    last = Stranger(end)
    await until(lambda: last.quic._handshake_complete)
    kind = pull_quic_header(Buffer(data=last.received[0]), host_cid_length=8).packet_type
    assert kind == QuicPacketType.RETRY
    for stranger in (*strangers, last):
        stranger.close()


async def test_strangers_have_a_cap_and_proven_links_stay(end: QuicEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_link, "PROVE_SECONDS", 100.0)  # a busy machine takes its time to make so many
    friend = Stranger(end)
    await until(lambda: friend.quic._handshake_complete)
    friend.quic.send_datagram_frame(b"\x01hello")
    friend.flush()
    await until(lambda: end.hears.links)
    end.hears.links[0].send_messages([b"\x02hello"])
    strangers = []
    for _ in range(MAX_STRANGERS + 3):
        strangers.append(Stranger(end))
        await until(lambda: strangers[-1].received)
        strangers[-1].quic.datagrams_to_send(time.monotonic())
        await until(lambda: len(end.quic._strangers) == min(len(strangers), MAX_STRANGERS))
    await until(lambda: end.drops[DropReason.QUIC_LIMIT] == 3)
    assert len(end.quic) == MAX_STRANGERS + 1
    assert end.drops[DropReason.QUIC_LIMIT] == 3
    assert not friend.ended
    for stranger in (friend, *strangers):
        stranger.close()


async def test_a_handshake_that_does_not_end_takes_little(end: QuicEnd) -> None:
    stranger = Stranger(end)
    first = stranger.quic._network_paths[0].addr
    await until(lambda: end.quic._strangers)
    (link,) = end.quic._strangers
    junk = b"\xe0\x00\x00\x00\x01\x08" + link.connection.quic.host_cid + b"\x00\x44\xd0" + bytes(1200)
    for _ in range(100):
        stranger.socket.sendto(junk, first)
        await asyncio.sleep(0)
    await until(lambda: not end.quic._strangers or link.connection.is_open)
    assert link.connection.is_open or end.drops[DropReason.QUIC_STRANGER] == 1
    stranger.close()


async def test_an_unknown_version_is_told_what_we_speak(end: QuicEnd) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    hello = b"\xc0\x1a\x2a\x3a\x4a\x08" + b"them-cid" + b"\x08" + b"mine-cid" + bytes(1200)
    sock.sendto(hello, end.address)
    loop = asyncio.get_running_loop()
    answer = await asyncio.wait_for(loop.sock_recv(sock, 2000), PATIENCE)
    header = pull_quic_header(Buffer(data=answer), host_cid_length=8)
    assert header.packet_type == QuicPacketType.VERSION_NEGOTIATION
    assert (header.destination_cid, header.source_cid) == (b"mine-cid", b"them-cid")
    assert 1 in header.supported_versions
    sock.sendto(hello[:800], end.address)
    await until(lambda: end.drops[DropReason.QUIC_UNKNOWN])
    sock.close()


async def test_streams_are_not_for_strangers(end: QuicEnd) -> None:
    stranger = Stranger(end)
    await until(lambda: stranger.quic._handshake_complete)
    assert stranger.quic._remote_max_streams_bidi == stranger.quic._remote_max_streams_uni == 0
    assert stranger.quic._remote_max_data == 0
    stranger.close()


def test_garbage_is_counted_and_harms_nobody() -> None:
    async def work() -> None:
        chance = random.Random(7)
        two = Two()
        source = source_of(two.near.address)
        assert two.back.connection._keys is not None
        good = bytes(two.near.quic._routes and next(iter(two.far.quic._routes)))
        for turn in range(3000):
            size = chance.randrange(1, 1300)
            data = bytearray(chance.randbytes(size))
            data[0] |= 0x40
            if turn % 3 == 0 and size > 9:
                data[0] &= 0x7F
                data[1:9] = good
            if turn % 3 == 1 and size > 20:
                data[:6] = bytes((data[0] | 0x80, 0, 0, 0, 1, 8))
                data[6:14] = good
            two.far.quic.receive(source, [(memoryview(bytes(data)), max(1, size // chance.randrange(1, 4)))], turn)
        two.far.quic.burst_end(time.monotonic())
        assert len(two.far.quic) <= 1 + MAX_STRANGERS
        two.link.send([record(1, 5000)])
        await two.far.hears.until(lambda: two.far.hears.got)
        assert two.far.hears.gone == []
        two.close()

    asyncio.run(work())
