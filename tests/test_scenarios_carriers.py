"""Several carriers between two hosts, which die, come back and are moved between: stories, told in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from caetun.session import admission
from caetun.types import DropReason
from caetun.wire.record import RECORD
from tests.carriers import Shell, StreamEnd, caller, listener
from tests.simulator import Host, World
from tests.test_scenarios import present, share_a_pair, talk

STANDSTILL = 3.0
"""Seconds that traffic may take to go on by another carrier."""


class Story:
    """A hub, and a client that has these transports, best first."""

    def __init__(self, *transports: str, seed: int = 0) -> None:
        self.world = World(seed)
        self.hub, self.hub_shell = listener(self.world, "hub", "client")
        self.client, self.shell = caller(self.world, "client", "hub", transports or ("udp", "tcp"))

    def settled(self) -> Story:
        """The same after a second."""
        self.world.run(1.0)
        assert self.shell.up() == self.hub_shell.up() == self.shell.rungs[0].transport
        return self

    def udp(self, works: bool) -> None:
        self.world.all_paths(cut=not works)

    def until_on(self, transport: str, within: float) -> float:
        """Wait until both use it."""
        return self.world.until(lambda: self.shell.up() == self.hub_shell.up() == transport, within)

    def traffic(self, seconds: float, rate: float = 100) -> None:
        """Frames both ways."""
        self.world.flow(self.client, rate, seconds)
        self.world.flow(self.hub, rate, seconds)

    def standstill(self) -> float:
        """The longest time that either side got nothing."""
        gaps = []
        for host in (self.hub, self.client):
            times = [at for at, _ in host.received]
            gaps += [later - at for at, later in pairwise(times)]
        return max(gaps, default=0.0)

    def nothing_twice(self) -> None:
        for host in (self.hub, self.client):
            assert len(host.numbers) == len(set(host.numbers))


# finding a way


def test_three_are_raced_and_the_first_is_dead() -> None:
    story = Story("udp", "tcp", "wss")
    story.udp(False)
    story.shell.lines["tcp"].cut = True
    assert story.until_on("wss", within=1.0) <= 2 * 0.25 + 4 * 0.01 + 0.03 + 0.001
    story.world.run(3.0)
    assert len(story.client.told("peer.up")) == len(story.hub.told("peer.up")) == 1
    assert share_a_pair(story.client, story.hub)
    assert len(story.shell.ends) <= 2  # wss, and maybe tcp that is being dialled


def test_eight_are_raced_at_once_and_the_only_one_that_works_answers() -> None:
    for alive in range(8):
        names = [f"t{number}" for number in range(8)]
        story = Story(*names)
        for number, name in enumerate(names):
            story.shell.lines[name].cut = number != alive
        story.until_on(names[alive], within=3.0)


def test_the_best_is_there_at_once_and_nothing_else_is_tried() -> None:
    story = Story("udp", "tcp").settled()
    story.traffic(60.0, rate=5)
    story.world.run(120.0)
    assert story.shell.dials == [(1000.0, "udp")]
    assert [line for _, line in story.shell.told] == ["up via udp"]
    assert story.client.sought == 0


def test_nobody_answers_for_hours_and_then_somebody_does() -> None:
    story = Story("udp", "tcp")
    story.hub.crash()
    story.world.run(3600.0)
    assert len(story.shell.dials) < 2 * 3600 / 20
    lines = [line for _, line in story.shell.told]
    assert lines[0].startswith("nobody answers: udp: no answer in 2.2 s; tcp: refused")
    assert len(lines) == 1
    story.hub.start()
    story.world.until(present(story.client, story.hub), within=40.0)
    story.until_on("udp", within=20.0)


def test_udp_that_answers_late_wins_back_its_place() -> None:
    story = Story("udp", "tcp")
    story.world.all_paths(delay=0.25)
    story.world.until(present(story.client), within=2.0)
    story.until_on("udp", within=2.0)
    story.world.run(5.0)
    assert story.shell.ends == set()
    assert story.hub_shell.ends == set()


@pytest.mark.parametrize("delay", [0.01, 0.2])
def test_a_hub_under_load_wants_cookies_of_all_that_are_raced(monkeypatch: pytest.MonkeyPatch, delay: float) -> None:
    monkeypatch.setattr(admission, "LOAD_HANDSHAKES", -1)
    story = Story("udp", "tcp", "wss")
    story.world.all_paths(delay=delay)
    for line in story.shell.lines.values():
        line.delay = delay
    story.world.until(present(story.client, story.hub), within=8 * delay + 0.7)
    assert story.hub.drops[DropReason.HANDSHAKE_COOKIE] >= 1
    story.until_on("udp", within=5.0)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_every_way_to_a_hub_under_load_gets_its_own_cookie(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    """Eight links are offered at the same moment; only one of them leads anywhere."""
    monkeypatch.setattr(admission, "LOAD_HANDSHAKES", -1)
    story = Story(transport)
    story.shell.rungs = []
    links = [story.client.link("hub" if number == 3 else "nowhere") for number in range(8)]
    for rank, link in enumerate(links):
        story.client.peer.offer(link, rank, story.world.now, story.client._out)
    story.client._flush()
    story.world.until(present(story.client, story.hub), within=1.0)


# one carrier dies


@pytest.mark.parametrize("direction", ["both", "up", "down"])
@pytest.mark.parametrize("seed", range(3))
def test_udp_is_dropped_under_traffic(direction: str, seed: int) -> None:
    story = Story(seed=seed).settled()
    story.traffic(20.0)
    story.world.run(2.0)
    if direction != "down":
        story.world.path("client", "hub").cut = True
    if direction != "up":
        story.world.path("hub", "client").cut = True
    story.until_on("tcp", within=STANDSTILL)
    story.world.run(17.0)
    assert story.standstill() < STANDSTILL
    story.nothing_twice()
    assert story.client.told("peer.down") == story.hub.told("peer.down") == []


def test_who_only_listens_to_a_flow_notices_its_end() -> None:
    story = Story().settled()
    story.world.flow(story.hub, rate=2000, seconds=5)
    story.world.run(2.0)
    story.udp(False)
    story.until_on("tcp", within=1.3)
    story.world.run(3.0)
    assert story.standstill() < 1.5


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_there_and_back_twenty_times(loss: float) -> None:
    """With `loss` on UDP: of probes, acknowledgements, everything."""
    story = Story(seed=7).settled()
    story.world.all_paths(loss=loss)
    for _ in range(20):
        story.udp(False)
        story.traffic(5.0)
        story.until_on("tcp", within=STANDSTILL + 10 * loss)
        story.udp(True)
        story.until_on("udp", within=60.0)
        story.world.run(6.0)
    story.nothing_twice()
    assert story.client.told("peer.down") == story.hub.told("peer.down") == []
    story.world.all_paths(loss=0.0)
    story.world.run(80.0)
    assert story.shell.up() == "udp"
    assert story.shell.ends == story.hub_shell.ends == set()
    assert len(story.client.peer._ways) <= 2
    assert len(story.hub.peer._ways) == 1
    assert len(story.client.node.sessions) <= 4


def test_a_link_that_is_full_when_it_dies_is_left_too() -> None:
    story = Story().settled()
    story.world.flow(story.client, rate=100, seconds=10)
    story.udp(False)
    assert story.client.peer.link is not None
    story.client.peer.link.full = True  # congestion control waits for acknowledgements that do not come
    story.until_on("tcp", within=STANDSTILL)
    assert story.client.told("peer.down") == []


def test_a_stream_that_is_reset_is_replaced_before_anybody_asks() -> None:
    story = Story("tcp", "wss").settled()
    story.traffic(5.0)
    story.world.run(1.0)
    for end in [*story.shell.ends]:
        end.ended("connection reset")
    story.world.run(4.5)
    assert story.standstill() < 0.2
    assert story.shell.up() == "tcp"
    assert story.client.told("peer.down") == []
    story.nothing_twice()


def test_a_stream_that_hangs_is_left() -> None:
    story = Story("tcp", "wss").settled()
    story.traffic(20.0)
    story.world.run(1.0)
    story.shell.lines["tcp"].cut = True
    story.until_on("wss", within=STANDSTILL)
    story.world.run(30.0)
    assert story.standstill() < STANDSTILL
    assert {end.name for end in story.shell.ends} <= {"wss hub", "tcp hub"}
    assert len(story.hub_shell.ends) <= 2


def test_the_hub_sees_a_stream_close_and_the_client_comes_back_by_another() -> None:
    story = Story("tcp", "udp").settled()
    story.world.flow(story.hub, rate=20, seconds=3)
    story.world.run(1.0)
    story.shell.lines["tcp"].refuses = True
    (end,) = story.hub_shell.ends
    end.ended("connection reset")
    assert story.hub.peer.link is None
    assert story.hub.peer.present
    end.other.ended("connection reset")  # type: ignore[union-attr]
    story.until_on("udp", within=1.0)
    story.world.run(3.0)
    assert len(story.client.numbers) >= 59  # what was on its way is lost, what came meanwhile has waited
    assert story.client.numbers == sorted(story.client.numbers)


def test_the_client_is_gone_and_the_hub_forgets_it_in_time() -> None:
    story = Story("tcp").settled()
    story.client.crash()
    (end,) = story.hub_shell.ends
    end.ended("connection reset")
    story.world.flow(story.hub, rate=10, seconds=5)
    story.world.run(40.0)
    assert not story.hub.peer.present
    assert story.hub.deadline is None
    assert story.hub.drops[DropReason.NO_SESSION] == 50


def test_who_is_lost_has_its_stream_closed() -> None:
    story = Story("tcp").settled()
    story.shell.lines["tcp"].cut = True
    story.client.crash()
    story.world.run(40.0)
    assert not story.hub.peer.present
    assert story.hub_shell.ends == set()


# one end starts again


@pytest.mark.parametrize("transports", [("udp", "tcp"), ("tcp", "udp"), ("tcp",), ("udp",)])
def test_the_hub_is_started_again(transports: tuple[str, ...]) -> None:
    story = Story(*transports).settled()
    story.traffic(40.0, rate=10)
    story.world.run(2.0)
    story.hub.crash()
    story.hub_shell.start()
    story.world.run(1.0)
    story.hub.start()
    story.until_on(transports[0], within=20.0)
    talk(story.world, story.client, story.hub)


@pytest.mark.parametrize("after", [0.0, 1.0, 1.7, 1.75, 1.8, 2.5])
def test_the_hub_is_started_again_while_the_client_moves(after: float) -> None:
    story = Story().settled()
    story.traffic(60.0, rate=20)
    story.world.run(2.0)
    story.udp(False)
    story.world.run(after)
    story.hub.crash()
    story.hub_shell.start()
    story.hub.start()
    story.until_on("tcp", within=5.0)
    talk(story.world, story.client, story.hub)


def test_the_client_is_started_again_while_it_moves() -> None:
    story = Story().settled()
    story.traffic(60.0, rate=20)
    story.udp(False)
    story.world.run(1.75)
    story.client.crash()
    story.client.start()
    story.shell.start()
    story.until_on("tcp", within=2.0)
    talk(story.world, story.client, story.hub)


# both ends move


def equals(seed: int) -> tuple[World, list[Host], list[Shell]]:
    """Two hosts that call each other, by UDP or by a stream of their own."""
    world = World(seed)
    found = [caller(world, mine, yours, ("udp", "tcp")) for mine, yours in ("ab", "ba")]
    return world, [host for host, _ in found], [shell for _, shell in found]


@pytest.mark.parametrize("seed", range(6))
def test_equals_move_at_the_same_time_and_come_to_rest(seed: int) -> None:
    world, (a, b), shells = equals(seed)
    world.run(2.0)
    for _ in range(3):
        world.flow(a, 100, 30.0)
        world.flow(b, 100, 30.0)
        world.all_paths(cut=True)
        world.until(lambda: all(shell.up() == "tcp" for shell in shells), within=STANDSTILL)
        world.run(3.0)
        moves = len(a.told("peer.moved")) + len(b.told("peer.moved"))
        world.run(5.0)
        assert len(a.told("peer.moved")) + len(b.told("peer.moved")) - moves <= 1
        talk(world, a, b)
        world.all_paths(cut=False)
        world.until(lambda: all(shell.up() == "udp" for shell in shells), within=60.0)
        talk(world, a, b)
    world.run(90.0)
    for host, shell in zip((a, b), shells, strict=True):
        assert host.told("peer.down") == []
        assert len(host.numbers) == len(set(host.numbers))
        assert shell.ends == set()


def test_a_client_that_changes_its_address_stays_on_udp() -> None:
    story = Story().settled()
    story.traffic(30.0, rate=20)
    for place in ("home", "train", "office", "client"):
        story.world.run(5.0)
        story.client.outside = place
        story.client.node.network_changed(story.world.now, story.client._out)
        story.client._flush()
        story.world.run(0.1)
        assert story.hub.peer.link is not None
        assert story.hub.peer.link.source == f"{place} 4500"
    assert story.shell.dials == [(1000.0, "udp")]


# what must not move anything


def test_testing_another_carrier_does_not_move_the_hub() -> None:
    story = Story().settled()
    by = []

    def note(source: str, _target: str, datagram: bytes) -> bool:
        by.append((source, datagram[0]))
        return True

    story.udp(False)
    story.traffic(3.0)
    story.until_on("tcp", within=STANDSTILL)
    story.world.run(4.0)
    moved = len(story.hub.told("peer.moved"))
    story.world.path("client", "hub").cut = False  # probes arrive, their acknowledgements do not
    story.world.tap = note
    story.world.run(60.0)
    assert ("client", RECORD) in by
    assert ("hub", RECORD) in by
    assert story.hub_shell.up() == "tcp"
    assert len(story.hub.told("peer.moved")) == moved


def test_an_idle_tunnel_is_not_tested_all_the_time() -> None:
    story = Story().settled()
    story.world.run(20.0)
    carried = story.world.carried
    story.world.run(100.0)
    assert story.world.carried - carried <= 2 * (10 + 5)
    assert story.client.sought == 0


@pytest.mark.parametrize("rate", [0.3, 1, 3, 8, 100])
@pytest.mark.parametrize("delay", [0.01, 0.3])
def test_one_way_traffic_is_no_reason_to_doubt(rate: float, delay: float) -> None:
    story = Story().settled()
    story.world.all_paths(delay=delay)
    story.world.run(20.0)
    story.world.flow(story.client, rate, 60.0)
    probes = story.client.peer._ways.last_probe
    story.world.run(60.0)
    assert story.client.sought == 0
    assert story.client.peer._ways.last_probe - probes <= (14 if delay < 0.1 else 30)


def test_a_lonely_udp_link_survives_an_outage_as_it_always_did() -> None:
    story = Story("udp").settled()
    story.traffic(30.0, rate=20)
    story.world.run(2.0)
    story.udp(False)
    story.world.run(12.0)
    story.udp(True)
    story.world.run(0.2)
    assert story.hub.received[-1][0] > story.world.now - 0.1
    assert story.client.told("peer.up") == story.client.told("peer.up")[:1]
    assert story.client.told("peer.down") == story.client.told("peer.moved") == []
    assert len(story.shell.dials) == 1


def test_a_carrier_that_dies_soon_after_each_return_is_trusted_less() -> None:
    story = Story().settled()
    story.traffic(200.0, rate=50)

    for _ in range(8):
        story.until_on("udp", within=25.0)
        story.world.run(0.5)
        story.udp(False)
        story.world.run(4.5)
        assert story.shell.up() == "tcp"
        story.udp(True)
    returns = [at for at, transport in story.shell.dials if transport == "udp"]
    pauses = [later - at for at, later in pairwise(returns)]
    assert len(pauses) == 7
    assert pauses[0] < 9.0
    assert max(pauses) == pytest.approx(24.0, abs=5.0)
    story.nothing_twice()


def test_streams_that_nobody_needs_are_closed() -> None:
    story = Story("udp", "tcp", "wss", "ws").settled()
    story.udp(False)
    story.traffic(3.0)
    story.until_on("tcp", within=STANDSTILL)
    story.world.run(3.0)
    assert {end.name for end in story.shell.ends} == {"tcp hub"}
    assert {end.name for end in story.hub_shell.ends} == {"tcp client"}
    assert all(isinstance(end, StreamEnd) for end in story.shell.ends)
