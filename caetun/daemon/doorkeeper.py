"""The side that asks: holds every peer's frames back until the chain of modules has agreed, and ends who may not stay.

met        -> held, asked            (a guest: a peer of its own, for as long as it is there)
answer     -> limits -> worker: the chain decides -> let in, or refused and sent away
SIGHUP     -> files are read again; who would not be let in any more is sent away
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from caetun import logs
from caetun.auth.base import Claim, Denied, Method, decide, fields_of
from caetun.auth.guests import AWAY_SECONDS, CONFIRM_SECONDS, Guests
from caetun.auth.stage import LATE, TOO_MANY, Stages, State
from caetun.errors import Refused
from caetun.session.admission import host_of
from caetun.types import DropReason
from caetun.wire.authentication import Message, Reply

if TYPE_CHECKING:
    from caetun.auth.password import Users
    from caetun.daemon.engine import Core
    from caetun.daemon.services import Hands, Services
    from caetun.daemon.worker import Worker
    from caetun.output import LinkView
    from caetun.peers import Peer
    from caetun.security.trust import Trust
    from caetun.session.security import Established

# chosen by us
HOLD: Final = "authentication"
LOOK_SECONDS: Final = 1.0
"""Between two looks at who is late or away."""
GRACE_SECONDS: Final = 30.0
"""For whoever was refused and shakes hands again: as long as an answer to a handshake is good for."""

CROWDED: Final = "the queue is full"
_AT_WILL: Final = frozenset((TOO_MANY, CROWDED))
"""Refusals that a stranger can cause as often as he likes: told now and then. All others the limits keep rare."""

log = logs.logger("auth")


class Doorkeeper:
    """Asks the peers of one node."""

    def __init__(
        self,
        core: Core,
        hands: Hands,
        services: Services,
        worker: Worker,
        chain: Sequence[Method],
        say: Callable[[Peer, Message], None],
    ) -> None:
        """Holds everybody from now on."""
        self.users: Users | None = None
        self.trust: Trust | None = None
        """What SIGHUP reads again."""
        self._core = core
        self._node = core.node
        self._hands = hands
        self._services = services
        self._worker = worker
        self._chain = chain
        self._say = say
        self._stages: Stages[Peer] = Stages(fields_of(chain), os.urandom)
        self._guests = Guests()
        self._away: dict[Peer, float] = {}
        """Guests without a session, and since when."""
        self._shut_out: set[str] = set()
        """Users and peers that were revoked while we run."""
        self._repeated = logs.RepeatedEvents(log, call_later=hands.loop.call_later)
        self._timer: asyncio.TimerHandle | None = None
        self._known = frozenset(self._node.peers)
        for peer in self._node.peers.values():
            peer.conversation.hold(HOLD)
        services.guard(lambda peer: HOLD in peer.conversation.holds)
        if not any(method.name == "key" for method in chain):
            core.identity.stranger = self._guests.may_come
            self._node.guest = self._guest

    def start(self) -> None:
        """Begin to look at the clock."""
        self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    # guests

    def _guest(self, ident: bytes, established: Established, link: LinkView) -> Peer | None:
        """A far end that no configuration names has shaken hands: a peer for it, or None if there are too many."""
        if not self._guests.come(ident, host_of(link.source)):
            self._node.drops.count(DropReason.AUTH_CROWDED)
            return None
        peer = self._core.make_guest(established)
        peer.conversation.hold(HOLD)
        self._away[peer] = time.monotonic() + CONFIRM_SECONDS - AWAY_SECONDS
        return peer

    def _dismiss(self, peer: Peer) -> None:
        """A guest is forgotten; another peer has to be asked again when it comes back."""
        self._stages.forget(peer)
        self._away.pop(peer, None)
        if peer.ident in self._known:
            peer.conversation.hold(HOLD)
            self._node.estrange(peer)
            return
        self._guests.gone(peer.ident)
        self._services.gone(peer)
        self._hands.remove(peer, "it has gone")

    # what peers say

    def deaf(self, peer: Peer) -> None:
        """A far end without a control channel."""
        peer.conversation.hold(HOLD)
        self._end(peer, "this version of the far end cannot be asked who it is")

    def met(self, peer: Peer) -> None:
        """Keys are there with a far end that knows nothing of what was said before."""
        peer.conversation.hold(HOLD)
        self._say(peer, self._stages.begin(peer, time.monotonic()))

    def heard(self, peer: Peer, reply: Reply) -> None:
        """A peer has answered."""
        now, link = time.monotonic(), peer.link
        host = host_of(link.source) if link is not None else ""
        try:
            denied = self._stages.answered(peer, reply, peer.ident, host, now)
        except KeyError:
            self._node.drops.count(DropReason.AUTH_UNEXPECTED)
            return
        if denied is not None:
            self._refuse(peer, denied.why, denied.note, host)
            return
        address = link.source.rpartition(" ")[0] if link is not None else ""
        claim = Claim(
            key=peer.ident,
            target=self._core.identity.target,
            known=peer.ident in self._known,
            address=address,
            certificate=peer.certificate,
            nonce=reply.nonce,
            wall=time.time(),
            values=reply.values,
        )

        def decided(outcome: str | Exception) -> None:
            if self._stages.checking(peer, reply.nonce):
                self._decided(peer, outcome, host)

        if not self._worker.submit(lambda: decide(self._chain, claim), decided):
            self._refuse(peer, "too many are asking at a time: try again", CROWDED, host)

    def _decided(self, peer: Peer, outcome: str | Exception, host: str) -> None:
        if isinstance(outcome, Denied):
            self._refuse(peer, outcome.why, outcome.note, host)
        elif isinstance(outcome, Exception):
            why = "the authentication of this hub is out of order"
            self._refuse(peer, why, f"{type(outcome).__name__} in a module", host)
        elif not self._shut_out.isdisjoint((outcome, peer.name)):
            self._refuse(peer, "access revoked", f"{outcome or peer.name} was revoked", host)
        elif peer.ident not in self._known and not self._core.several and self._someone_else(peer):
            self._refuse(peer, "somebody else is connected: this hub takes one at a time", "occupied", host)
        else:
            self._let_in(peer, outcome, host)

    def _someone_else(self, peer: Peer) -> bool:
        return any(other is not peer and other.carries for other in self._node.peers.values())

    def _let_in(self, peer: Peer, user: str, host: str) -> None:
        if peer.ident not in self._known:
            self._replace(peer, user)
            self._guests.passed(peer.ident)
            if user:
                self._node.rename(peer, user)
        self._say(peer, self._stages.accept(peer, peer.ident, user))
        self._services.let_in(peer)
        peer.conversation.release(HOLD)
        self._hands.wake()
        who = f"{user or peer.name} is let in"
        logs.event(log, logging.INFO, "auth.accepted", who, peer=peer.name, user=user, host=host)
        if peer.ident not in self._known and self._core.nowhere:
            text = (
                f"no address leads to {peer.name}: give guests some by --negotiation server and --pool-network, "
                "on both ends"
            )
            logs.event(log, logging.WARNING, "auth.nowhere", text, peer=peer.name)

    def _replace(self, peer: Peer, user: str) -> None:
        """A user has one session: the newest."""
        for other in list(self._node.peers.values()):
            if user and other is not peer and other.ident not in self._known and self._stages.user(other) == user:
                self._end(other, "the same user has come in from elsewhere")

    def _refuse(self, peer: Peer, why: str, note: str, host: str) -> None:
        """Tell it why, and send it away a moment later."""
        self._say(peer, self._stages.refuse(peer, why, time.monotonic()))
        peer.conversation.hold(HOLD)
        text = f"refused: {why}" + (f" ({note})" if note else "")
        self._node.drops.count(DropReason.AUTH_LIMITED if note in _AT_WILL else DropReason.AUTH_REFUSED)
        if note in _AT_WILL:
            self._repeated.event(time.monotonic(), logging.WARNING, "auth.limited", text, peer=peer.name, host=host)
        else:
            logs.event(log, logging.WARNING, "auth.refused", text, peer=peer.name, host=host)

    def _end(self, peer: Peer, why: str) -> None:
        """Its session ends now."""
        self._hands.expel(peer, why)
        self._dismiss(peer)

    # time

    def _look(self) -> None:
        now = time.monotonic()
        for peer, state, late in self._stages.late(now):
            if state is not State.REFUSED:
                self._refuse(peer, LATE, "", "")
            elif not peer.answered or late > GRACE_SECONDS:  # else somebody starts again just now
                self._end(peer, "it was refused")
        for peer in list(self._node.peers.values()):
            if peer.ident in self._known:
                continue
            if peer.present:
                self._away.pop(peer, None)
            elif now - self._away.setdefault(peer, now) >= AWAY_SECONDS:
                self._dismiss(peer)
        self._timer = self._hands.loop.call_later(LOOK_SECONDS, self._look)

    # revocation

    def reread(self) -> None:
        """The files are others now: send away whom they do not name any more."""
        wall = time.time()
        for peer in list(self._node.peers.values()):
            user = self._stages.user(peer)
            if user and self.users is not None and user not in self.users and self._asks_users:
                self._end(peer, f"{user} is not in the file of users any more")
            elif self.trust is not None and peer.certificate:
                try:
                    self.trust.check_revoked(peer.certificate, wall)
                except Refused as refused:
                    self._end(peer, refused.detail)

    @property
    def _asks_users(self) -> bool:
        return any(method.name == "password" for method in self._chain)

    def revoke(self, name: str) -> int:
        """Shut out a user or peer of this name until the end; returns how many sessions that ended."""
        self._shut_out.add(name)
        found = [peer for peer in self._node.peers.values() if name in (self._stages.user(peer), peer.name)]
        for peer in found:
            self._end(peer, "revoked")
        return len(found)
