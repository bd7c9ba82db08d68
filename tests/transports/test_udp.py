"""UDP on real sockets: bursts, two ways to receive, addresses. On loopback where that will do, else in the Lab."""

from __future__ import annotations

import errno
import gc
import os
import socket
import weakref
from types import SimpleNamespace
from typing import Final

import pytest

from caetun.errors import NetworkError
from caetun.lab import Lab
from caetun.transports import udp_endpoint
from caetun.transports.udp_endpoint import open_udp
from caetun.types import DropReason, Drops
from caetun.wire.record import Record, encode_header
from tests.transports.udp_ends import ANY4, ANY6, SESSION, Cabled, End, Two, record

# fixed by the kernel's interface: linux/in.h
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_PROBE: Final = 3

lab_features = pytest.mark.needs("namespaces")


# -- bursts --


@lab_features
@pytest.mark.parametrize(("segments", "least", "most"), [(True, 1, 5), (False, 40, 45)])
async def test_a_record_leaves_as_one_packet_where_the_kernel_cuts(
    lab: Lab, segments: bool, least: int, most: int
) -> None:
    two = Cabled(lab)
    two.one.endpoint.segments = segments
    whole = record(1, 40 * two.link.unit)
    before = two.port.counters().sent_packets
    two.link.send([whole])
    assert await two.other.got(1) == [whole]
    assert least <= two.port.counters().sent_packets - before <= most
    two.close()


