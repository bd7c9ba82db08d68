"""Whoever holds an invitation says what he likes: it makes one member, or none, and opens nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import rule

from caetun.daemon import enrolment as enrolments
from caetun.daemon import services
from caetun.daemon.enrolment import HOLD, Enrolments
from caetun.negotiation.membership import Membership
from caetun.negotiation.store import Store
from caetun.peers import Peer
from caetun.ports import PortWords
from caetun.session.channel import Kind
from caetun.session.identity import PeerId, encode_key, public_key
from caetun.session.session import Session
from caetun.types import Mode
from caetun.wire import enrolment
from caetun.wire.enrolment import Denied, Enrol, Welcome
from tests.parley import Hall, Parley, Stranger, machine_test
from tests.simulator import WALL, Setup, key_of

_KEYS = {
    **{name: public_key(key_of(name)) for name in ("new", "newer", "alice's", "bob's", "hub", "friend")},
    "nobody's": bytes(32),
}
"""That somebody may want to enrol: two of his own, those of the invitations, others', and one that is no key."""


def _frame(number: int) -> bytes:
    """A broadcast of the one with that number."""
    return b"\xff" * 6 + b"\x02" + bytes(4) + bytes((number,)) + b"\x88\xb5" + bytes(6) + number.to_bytes(8, "big")


class AtTheGate(Parley):
    """Two invitations, and a peer that the configuration names and that enrols, too."""

    modules = (enrolments, services)
    kind: ClassVar[Kind] = Kind.ENROLMENT

    def build(self) -> None:
        self.hall = Hall(self.world, "hub", Setup({"friend": []}, switch=True))
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        store = Store(folder / "hub.sqlite")
        # The commands' own, as `caetun invite` has: what it writes is to be noticed.
        beside = Store(folder / "hub.sqlite")
        self._stack.callback(store.close)
        self._stack.callback(beside.close)
        self.membership, self.desk = Membership(store), Membership(beside)
        self.invited = 0
        self.enrolments = Enrolments(self.hall.hands, self.membership, self._admit, self._dismiss)
        self.hall.services.add(Kind.ENROLMENT, self.enrolments)
        self.strangers = [Stranger(self.world, name) for name in ("alice's", "bob's", "friend")]
        self.invite("alice", 600)

    def _admit(self, key: bytes, name: str, words: PortWords | None) -> Peer:
        hall = self.hall
        ident = hall.handshakes.admit(key)
        session = Session(Mode.TAP, hall.drops)
        peer = Peer(ident, name, session, hall.handshakes, hall.setup.timing, hall._entropy)
        hall.node.add(peer, (words or PortWords()).settings(name))
        return peer

    def _dismiss(self, peer: Peer, why: str) -> None:
        self.hall.hands.remove(peer, why)

    @rule(name=st.sampled_from(("alice", "bob")), seconds=st.sampled_from((1, 600)))
    def invite(self, name: str, seconds: int) -> None:
        """By the command; the invitation is the key of the stranger of that name."""
        wall, key = WALL + self.world.now, _KEYS[f"{name}'s"]
        # The command makes a new key each time, and has none for a member.
        used = any(each.key == key and each.used is not None for each in self.desk.invitations(wall))
        if not used and name not in {member.name for member in self.desk.members()}:
            self.desk.invite(key, name, "", wall, seconds)
            self.invited += 1

    @rule(name=st.sampled_from(("alice", "bob")))
    def expel(self, name: str) -> None:
        """By the command."""
        self.desk.expel(name)

    @rule(who=st.integers(0, 2), key=st.sampled_from(sorted(_KEYS)))
    def enrol(self, who: int, key: str) -> None:
        """With some key."""
        self.speak(who, enrolment.encode(Enrol(encode_key(_KEYS[key]))))

    @rule(who=st.integers(0, 2), text=st.sampled_from(("A" * 43 + "=", "/" * 43 + "=")))
    def enrol_with_an_odd_one(self, who: int, text: str) -> None:
        """Base64, but not as one writes it."""
        self.speak(who, enrolment.encode(Enrol(text)))

    @rule(who=st.integers(0, 2))
    def say_what_hubs_say(self, who: int) -> None:
        """Nobody listens."""
        self.speak(who, enrolment.encode(Welcome("alice")))
        self.speak(who, enrolment.encode(Denied("no")))

    def look(self) -> None:
        node, members = self.hall.node, self.membership.members()
        assert len(members) <= self.invited, "one each"
        assert {member.name for member in members} <= {"alice", "bob"}
        guests = [peer for peer in node.peers.values() if peer.name.startswith("invitation ")]
        assert all(HOLD in peer.conversation.holds for peer in guests)
        assert set(self.enrolments._by_peer) == set(guests)
        known = {*self.enrolments._members.values(), *guests}
        assert known < set(node.peers.values()), "and the friend"
        assert len(node.peers) == len(known) + 1
        assert PeerId(_KEYS["hub"]) not in node.peers
        assert self.hall.stopped == []

    def teardown(self) -> None:
        """A new invitation is as good as ever, and the peers of the settings are what they were."""
        self.calm(60.0)
        self.desk.expel("carol")
        self.desk.invite(public_key(key_of("carol's")), "carol", "", WALL + self.world.now, 600)
        self.calm(2.0)
        carol = Stranger(self.world, "carol's")
        friend: Any = self.strangers[2]
        self.calm(3.0)
        carol.say(self.kind, enrolment.encode(Enrol(encode_key(public_key(key_of("carol"))))))
        self.calm(2.0)
        assert enrolment.decode(carol.bodies(self.kind)[-1]) == Welcome("carol")
        member = Stranger(self.world, "carol")
        self.calm(3.0)
        assert member.peer.present
        for number, each in enumerate((carol, member, friend), 1):
            each.send(_frame(number))
        self.calm(2.0)
        assert {1, 2, 3} & {*self.hall.numbers} == {2, 3}, "an invitation opens nothing but the way to enrol"
        super().teardown()


TestAtTheGate = machine_test(AtTheGate)
