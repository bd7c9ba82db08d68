"""QUIC against an unmodified aioquic, as client and as server, with and without loss.

What aioquic sends and takes is the yardstick: every frame of ours is opened by it, and every frame of its by us.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_quic_header
from aioquic.tls import Epoch

from caetun.transports.quic_keys import KEY_PACKETS
from caetun.transports.quic_link import QuicLink
from caetun.wire.record import RECORD, Record, encode_header
from tests.transports.quic_ends import SESSION, QuicEnd, shared_server

# chosen by us
MESSAGES: Final = 3000
BODY: Final = 1100
"""Bytes: with its header it fits what plain aioquic puts into a packet."""
PATIENCE: Final = 6.0
LOST_WITH_KEYS: Final = 0.1
"""Share of messages that plain aioquic may lose as it changes its keys: what one window holds."""
AT_ONCE: Final = 32
"""Messages an aioquic application hands over before it lets its loop turn: its queue has no end."""


class PlainPeer:
    """aioquic as it is, driven as its documentation says: a packet, a system call."""

    def __init__(self, is_client: bool, loss: float, seed: int = 5) -> None:
        self._chance = random.Random(seed)
        self._loss = loss
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setblocking(False)
        self.quic: QuicConnection | None = None
        self.got: list[bytes] = []
        self.heard: list[bytes] = []
        self.ended: list[events.ConnectionTerminated] = []
        self.ready = False
        self._is_client = is_client
        self._timer: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(self.socket, self._readable)

    def configuration(self) -> QuicConfiguration:
        made = QuicConfiguration(is_client=self._is_client, alpn_protocols=["h3"], max_datagram_frame_size=65536)
        made.max_datagram_size = 1350
        if self._is_client:
            made.verify_mode = 0
        else:
            ours = shared_server()
            made.certificate, made.private_key = ours.certificate, ours.private_key
        return made

    def connect(self, address: object) -> None:
        self.quic = QuicConnection(configuration=self.configuration())
        self.quic.connect(address, time.monotonic())
        self.transmit()

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data, address = self.socket.recvfrom(65536)
            except BlockingIOError:
                break
            if self._chance.random() < self._loss:
                continue
            if self.quic is None:
                header = pull_quic_header(Buffer(data=data), host_cid_length=8)
                self.quic = QuicConnection(
                    configuration=self.configuration(), original_destination_connection_id=header.destination_cid
                )
            self.quic.receive_datagram(data, address, time.monotonic())
        self._events()
        self.transmit()

    def _events(self) -> None:
        assert self.quic is not None
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.DatagramFrameReceived):
                (self.got if event.data[0] == RECORD else self.heard).append(event.data)
            elif isinstance(event, events.HandshakeCompleted):
                self.ready = True
            elif isinstance(event, events.ConnectionTerminated):
                self.ended.append(event)

    def transmit(self) -> None:
        assert self.quic is not None
        for data, address in self.quic.datagrams_to_send(time.monotonic()):
            if self._chance.random() >= self._loss:
                self.socket.sendto(data, address)
        if self._timer is not None:
            self._timer.cancel()
        due = self.quic.get_timer()
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, due - time.monotonic()), self._due)

    def _due(self) -> None:
        assert self.quic is not None
        self.quic.handle_timer(time.monotonic())
        self._events()
        self.transmit()

    def send(self, data: bytes) -> None:
        assert self.quic is not None
        self.quic.send_datagram_frame(data)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket)
        if self._timer is not None:
            self._timer.cancel()
        self.socket.close()


class Met:
    """A plain peer and an end of ours, connected."""

    def __init__(self, peer: PlainPeer, end: QuicEnd, link: QuicLink, loss: float) -> None:
        self.peer, self.end, self.link, self.loss = peer, end, link, loss

    async def until(self, condition: Callable[[], object]) -> bool:
        """Whether it comes to that."""
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.001)
        return True


async def meet(ours_calls: bool, loss: float) -> Met:
    end = QuicEnd(socket.AF_INET, "127.0.0.1")
    end.begin()
    peer = PlainPeer(is_client=not ours_calls, loss=loss)
    if ours_calls:
        link = end.call(peer.socket.getsockname())
    else:
        peer.connect(end.address)
        while not end.quic._links:
            await asyncio.sleep(0.001)
        (link,) = end.quic._links
    met = Met(peer, end, link, loss)
    assert await met.until(lambda: peer.ready and link.connection.is_open)
    link.send_messages([b"\x01we know each other"])
    assert await met.until(lambda: peer.heard or loss)
    return met


@pytest.fixture(params=[(calls, loss) for calls in (True, False) for loss in (0.0, 0.03)], ids=str)
async def met(request: pytest.FixtureRequest) -> AsyncIterator[Met]:
    made = await meet(*request.param)
    yield made
    made.peer.close()
    made.end.close()


def body(counter: int) -> bytes:
    return counter.to_bytes(4, "big") * (BODY // 4)


async def send_from_peer(met: Met, counters: range) -> None:
    assert met.peer.quic is not None
    for counter in counters:
        met.peer.send(encode_header(0, 1, SESSION, counter) + body(counter))
        if counter % AT_ONCE == 0:
            met.peer.transmit()
            assert await met.until(lambda: len(met.peer.quic._datagrams_pending) < AT_ONCE)
    met.peer.transmit()
    assert await met.until(lambda: not met.peer.quic._datagrams_pending)


async def send_from_us(met: Met, counters: range) -> None:
    for start in counters[::AT_ONCE]:
        stop = min(start + AT_ONCE, counters.stop)
        met.link.send([Record(SESSION, counter, body(counter)) for counter in range(start, stop)])
        assert await met.until(lambda: not met.link.full)


def count_from_us(met: Met) -> int:
    return len(met.peer.got)


async def check(met: Met, sent: int) -> None:
    """What was sent both ways has arrived, each at most once, and all of it if nothing was lost."""
    least = sent if not met.loss else int(sent * (1 - 3 * met.loss))
    ok = await met.until(lambda: len(met.peer.got) >= least and len(met.end.hears.got) >= least)
    assert ok, (len(met.peer.got), len(met.end.hears.got), met.end.drops)
    records = met.end.hears.got
    assert all(record.body == body(record.counter) for record in records)
    assert all(data[16:] == body(int.from_bytes(data[8:16], "big")) for data in met.peer.got)
    assert max(Counter(record.counter for record in records).values()) == 1
    assert max(Counter(met.peer.got).values()) == 1
    assert (met.peer.ended, met.end.hears.gone) == ([], []), "no resets"
    recovery = met.link.connection.recovery
    assert await met.until(lambda: not recovery.bytes_in_flight), "whatever was lost was found to be"
    assert met.link.connection._received.space.ack_eliciting_in_flight == 0


async def test_records_both_ways(met: Met) -> None:
    await asyncio.gather(send_from_peer(met, range(MESSAGES)), send_from_us(met, range(MESSAGES)))
    await check(met, MESSAGES)


@pytest.mark.parametrize("who", ["we", "the far end"])
async def test_keys_change_under_way(met: Met, who: str) -> None:
    quic, keys = met.link.connection.quic, met.link.connection._keys
    assert met.peer.quic is not None
    assert keys is not None
    pair = quic._cryptos[Epoch.ONE_RTT]
    before = pair.send.key_phase
    traffic = asyncio.gather(send_from_peer(met, range(MESSAGES)), send_from_us(met, range(MESSAGES)))
    assert await met.until(lambda: len(met.peer.got) > MESSAGES // 4)
    if who == "we":
        keys.sealer.sealed = KEY_PACKETS
    else:
        met.peer.quic.request_key_update()
    await traffic
    assert met.loss or await met.until(lambda: len(met.end.hears.got) == MESSAGES), "we open what was under way"
    if who == "the far end":
        # aioquic forgets its former keys as it takes new ones: of what we had under way it opens nothing
        met.loss = max(met.loss, LOST_WITH_KEYS)
    await check(met, MESSAGES)
    assert pair.send.key_phase != before
    assert met.peer.quic._cryptos[Epoch.ONE_RTT].send.key_phase == pair.send.key_phase


async def test_the_far_end_hears_that_we_go(met: Met) -> None:
    if met.loss:
        pytest.skip("said once: it may be lost")
    met.link.close()
    assert await met.until(lambda: met.peer.quic._close_event)
    assert met.peer.quic._close_event.error_code == 0x100
    assert met.end.hears.gone == []


async def test_we_hear_that_the_far_end_goes(met: Met) -> None:
    if met.loss:
        pytest.skip("said once: it may be lost")
    met.peer.quic.close(error_code=7, reason_phrase="over and out")
    met.peer.transmit()
    assert await met.until(lambda: met.end.hears.gone)
    assert met.end.hears.gone == [(met.link, "closed by the far end: over and out")]
    assert len(met.end.quic) == 0
    assert not met.end.quic._routes
