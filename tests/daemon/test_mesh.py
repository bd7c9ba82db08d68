"""What a hub and a member make of what is said to them; the network itself is in tests/tunnel/test_mesh.py."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from caetun.board import LOCAL
from caetun.daemon import mesh as meshes
from caetun.daemon.mesh import HubMesh, MemberMesh
from caetun.l3.answers import Answers
from caetun.l3.router import Router
from caetun.l3.table import Table
from caetun.notices import Event
from caetun.session.channel import Kind
from caetun.session.identity import NO_PSK, StaticIdentity, public_key
from caetun.transports.base import Context, Options
from caetun.transports.udp_link import UdpLink
from caetun.types import DropReason, Drops, Mode
from caetun.wire.mesh import Gone, Introduce, Join, Place, decode, encode

HUB, BOB, CAROL = (public_key(bytes((number,)) * 32) for number in (1, 2, 3))
PSK = bytes(32)
BOBS = (ip_network("10.88.0.3"),)


class Far:
    """What a mesh needs of a `Peer`."""

    link = None

    def __init__(self, ident: bytes, name: str) -> None:
        self.ident, self.name = ident, name


class Stage:
    """A member with a node, a pump and a hub made of cardboard: what it does is written down."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.done: list[tuple[Any, ...]] = []
        self.hub = Far(HUB, "hub")
        self.peers: dict[bytes, Far] = {HUB: self.hub}
        self.router = Router(Table(), Answers(Mode.TUN, self.drops), self.drops, patient=True, hub=1)
        self.router.add_routes(LOCAL, [ip_network("10.88.0.2")])
        self.router.add_routes(1, [ip_network("0.0.0.0/0")])
        self.identity = StaticIdentity(bytes((9,)) * 32, {HUB: NO_PSK})
        node = SimpleNamespace(
            peers=self.peers,
            board=self.router,
            drops=self.drops,
            add=lambda peer: self.peers.__setitem__(peer.ident, peer),
            port_of=lambda peer: list(self.peers).index(peer.ident) + 1,
            handshakes=SimpleNamespace(identity=self.identity),
        )
        pump = SimpleNamespace(
            offer=lambda peer, link, rank: self.done.append(("offer", peer.name, link.name)),
            withdraw=lambda peer, link: self.done.append(("withdraw", peer.name, link.name)),
            say=lambda peer, kind, body: self.done.append(("say", peer.name, kind, body)),
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


async def test_who_is_gone_is_called_no_more_and_goes_by_the_hub(stage: Stage) -> None:
    stage.hear("192.0.2.1")
    stage.member.heard(cast(Any, stage.hub), encode(Gone(BOB)))
    stage.member.heard(cast(Any, stage.hub), encode(Gone(CAROL)))
    assert stage.done == [("withdraw", "bob", "udp 192.0.2.1:4500")]
    assert stage.router.rows()[1][2] == "by the hub"


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
    monkeypatch.setattr(meshes, "MAX_MEMBERS", 1)
    stage.hear("192.0.2.1")
    assert stage.hear("192.0.2.2", key=CAROL) == []
    assert stage.hear("192.0.2.3") != [], "a known one may move"


async def test_that_a_member_cannot_be_called_directly_is_no_warning(stage: Stage) -> None:
    silent = Event("warning", "peer.silent", "no answer", {"peer": "bob"})
    assert stage.member.told(silent)[:2] == ("info", "mesh.relayed")
    about_hub = Event("warning", "peer.silent", "no answer", {"peer": "hub"})
    assert stage.member.told(about_hub) is about_hub


class Office:
    """A hub whose peers are made of cardboard."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.said: list[tuple[str, bytes]] = []
        self.peers = {key: self.peer(key, name) for key, name in ((BOB, "bob"), (CAROL, "carol"))}
        settings = SimpleNamespace(
            peer=[SimpleNamespace(key=key, port=SimpleNamespace(networks=())) for key in self.peers]
        )
        node = SimpleNamespace(peers=self.peers, drops=self.drops)
        pump = SimpleNamespace(say=lambda peer, kind, body: self.said.append((peer.name, body)))
        self.hub = HubMesh(cast(Any, settings), cast(Any, node), cast(Any, pump), asyncio.get_running_loop())

    @staticmethod
    def peer(key: bytes, name: str) -> Any:
        link = UdpLink(cast(Any, None), ("192.0.2.1" if name == "bob" else "192.0.2.2", 4500))
        return SimpleNamespace(ident=key, name=name, carries=True, link=link)

    def look(self) -> list[tuple[str, str]]:
        """Who is told now, and what."""
        self.hub.close()
        self.hub._look()
        said, self.said = self.said, []
        return [(name, type(decode(body)).__name__) for name, body in said]


async def test_a_member_that_was_held_back_or_silent_is_introduced_when_it_carries_again() -> None:
    office = Office()
    bob, carol = office.peers[BOB], office.peers[CAROL]
    bob.carries = False
    for peer in (bob, carol):
        office.hub.heard(peer, encode(Join()))
    assert office.look() == []
    bob.carries = True
    assert office.look() == [("carol", "Introduce"), ("bob", "Introduce")]
    bob.carries = False
    assert office.look() == [("carol", "Gone")]
    bob.carries = True
    assert sorted(office.look()) == [("bob", "Introduce"), ("carol", "Introduce")]
    office.hub.met(bob)
    assert office.look() == [("carol", "Gone")], "it was started again, and has yet to join"
    office.hub.close()
