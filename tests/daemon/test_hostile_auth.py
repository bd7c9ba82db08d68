"""Who is asked who he is, and says what he likes, when he likes: no answer lets anybody in but the right one, and the
hub lives. And the other way round: a hub that asks what it likes."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import rule

from caetun.auth.base import PASSWORD, USER, WRONG, Claim, Denied
from caetun.auth.guests import MAX_WAITING
from caetun.auth.limit import MAX_ENTRIES
from caetun.auth.stage import State
from caetun.daemon import applicant as applicants
from caetun.daemon import doorkeeper as doorkeepers
from caetun.daemon import services
from caetun.daemon.applicant import Applicant
from caetun.daemon.doorkeeper import HOLD, Doorkeeper
from caetun.daemon.engine import GUEST, Core
from caetun.daemon.services import MAX_OUTSIDE
from caetun.errors import AuthenticationRefused, ConfigurationError
from caetun.l2.bridge import PortSettings
from caetun.peers import Peer
from caetun.session.channel import Kind
from caetun.session.session import Session
from caetun.types import DropReason
from caetun.wire import authentication
from caetun.wire.authentication import Accepted, Ask, Field, Reply
from tests.parley import Hall, Parley, Stranger, VirtualWorker, machine_test
from tests.simulator import Setup

RIGHT = "sesame"
_FIELDS = st.sampled_from(("user", "password", "code", "certificate", "signature", "mother"))
_USERS = ("alice", "bob", "carol")


class Book:
    """Users of whom one may be taken out, and a module that knows them."""

    name = "password"
    fields = (USER, PASSWORD)

    def __init__(self) -> None:
        self.users = set(_USERS)

    def __contains__(self, name: object) -> bool:
        return name in self.users

    def check(self, claim: Claim) -> str:
        if claim.values.get("password") == "crash":
            raise RuntimeError("a module with a mistake")
        if claim.values.get("user") not in self.users or claim.values.get("password") != RIGHT:
            raise Denied(WRONG, "wrong")
        return claim.values["user"]


class Door:
    """The service for authentication at a hub: what `daemon/authentication.py` does with a doorkeeper."""

    def __init__(self, hall: Hall) -> None:
        self.worker = VirtualWorker(hall.world)
        self.book = Book()
        identity: Any = hall.handshakes.identity

        def make_guest(established: Any) -> Peer:
            identity.learn(established.peer, "")
            name = f"{GUEST}{established.peer[:4].hex()}"
            session = Session(hall.setup.mode, hall.drops)
            guest = Peer(established.peer, name, session, hall.handshakes, hall.setup.timing, hall._entropy)
            hall.node.add(guest, PortSettings(name))
            return guest

        core = Core(hall.node, identity, make_guest, True, False)
        chain = [self.book]
        self.keeper = Doorkeeper(core, hall.hands, hall.services, cast(Any, self.worker), chain, self._say)
        self.keeper.users = cast(Any, self.book)
        self._hall = hall
        self.met, self.deaf = self.keeper.met, self.keeper.deaf

    def _say(self, peer: Peer, message: authentication.Message) -> None:
        self._hall.hands.say(peer, Kind.AUTHENTICATION, authentication.encode(message))

    def heard(self, peer: Peer, body: bytes) -> None:
        message = authentication.decode(body)
        if isinstance(message, Reply):
            self.keeper.heard(peer, message)
        else:
            self._hall.drops.count(DropReason.AUTH_UNEXPECTED)

    def gone(self, peer: Peer) -> None:
        """The keeper has seen to it."""


class Ear:
    """A service that is to hear nothing of whoever is not let in."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def met(self, peer: Peer) -> None:
        assert self._door.keeper._stages.state(peer) is State.PASSED

    deaf = met

    def heard(self, peer: Peer, body: bytes) -> None:
        self.met(peer)

    def gone(self, peer: Peer) -> None:
        """It hears of nobody else."""


