"""recvmmsg: what came, from where, in datagrams of which size."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import NetworkError
from caetun.transports.mmsg import BURSTS, MESSAGES, MessageReceiver, address_of, source_of

# fixed by the kernel's interface: linux/udp.h
UDP_SEGMENT, UDP_GRO = 103, 104


class Pair:
    """A receiver and a sender on the loopback interface."""

    def __init__(self, family: socket.AddressFamily, gro: bool = True) -> None:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.inbox, self.outbox = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        self.inbox.setblocking(False)
        self.inbox.setsockopt(socket.IPPROTO_UDP, UDP_GRO, int(gro))
        self.inbox.bind((host, 0))
        self.outbox.bind((host, 0))
        self.outbox.connect(self.inbox.getsockname())
        self.receiver = MessageReceiver(self.inbox)

    def burst(self, content: bytes, size: int) -> None:
        """Several datagrams of `size` bytes in one call."""
        self.outbox.sendmsg([content], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))])

    def received(self) -> list[tuple[bytes, int]]:
        return [(bytes(view), size) for _, view, size in self.receiver.receive()]


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    try:
        made = Pair(request.param)
    except OSError as error:
        pytest.skip(f"not on this machine: {error}")
    yield made
    made.inbox.close()
    made.outbox.close()


def test_nothing_is_waiting(pair: Pair) -> None:
    assert pair.received() == []


def test_datagrams_come_with_source_and_size(pair: Pair) -> None:
    for content in (b"one", b"", b"x" * 9000):
        pair.outbox.send(content)
    arrivals = pair.receiver.receive()
    assert [(bytes(view), size) for _, view, size in arrivals] == [(b"one", 3), (b"", 0), (b"x" * 9000, 9000)]
    here = pair.outbox.getsockname()
    assert {address_of(source) for source, _, _ in arrivals} == {here}
    assert {source for source, _, _ in arrivals} == {source_of(here)}


def test_more_than_one_call_takes(pair: Pair) -> None:
    for number in range(MESSAGES + 10):
        pair.outbox.send(b"%d" % number)
    first = pair.received()
    assert (len(first), pair.receiver.most) == (MESSAGES, MESSAGES)
    assert [content for content, _ in first + pair.received()] == [b"%d" % number for number in range(MESSAGES + 10)]
    assert pair.received() == []


def test_a_burst_comes_whole_and_with_its_size(pair: Pair) -> None:
    content = bytes(range(256)) * 40
    pair.burst(content, 1000)
    received = pair.received()
    if [size for _, size in received] != [1000]:
        pytest.skip("this kernel does not hand bursts over whole on the loopback interface")
    assert received == [(content, 1000)]
    for _ in range(BURSTS + 2):
        pair.burst(content, 1000)
    assert (len(pair.received()), pair.receiver.most) == (BURSTS, BURSTS)
    pair.outbox.send(b"single")
    assert pair.received() == [(content, 1000)] * 2 + [(b"single", 6)]


def test_buffers_are_used_again_without_a_trace(pair: Pair) -> None:
    burst = [(b"a" * 3000, 1000)] * 3
    for _ in range(3):
        pair.burst(b"a" * 3000, 1000)
    if pair.received() != burst:
        pytest.skip("this kernel does not hand bursts over whole on the loopback interface")
    for content in (b"one", b"two", b"three"):
        pair.outbox.send(content)
    assert pair.received() == [(b"one", 3), (b"two", 3), (b"three", 5)]
    for _ in range(3):
        pair.burst(b"a" * 3000, 1000)
    assert pair.received() == burst


def test_a_descriptor_that_is_none_is_an_error() -> None:
    pair = Pair(socket.AF_INET)
    pair.inbox.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        pair.receiver.receive()
    pair.outbox.close()


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_ipv4_addresses_survive(host: object, port: int) -> None:
    source = source_of((str(host), port))
    assert address_of(source) == (str(host), port)


@given(st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_ipv6_addresses_survive(host: object, port: int, flow: int, scope: int) -> None:
    source = source_of((str(host), port, flow, scope))
    plain, *rest = address_of(source)
    assert rest == [port, flow, scope]
    assert source_of((plain, port, flow, scope)) == source


def test_an_interface_may_be_named_with_a_link_local_address() -> None:
    index = socket.if_nametoindex("lo")
    expected = source_of(("fe80::1", 4500, 0, index))
    assert source_of(("fe80::1%lo", 4500, 0, index)) == expected
    assert source_of(("fe80::1%lo", 4500, 0, 0)) == expected
    assert source_of((f"fe80::1%{index}", 4500, 0, 0)) == expected
    assert address_of(expected) == ("fe80::1", 4500, 0, index)
    with pytest.raises(NetworkError, match=r"fe80::1%nowhere: this host has no interface nowhere"):
        source_of(("fe80::1%nowhere", 4500, 0, 0))
