"""Two hosts find each other, lose each other and find each other again: stories, told in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from caetun.peers import Timing
from caetun.session.handshake import Cipher, Policy, PostQuantum
from caetun.session.pending import MAX_ATTEMPTS
from caetun.session.retry import MAX_DELAY
from caetun.session.staging import MAX_STAGED, STAGED_SECONDS
from caetun.types import DropReason, Mode
from tests.simulator import Host, Setup, World, frame

SECRET = bytes(range(32))
Story: TypeAlias = tuple[World, Host, Host]
CLIENT, SERVER = Setup({"b": ["b"]}), Setup({"a": []})


def client_and_server(seed: int = 0, client: Setup = CLIENT, server: Setup = SERVER) -> tuple[World, Host, Host]:
    """A, who connects to B, who listens."""
    world = World(seed)
    return world, world.host("a", client), world.host("b", server)


def two_equals(seed: int = 0) -> tuple[World, Host, Host]:
    """A and B, who share a secret and connect to each other, as ttun does."""
    return client_and_server(seed, Setup({"b": ["b"]}, secret=SECRET), Setup({"a": ["a"]}, secret=SECRET))


def share_a_pair(a: Host, b: Host) -> bool:
    """Whether both send with the keys of one handshake."""
    ours, theirs = a.peer.session.current, b.peer.session.current
    return ours is not None and theirs is not None and ours.remote_index == theirs.local_index


def agreed(a: Host, b: Host) -> Callable[[], bool]:
    """What to wait for until they do."""
    return lambda: share_a_pair(a, b)


def present(*hosts: Host) -> Callable[[], bool]:
    """What to wait for until all these hosts have keys."""
    return lambda: all(host.peer.present for host in hosts)


def talk(world: World, a: Host, b: Host, within: float = 5.0) -> None:
    """A frame of each arrives at the other."""
    mine, yours = (next(iter(world.flow(host, 1, 1))) for host in (a, b))
    world.until(lambda: mine in b.numbers and yours in a.numbers, within)


# meeting


@pytest.mark.parametrize("round_trip", [0.05, 0.25, 0.7])
def test_the_first_answer_connects_however_long_the_path(round_trip: float) -> None:
    world, a, b = client_and_server()
    world.all_paths(delay=round_trip / 2)
    assert world.until(present(a), within=5.0) == pytest.approx(round_trip)
    assert world.until(present(b), within=5.0) == pytest.approx(round_trip / 2)
    assert len(b.peer.session.unconfirmed) <= 3
    world.run(30.0)
    assert share_a_pair(a, b)
    assert len(a.node.sessions) == len(b.node.sessions) == 1
    assert len(a.told("peer.up")) == len(b.told("peer.up")) == 1


@pytest.mark.parametrize("loss", [0.1, 0.3])
@pytest.mark.parametrize("round_trip", [0.05, 0.25, 0.7])
def test_meeting_on_a_path_that_loses(round_trip: float, loss: float) -> None:
    took = []
    for seed in range(25):
        world, a, b = client_and_server(seed)
        world.all_paths(delay=round_trip / 2, loss=loss)
        took.append(world.until(present(a, b), within=60.0))
        world.all_paths(loss=0.0)
        talk(world, a, b)
    assert sorted(took)[12] <= 2 * round_trip + 0.3
    assert max(took) <= 8 * round_trip + (8.0 if loss < 0.2 else 30.0)


def test_post_quantum_handshakes_in_pieces_on_a_long_path_that_loses() -> None:
    policy = Policy(post_quantum=PostQuantum.REQUIRE)
    for seed in range(4):
        world, a, b = client_and_server(seed, Setup({"b": ["b"]}, policy=policy), Setup({"a": []}, policy=policy))
        world.all_paths(delay=0.3, jitter=0.1, loss=0.1)
        world.until(present(a, b), within=15.0)
        assert "post-quantum" in a.told("peer.up")[0]


@pytest.mark.parametrize("theirs", Cipher)
def test_a_far_end_that_allows_one_cipher_only(theirs: Cipher) -> None:
    only = Setup({"a": []}, policy=Policy((theirs,), PostQuantum.OFF))
    world, a, b = client_and_server(server=only)
    world.until(present(b), within=1.0)
    assert f"({theirs})" in a.told("peer.up")[0]
    world.run(130.0)
    assert a.peer.session.previous  # new keys were agreed on, too
    assert share_a_pair(a, b)
    talk(world, a, b)


def test_a_far_end_with_two_addresses_and_one_cipher_that_is_not_ours() -> None:
    only = Setup({"a": []}, policy=Policy((Cipher.CHACHA20_POLY1305,), PostQuantum.OFF))
    for order in (["b", "nowhere"], ["nowhere", "b"]):
        world, _, b = client_and_server(client=Setup({"b": order}), server=only)
        world.until(present(b), within=3.0)


def test_nobody_answers() -> None:
    world = World()
    a = world.host("a", CLIENT)
    world.run(60.0)
    assert len(a.told("peer.silent")) == 1
    assert a.sought >= 3
    carried = world.carried
    world.run(3600.0)
    assert 3600 / (MAX_DELAY * 1.2) <= world.carried - carried <= 3600 / (MAX_DELAY * 0.8)
    assert len(a.handshakes._attempts) <= MAX_ATTEMPTS
    b = world.host("b", SERVER)
    world.until(present(b), within=MAX_DELAY * 1.2 + 0.1)


def test_who_only_listens_never_speaks_first() -> None:
    world = World()
    b = world.host("b", SERVER)
    b.send(frame(1))
    world.run(3600.0)
    assert world.carried == 0
    assert b.drops == {DropReason.NO_SESSION: 1}


def test_who_starts_again_at_once_is_not_thrown_out_by_its_own_goodbye() -> None:
    """Behind the next initiation in one burst, or overtaken on the way, it comes when the hub has answered already."""
    world, a, b = client_and_server()
    world.until(present(a, b), within=5.0)
    world.path("a", "b").delay = 0.025
    a.stop()
    world.path("a", "b").delay = 0.01
    a.start()
    world.until(lambda: "closed" in "".join(b.told("peer.down")), within=0.1)
    world.until(lambda: present(a, b)() and share_a_pair(a, b), within=0.1)


@pytest.mark.parametrize(("client_goes", "level"), [(True, "info"), (False, "warning")])
def test_a_goodbye_is_worth_a_warning_to_whoever_needs_the_other(client_goes: bool, level: str) -> None:
    world, client, server = client_and_server()
    world.run(10.0)
    going, staying = (client, server) if client_goes else (server, client)
    going.stop()
    world.run(0.05)
    assert [happened.level for _, happened in staying.events if happened.event == "peer.down"] == [level]


# frames that come before there are keys


def test_frames_sent_before_there_are_keys_arrive_in_order() -> None:
    world, a, b = client_and_server()
    world.all_paths(delay=0.35)
    early = world.flow(a, rate=40, seconds=1.5)
    world.run(3.0)
    assert b.numbers == list(early)
    assert DropReason.NO_SESSION not in a.drops


def test_many_large_frames_sent_before_there_are_keys_arrive_too() -> None:
    world, a, b = client_and_server()
    a.send(*(frame(number, 9000) for number in range(MAX_STAGED)))
    world.run(1.0)
    assert b.numbers == list(range(MAX_STAGED))


def test_only_the_newest_frames_are_kept_and_only_for_a_moment() -> None:
    world = World()
    a = world.host("a", CLIENT)
    a.send(*(frame(number) for number in range(MAX_STAGED + 10)))
    assert a.drops == {DropReason.NO_SESSION: 10}
    world.run(STAGED_SECONDS)
    assert a.drops == {DropReason.NO_SESSION: MAX_STAGED + 10}
    a.send(frame(1000))
    b = world.host("b", SERVER)
    world.run(STAGED_SECONDS - 0.1)
    assert b.numbers == [1000]


# settings that differ


def test_differing_mtus_are_told_once() -> None:
    world, a, b = client_and_server(client=Setup({"b": ["b"]}, mtu=9000))
    world.run(400.0)
    for host in (a, b):
        (told,) = host.told("peer.mtu")
        assert "1500" in told
        assert "9000" in told
    b.crash()
    b.start(Setup({"a": []}, mtu=9000))
    world.run(40.0)
    b.crash()
    b.start(SERVER)
    world.run(40.0)
    assert len(a.told("peer.mtu")) == 2


@pytest.mark.parametrize("make", [client_and_server, two_equals])
def test_differing_modes_carry_nothing_and_are_mended_by_a_restart(make: Callable[[], Story]) -> None:
    world, a, b = make()
    right, wrong = b.setup, Setup(b.setup.peers, b.setup.secret, mode=Mode.TUN)
    b.start(wrong)
    world.flow(a, rate=2, seconds=200)
    world.run(200.0)
    for host in (a, b):
        (told,) = host.told("peer.mismatch")
        assert "tun" in told
        assert "tap" in told
        assert not host.peer.present
        assert host.received == []
        assert not host.node.sessions
    assert a.drops[DropReason.NO_SESSION] == 400 - 3  # three are waiting yet
    carried = world.carried
    world.run(300.0)
    assert world.carried - carried <= 50
    b.crash()
    b.start(right)
    world.until(present(a, b), within=31.0)
    talk(world, a, b)
    assert len(a.told("peer.mismatch")) == 1


# losing each other


def test_a_restarted_client_is_back_at_once() -> None:
    world, a, b = client_and_server()
    world.run(60.0)
    a.crash()
    world.run(5.0)
    a.start()
    assert world.until(agreed(a, b), within=1.0) < 0.05
    talk(world, a, b)
    assert len(b.node.sessions) <= 2


def test_a_restarted_server_is_found_again_while_data_flows() -> None:
    world, a, b = client_and_server()
    world.run(60.0)
    b.crash()
    b.start()
    world.flow(a, rate=10, seconds=60)
    took = world.until(present(b), within=60.0)
    assert 1.0 <= took <= 2.5  # half a second of silence, and probes
    assert b.drops[DropReason.RECORD_UNKNOWN_SESSION] > 10
    talk(world, a, b)


def test_a_restarted_server_is_found_again_while_nothing_flows() -> None:
    world, _, b = client_and_server()
    world.run(60.0)
    b.crash()
    b.start()
    assert world.until(present(b), within=60.0) <= 31.0


def test_a_restarted_server_whose_clock_went_back() -> None:
    world, a, b = client_and_server()
    world.run(60.0)
    a.clock = -5000.0  # the server has seen a later initiation, and the same process never goes back
    b.crash()
    b.start()
    world.until(present(b), within=60.0)


def test_equals_restarted_in_turn() -> None:
    world, a, b = two_equals()
    for host in (a, b, b, a):
        world.run(20.0)
        host.crash()
        world.run(1.0)
        host.start()
        world.until(agreed(a, b), within=1.0)
        talk(world, a, b)


def test_whoever_stops_in_order_is_missed_at_once_and_found_when_it_returns() -> None:
    world, a, b = client_and_server()
    world.run(10.0)
    b.stop()
    world.run(0.05)
    assert not a.peer.present
    assert a.told("peer.down") == ["down: closed by the far end"]
    assert not a.node.sessions
    world.run(30.0)
    b.start()
    world.until(present(b), within=MAX_DELAY * 1.2 + 0.1)
    talk(world, a, b)
    a.stop()
    world.run(0.05)
    assert not b.peer.present
    assert not b.node.sessions
    assert b.deadline is None


def test_a_late_goodbye_of_a_former_run_does_not_end_the_new_session() -> None:
    world, a, b = client_and_server()
    world.run(10.0)
    world.path("a", "b").delay = 0.2
    a.stop()
    a.start()
    world.path("a", "b").delay = 0.01
    world.until(present(a, b), within=1.0)
    world.run(5.0)
    assert b.told("peer.down") == []
    talk(world, a, b)


def test_nothing_is_sent_for_ever_to_who_is_silent() -> None:
    world, a, b = client_and_server()
    world.flow(b, rate=100, seconds=20)
    world.run(10.0)
    a.crash()
    world.run(60.0)
    assert len(b.told("peer.down")) == 1
    carried = world.carried
    world.run(3600.0)
    assert world.carried == carried
    assert b.deadline is None


# both at once


def test_equals_that_start_at_once_agree_on_one_pair_and_rekey_for_hours() -> None:
    for seed in range(6):
        world, a, b = two_equals(seed)
        world.all_paths(delay=0.02 * seed, jitter=0.03 * (seed % 2))
        world.until(present(a, b), within=1.0)
        for _ in range(20):
            world.run(120.0)
            assert share_a_pair(a, b)
            talk(world, a, b)
            assert len(a.node.sessions) <= 5
        assert not a.told("peer.down")
        assert len(a.told("peer.up")) == len(b.told("peer.up")) == 1


def test_equals_that_start_at_once_on_paths_that_lose_and_reorder() -> None:
    for seed in range(30):
        world, a, b = two_equals(seed)
        world.all_paths(delay=(0.001, 0.1, 0.4)[seed % 3], jitter=(0.0, 0.2)[seed % 2], loss=0.2)
        world.until(agreed(a, b), within=20.0)
        world.all_paths(loss=0.0)
        world.run(6.0)
        assert share_a_pair(a, b)
        talk(world, a, b)


def test_keys_and_data_live_on_the_timing_that_was_asked_for() -> None:
    quick = Timing(keepalive=1.0, rekey_after=2.0)
    world, a, b = client_and_server(client=Setup({"b": ["b"]}, timing=quick), server=Setup({"a": []}, timing=quick))
    world.run(1.0)
    seen = set()
    for _ in range(40):
        world.run(0.5)
        assert a.peer.session.current is not None
        seen.add(a.peer.session.current.local_index)
    assert 9 <= len(seen) <= 11
    b.crash()
    assert world.until(lambda: not a.peer.present, within=20.0) <= 12.0
