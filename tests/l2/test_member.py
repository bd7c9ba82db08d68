"""A hub and its members, switch to switch, without a network between: each frame takes one way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caetun.board import LOCAL
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.member import HUB, SHOW_SECONDS, MemberSwitch
from caetun.l2.port import may_bypass
from caetun.l2.shortcuts import DISBELIEF_SECONDS, MAX_HOSTS
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.switchboard import Switchboard
from caetun.l2.vlan import PortVlans, access, trunk
from caetun.types import DropReason, Drops
from caetun.wire.container import Batch
from caetun.wire.mesh import Host
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.l2.frames import ethernet, ipv6, mac

OURS = mac(0xABCDEF)
NAMES = ("a", "b", "c")
TAG7 = b"\x81\0\0\x07"


def frame(source: int, destination: int | None, tag: bytes = b"") -> bytes:
    """From host to host; None: to all."""
    whole = ethernet(b"\xff" * 6 if destination is None else mac(destination), mac(source), 0x1234, bytes(46))
    return whole[:12] + tag + whole[12:]


def bridge(drops: Drops, vlans: PortVlans | None = None) -> Bridge:
    made = Bridge(drops, LoopProbes(bytes(32), OURS, enabled=False), SnoopingSettings(address6=ipv6(1), querier=False))
    made.add_port(LOCAL, PortSettings("local", vlans=vlans), 0.0)
    return made


class Mesh:
    """The hub's switch, and members'. Host 0 is at the hub; 1, 2, 3 at a, b, c. What hosts get is written down."""

    def __init__(self, *vlans: PortVlans | None) -> None:
        """`vlans`: of all devices and ports; none: nobody knows VLANs."""
        self.now = 1.0
        self.drops = Drops()
        ports = vlans[0] if vlans else None
        self.hub = Switchboard(bridge(self.drops, ports), OURS)
        self.members = {name: MemberSwitch(bridge(self.drops, ports), OURS, self.drops) for name in NAMES}
        for number, (name, member) in enumerate(self.members.items(), 1):
            self.hub.add_port(number, PortSettings(name, vlans=ports), 0.0)
            member.add_port(HUB, PortSettings("hub", vlans=ports), 0.0)
        self.got: list[tuple[str, bytes]] = []
        self.hops: list[str] = []

    def port(self, here: str, there: str) -> int:
        """The port of the way from one member to another."""
        return HUB + 1 + NAMES.index(there)

    def meet(self, one: str, other: str, up: bool = True) -> None:
        """A direct way between two members comes up, or ends."""
        for here, there in ((one, other), (other, one)):
            member, port = self.members[here], self.port(here, there)
            if up:
                member.add_port(port, None, self.now)  # type: ignore[arg-type]
            else:
                member.remove_port(port)

    def tell(self) -> None:
        """Everybody tells everybody else which hosts are behind it."""
        for here, there in itertools.permutations(NAMES, 2):
            self.members[there].forget(self.port(there, here))
            self.members[there].said(self.port(there, here), self.members[here].here(), ())

    def send(self, where: str, content: bytes) -> list[str]:
        """A host at a member, or the hub, sends a frame; who gets it: where, as often as it comes."""
        self.got, self.hops = [], []
        batch = Batch()
        batch.append(content)
        board = self.hub if where == "hub" else self.members[where]
        self._carry(where, board.outbound(batch, self.now))
        return sorted(name for name, _ in self.got)

    def _carry(self, where: str, parcels: object) -> None:
        copies = [(ports, [bytes(each) for each, _ in batch.frames()]) for ports, batch in parcels]  # type: ignore[attr-defined]
        for ports, contents in copies:
            for port in ports:
                there = NAMES[port - 1] if where == "hub" else "hub" if port == HUB else NAMES[port - HUB - 1]
                self.hops.append(f"{where}-{there}")
                assert len(self.hops) < 20, "a loop"
                self.arrive(where, there, contents)

    def direct(self, where: str, there: str, contents: list[bytes]) -> None:
        """A member sends another frames by their own way, whatever its switch would do."""
        self.got, self.hops = [], []
        self.arrive(where, there, contents)

    def arrive(self, where: str, there: str, contents: list[bytes]) -> None:
        frames = [(NO_OFFLOAD, memoryview(each)) for each in contents]
        if there == "hub":
            local, parcels = self.hub.inbound(1 + NAMES.index(where), frames, self.now)
        else:
            port = HUB if where == "hub" else self.port(there, where)
            local, parcels = self.members[there].inbound(port, frames, self.now)
        self.got += [(there, bytes(each[1])) for each in local]
        self._carry(there, parcels)


@pytest.fixture
def mesh() -> Mesh:
    """All three have met, and all hosts are known."""
    made = Mesh()
    for where, host in (("hub", 10), ("a", 1), ("b", 2), ("c", 3)):
        made.send(where, frame(host, None))
    for one, other in itertools.combinations(NAMES, 2):
        made.meet(one, other)
    made.tell()
    return made


def test_known_hosts_are_reached_directly_and_floods_go_by_the_hub(mesh: Mesh) -> None:
    assert (mesh.send("a", frame(1, 2)), mesh.hops) == (["b"], ["a-b"])
    assert (mesh.send("a", frame(1, 10)), mesh.hops) == (["hub"], ["a-hub"])
    assert (mesh.send("hub", frame(10, 3)), mesh.hops) == (["c"], ["hub-c"])
    for destination in (None, 99):
        assert mesh.send("a", frame(1, destination)) == ["b", "c", "hub"]
        assert mesh.hops == ["a-hub", "hub-b", "hub-c"]
    assert mesh.drops == {}


def test_one_batch_is_parted_by_ways_in_order_and_stays_whole_if_it_goes_one_way(mesh: Mesh) -> None:
    batch, member = Batch(), mesh.members["a"]
    frames = [frame(1, 2), frame(1, 10), frame(1, 3), frame(1, 2, b"\x08\0"), frame(1, None)]
    for each in frames:
        batch.append(each)
    parted = [(ports, [bytes(each) for each, _ in some.frames()]) for ports, some in member.outbound(batch, 1.0)]
    assert parted == [((3,), [frames[0], frames[3]]), ((1,), [frames[1], frames[4]]), ((4,), [frames[2]])]
    batch.clear()
    batch.append(frames[0])
    batch.append(frames[3])
    (parcel,) = member.outbound(batch, 1.0)
    assert (parcel.ports, parcel.batch is batch) == ((3,), True)


def test_a_way_that_dies_or_is_suspect_leaves_nothing_to_learn_anew(mesh: Mesh) -> None:
    mesh.members["a"].suspect(mesh.port("a", "b"), True)
    assert (mesh.send("a", frame(1, 2)), mesh.hops) == (["b"], ["a-hub", "hub-b"])
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["a"], ["b-a"])
    mesh.members["a"].suspect(mesh.port("a", "b"), False)
    mesh.meet("a", "b", up=False)
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["a"], ["b-hub", "hub-a"])
    mesh.meet("a", "b")
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["a"], ["b-a"])
    assert mesh.drops == {}


def test_who_is_sent_to_by_the_hub_hears_that_the_way_is_dead_on_the_far_side(mesh: Mesh) -> None:
    mesh.send("a", frame(1, None))
    mesh.send("c", frame(3, 2))
    assert mesh.members["b"].avoided() == [], "floods always come by the hub"
    mesh.members["a"].suspect(mesh.port("a", "b"), True)
    mesh.send("a", frame(1, 2))
    assert mesh.members["b"].avoided() == [mesh.port("b", "a")]
    mesh.send("a", frame(1, 99))
    assert mesh.members["b"].avoided() == [], "of a host that a member does not know of, it says nothing"


def test_a_host_that_has_moved_in_silence_is_found_again_and_its_former_member_is_not_asked(mesh: Mesh) -> None:
    """It sends to host 2 only, from behind the hub: neither its former site nor a flood tells that it has moved."""
    mesh.send("hub", frame(1, 2))
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["a"], ["b-a"])
    mesh.now += DISBELIEF_SECONDS
    mesh.send("hub", frame(1, 2))
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["hub"], ["b-hub"])


def test_a_host_that_moves_to_another_member_is_found_there_as_soon_as_that_is_told(mesh: Mesh) -> None:
    mesh.send("c", frame(1, None))
    mesh.tell()
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["c"], ["b-c"])
    assert (mesh.send("a", frame(5, 1)), mesh.hops) == (["c"], ["a-c"])


def test_groups_do_not_come_directly(mesh: Mesh) -> None:
    mesh.direct("a", "b", [frame(1, None), frame(1, 2)])
    assert (mesh.got, mesh.hops) == ([("b", frame(1, 2))], [])
    assert mesh.drops == {DropReason.MESH_GROUP: 1}


@pytest.mark.parametrize("destination", [2, 3, 10, 99])
def test_what_comes_directly_goes_to_the_device_or_nowhere(mesh: Mesh, destination: int) -> None:
    """Split horizon: not to the hub, nor to other members, whoever it is for."""
    mesh.direct("a", "b", [frame(1, destination)])
    assert mesh.hops == []
    assert mesh.got == ([("b", frame(1, destination))] if destination in (2, 99) else [])


def test_without_the_hub_members_that_know_each_other_go_on(mesh: Mesh) -> None:
    member = mesh.members["a"]
    member.remove_port(HUB)
    assert (mesh.send("a", frame(1, 2)), mesh.hops) == (["b"], ["a-b"])
    assert (mesh.send("b", frame(2, 1)), mesh.hops) == (["a"], ["b-a"])
    assert (mesh.send("a", frame(1, 10)), mesh.hops) == ([], [])
    assert mesh.drops == {DropReason.BRIDGE_PORT_DOWN: 1}
    assert member.tick(1.0) == ([], [])
    member.add_port(HUB, PortSettings("hub"), 2.0)
    assert mesh.send("a", frame(1, 10)) == ["hub"]
    for other in ("b", "c"):
        mesh.meet("a", other, up=False)
    member.remove_port(HUB)
    assert mesh.send("a", frame(1, 2)) == []
    assert mesh.drops[DropReason.BRIDGE_PORT_DOWN] == 1, "there is no port, so there is no way"
    mesh.meet("a", "b")
    assert mesh.send("a", frame(1, 2)) == ["b"]


def test_hosts_are_shown_to_the_hub_which_learns_them_and_sends_nothing(mesh: Mesh) -> None:
    mesh.send("a", frame(4, None))
    mesh.hub.bridge.fdb.flush()
    mesh.got, mesh.hops = [], []
    while mesh.now < SHOW_SECONDS + 2:
        due = mesh.members["a"].next_deadline()
        assert due is not None
        mesh.now = max(mesh.now, due)
        local, parcels = mesh.members["a"].tick(mesh.now)
        assert local == []
        mesh._carry("a", parcels)
    assert (mesh.got, set(mesh.hops)) == ([], {"a-hub"})
    assert [mesh.hub.bridge.fdb.lookup(0, mac(host), mesh.now) for host in (1, 4, 2)] == [1, 1, None]
    assert mesh.drops == {}


def test_a_member_that_nobody_has_met_shows_nothing() -> None:
    alone = Mesh()
    alone.send("a", frame(1, None))
    assert alone.members["a"].tick(1.0) == ([], [])


def test_members_are_told_of_hosts_at_the_device_in_the_order_they_came_up_to_a_limit(mesh: Mesh) -> None:
    member = mesh.members["a"]
    assert member.here() == [Host(0, mac(1))]
    for host in range(100, 100 + MAX_HOSTS):
        mesh.send("a", frame(host, 2))
    before = member.here()
    assert (len(before), before[0], before[-1]) == (MAX_HOSTS, Host(0, mac(1)), Host(0, mac(100 + MAX_HOSTS - 2)))
    mesh.send("c", frame(1, None))
    assert member.here() == [*before[1:], Host(0, mac(100 + MAX_HOSTS - 1))], (
        "who is told, stays; who has gone makes room"
    )


def test_a_host_in_two_vlans_is_two_hosts_and_frames_keep_the_form_they_have_for_the_hub() -> None:
    mesh = Mesh(trunk(frozenset((7,)), native=1))
    mesh.send("a", frame(1, None))
    mesh.send("c", frame(1, None, TAG7))
    mesh.send("b", frame(2, None, TAG7))
    mesh.send("b", frame(2, None))
    for one, other in itertools.combinations(NAMES, 2):
        mesh.meet(one, other)
    mesh.tell()
    assert mesh.members["c"].here() == [Host(7, mac(1))]
    assert (mesh.send("b", frame(2, 1)), mesh.hops, mesh.got) == (["a"], ["b-a"], [("a", frame(2, 1))])
    assert (mesh.send("b", frame(2, 1, TAG7)), mesh.hops) == (["c"], ["b-c"])
    assert mesh.got == [("c", frame(2, 1, TAG7))]
    mesh.members["c"].tick(1.0)
    mesh.members["a"].suspect(mesh.port("a", "b"), True)
    mesh.send("a", frame(1, 2))
    assert mesh.members["b"].avoided() == [mesh.port("b", "a")]
    mesh.send("c", frame(1, 2, TAG7))
    assert mesh.members["b"].avoided() == []


def test_hosts_of_a_vlan_are_shown_with_its_tag() -> None:
    mesh = Mesh(trunk(frozenset((7,)), native=1))
    mesh.send("a", frame(1, None, TAG7))
    mesh.meet("a", "b")
    mesh.hub.bridge.fdb.flush()
    while mesh.now < SHOW_SECONDS + 2:
        mesh.now = max(mesh.now, mesh.members["a"].next_deadline() or 0.0)
        mesh._carry("a", mesh.members["a"].tick(mesh.now)[1])
    assert [mesh.hub.bridge.fdb.lookup(vlan, mac(1), mesh.now) for vlan in (7, 1)] == [1, None]


WAYS = list(itertools.combinations(NAMES, 2))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(("hub", *NAMES)), st.sampled_from((None, 1, 2, 3, 10, 99))),
        st.tuples(st.sampled_from(("up", "down")), st.sampled_from(WAYS), st.none()),
        st.tuples(st.sampled_from(("suspect", "trust")), st.sampled_from(WAYS), st.booleans()),
        st.tuples(st.just("tell"), st.none(), st.none()),
    ),
    max_size=40,
)
HOME = {"hub": 10, "a": 1, "b": 2, "c": 3}


@settings(deadline=None)
@given(steps)
def test_whatever_ways_come_and_go_each_frame_comes_once_to_whom_it_is_for(
    script: list[tuple[str, object, object]],
) -> None:
    mesh = Mesh()
    up: set[object] = set()
    for what, who, other in script:
        mesh.now += 0.1
        if what == "send":
            got = mesh.send(str(who), frame(HOME[str(who)], other))  # type: ignore[arg-type]
            home = [name for name, host in HOME.items() if host == other and name != who]
            everybody = sorted(name for name in HOME if name != who)
            if home:  # a flood may leave out who knows better
                assert set(home) <= set(got) <= set(everybody)
                assert len(got) == len(set(got)), "once"
            else:
                assert got == (everybody if HOME[str(who)] != other else [])
        elif what == "tell":
            mesh.tell()
        elif what in ("up", "down"):
            if (what == "up") is not (who in up):
                (up.add if what == "up" else up.discard)(who)
                mesh.meet(*who, up=what == "up")  # type: ignore[misc]
        elif who in up:
            one, two = who if other else who[::-1]  # type: ignore[misc,index]
            mesh.members[one].suspect(mesh.port(one, two), what == "suspect")
    assert not mesh.drops.keys() - {DropReason.BRIDGE_SAME_PORT}


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        (PortSettings("a"), PortSettings("b"), True),
        (PortSettings("a", isolated=True), PortSettings("b"), True),
        (PortSettings("a", isolated=True), PortSettings("b", isolated=True), False),
        (PortSettings("a", mesh=True), PortSettings("b", mesh=True), False),
        (PortSettings("a", vlans=access(7)), PortSettings("b", vlans=access(7)), True),
        (PortSettings("a", vlans=access(7)), PortSettings("b"), False),
        (PortSettings("a", macs=((mac(1), None),)), PortSettings("b"), False),
    ],
)
def test_a_hub_whose_ports_are_not_alike_or_watched_wants_to_see_the_frames(
    one: PortSettings, other: PortSettings, may: bool
) -> None:
    assert may_bypass(one, other) is may_bypass(other, one) is may


def test_hosts_behind_a_member_that_is_muted_are_not_claimed() -> None:
    """Whoever is sent to it would not be heard."""
    mesh = Mesh()
    mesh.send("a", frame(1, None))
    member = mesh.members["a"]
    assert [host.mac for host in member.here()] == [mac(1)]
    member.bridge._muting.mute(HUB, "a loop", mesh.now)
    assert member.here() == []


def test_a_host_that_another_member_has_now_is_not_shown_to_the_hub() -> None:
    mesh = Mesh()
    mesh.meet("a", "b")
    mesh.send("a", frame(1, None))
    member = mesh.members["a"]

    def shown() -> int:
        count = 0
        for _ in range(20):
            mesh.now += SHOW_SECONDS / 10
            count += sum(len(batch) for _, batch in member.tick(mesh.now)[1])
        return count

    assert shown() == 2
    member.said(mesh.port("a", "b"), [Host(0, mac(1))], [])
    assert shown() == 0
