"""UDP when the network does not take what is sent: too large, unreachable, full."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final

import pytest

from caetun.lab import Cable, Lab
from caetun.transports.base import SEND_QUEUE
from caetun.transports.udp_socket import FLOOR
from caetun.types import DropReason
from caetun.wire.record import HEADER_SIZE
from tests.transports.udp_ends import ANY4, ANY6, AnyHost, Cabled, End, Two, record

_IP_RECVERR: Final = 11  # fixed by the kernel's interface: linux/in.h

lab_features = pytest.mark.needs("namespaces")


# -- refusals --


@lab_features
@pytest.mark.parametrize(
    ("any_host", "where", "ceiling"),
    [(ANY4, "10.0.0.2", 1472), (ANY6, "fd00::2", 1452), (ANY6, "::ffff:10.0.0.2", 1472)],
)
async def test_what_the_interface_does_not_carry_is_reported(
    lab: Lab, any_host: AnyHost, where: str, ceiling: int
) -> None:
    two = Cabled(lab, any_host=any_host)
    link = two.link_to(where)
    assert two.one.do(lambda: link.datagram_ceiling) == ceiling
    link.probe(record(1, ceiling - HEADER_SIZE))
    assert await two.other.got(1) == [record(1, ceiling - HEADER_SIZE)], "just as much as fits"
    link.probe(record(2, ceiling + 1 - HEADER_SIZE))
    assert two.one.hears.refused == [(link, ceiling + 1)]
    link.resize(ceiling + 1)
    link.send([record(3, 10 * link.unit)])
    assert two.one.hears.refused == [(link, ceiling + 1)] * 2
    assert two.one.drops == {DropReason.LINK_OVERSIZE: 2}
    link.resize(ceiling)
    link.send([record(4, link.max_record)])
    assert (await two.other.got(2))[1] == record(4, link.max_record)
    assert two.one.endpoint.segments
    two.close()


@lab_features
async def test_a_larger_interface_carries_more(lab: Lab) -> None:
    two = Cabled(lab, Cable(mtu=9000))
    assert two.one.do(lambda: two.link.datagram_ceiling) == 8972
    two.close()


def test_an_address_that_cannot_be_reached_has_a_ceiling_too() -> None:
    end = End(*ANY4)
    assert end.endpoint.ceiling(("255.255.255.255", 9)) >= FLOOR  # broadcast: connect refuses it
    assert end.endpoint.ceiling(("127.0.0.1", 9)) > 9000, "what is known is said"
    end.endpoint.close()


@lab_features
async def test_an_interface_below_the_floor_says_so_and_a_ceiling_follows_the_interface(lab: Lab) -> None:
    two = Cabled(lab)
    for mtu in (1000, 1400):
        two.port.host.run(["ip", "link", "set", two.port.device, "mtu", str(mtu)])
        assert two.one.do(lambda: two.link.datagram_ceiling) == mtu - 28
    two.close()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOBUFS, DropReason.LINK_FULL),
        (errno.EHOSTUNREACH, DropReason.LINK_REFUSED),
        (errno.EPERM, DropReason.LINK_REFUSED),
    ],
)
@pytest.mark.parametrize("size", [100, 5000])
async def test_what_the_network_refuses_is_counted(two: Two, number: int, reason: DropReason, size: int) -> None:
    two.one.socket.verdicts = [number]
    two.link.send([record(1, size)])
    two.link.send([record(2, size)])
    assert await two.other.got(1) == [record(2, size)]
    assert two.one.drops == {reason: 1}
    assert two.link.refusal == ("" if reason is DropReason.LINK_FULL else os.strerror(number))
    assert not two.link.full


@lab_features
async def test_no_way_to_the_far_end_is_counted(lab: Lab) -> None:
    end = End(*ANY4, inside=lab.host("lonely"))
    end.start()
    link = end.endpoint.link(("192.0.2.1", 9))
    link.send([record(1, 100), record(2, 5000)])
    assert end.drops == {DropReason.LINK_REFUSED: 2}
    assert link.refusal == "Network is unreachable"
    end.endpoint.close()


@pytest.mark.parametrize("told", [False, True], ids=["as it is", "told of it"])
async def test_a_port_that_nobody_listens_on_does_no_harm(two: Two, told: bool) -> None:
    two.one.socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, int(told))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    nobody = two.one.endpoint.link(address)
    for counter in range(4):
        nobody.send([record(counter, 100)])
        await asyncio.sleep(0)  # whatever the kernel has to say about it
    assert not two.link.full
    two.link.send([record(10, 100)])
    two.link.send([record(11, 5000)])
    back = two.other.endpoint.link(("127.0.0.1", two.one.port))
    back.send([record(12, 5000)])
    await two.other.hears.until(lambda: record(11, 5000) in two.other.hears.got)
    assert await two.one.got(1) == [record(12, 5000)]
    assert set(two.one.drops) <= ({DropReason.LINK_REFUSED} if told else set())
    assert (nobody.refusal or two.link.refusal) in ("", "Connection refused")


async def test_sending_after_closing_is_a_counted_drop(two: Two) -> None:
    two.one.endpoint.close()
    two.link.send([record(1, 100), record(2, 5000)])
    assert two.one.drops == {DropReason.LINK_REFUSED: 2}


# -- a full socket --


@pytest.mark.needs("namespaces", "rate")
async def test_a_slow_network_fills_the_socket_and_empties_it_again(lab: Lab) -> None:
    two = Cabled(lab, Cable(rate=30_000_000))
    two.one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    counter = 0
    while not two.link.full:
        two.link.send([record(counter, 10 * two.link.unit)])
        counter += 1
    for _ in range(10):
        two.link.send([record(counter, 10 * two.link.unit)])
        counter += 1
    assert two.one.hears.drains == 0
    assert [one.counter for one in await two.other.got(counter)] == list(range(counter))
    await two.one.hears.until(lambda: two.one.hears.drains)
    assert not two.link.full
    assert (two.one.hears.drains, dict(two.one.drops), dict(two.other.drops)) == (1, {}, {})
    two.close()


@pytest.mark.parametrize("segments", [True, False])
async def test_what_waits_keeps_its_order_however_the_socket_hesitates(two: Two, segments: bool) -> None:
    two.one.endpoint.segments = segments
    stop = errno.EAGAIN
    two.one.socket.verdicts = [0, stop, stop, 0, 0, stop, 0, stop, stop, stop, 0, 0, 0, stop, 0]
    records = [record(number, 100 if number % 3 else 3 * two.link.unit) for number in range(12)]
    for one in records:
        two.link.send([one])
    assert two.link.full
    assert await two.other.got(12) == records
    assert two.one.hears.drains >= 1
    assert not two.one.drops


async def test_the_queue_has_a_cap(two: Two) -> None:
    two.one.socket.verdicts = [errno.EAGAIN]
    for counter in range(SEND_QUEUE + 10):
        two.link.send([record(counter, 100)])
    assert two.one.drops == {DropReason.LINK_FULL: 10}
    assert [one.counter for one in await two.other.got(SEND_QUEUE)] == list(range(SEND_QUEUE))


async def test_all_links_of_a_socket_are_full_together(two: Two) -> None:
    two.one.socket.verdicts = [errno.EAGAIN]
    elsewhere = two.one.endpoint.link(("127.0.0.2", two.other.port))
    two.link.send_messages([b"\x01hello"])
    assert (two.link.full, elsewhere.full) == (True, True)
    elsewhere.send([record(1, 100)])
    assert await two.other.got(1) == [record(1, 100)]
    assert two.other.hears.heard == [b"\x01hello"]
