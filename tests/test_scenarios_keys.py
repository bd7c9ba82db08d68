"""New keys while data flows, and what becomes of the old ones: stories, told in virtual time."""

from __future__ import annotations

import gc
import random

import pytest

from caetun.peers import Timing
from caetun.session.pending import MAX_ATTEMPTS
from caetun.session.session import MAX_PREVIOUS, MAX_UNCONFIRMED
from caetun.types import DropReason
from caetun.wire.record import RECORD
from tests.simulator import Setup, World
from tests.test_scenarios import agreed, client_and_server, present, share_a_pair, talk, two_equals

QUICK = Timing(rekey_after=4.0)


@pytest.mark.parametrize("jitter", [0.0, 0.08])
@pytest.mark.parametrize("equals", [False, True])
def test_rekeying_under_load_loses_and_duplicates_nothing(equals: bool, jitter: float) -> None:
    peers = [{"b": ["b"]}, {"a": ["a"] if equals else []}]
    world, a, b = client_and_server(5, *(Setup(known, timing=QUICK) for known in peers))
    world.all_paths(delay=0.05, jitter=jitter, duplication=0.1 if jitter else 0.0)
    world.run(1.0)
    to_b, to_a = world.flow(a, rate=100, seconds=25), world.flow(b, rate=100, seconds=25)
    indices = set()
    for _ in range(26):
        world.run(1.0)
        indices |= {pair.local_index for _, pair in a.node.sessions.values()}
    assert len(indices) >= 6
    assert sorted(b.numbers) == list(to_b)
    assert sorted(a.numbers) == list(to_a)
    harmless = {DropReason.RECORD_REPLAYED, DropReason.HANDSHAKE_REPLAYED, DropReason.HANDSHAKE_UNEXPECTED}
    assert (a.drops | b.drops).keys() <= harmless


def test_the_first_records_under_new_keys_are_lost() -> None:
    world, a, b = client_and_server()
    world.run(119.0)
    old = b.peer.session.current
    assert old is not None
    lost: list[float] = []

    def lose_three(source: str, _target: str, datagram: bytes) -> bool:
        new = source == "a" and datagram[0] == RECORD and datagram[4:8] != old.local_index.to_bytes(4, "big")
        if new and len(lost) < 3:
            lost.append(world.now)
        return not new or (len(lost) == 3 and lost[-1] < world.now)

    world.tap = lose_three
    world.run(1.7)
    assert b.peer.session.current is old
    world.until(agreed(a, b), within=2.0)
    assert [round(at - lost[0], 1) for at in lost] == [0.0, 0.3, 0.6]


def test_a_partition_while_new_keys_are_due() -> None:
    for seed in range(5):
        world, a, b = client_and_server(seed)
        world.run(110.0)
        world.flow(a, rate=5, seconds=80)
        world.all_paths(cut=True)
        world.run(40.0)
        assert not a.peer.present
        world.all_paths(cut=False)
        world.until(present(a, b), within=16.0)
        talk(world, a, b)


def test_keys_are_not_used_beyond_their_lifetime_even_if_there_are_no_new_ones() -> None:
    """The simulator looks at the age of the keys whenever a record is sent."""
    world, a, b = client_and_server()
    world.run(1.0)
    world.tap = lambda _source, _target, datagram: datagram[0] == RECORD
    world.flow(a, rate=2, seconds=300)
    world.flow(b, rate=2, seconds=300)
    world.run(178.0)
    assert a.peer.present
    world.run(2.0)
    assert not a.peer.present
    assert not b.peer.present
    assert "too old" in a.told("peer.down")[0]
    received = len(a.received), len(b.received)
    world.run(60.0)
    assert (len(a.received), len(b.received)) == received
    assert not a.node.sessions
    world.tap = None
    world.until(present(b), within=20.0)


def test_a_responder_asks_for_new_keys_if_the_initiator_does_not() -> None:
    world, a, b = client_and_server()
    world.run(1.0)
    world.flow(b, rate=1, seconds=250)
    world.tap = lambda source, _target, datagram: datagram[0] == RECORD or source == "b" or datagram[0] == 2
    world.run(163.0)
    assert b.peer.session.previous == []
    world.run(10.0)
    world.tap = None
    assert share_a_pair(a, b)
    assert len(b.peer.session.previous) == 1
    assert b.peer.session.current is not None
    assert b.peer.session.current.initiator
    world.run(50.0)
    assert a.told("peer.down") == b.told("peer.down") == []
    assert a.numbers[-1] == len(a.numbers) - 1


def test_tables_stay_small_for_days() -> None:
    world, a, b = two_equals()
    sizes = []
    for day in range(5):
        for _ in range(12):
            world.flow(a, rate=20, seconds=2)
            world.run(150.0)
            world.all_paths(jitter=0.05, loss=0.05 * (day % 3), duplication=0.1)
        world.all_paths(cut=True)
        world.run(100.0)
        world.all_paths(cut=False)
        a.outside = f"a at home {day % 2}"
        world.run(100.0)
        for host in (a, b):
            host.events.clear()
            host.received.clear()
            assert len(host.node.sessions) <= 1 + MAX_PREVIOUS + MAX_UNCONFIRMED
            assert len(host.handshakes._attempts) <= MAX_ATTEMPTS
            assert len(host.handshakes._envelopes._sent) <= 2
            assert len(host.assembler) <= 64
        gc.collect()
        sizes.append(len(gc.get_objects()))
    assert max(sizes[2:]) - sizes[1] < 200
    assert share_a_pair(a, b)


def accident(world: World, chance: random.Random) -> None:
    """Something goes wrong, or right again."""
    host = chance.choice(list(world.hosts.values()))
    match chance.randrange(10):
        case 0:
            host.crash()
            host.start()
        case 1 if host.running:
            host.stop()
        case 2 if not host.running:
            host.start()
        case 3:
            host.outside = f"{host.name} elsewhere" if host.outside == host.name else host.name
        case 4:
            world.all_paths(cut=chance.random() < 0.3)
        case 5:
            world.all_paths(longest=chance.choice([1200, 1300, 1472]))
        case 6:
            world.all_paths(loss=chance.choice([0.0, 0.0, 0.02, 0.3]), duplication=chance.choice([0.0, 0.2]))
        case 7:
            world.all_paths(delay=chance.choice([0.0, 0.02, 0.4]), jitter=chance.choice([0.0, 0.1]))
        case 8:
            host.interface = chance.choice([1300, 1472])
        case _:
            world.flow(host, rate=chance.choice([3, 50]), seconds=2, size=chance.choice([100, 1400, 20_000]))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_they_find_each_other_again(seed: int) -> None:
    """And no deadline ever lies in the past, no key is too old, no frame comes twice: the simulator sees to that."""
    world, a, b = (client_and_server, two_equals)[seed % 2](seed)
    chance = random.Random(seed)
    for _ in range(60):
        world.run(chance.choice([0.01, 0.3, 3.0, 40.0]))
        accident(world, chance)
    world.all_paths(cut=False, loss=0.0, delay=0.01, longest=1472)
    for host in (a, b):
        host.outside = host.name
        if not host.running:
            host.start()
    world.run(60.0)
    talk(world, a, b)
    assert share_a_pair(a, b)
    assert len(a.numbers) == len(set(a.numbers))
    assert len(b.numbers) == len(set(b.numbers))