async def test_short_records_of_equal_size_leave_together(two: Two) -> None:
    records = [record(number, 100) for number in range(200)]
    two.link.send(records)
    assert await two.other.got(200) == records
    assert two.one.socket.sends == -(-200 // (65507 // two.link.datagram))
    assert two.one.endpoint.segments


@pytest.mark.parametrize("refusal", [errno.EIO, errno.EINVAL, errno.EOPNOTSUPP])
async def test_without_segmentation_datagrams_go_one_by_one(two: Two, refusal: int) -> None:
    two.one.socket.refuses_bursts_with = refusal
    records = [record(number, size) for number, size in enumerate([300, 300, 300, 20 * two.link.unit, 100])]
    two.link.send(records)
    assert sorted(await two.other.got(5), key=lambda one: one.counter) == records
    assert not two.one.endpoint.segments
    assert two.one.socket.sends == 2 + 2 + 20 + 1, "a burst refused, and never tried again"
    assert not two.one.drops


async def test_a_refusal_that_is_about_this_burst_leaves_segmentation_on(two: Two) -> None:
    two.one.socket.verdicts = [errno.EINVAL, errno.EMSGSIZE]
    two.link.send([record(1, 5000)])
    two.link.send([record(2, 5000)])
    assert await two.other.got(1) == [record(2, 5000)]
    assert two.one.endpoint.segments
    assert two.one.drops == {DropReason.LINK_OVERSIZE: 1}
    assert two.one.hears.refused == [(two.link, two.link.datagram)]


async def test_a_socket_that_fills_while_segmentation_is_in_doubt_loses_nothing(two: Two) -> None:
    two.one.socket.verdicts = [errno.EINVAL, errno.EAGAIN]
    two.link.send([record(1, 5000)])
    assert two.link.full
    assert await two.other.got(1) == [record(1, 5000)]
    assert not two.one.drops


@pytest.mark.parametrize("datagram", [1200, 1472, 9000, 60000])
@pytest.mark.parametrize("segments", [True, False])
async def test_the_longest_record_of_every_size_of_datagram(two: Two, datagram: int, segments: bool) -> None:
    two.one.endpoint.segments = segments
    two.link.resize(datagram)
    whole = record(1, two.link.max_record)
    two.link.send([whole])
    assert await two.other.got(1) == [whole]


# -- receiving --


@pytest.fixture(params=["quiet", "busy"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time stands still, or jumps at each look: the two ways to receive."""
    clock = SimpleNamespace(now=100.0, step=1e-9 if request.param == "busy" else 0.01)

    def monotonic() -> float:
        clock.now += clock.step
        return float(clock.now)

    monkeypatch.setattr(udp_endpoint, "time", SimpleNamespace(monotonic=monotonic))
    return clock


async def test_both_ways_to_receive_are_one(two: Two, clock: SimpleNamespace) -> None:
    two.other.endpoint._woken_at = 100.0
    for counter in range(5):
        two.link.send([record(3 * counter, 100), record(3 * counter + 1, 5000)])
        two.link.send_messages([b"\x01%d" % counter])
        two.link.send([record(3 * counter + 2, 200)])
        await two.other.got(3 * counter + 3)
    assert two.other.hears.got == [record(number, (100, 5000, 200)[number % 3]) for number in range(15)]
    assert two.other.hears.heard == [b"\x01%d" % counter for counter in range(5)]
    assert len({id(link) for link in two.other.hears.links}) == 1
    assert not two.other.drops


async def test_an_empty_datagram_is_short(two: Two, clock: SimpleNamespace) -> None:
    two.other.endpoint._woken_at = 100.0
    two.link.send_messages([b"", b"", b"\x01hello"])
    await two.other.hears.until(lambda: two.other.hears.heard)
    assert two.other.drops == {DropReason.DATAGRAM_SHORT: 2}


async def test_a_piece_that_is_too_late_completes_nothing(two: Two, clock: SimpleNamespace) -> None:
    two.other.endpoint._woken_at = 100.0
    two.link.send_messages([encode_header(0, 2, SESSION, 5) + b"half"])
    await two.other.hears.until(lambda: two.other.hears.ends)
    clock.now += 5.0
    two.link.send_messages([encode_header(1, 2, SESSION, 5) + b"late"])
    await two.other.hears.until(lambda: two.other.drops)
    assert two.other.drops == {DropReason.RECORD_INCOMPLETE: 1}
    assert two.other.hears.got == []


async def test_of_a_far_end_that_floods_records_are_dropped_unread_but_no_handshakes(two: Two) -> None:
    crowd = two.other.endpoint.link(("127.0.0.1", two.one.port))
    two.other.hears.crowds.add(crowd)
    two.link.send([Record(SESSION, 1, bytes(100))])  # after this burst the socket knows that something waits
    await two.other.got(1)
    two.link.send([Record(SESSION, 2, bytes(100))])
    await two.other.hears.until(lambda: two.other.drops[DropReason.RECORD_LATE] == 1)
    two.link.send_messages([b"\x02hello"])
    await two.other.hears.until(lambda: two.other.hears.heard)
    assert [each.counter for each in two.other.hears.got] == [1]


async def test_far_ends_are_told_apart(two: Two, clock: SimpleNamespace) -> None:
    third = End(*ANY4)
    third.start()
    links = [two.link, third.endpoint.link(("127.0.0.1", two.other.port))]
    pieces = [encode_header(piece, 2, SESSION, 5) + b"half" for piece in range(2)]
    links[0].send_messages(pieces[:1])
    links[1].send_messages(pieces[1:])
    await two.other.hears.until(lambda: len(two.other.endpoint._assembler) == 2)
    links[1].send_messages(pieces[:1])
    assert await two.other.got(1) == [Record(SESSION, 5, b"halfhalf")]
    (link,) = two.other.hears.links
    assert link.source == f"127.0.0.1 {third.port}"
    third.endpoint.close()


# -- addresses --


async def test_an_ipv6_wildcard_reaches_and_hears_ipv4() -> None:
    server, four, six = End(*ANY6), End(*ANY4), End(socket.AF_INET6, "::1")
    for end in (server, four, six):
        end.start()
    assert (server.endpoint.dual_stack, four.endpoint.dual_stack, six.endpoint.dual_stack) == (True, False, False)
    four.endpoint.link(("127.0.0.1", server.port)).send([record(1, 5000)])
    await server.got(1)
    six.endpoint.link(("::1", server.port, 0, 0)).send([record(2, 5000)])
    await server.got(2)
    names = [f"udp 127.0.0.1:{four.port}", f"udp [::1]:{six.port}"]
    assert [link.name for link in server.hears.links] == names
    assert [link.source for link in server.hears.links] == [f"127.0.0.1 {four.port}", f"::1 {six.port}"]
    for link, end in zip(server.hears.links, (four, six), strict=True):
        link.send([record(3, 5000)])
        assert await end.got(1) == [record(3, 5000)]
    assert server.endpoint.link((f"::ffff:{'127.0.0.1'}", four.port, 0, 0)) is server.hears.links[0]
    for end in (server, four, six):
        end.endpoint.close()


@lab_features
async def test_a_link_local_address_has_one_link_however_it_is_written(lab: Lab, clock: SimpleNamespace) -> None:
    one, other = lab.host("one"), lab.host("other")
    lab.link(one, other, left=["fe80::1/64"], right=["fe80::2/64"])
    two = Two(End(*ANY6, inside=one), End(*ANY6, inside=other), "fe80::2%eth0")
    for counter in range(3):
        two.link.send([record(counter, 100)])
        await two.other.got(counter + 1)
        two.other.hears.links[-1].send([record(counter, 100)])
        await two.one.got(counter + 1)
    assert all(link is two.link for link in two.one.hears.links)
    assert two.link.source == f"fe80::2 {two.other.port}"
    two.close()


async def test_a_link_lives_as_long_as_somebody_holds_it(two: Two) -> None:
    assert two.one.endpoint.link(two.link.address) is two.link
    loose = weakref.ref(two.one.endpoint.link(("127.0.0.1", 9)))
    gc.collect()
    assert loose() is None
    assert len(two.one.endpoint._links) == 1


# -- opening --


@pytest.mark.parametrize(
    ("host", "family", "message"),
    [
        ("127.0.0.1", socket.AF_INET, r"udp 127\.0\.0\.1:{port}: cannot be bound: .* in use: another program holds"),
        ("192.0.2.1", socket.AF_INET, r"udp 192\.0\.2\.1:{port}: .*: no interface of this host has that address"),
        ("2001:db8::1", socket.AF_INET6, r"udp \[2001:db8::1\]:{port}: .*: no interface of this host"),
    ],
)
def test_a_socket_that_cannot_be_had_says_why(host: str, family: socket.AddressFamily, message: str) -> None:
    holder = End(socket.AF_INET, "127.0.0.1")
    with pytest.raises(NetworkError, match=message.format(port=holder.port)):
        open_udp(host, holder.port, family, Drops())
    holder.endpoint.close()


def test_a_socket_is_tuned() -> None:
    endpoint = open_udp("0.0.0.0", 0, socket.AF_INET, Drops())
    sock = endpoint._sock
    assert all(size >= 100_000 for size in endpoint.buffers)
    assert endpoint.name == f"udp 0.0.0.0:{sock.getsockname()[1]}"
    assert sock.getsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER) == _IP_PMTUDISC_PROBE, "never to be fragmented"
    assert not sock.getblocking()
    assert not os.get_inheritable(sock.fileno())
    endpoint.close()
