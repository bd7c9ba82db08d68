"""Stories of a hub and members of its mesh on Ethernet, in virtual time: ways that come, die and come back."""

from __future__ import annotations

import itertools
from functools import partial
from typing import cast

import pytest

from caetun.daemon.member import HINT_SECONDS
from caetun.l2.fdb import AGEING
from caetun.l2.member import MemberSwitch
from caetun.output import Output
from caetun.types import DropReason
from tests.l2.frames import ethernet, mac
from tests.l2.hosts import announces
from tests.simulator import Setup, World

FALLBACK = 3.0
"""Seconds within which a way that has died is left."""
HOMES = {"b": 2, "c": 3}


def numbered(source: int, destination: int, number: int) -> bytes:
    return ethernet(mac(destination), mac(source), 0x1234, number.to_bytes(4, "big") + bytes(60))


class Quarter:
    """A hub and two members, each with a host: 2 at b, 3 at c. What `daemon/member.py` does, is done here by hand."""

    def __init__(self, seed: int = 0) -> None:
        self.world = World(seed)
        self.hub = self.world.host("hub", Setup({"b": [], "c": []}, switch=True))
        self.members = {
            name: self.world.host(name, Setup({"hub": ["hub"], other: []}, switch=True, member=True))
            for name, other in (("b", "c"), ("c", "b"))
        }
        for name, other in (("b", "c"), ("c", "b")):
            self.members[name].shell = partial(self._shell, name, other)
        self.world.run(5.0)
        for name, host in self.members.items():
            host.send(announces(HOMES[name]))
        self.world.run(1.0)
        self.numbers = itertools.count()
        self._hints()

    def switch(self, name: str) -> MemberSwitch:
        return cast(MemberSwitch, self.members[name].node.board)

    def _shell(self, name: str, other: str, out: Output) -> None:
        """`Daemon.seek` and `Daemon.settled`."""
        friend = self.members[name].peers[other]
        for peers, suspect in ((out.settled, False), (out.seek, True)):
            if friend in peers:
                self.switch(name).suspect(2, suspect)

    def _hints(self) -> None:
        """`MemberMesh._look_for_hints`."""
        for name, host in self.members.items():
            if self.switch(name).avoided():
                other = next(each for each in HOMES if each != name)
                host.peers[other].network_changed(self.world.now, host._out)
                host._flush()
        self.world.after(HINT_SECONDS, self._hints)

    def meet(self) -> None:
        """The hub introduces them, and they tell each other of their hosts."""
        for name, other in (("b", "c"), ("c", "b")):
            host = self.members[name]
            host.peers[other].offer(host.link(other), 0, self.world.now, host._out)
            host._flush()
        self.world.run(2.0)
        for name, other in (("b", "c"), ("c", "b")):
            self.switch(other).said(2, self.switch(name).here(), ())
        self.clear()

    def clear(self) -> None:
        for host in self.world.hosts.values():
            host.received.clear()
        self.world.carried = 0

    def talk(self, seconds: float, every: float = 0.05) -> tuple[list[int], list[int]]:
        """Hosts 2 and 3 send each other numbered frames; which ones host 3 has got, and host 2."""
        begun = len(self.members["c"].received), len(self.members["b"].received)
        for turn in range(round(seconds / every)):
            number = next(self.numbers)
            self.world.after(turn * every, partial(self._send, "b", numbered(2, 3, number)))
            self.world.after(turn * every, partial(self._send, "c", numbered(3, 2, number)))
        self.world.run(seconds)
        return self._got("c", begun[0]), self._got("b", begun[1])

    def _send(self, name: str, content: bytes) -> None:
        self.members[name].send(content)

    def _got(self, name: str, since: int) -> list[int]:
        frames = [content for _, content in self.members[name].received[since:]]
        return [int.from_bytes(each[14:18], "big") for each in frames if each[12:14] == b"\x12\x34"]

    def cut(self, cut: bool, *ways: tuple[str, str]) -> None:
        for one, other in ways or (("b", "c"), ("c", "b")):
            self.world.path(one, other).cut = cut


@pytest.fixture
def quarter() -> Quarter:
    return Quarter()


def loads(quarter: Quarter) -> int:
    """Frames of hosts that the hub has had to carry so far."""
    return sum(peer.session.current.window.highest for peer in quarter.hub.peers.values() if peer.session.current)


def flooded(quarter: Quarter) -> list[bytes]:
    """What hosts have sent to each other, and the hub has given to its own device."""
    return [frame for _, frame in quarter.hub.received if frame[12:14] == b"\x12\x34"]


def test_before_they_have_met_the_hub_carries_all_and_then_next_to_nothing(quarter: Quarter) -> None:
    assert quarter.talk(1.0) == (list(range(20)), list(range(20)))
    quarter.meet()
    before = loads(quarter)
    assert quarter.talk(2.0) == (list(range(20, 60)), list(range(20, 60)))
    assert loads(quarter) - before < 20
    assert flooded(quarter) == []


@pytest.mark.parametrize("ways", [(("b", "c"), ("c", "b")), (("b", "c"),)], ids=["both ways", "one way"])
def test_a_way_that_dies_is_left_within_three_seconds_and_no_frame_comes_twice(
    quarter: Quarter, ways: tuple[tuple[str, str], ...]
) -> None:
    quarter.meet()
    quarter.talk(1.0)
    quarter.cut(True, *ways)
    for got in quarter.talk(FALLBACK):
        assert len(set(got)) == len(got)
    after = next(quarter.numbers)
    both = quarter.talk(2.0)
    assert both == (list(range(after + 1, after + 41)),) * 2, "all of it arrives, once and in order"
    quarter.cut(False, *ways)
    quarter.world.run(60.0)
    before = loads(quarter)
    assert len(quarter.talk(2.0)[0]) == 40
    assert loads(quarter) - before < 20, "they are back on their own way"
    assert all(DropReason.BRIDGE_FLAPPING not in host.drops for host in quarter.world.hosts.values())


def test_after_more_than_the_ageing_time_the_hub_still_knows_where_hosts_are(quarter: Quarter) -> None:
    """It has seen none of their frames: when the way dies, it need not flood."""
    quarter.meet()
    quarter.talk(AGEING + 60.0, every=10.0)
    quarter.cut(True)
    quarter.clear()
    quarter.talk(FALLBACK)
    assert quarter.talk(1.0)[0] != []
    assert flooded(quarter) == []


def test_members_go_on_without_the_hub_and_find_it_again(quarter: Quarter) -> None:
    quarter.meet()
    quarter.hub.crash()
    quarter.talk(60.0, every=0.5)
    got = quarter.talk(5.0)
    assert len(got[0]) == len(got[1]) == 100
    quarter.hub.start()
    quarter.world.run(30.0)
    quarter.members["b"].send(announces(2))
    quarter.world.run(1.0)
    assert announces(2) in [frame for _, frame in quarter.hub.received]
