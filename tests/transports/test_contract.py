"""What every link and endpoint promises (caetun/transports/base.py), at its weakest: all transports pass this."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from caetun.transports.base import SEND_QUEUE, Link
from caetun.types import DropReason
from caetun.wire.record import Record, encode_header
from tests.transports.rigs import RIGS, Rig

_chance = random.Random(3)


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made = RIGS[request.param]()
    yield made
    made.close()


def record(counter: int, size: int, session: int = 7) -> Record:
    return Record(session, counter, _chance.randbytes(size))


def sizes(link: Link) -> list[int]:
    """Bytes of record bodies at which something could change."""
    unit, most = link.unit, link.max_record
    return sorted({16, 17, unit - 1, unit, *(min(size, most) for size in (unit + 1, 2 * unit, 3 * unit - 1)), most})


def double(link: Link) -> int:
    """Bytes of a record body that is too long for one piece, if there are pieces."""
    return min(2 * link.unit, link.max_record)


async def arrived(rig: Rig, count: int) -> list[Record]:
    """What the far side has got once there are `count` records, in the order of their counters."""
    got = rig.far.arrivals.got
    await rig.until(lambda: len(got) >= count)
    return sorted(got, key=lambda record: record.counter)


async def nothing_more(rig: Rig) -> None:
    """Let whatever else is under way arrive: a message sent now comes last."""
    rig.link.send_messages([b"\x01last"])
    await rig.until(lambda: b"\x01last" in rig.far.arrivals.heard)
    rig.far.arrivals.heard.remove(b"\x01last")


class TestContract:
    """One way from the near side to the far one."""

    # records

    async def test_records_of_every_size_arrive_whole(self, rig: Rig) -> None:
        records = [record(2**64 - 1 - number, size) for number, size in enumerate(sizes(rig.link))]
        for count, one in enumerate(records, 1):
            rig.link.send([one])
            await arrived(rig, count)
        assert await arrived(rig, len(records)) == records[::-1]
        assert not rig.near.drops + rig.far.drops

    @pytest.mark.parametrize("order", ["as they come", "growing", "shrinking", "equal"])
    async def test_records_sent_together_keep_their_boundaries(self, rig: Rig, order: str) -> None:
        lengths = [_chance.randrange(16, 3000) for _ in range(40)]
        if order == "equal":
            lengths = [min(1000, rig.link.max_record)] * 40
        elif order != "as they come":
            lengths.sort(reverse=order == "shrinking")
        records = [record(number, length, session=7 + number % 2) for number, length in enumerate(lengths)]
        rig.link.send(records)
        assert await arrived(rig, 40) == records
        await nothing_more(rig)
        assert len(rig.far.arrivals.got) == 40

    async def test_more_records_than_one_system_call_takes(self, rig: Rig) -> None:
        records = [record(number, 100) for number in range(200)]
        rig.link.send(records)
        assert await arrived(rig, 200) == records

    async def test_a_record_that_is_too_long_is_dropped_under_its_name(self, rig: Rig) -> None:
        records = [record(1, 100), record(2, rig.link.max_record + 1), record(3, 100)]
        rig.link.send(records)
        rig.link.send([record(4, rig.link.max_record + 1)])
        assert await arrived(rig, 2) == [records[0], records[2]]
        await nothing_more(rig)
        assert len(rig.far.arrivals.got) == 2
        assert rig.near.drops == {DropReason.LINK_OVERSIZE: 2}

    async def test_records_for_nobody_are_dropped_under_their_name(self, rig: Rig) -> None:
        mine = record(3, double(rig.link))
        rig.link.send([record(1, 100, session=9), record(2, double(rig.link), session=9), mine])
        assert await arrived(rig, 1) == [mine]
        await nothing_more(rig)
        assert len(rig.far.arrivals.got) == 1
        assert set(rig.far.drops) == {DropReason.RECORD_UNKNOWN_SESSION}

    async def test_what_is_sent_may_be_sent_again(self, rig: Rig) -> None:
        again = record(1, double(rig.link))
        rig.link.send([again, again])
        await arrived(rig, 1)
        await nothing_more(rig)
        assert set(rig.far.arrivals.got) == {again}

    async def test_a_probe_arrives_as_a_record(self, rig: Rig) -> None:
        probe = record(1, min(rig.link.unit + 37, rig.link.max_record))
        rig.link.probe(probe)
        assert await arrived(rig, 1) == [probe]

    async def test_nothing_is_nothing(self, rig: Rig) -> None:
        rig.link.send([])
        rig.link.send_messages([])
        await nothing_more(rig)
        assert (rig.far.arrivals.got, rig.far.arrivals.heard) == ([], [])
        assert not rig.near.drops + rig.far.drops

    # messages

    async def test_messages_and_records_are_told_apart(self, rig: Rig) -> None:
        messages = [bytes([kind]) * size for kind, size in [(1, 1), (2, 16), (3, 500), (1, 1200), (0, 40), (5, 40)]]
        rig.link.send_messages(messages[:3])
        rig.link.send([record(1, 100)])
        rig.link.send_messages(messages[3:])
        await arrived(rig, 1)
        await rig.until(lambda: len(rig.far.arrivals.heard) == len(messages))
        assert sorted(rig.far.arrivals.heard) == sorted(messages)
        assert len(rig.far.arrivals.got) == 1

    async def test_what_looks_like_a_record_and_is_none_has_a_name(self, rig: Rig) -> None:
        rig.link.send_messages([b"\x04", encode_header(0, 1, 7, 1), b"\x04\xff\x01\0" + bytes(40)])
        await rig.until(lambda: sum(rig.far.drops.values()) == 3)
        assert rig.far.drops == {DropReason.DATAGRAM_SHORT: 2, DropReason.RECORD_MALFORMED: 1}
        assert (rig.far.arrivals.got, rig.far.arrivals.heard) == ([], [])

    # links and sizes

    async def test_arrivals_come_with_the_link_that_leads_back(self, rig: Rig) -> None:
        for counter in range(3):
            rig.link.send([record(counter, 100)])
            await arrived(rig, counter + 1)
        rig.link.send_messages([b"\x01hello"])
        await rig.until(lambda: rig.far.arrivals.heard)
        (back,) = {id(link): link for link in rig.far.arrivals.links}.values()
        answer = record(9, double(back))
        back.send([answer])
        await rig.until(lambda: rig.near.arrivals.got)
        assert rig.near.arrivals.got == [answer]
        assert rig.near.arrivals.links == [rig.link]
        assert rig.near.arrivals.links[0] is rig.link

    async def test_names_say_where_to(self, rig: Rig) -> None:
        transport, _, where = rig.link.name.partition(" ")
        assert transport
        assert where
        assert rig.far.endpoint.name == rig.link.name
        host, _, port = rig.link.source.rpartition(" ")
        assert host
        assert port.isdecimal()

    async def test_sizes_agree_with_each_other(self, rig: Rig) -> None:
        link = rig.link
        assert 1024 <= link.unit <= link.max_record
        assert (link.datagram == 0) == (link.datagram_ceiling is None)
        assert link.datagram_ceiling is None or link.unit < link.datagram <= link.datagram_ceiling

    @pytest.mark.parametrize("datagram", [1200, 1452, 9000])
    async def test_records_fit_datagrams_of_another_size(self, rig: Rig, datagram: int) -> None:
        before = rig.link.unit
        rig.link.resize(datagram)
        if rig.link.datagram_ceiling is None:
            assert rig.link.unit == before
        else:
            assert rig.link.datagram == datagram
            assert 0 < datagram - rig.link.unit < 64
        whole = record(1, rig.link.max_record)
        rig.link.send([whole])
        assert await arrived(rig, 1) == [whole]

    # flow

    async def test_a_burst_has_an_end(self, rig: Rig) -> None:
        rig.link.send([record(number, 500) for number in range(10)])
        await arrived(rig, 10)
        await rig.until(lambda: not rig.far.arrivals.unended)
        assert rig.far.arrivals.ends > 0

    async def test_a_full_link_says_so_and_says_when_it_takes_more(self, rig: Rig) -> None:
        assert not rig.link.full
        rig.block(True)
        for counter in range(SEND_QUEUE + 50):
            rig.link.send([record(counter, 100)])
        assert rig.link.full
        assert rig.near.drops[DropReason.LINK_FULL] > 0
        assert rig.near.arrivals.drains == 0
        rig.block(False)
        kept = SEND_QUEUE + 50 - rig.near.drops[DropReason.LINK_FULL]
        await rig.until(lambda: rig.near.arrivals.drains)
        assert not rig.link.full
        assert [one.counter for one in await arrived(rig, kept)] == list(range(kept))
        later = record(1000, rig.link.max_record)
        rig.link.send([later])
        assert (await arrived(rig, kept + 1))[-1] == later
        assert set(rig.near.drops) == {DropReason.LINK_FULL}

    # the end

    async def test_closing_twice_is_closing(self, rig: Rig) -> None:
        for side in (rig.far, rig.near):
            side.endpoint.close()
            side.endpoint.close()

    async def test_a_closed_endpoint_hears_nothing(self, rig: Rig) -> None:
        rig.link.send([record(1, 100)])
        await arrived(rig, 1)
        rig.far.endpoint.close()
        rig.link.send([record(2, 100), record(3, rig.link.max_record)])
        rig.link.send_messages([b"\x01hello"])
        await rig.turn()
        assert (len(rig.far.arrivals.got), rig.far.arrivals.heard) == (1, [])
        assert not rig.link.full
