"""What a hub and a member make of what is said to them; the network itself is in tests/tunnel/test_mesh.py."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from caetun.board import LOCAL
from caetun.daemon import member as members
from caetun.daemon import mesh as hubs
from caetun.daemon.member import MemberMesh
from caetun.daemon.mesh import HubMesh
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.member import MemberSwitch
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.vlan import access
from caetun.l3.answers import Answers
from caetun.l3.router import Router
from caetun.l3.table import Table
from caetun.notices import Event
from caetun.session.channel import Kind
from caetun.session.identity import NO_PSK, StaticIdentity, public_key
from caetun.transports.base import Context, Options
from caetun.transports.udp_link import UdpLink
from caetun.types import DropReason, Drops, Mode
from caetun.wire.mesh import Gone, Host, Hosts, Introduce, Join, Place, decode, encode
from caetun.wire.virtio_net import NO_OFFLOAD
from tests.l2.frames import ipv6, mac
from tests.l2.hosts import sends

HUB, BOB, CAROL = (public_key(bytes((number,)) * 32) for number in (1, 2, 3))
PSK = bytes(32)
BOBS = (ip_network("10.88.0.3"),)


class Far:
    """What a mesh needs of a `Peer`."""

    link = None
    doubted = False

    def __init__(self, ident: bytes, name: str) -> None:
        self.ident, self.name = ident, name


class Stage:
    """A member with a node, a pump and a hub made of cardboard: what it does is written down."""

    def __init__(self, mode: Mode = Mode.TUN) -> None:
        self.drops = Drops()
        self.done: list[tuple[Any, ...]] = []
        self.hears = True
        """Whether what is said to peers finds room."""
        self.hub = Far(HUB, "hub")
        self.peers: dict[bytes, Far] = {HUB: self.hub}
        self.router = Router(Table(), Answers(Mode.TUN, self.drops), self.drops, patient=True, hub=1)
        self.router.add_routes(LOCAL, [ip_network("10.88.0.2")])
        self.router.add_routes(1, [ip_network("0.0.0.0/0")])
        bridge = Bridge(self.drops, LoopProbes(bytes(32), mac(99)), SnoopingSettings(address6=ipv6(1)))
        bridge.add_port(LOCAL, PortSettings("local"), 0.0)
        self.switch = MemberSwitch(bridge, mac(99), self.drops)
        self.switch.add_port(1, PortSettings("hub"), 0.0)
        self.identity = StaticIdentity(bytes((9,)) * 32, {HUB: NO_PSK})
        node = SimpleNamespace(
            peers=self.peers,
            board=self.router if mode is Mode.TUN else self.switch,
            drops=self.drops,
            add=lambda peer: self.peers.__setitem__(peer.ident, peer),
            port_of=lambda peer: list(self.peers).index(peer.ident) + 1,
            handshakes=SimpleNamespace(identity=self.identity, hello=SimpleNamespace(mode=mode)),
        )
        pump = SimpleNamespace(
            offer=lambda peer, link, rank: self.done.append(("offer", peer.name, link.name)),
            withdraw=lambda peer, link: self.done.append(("withdraw", peer.name, link.name)),
            say=lambda peer, kind, body: self.done.append(("say", peer.name, kind, body)) or self.hears,
            doubt=self.doubt,
            remove=self.remove,
        )
        loop = asyncio.get_running_loop()
        context = Context(loop, cast(Any, None), (), self.drops, Options(), lambda *_: None)
        self.context = context
        self.member = MemberMesh(
            cast(Any, node), cast(Any, pump), context, lambda ident, name: cast(Any, Far(ident, name))
        )

    def hear(self, *places: str, key: bytes = BOB, psk: bytes = PSK, name: str = "bob") -> list[tuple[Any, ...]]:
        """The hub introduces somebody; what is done about it."""
        where = tuple(Place(ip_address(place), 4500) for place in places)
        self.member.heard(cast(Any, self.hub), encode(Introduce(key, psk, name, where, BOBS)))
        done, self.done = self.done, []
        return done

    def doubt(self, peer: Any) -> None:
        self.done.append(("doubt", peer.name))
        peer.doubted = True

    def remove(self, peer: Any, why: str) -> None:
        self.done.append(("remove", peer.name))
        del self.peers[peer.ident]

    def told(self) -> list[tuple[str, Hosts]]:
        """Who is told of which hosts."""
        done, self.done = self.done, []
        messages = [(name, decode(body)) for what, name, _, body in done if what == "say"]
        return [(name, message) for name, message in messages if isinstance(message, Hosts)]

    def port(self, address: str) -> int:
        return self.router.table.find(ip_address(address).packed).port

    def close(self) -> None:
        self.member.close()
        for shared in self.context.shared.values():
            shared.close()


@pytest.fixture
async def stage() -> Any:
    made = Stage()
    yield made
    made.close()


async def test_a_hub_that_is_met_is_told_that_we_join(stage: Stage) -> None:
    stage.member.met(cast(Any, stage.hub))
    assert stage.done == [("say", "hub", Kind.MESH, encode(Join()))]
    stage.member.met(cast(Any, Far(BOB, "bob")))
    assert len(stage.done) == 1


async def test_whom_the_hub_introduces_is_called_and_has_routes(stage: Stage) -> None:
    assert stage.hear("192.0.2.1") == [("offer", "bob", "udp 192.0.2.1:4500")]
    assert stage.identity.psk_of(cast(Any, BOB)) == PSK
    assert (stage.port("10.88.0.3"), stage.port("10.88.0.4")) == (2, 1)


async def test_who_has_moved_is_called_elsewhere(stage: Stage) -> None:
    stage.hear("192.0.2.1", "192.0.2.2")
    assert stage.hear("192.0.2.2", "192.0.2.3") == [
        ("withdraw", "bob", "udp 192.0.2.1:4500"),
        ("offer", "bob", "udp 192.0.2.3:4500"),
    ]
    assert stage.hear("192.0.2.2", "192.0.2.3", psk=bytes((1,)) * 32) == []
    assert stage.identity.psk_of(cast(Any, BOB)) == bytes((1,)) * 32


async def test_who_is_gone_is_no_peer_any_more_and_goes_by_the_hub(stage: Stage) -> None:
    stage.hear("192.0.2.1")
    bob = cast(Any, stage.peers[BOB])
    stage.member.heard(cast(Any, stage.hub), encode(Gone(BOB)))
    stage.member.heard(cast(Any, stage.hub), encode(Gone(CAROL)))
    assert stage.done == [("remove", "bob")]
    assert stage.port("10.88.0.3") == 1
    stage.member.suspect(bob, True)
    assert list(stage.member.rows()) == []


async def test_only_the_hub_introduces(stage: Stage) -> None:
    stage.hear("192.0.2.1")
    stage.member.heard(cast(Any, stage.peers[BOB]), encode(Introduce(CAROL, PSK, "carol", (), ())))
    assert (CAROL in stage.peers, stage.drops) == (False, {DropReason.MESH_STRANGER: 1})


async def test_nobody_is_introduced_as_the_hub_or_as_ourselves_or_without_a_real_key(stage: Stage) -> None:
    for key in (HUB, stage.identity.target, bytes(32)):
        assert stage.hear("192.0.2.1", key=key) == []
    assert list(stage.peers) == [HUB]
    assert stage.drops == {DropReason.MESH_FULL: 1, DropReason.MESH_MALFORMED: 2}


async def test_there_are_so_many_members_at_most(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 1)
    stage.hear("192.0.2.1")
    assert stage.hear("192.0.2.2", key=CAROL) == []
    assert stage.hear("192.0.2.3") != [], "a known one may move"


async def test_a_member_that_is_gone_makes_room_for_another(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 1)
    stage.hear("192.0.2.1")
    stage.member.heard(cast(Any, stage.hub), encode(Gone(BOB)))
    assert stage.hear("192.0.2.2", key=CAROL, name="carol") == [
        ("remove", "bob"),
        ("offer", "carol", "udp 192.0.2.2:4500"),
    ]
    assert [row["member"] for row in stage.member.rows()] == ["carol"]


async def test_that_a_member_cannot_be_called_directly_is_no_warning(stage: Stage) -> None:
    silent = Event("warning", "peer.silent", "no answer", {"peer": "bob"})
    assert stage.member.told(silent)[:2] == ("info", "mesh.relayed")
    about_hub = Event("warning", "peer.silent", "no answer", {"peer": "hub"})
    assert stage.member.told(about_hub) is about_hub


@pytest.fixture
async def bridged() -> Any:
    """The same with Ethernet; Bob is known, and has a way."""
    made = Stage(Mode.TAP)
    made.hear("192.0.2.1")
    made.switch.add_port(2, cast(Any, None), 0.0)
    yield made
    made.close()


def host(number: int) -> Host:
    return Host(0, mac(number))


def appears(stage: Stage, number: int) -> None:
    """A host of ours says something."""
    stage.switch.bridge.forward(LOCAL, memoryview(sends(number, 99)), 1.0)


async def test_a_member_that_is_met_is_told_of_our_hosts_and_again_when_others_come_or_go(bridged: Stage) -> None:
    bob = cast(Any, bridged.peers[BOB])
    appears(bridged, 1)
    bridged.member._look_for_hosts()
    assert bridged.told() == [], "nobody was met"
    bridged.member.met(bob)
    assert bridged.told() == [("bob", Hosts((host(1),)))]
    bridged.member._look_for_hosts()
    assert bridged.told() == []
    appears(bridged, 2)
    bridged.hears = False
    bridged.member._look_for_hosts()
    bridged.hears = True
    bridged.done.clear()
    bridged.member._look_for_hosts()
    assert bridged.told() == [("bob", Hosts((host(2),)))], "what found no room is said again"
    bridged.switch.bridge.fdb.flush()
    bridged.member._look_for_hosts()
    assert bridged.told() == [("bob", Hosts((), (host(1), host(2))))]
    bridged.member.met(bob)
    assert bridged.told() == []


async def test_what_a_member_says_of_its_hosts_leads_to_them_until_it_is_started_again(bridged: Stage) -> None:
    bob = cast(Any, bridged.peers[BOB])
    bridged.member.heard(bob, encode(Hosts((host(7),))))
    assert bridged.switch.shortcuts.ways == {mac(7): 2}
    row = {"member": "bob", "way": "direct", "link": "", "hosts": 1}
    assert list(bridged.member.rows()) == [row]
    bridged.member.suspect(bob, True)
    assert list(bridged.member.rows()) == [{**row, "way": "by the hub"}]
    bridged.member.met(bob)
    assert list(bridged.member.rows()) == [{**row, "way": "by the hub", "hosts": 0}]


async def test_who_avoids_a_way_is_answered_by_the_hub_until_the_way_has_proved_that_it_works(bridged: Stage) -> None:
    bob = bridged.peers[BOB]
    bridged.member.heard(cast(Any, bob), encode(Hosts((host(7),))))
    appears(bridged, 1)
    bridged.switch.here()
    bridged.done.clear()

    def look(avoided: bool) -> tuple[list[tuple[Any, ...]], dict[bytes, int]]:
        if avoided:
            bridged.switch.inbound(1, [(NO_OFFLOAD, memoryview(sends(7, 1)))], 1.0)
        bridged.member._look_for_hints()
        done, bridged.done = bridged.done, []
        return done, bridged.switch.shortcuts.ways

    directly, doubt = {mac(7): 2}, [("doubt", "bob")]
    assert look(avoided=False) == ([], directly)
    assert look(avoided=True) == (doubt, {})
    assert look(avoided=True) == ([], {}), "that is known"
    bob.doubted = False
    assert look(avoided=False) == ([], directly)
    assert look(avoided=True) == (doubt, directly), "so soon after the last hint, that may be but an echo of it"


async def test_the_hub_has_no_hosts_to_tell_of_and_a_router_wants_none(bridged: Stage, stage: Stage) -> None:
    bridged.member.heard(cast(Any, bridged.hub), encode(Hosts((host(7),))))
    assert bridged.switch.shortcuts.ways == {}
    stage.hear("192.0.2.1")
    stage.member.heard(cast(Any, stage.peers[BOB]), encode(Hosts((host(7),))))
    assert stage.drops == {DropReason.MESH_STRANGER: 1}


class Office:
    """A hub whose peers are made of cardboard, and have ports 1 and 2."""

    def __init__(self, mode: Mode = Mode.TUN) -> None:
        self.drops = Drops()
        self.said: list[tuple[str, bytes]] = []
        self.peers = {key: self.peer(key, name) for key, name in ((BOB, "bob"), (CAROL, "carol"))}
        self.ports = {"bob": PortSettings("bob"), "carol": PortSettings("carol")}
        self.router = Router(Table(), Answers(Mode.TUN, self.drops), self.drops)
        for number in (1, 2):
            self.router.add_routes(number, [ip_network(f"10.88.{number}.0/24")])
        node = SimpleNamespace(
            peers=self.peers,
            drops=self.drops,
            board=self.router,
            port_of=lambda peer: ["bob", "carol"].index(peer.name) + 1,
            port_settings=lambda peer: self.ports[peer.name],
            handshakes=SimpleNamespace(hello=SimpleNamespace(mode=mode)),
        )
        pump = SimpleNamespace(say=lambda peer, kind, body: self.said.append((peer.name, body)))
        self.hub = HubMesh(cast(Any, node), cast(Any, pump), asyncio.get_running_loop())
        for peer in self.peers.values():
            self.hub.heard(peer, encode(Join()))

    @staticmethod
    def peer(key: bytes, name: str) -> Any:
        link = UdpLink(cast(Any, None), ("192.0.2.1" if name == "bob" else "192.0.2.2", 4500))
        gate = SimpleNamespace(held=False)
        return SimpleNamespace(ident=key, name=name, carries=True, link=link, expelled=False, conversation=gate)

    def look(self) -> list[tuple[str, str]]:
        """Who is told now, and what."""
        return [(name, type(message).__name__) for name, message in self.told()]

    def told(self) -> list[tuple[str, Any]]:
        self.hub.close()
        self.hub._look()
        said, self.said = self.said, []
        return [(name, decode(body)) for name, body in said]


@pytest.fixture
async def office() -> Any:
    made = Office()
    yield made
    made.hub.close()


BOTH = [("bob", "Introduce"), ("carol", "Introduce")]


async def test_who_is_held_back_is_introduced_when_it_is_let_in(office: Office) -> None:
    bob = office.peers[BOB]
    bob.carries, bob.conversation.held = False, True
    assert office.look() == []
    bob.carries, bob.conversation.held = True, False
    assert sorted(office.look()) == BOTH
    bob.carries, bob.conversation.held = False, True
    assert office.look() == [("carol", "Gone")]


async def test_who_is_expelled_or_started_again_is_gone_at_once(office: Office) -> None:
    bob = office.peers[BOB]
    office.look()
    bob.carries, bob.expelled = False, True
    assert office.look() == [("carol", "Gone")]
    bob.carries, bob.expelled = True, False
    assert sorted(office.look()) == BOTH
    office.hub.met(bob)
    assert office.look() == [("carol", "Gone")], "it has yet to join"


async def test_who_is_silent_may_speak_to_others_still_but_not_for_ever(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = office.peers[BOB]
    office.look()
    bob.carries = False
    assert office.look() == []
    bob.carries = True
    assert office.look() == []
    bob.carries = False
    monkeypatch.setattr(hubs, "SILENT_SECONDS", 0.0)
    assert office.look() == [("carol", "Gone")]
    bob.carries = True
    assert sorted(office.look()) == BOTH


async def test_members_are_introduced_with_what_leads_to_them_now(office: Office) -> None:
    (lease,) = leased = (ip_network("10.88.0.9"),)
    office.router.remove_routes([ip_network("10.88.1.0/24")])
    assert office.look() == [], "as long as Bob has no address, there is nothing to send to"
    office.router.grant(1, leased)
    told = dict(office.told())
    assert (told["carol"].prefixes, told["bob"].prefixes) == ((lease,), (ip_network("10.88.2.0/24"),))
    office.router.grant(1, [ip_network("10.88.0.10")])
    ((name, message),) = office.told()
    assert (name, message.prefixes) == ("carol", (ip_network("10.88.0.10"),))
    office.router.grant(1, ())
    assert sorted(office.look()) == [("bob", "Gone"), ("carol", "Gone")]


async def test_a_member_that_is_no_peer_any_more_is_gone_for_the_others(office: Office) -> None:
    office.look()
    del office.peers[BOB]
    assert office.look() == [("carol", "Gone")]
    assert [row["member"] for row in office.hub.rows()] == ["carol"]


async def test_a_switch_introduces_only_those_whose_frames_need_not_be_looked_at() -> None:
    office = Office(Mode.TAP)
    office.ports["bob"] = PortSettings("bob", vlans=access(7))
    assert office.look() == []
    office.ports["carol"] = PortSettings("carol", vlans=access(7))
    assert sorted(office.look()) == BOTH
    rows = {row["member"]: row for row in office.hub.rows()}
    assert rows["bob"] == {"member": "bob", "state": "up", "at": "192.0.2.1 4500", "introduced to": 1}
    office.hub.close()