class AtTheDoor(Parley):
    """A peer that the configuration names, and guests that it does not."""

    modules = (doorkeepers, services)
    kind: ClassVar[Kind] = Kind.AUTHENTICATION

    def build(self) -> None:
        self.hall = Hall(self.world, "hub", Setup({"known": []}, switch=True))
        self.door = Door(self.hall)
        self.hall.services.add(Kind.AUTHENTICATION, self.door)
        self.hall.services.add(Kind.CONFIGURATION, Ear(self.door))
        self.door.keeper.start()
        self.strangers = [Stranger(self.world, name) for name in ("known", "guest", "other")]

    @rule(
        who=st.integers(0, 2),
        which=st.integers(-3, -1),
        user=st.sampled_from(("alice", "bob", "nobody", "")),
        password=st.sampled_from((RIGHT, "guess", "crash", "")),
    )
    def answer(self, who: int, which: int, user: str, password: str) -> None:
        """A question: the last one, or one of before."""
        asked = [authentication.decode(body) for body in self.strangers[who].bodies(Kind.AUTHENTICATION)]
        nonces = [message.nonce for message in asked if isinstance(message, Ask)] or [bytes(32)]
        reply = Reply(nonces[max(which, -len(nonces))], {"user": user, "password": password})
        self.speak(who, authentication.encode(reply))

    @rule(who=st.integers(0, 2), user=st.sampled_from(_USERS))
    def claim_to_be_let_in(self, who: int, user: str) -> None:
        """What only the hub may say."""
        self.speak(who, authentication.encode(Accepted(user)))

    @rule(seconds=st.sampled_from((0.01, 3.0, 70.0)))
    def verdicts_take(self, seconds: float) -> None:
        """So long from now on."""
        self.door.worker.takes = seconds

    @rule(user=st.sampled_from(("alice", "bob")), there=st.booleans())
    def reread(self, user: str, there: bool) -> None:
        """SIGHUP, with another file."""
        (self.door.book.users.add if there else self.door.book.users.discard)(user)
        self.door.keeper.reread()

    @rule(name=st.sampled_from(("bob", "known", "nobody")))
    def revoke(self, name: str) -> None:
        """By hand."""
        self.door.keeper.revoke(name)

    def look(self) -> None:
        keeper, node = self.door.keeper, self.hall.node
        peers = set(node.peers.values())
        for peer in peers:
            let_in = keeper._stages.state(peer) is State.PASSED
            assert (HOLD in peer.conversation.holds) is not let_in, peer.name
            assert not let_in or keeper._stages.user(peer) in _USERS
        assert keeper._stages._stages.keys() <= peers
        assert keeper._away.keys() <= peers
        assert len(keeper._guests._waiting) <= MAX_WAITING
        assert {*keeper._guests._waiting, *keeper._guests._passed} == node.peers.keys() - keeper._known
        assert len(keeper._stages.limiter) <= MAX_ENTRIES
        assert all(len(waiting) <= MAX_OUTSIDE for waiting in self.hall.services._outside.values())
        users = [keeper._stages.user(peer) for peer in peers if peer.ident not in keeper._known]
        named = [user for user in users if user]
        assert len(set(named)) == len(named), "a user has one session"
        assert self.hall.stopped == [], "no answer ends a hub"

    def teardown(self) -> None:
        """Whoever is right comes in, whatever was before."""
        self.door.worker.takes = 0.1
        honest = Stranger(self.world, "honest")
        self.calm(5.0)
        asked = authentication.decode(honest.bodies(Kind.AUTHENTICATION)[-1])
        assert isinstance(asked, Ask)
        honest.say(self.kind, authentication.encode(Reply(asked.nonce, {"user": "carol", "password": RIGHT})))
        self.calm(2.0)
        assert authentication.decode(honest.bodies(Kind.AUTHENTICATION)[-1]) == Accepted("carol")
        super().teardown()


class AtTheDesk(Parley):
    """A client whose hub asks what it likes, and takes back what it has said."""

    modules = (applicants, services)
    kind: ClassVar[Kind] = Kind.AUTHENTICATION

    def build(self) -> None:
        self.hall = Hall(self.world, "client", Setup({"hub": ["hub"]}))
        self.strangers = [Stranger(self.world, "hub", setup=Setup({"client": []}))]
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "credentials"
        file.write_text(f'user = "alice"\npassword = "{RIGHT}"\n')
        file.chmod(0o600)
        self.worker = VirtualWorker(self.world)
        keys: Any = SimpleNamespace(credentials=None)
        self.applicant = Applicant(file, keys, bytes(32), cast(Any, self.worker), self._say, self.hall.stopped.append)
        nobody = ConfigurationError("--credentials: hub asks for more, and there is no terminal to ask at")
        self._stack.enter_context(patch.object(self.applicant._terminal, "ask", side_effect=nobody))
        self.asked = self.answered = 0
        self.hall.services.add(Kind.AUTHENTICATION, self)

    def _say(self, peer: Peer, message: authentication.Message) -> None:
        self.answered += 1
        self.hall.hands.say(peer, Kind.AUTHENTICATION, authentication.encode(message))

    # the service

    def met(self, peer: Peer) -> None:
        """The hub may ask."""

    deaf = gone = met

    def heard(self, peer: Peer, body: bytes) -> None:
        """As `daemon/authentication.py`."""
        message = authentication.decode(body)
        if isinstance(message, Reply):
            self.hall.drops.count(DropReason.AUTH_UNEXPECTED)
            return
        self.asked += isinstance(message, Ask)
        self.applicant.heard(peer, message)

    @rule(
        nonce=st.binary(min_size=32, max_size=32),
        fields=st.lists(
            st.sampled_from(("user", "password", "code", "certificate", "signature", "mother")), max_size=4
        ),
    )
    def ask(self, nonce: bytes, fields: list[str]) -> None:
        """What it has and what it has not."""
        self.speak(0, authentication.encode(Ask(nonce, tuple(Field(name, False) for name in fields))))

    @rule(times=st.integers(30, 60))
    def ask_without_end(self, times: int) -> None:
        """More than are looked at."""
        for number in range(times):
            self.speak(0, authentication.encode(Ask(number.to_bytes(32, "big"), (USER,))))

    @rule(user=st.text(max_size=20))
    def accept(self, user: str) -> None:
        """Whoever it may be."""
        with contextlib.suppress(UnicodeEncodeError):
            self.speak(0, authentication.encode(Accepted(user)))

    @rule(why=st.text(max_size=20))
    def deny(self, why: str) -> None:
        """For whatever reason."""
        self.speak(0, authentication.encode(authentication.Denied(why)))

    def look(self) -> None:
        assert self.answered <= self.asked
        assert self.worker.busy <= self.worker.room
        for error in self.hall.stopped:
            assert isinstance(error, AuthenticationRefused | ConfigurationError)
            assert str(error).startswith(("authentication refused: ", "--credentials: ", "--cert: "))
            assert str(error).isprintable(), "a line that a hub cannot forge others with"
        self.hall.stopped.clear()  # the tunnel would have ended; this one goes on, to hear more


TestAtTheDoor = machine_test(AtTheDoor)
TestAtTheDesk = machine_test(AtTheDesk)
