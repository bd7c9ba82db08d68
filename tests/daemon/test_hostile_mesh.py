"""A mesh of which somebody keeps to nothing: a hub introduces whom it likes, members join as they like."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import rule

from caetun.board import LOCAL
from caetun.daemon import member as members
from caetun.daemon import mesh as meshes
from caetun.daemon import services
from caetun.daemon.member import MemberMesh
from caetun.daemon.mesh import HubMesh
from caetun.l3.answers import Answers
from caetun.l3.router import Router
from caetun.l3.table import Table
from caetun.mesh.introductions import MAX_MEMBERS
from caetun.peers import Peer
from caetun.session.channel import Kind
from caetun.session.identity import PeerId, public_key
from caetun.session.session import Session
from caetun.types import Mode
from caetun.wire.mesh import MAX_PLACES, Gone, Hosts, Introduce, Join, Place, decode, encode
from caetun.wire.mesh import Host as Machine
from tests.parley import Hall, Parley, Stranger, machine_test
from tests.simulator import Host, Setup, World, key_of

_NAMES = ("hub", "me", "bob", "carol", "dave")
_KEYS = {**{name: public_key(key_of(name)) for name in _NAMES}, "nobody": bytes(32)}
_PLACES = st.lists(
    st.builds(Place, st.sampled_from([ip_address(f"192.0.2.{number}") for number in range(1, 7)]), st.just(4500)),
    max_size=MAX_PLACES,
)
_PREFIXES = st.lists(
    st.sampled_from([ip_network(text) for text in ("10.88.0.2", "10.88.0.3", "10.0.0.0/8", "0.0.0.0/0", "::/0")]),
    max_size=5,
)

_HOSTS = st.lists(st.builds(Machine, st.sampled_from((0, 7)), st.just(bytes((2, 0, 0, 0, 0, 1)))), max_size=3)


class Crossroads(Hall):
    """A hall with a router."""

    def __init__(self, world: World, name: str, setup: Setup) -> None:
        self.router = Router(Table(), Answers(Mode.TUN, None), None, patient=True, hub=1)  # type: ignore[arg-type]
        super().__init__(world, name, setup)

    def _switchboard(self) -> Any:
        self.router = Router(Table(), Answers(Mode.TUN, self.drops), self.drops, patient=True, hub=1)
        return self.router


class Roads(Parley):
    """With a router at the hall, and messages of the mesh."""

    modules = (services,)
    kind: ClassVar[Kind] = Kind.MESH

    def sit(self, name: str, peers: dict[str, list[str]]) -> Any:
        """The hall, and the socket that it has."""
        self.hall = Crossroads(self.world, name, Setup(peers, mode=Mode.TUN, switch=True))
        endpoint = SimpleNamespace(native=False, link=lambda address: self.hall.link(address[0]))
        sockets = SimpleNamespace(towards=lambda host, port: (endpoint, (host, port)))
        self._stack.enter_context(patch.object(members, "udp_sockets", lambda _: sockets))
        self._stack.enter_context(patch.object(meshes, "_seen", lambda _: Place(ip_address("192.0.2.9"), 4500)))
        return SimpleNamespace(loop=self.hall.clock_of_services)

    @rule(who=st.integers(0, 2), places=_PLACES)
    def join(self, who: int, places: list[Place]) -> None:
        """Whoever it is."""
        self.speak(who, encode(Join(tuple(places))))

    @rule(
        who=st.integers(0, 2),
        key=st.sampled_from(sorted(_KEYS)) | st.integers(0, 200),
        name=st.sampled_from(("bob", "carol", "")),
        places=_PLACES,
        prefixes=_PREFIXES,
    )
    def introduce(self, who: int, key: str | int, name: str, places: list[Place], prefixes: list[Any]) -> None:
        """Somebody who is there, or is not, or is one of those who speak."""
        member = _KEYS[key] if isinstance(key, str) else public_key(key_of(str(key)))
        self.speak(who, encode(Introduce(member, key_of("psk"), name, tuple(places), tuple(prefixes))))

    @rule(who=st.integers(0, 2), key=st.sampled_from(sorted(_KEYS)))
    def part_with(self, who: int, key: str) -> None:
        """Somebody who was introduced, or was not."""
        self.speak(who, encode(Gone(_KEYS[key])))

    @rule(who=st.integers(0, 2), come=_HOSTS, gone=_HOSTS)
    def tell_of_hosts(self, who: int, come: list[Machine], gone: list[Machine]) -> None:
        """To whom it is of no use: there is a router."""
        self.speak(who, encode(Hosts(tuple(come), tuple(gone))))

    def look(self) -> None:
        assert self.hall.stopped == []


class AtTheHub(Roads):
    """Peers of the settings, who have joined or not."""

    def build(self) -> None:
        context = self.sit("hub", {"bob": [], "carol": []})
        for number in (1, 2):
            self.hall.router.add_routes(number, [ip_network(f"10.88.0.{number}")])
        pump: Any = self.hall.pump
        self.mesh = HubMesh(self.hall.node, pump, context.loop)
        self.hall.services.add(Kind.MESH, self.mesh)
        tun = Setup({"hub": ["hub"]}, mode=Mode.TUN)
        self.strangers = [Stranger(self.world, name, setup=tun) for name in ("bob", "carol")]

    def look(self) -> None:
        super().look()
        assert self.mesh._joined.keys() <= self.hall.node.peers.keys()
        assert len(self.mesh._introductions) <= 2
        assert len(self.mesh._introductions._psks) <= 1

    def teardown(self) -> None:
        """Two that keep to it are introduced to each other."""
        for stranger in self.strangers:
            stranger.again()
        self.calm(10.0)
        for stranger in self.strangers:
            stranger.say(self.kind, encode(Join()))
        self.calm(3.0)
        for stranger, other in zip(self.strangers, ("carol", "bob"), strict=True):
            told = decode(stranger.bodies(self.kind)[-1])
            assert isinstance(told, Introduce)
            assert (told.key, told.name) == (_KEYS[other], other)
        super().teardown()


class AtTheMember(Roads):
    """A member whose hub introduces whom it likes; bob is there, and speaks for himself."""

    def build(self) -> None:
        context = self.sit("me", {"hub": ["hub"]})
        self.hall.router.add_routes(LOCAL, [ip_network("10.88.0.2")])
        self.hall.router.add_routes(1, [ip_network("0.0.0.0/0")])
        pump: Any = self.hall.pump
        self.mesh = MemberMesh(self.hall.node, pump, context, self._make_peer)
        self.hall.services.add(Kind.MESH, self.mesh)
        self.hall.services.confine(Kind.MESH, self.mesh.owns)
        hub = Stranger(self.world, "hub", setup=Setup({"me": []}, mode=Mode.TUN))
        bob = Stranger(self.world, "bob", setup=Setup({"me": ["me"]}, mode=Mode.TUN))
        bob.outside = "192.0.2.1"
        self.strangers = [hub, hub, bob]

    def _make_peer(self, ident: PeerId, name: str) -> Peer:
        hall: Host = self.hall
        session = Session(hall.setup.mode, hall.drops)
        return Peer(ident, name, session, hall.handshakes, hall.setup.timing, hall._entropy)

    def look(self) -> None:
        super().look()
        members = self.mesh._members
        assert len(members) <= MAX_MEMBERS
        assert {*members, _KEYS["hub"]} == self.hall.node.peers.keys()
        assert not {_KEYS["hub"], _KEYS["me"], _KEYS["nobody"]} & members.keys()
        assert all(len(offered) <= MAX_PLACES for offered in members.values())
        own = self.hall.router.table.find(ip_address("10.88.0.2").packed)
        assert own is not None
        assert own.port == LOCAL, "nobody is given what is ours"

    def teardown(self) -> None:
        """A hub that keeps to it is believed."""
        hub = self.strangers[0]
        hub.again()
        self.calm(130.0)
        assert decode(hub.bodies(self.kind)[-1]) == Join() or hub.bodies(self.kind)
        dave = Introduce(_KEYS["dave"], key_of("psk"), "dave", (), (ip_network("10.88.0.77"),))
        full = len(self.mesh._members) >= MAX_MEMBERS
        hub.say(self.kind, encode(dave))
        self.calm(2.0)
        assert (_KEYS["dave"] in self.mesh._members) is not full
        super().teardown()


TestAtTheHub = machine_test(AtTheHub)
TestAtTheMember = machine_test(AtTheMember)
