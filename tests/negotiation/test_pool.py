"""Addresses for clients: the same again for the same key, nobody else's, and a name for it when there is none."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from caetun.agreement import Reserved
from caetun.errors import HostError
from caetun.negotiation.pool import Exhausted, Pool
from caetun.negotiation.store import Store

SMALL = ip_network("10.88.0.0/29")
SIX = ip_network("fd88::/64")
SERVER = [ip_address("10.88.0.1"), ip_address("fd88::1")]
DAY = 86_400.0


def key(number: int) -> bytes:
    return bytes((number,)) * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "hub.sqlite")
    yield made
    made.close()


def given(pool: Pool, number: int, wall: float = 0.0, busy: tuple[bytes, ...] = ()) -> list[str]:
    return [str(each) for each in pool.assign(key(number), f"peer{number}", wall, DAY, busy)]


def test_each_gets_its_own_and_the_same_again(store: Store) -> None:
    pool = Pool(store, [SMALL, SIX], [], SERVER)
    assert given(pool, 1) == ["10.88.0.2/29", "fd88::2/64"]
    assert given(pool, 2) == ["10.88.0.3/29", "fd88::3/64"]
    assert given(pool, 1, 500 * DAY) == ["10.88.0.2/29", "fd88::2/64"], "nobody has needed it"


def test_leases_outlive_the_process(tmp_path: Path) -> None:
    first = Store(tmp_path / "hub.sqlite")
    given(Pool(first, [SMALL], [], SERVER), 1)
    given(Pool(first, [SMALL], [], SERVER), 2)
    first.close()
    second = Store(tmp_path / "hub.sqlite")
    assert given(Pool(second, [SMALL], [], SERVER), 2) == ["10.88.0.3/29"]
    second.close()


def _assign_for_ever(path: Path, ready: object) -> None:
    pool = Pool(Store(path), [ip_network("10.0.0.0/16")], [], [])
    for number in range(100_000):
        pool.assign(number.to_bytes(32, "big"), f"peer{number}", 0.0, DAY)
        if number == 20:
            ready.set()  # type: ignore[attr-defined]


def test_a_process_that_is_killed_while_it_writes_leaves_whole_leases(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_assign_for_ever, args=(path, ready))
    process.start()
    assert ready.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = Store(path)
    leases = Pool(store, [ip_network("10.0.0.0/16")], [], []).leases()
    store.close()
    assert len(leases) >= 20
    assert [lease.address for lease in leases] == [
        str(ip_address("10.0.0.1") + number) for number in range(len(leases))
    ]
    assert [int(lease.peer, 16) for lease in leases] == list(range(len(leases)))


def test_reserved_addresses_are_nobodys_or_somebodys(store: Store) -> None:
    low, named = ip_address("10.88.0.2"), ip_address("10.88.0.6")
    reserved = [Reserved(low, ip_address("10.88.0.4")), Reserved(named, named, "peer9")]
    pool = Pool(store, [SMALL], reserved, SERVER)
    assert given(pool, 1) == ["10.88.0.5/29"]
    assert given(pool, 9) == ["10.88.0.6/29"]
    with pytest.raises(Exhausted):
        given(pool, 2)


def test_what_becomes_reserved_is_given_up(store: Store) -> None:
    pool = Pool(store, [SMALL], [], SERVER)
    assert given(pool, 1) == ["10.88.0.2/29"]
    pool.reserved = [Reserved(ip_address("10.88.0.2"), ip_address("10.88.0.2"), "peer2")]
    assert given(pool, 2) == ["10.88.0.2/29"], "a reservation wins over a lease"
    assert given(pool, 1) == ["10.88.0.3/29"]


def test_an_exhausted_pool_says_which_and_changes_nothing(store: Store) -> None:
    pool = Pool(store, [SIX, SMALL], [], SERVER)
    for number in range(5):
        given(pool, number)
    with pytest.raises(Exhausted, match=r"the address pool 10.88.0.0/29 is exhausted: 5 leases"):
        given(pool, 7, DAY / 2)
    assert key(7).hex() not in {lease.peer for lease in pool.leases()}, "nor an IPv6 address alone"


def test_the_lease_unused_for_longest_goes_to_another_but_none_that_is_in_use(store: Store) -> None:
    pool = Pool(store, [SMALL], [], SERVER)
    for number in range(5):
        given(pool, number, number * 10.0)
    pool.seen([key(0)], 5 * DAY)
    assert given(pool, 7, 3 * DAY, busy=(key(1),)) == ["10.88.0.4/29"], "peer2's: peer0 was seen, peer1 is here"
    assert given(pool, 2, 3 * DAY, busy=(key(1),)) == ["10.88.0.5/29"], "which takes the next that is old"


def test_a_lease_outside_a_network_that_was_changed_is_not_given(store: Store) -> None:
    given(Pool(store, [SMALL], [], SERVER), 1)
    other = Pool(store, [ip_network("10.99.0.0/29")], [], SERVER)
    assert given(other, 1) == ["10.99.0.1/29"]


def test_a_store_that_is_none_says_so_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 10)
    with pytest.raises(HostError, match="file is not a database: check the file"):
        Store(path)


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    made = Store(tmp_path / "hub.sqlite")
    made.run("PRAGMA user_version = 9")
    made.close()
    with pytest.raises(HostError, match="later version"):
        Store(tmp_path / "hub.sqlite")


def test_only_the_owner_can_read_a_store(tmp_path: Path) -> None:
    Store(tmp_path / "state" / "hub.sqlite").close()
    assert (tmp_path / "state" / "hub.sqlite").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
