"""Ends that negotiate, with far ends that do not keep to it: a server lives, a client waits, and equals stop with the
reason, or let nothing pass."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import rule

from caetun.daemon import assigner as assigners
from caetun.daemon import puller as pullers
from caetun.daemon import services
from caetun.daemon.assigner import Assigner
from caetun.daemon.negotiator import HOLD, Equal, Negotiator, Role, make_offer
from caetun.daemon.puller import Puller
from caetun.errors import Disagreement
from caetun.negotiation.pool import Pool
from caetun.negotiation.store import Store
from caetun.session.channel import Kind
from caetun.sources import load
from caetun.types import Mode
from caetun.wire import configuration
from caetun.wire.configuration import Applied, Off, Offer, Push, Refused
from tests.daemon.test_hostile_words import objects, sound, values
from tests.parley import Hall, Parley, Stranger, machine_test
from tests.simulator import Setup, frame

_POLICIES = st.sampled_from((("symmetric", "equal"), ("server", "server"), ("server", "client")))


class AtTheTable(Parley):
    """Something is agreed upon, or not."""

    modules = (assigners, pullers, services)
    kind: ClassVar[Kind] = Kind.CONFIGURATION

    def sit_down(self, settings: Any, role: Role) -> Negotiator:
        """Make the service."""
        offer = make_offer(settings, str(self.hall.setup.mode), 1500)
        negotiator = Negotiator(self.hall.hands, offer, role, list(self.hall.node.peers.values()))
        self.hall.services.add(Kind.CONFIGURATION, negotiator)
        return negotiator

    @rule(who=st.integers(0, 1), policy=_POLICIES, mtu=st.sampled_from((1400, 1500)))
    def offer(self, who: int, policy: tuple[Any, Any], mtu: int) -> None:
        """One that goes with ours, or does not."""
        self.speak(who, configuration.encode(Offer(policy[0], policy[1], str(self.hall.setup.mode), mtu)))

    @rule(who=st.integers(0, 1), body=objects | sound | values)
    def anything(self, who: int, body: Any) -> None:
        """In JSON."""
        self.speak(who, json.dumps(body).encode()[:16_000])

    @rule(who=st.integers(0, 1), domain=st.sampled_from(("a.example", "-a", "a b", "a\nnameserver 192.0.2.6", "")))
    def assign_a_domain(self, who: int, domain: str) -> None:
        """That is one, or is not."""
        self.speak(who, json.dumps({"type": "push", "serial": 1, "settings": {"domain": [domain]}}).encode())

    @rule(who=st.integers(0, 1), serial=st.integers(0, 5), reason=st.text(st.characters(codec="utf-8"), max_size=20))
    def answer(self, who: int, serial: int, reason: str) -> None:
        """What was not asked."""
        for message in (Applied(serial=serial), Refused(reason=reason), Off()):
            self.speak(who, configuration.encode(message))

    def look(self) -> None:
        assert all(isinstance(error, Disagreement) for error in self.hall.stopped)
        assert all(
            str(error).startswith("--negotiation: the two ends are not set alike: ") for error in self.hall.stopped
        )


class AsEquals(AtTheTable):
    """Frames pass only between two that are set alike."""

    def build(self) -> None:
        self.hall = Hall(self.world, "hub", Setup({"a": []}))
        self.strangers = [Stranger(self.world, "a")]
        settings = load({"listen": [":4500"], "secret_file": "s.key", "negotiation": "symmetric"})
        self.sit_down(settings, Equal(self.hall.hands))

    def look(self) -> None:
        super().look()
        (peer,) = self.hall.node.peers.values()
        agreed = any(event == "negotiation.agreed" for event, _ in self.hall.told_of)
        assert agreed or HOLD in peer.conversation.holds

    def teardown(self) -> None:
        """Whoever is started again, and set alike, is agreed with."""
        (stranger,) = self.strangers
        stranger.again()
        self.calm(5.0)
        stranger.say(self.kind, configuration.encode(Offer("symmetric", "equal", "tap", 1500, features=("offload",))))
        self.calm(1.0)
        ours = configuration.decode(stranger.bodies(self.kind)[0])
        assert isinstance(ours, Offer)
        stranger.say(self.kind, configuration.encode(ours))
        self.calm(1.0)
        before = len(self.hall.received)
        stranger.send(frame(1))
        self.calm(1.0)
        assert len(self.hall.received) == before + 1
        super().teardown()


class AtTheServer(AtTheTable):
    """A server whose pool has three addresses for two clients."""

    def build(self) -> None:
        self.hall = Hall(self.world, "hub", Setup({"a": [], "b": []}, switch=True))
        self.strangers = [Stranger(self.world, name) for name in ("a", "b")]
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        store = Store(folder / "hub.sqlite")
        self._stack.callback(store.close)
        server = {"mode": "tap", "listen": [":4500"], "key": "k", "negotiation": "server"}
        settings = load({**server, "pool_network": ["10.88.0.0/29"], "pool_reserved": ["10.88.0.5-10.88.0.6"]})
        self.pool = Pool(store, settings.pool_network, settings.pool_reserved, [settings.pool_network[0][1]])
        node: Any = self.hall.node
        self.assigner = Assigner(self.hall.hands, node, settings, 1500, self.pool)
        self.sit_down(settings, self.assigner)
        self.fresh = [settings, load({**server, "pool_network": ["10.88.0.0/29"], "push_route": ["10.1.0.0/16"]})]

    @rule(which=st.integers(0, 1))
    def reload(self, which: int) -> None:
        """SIGHUP."""
        self.assigner.reload(self.fresh[which], 1500)

    def look(self) -> None:
        assert self.hall.stopped == [], "a server lives"
        leases = self.pool.leases()
        assert len(leases) <= 2
        assert len({lease.address for lease in leases}) == len(leases)
        assert self.assigner._told.keys() <= set(self.hall.node.peers.values())

    def teardown(self) -> None:
        """A client that keeps to it is told its address."""
        for stranger in self.strangers:
            stranger.again()
        self.calm(5.0)
        given = set()
        for stranger in self.strangers:
            stranger.say(self.kind, configuration.encode(Offer("server", "client", "tap", 1500)))
            self.calm(1.0)
            push = configuration.decode(stranger.bodies(self.kind)[-1])
            assert isinstance(push, Push)
            given.add(push.settings.address)
        assert len(given) == 2
        super().teardown()


class AtTheClient(AtTheTable):
    """A client whose server assigns what it likes; routes are for a kernel, and filtered."""

    def build(self) -> None:
        self.hall = Hall(self.world, "client", Setup({"hub": ["hub"]}))
        self.strangers = [Stranger(self.world, "hub", setup=Setup({"client": []}))]
        flags = {"mode": "tap", "connect": ["192.0.2.1:4500"], "secret_file": "s.key", "negotiation": "server"}
        self.settings = load({**flags, "pull_filter": ["ignore route"]})
        interface: Any = SimpleNamespace(resize=lambda _: None, assign=lambda _: None)
        place = ("tap0", False)
        self.puller = Puller(self.hall.hands, self.settings, lambda: interface, Mode.TAP, place, lambda _: None)
        self.puller.ask = self.sit_down(self.settings, cast(Role, self.puller)).offer

    def look(self) -> None:
        assert self.hall.stopped == [], "a client waits"
        assert self.hall.clock_of_services.waiting <= 1, "it asks again, once"
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", each) for each in self.puller.assigned.domain), "a file's words"

    def teardown(self) -> None:
        """A server that keeps to it is obeyed."""
        (hub,) = self.strangers
        hub.again()
        self.calm(130.0)
        hub.say(self.kind, b'{"type":"push","serial":7,"settings":{"address":["10.88.0.2/24"],"keepalive":5}}')
        self.calm(3.0)
        assert self.puller.assigned.address == ("10.88.0.2/24",)
        assert configuration.decode(hub.bodies(self.kind)[-1]) == Applied(serial=7)
        super().teardown()


TestAsEquals = machine_test(AsEquals)
TestAtTheServer = machine_test(AtTheServer)
TestAtTheClient = machine_test(AtTheClient)
