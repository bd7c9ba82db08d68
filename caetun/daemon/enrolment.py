"""The hub's part of enrolment: lets invitations in to enrol and to nothing else, and makes peers of members at once.

What `caetun invite` and `caetun expel` write into the hub's store is noticed within a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from caetun.errors import ConfigurationError, HostError
from caetun.negotiation.membership import Membership
from caetun.ports import PortWords, parse_words
from caetun.session.channel import Kind
from caetun.session.identity import decode_key
from caetun.wire import enrolment
from caetun.wire.enrolment import Denied, Enrol, Welcome

if TYPE_CHECKING:
    import asyncio

    from caetun.daemon.services import Hands
    from caetun.peers import Peer

# chosen by us
LOOK_SECONDS: Final = 1.0
HOLD: Final = "enrolment"
"""Why an invitation's frames do not pass."""


class Enrolments:
    """The service for enrolment, and the keeper of the peers that come and go while the hub runs."""

    def __init__(
        self,
        hands: Hands,
        membership: Membership,
        admit: Callable[[bytes, str, PortWords | None], Peer],
        dismiss: Callable[[Peer, str], None],
    ) -> None:
        """`admit`: makes a peer of (key, name, words of its port); `dismiss`: takes one away, and says why."""
        self._hands = hands
        self._membership = membership
        self._admit = admit
        self._dismiss = dismiss
        self._members: dict[bytes, Peer] = {}
        self._invited: dict[bytes, Peer] = {}
        self._by_peer: dict[Peer, bytes] = {}
        """Invitations by the peer that stands for them."""
        self._version = membership.version
        self._look: asyncio.TimerHandle = hands.loop.call_later(LOOK_SECONDS, self._again)
        self._synchronise()

    def close(self) -> None:
        """Look no more."""
        self._look.cancel()

    def _again(self) -> None:
        try:
            version = self._membership.version
            if version != self._version:
                self._version = version
                self._synchronise()
        except HostError as error:
            self._hands.tell("error", "enrolment.failed", str(error))
        self._look = self._hands.loop.call_later(LOOK_SECONDS, self._again)

    def _synchronise(self) -> None:
        """Make peers of those who are new, take away those who are no more."""
        members = {member.key: member for member in self._membership.members()}
        invited = {each.key: each for each in self._membership.invitations(time.time())}
        for key in self._members.keys() - members.keys():
            self._dismiss(self._members.pop(key), "expelled")
        for key in self._invited.keys() - invited.keys():
            peer = self._invited.pop(key)
            del self._by_peer[peer]
            self._dismiss(peer, "its invitation is forgotten")
        for key, member in members.items():
            if key not in self._members and (made := self._made(key, member.name, member.words)):
                self._members[key] = made
        for key, each in invited.items():
            if key not in self._invited and (made := self._made(key, f"invitation {each.name}", None)):
                made.conversation.hold(HOLD)
                self._invited[key] = made
                self._by_peer[made] = key

    def _made(self, key: bytes, name: str, words: str | None) -> Peer | None:
        try:
            parts = [part for part in (words or "").split(",") if part]
            return self._admit(key, name, None if words is None else parse_words([f"name={name}", *parts]))
        except (ConfigurationError, ValueError) as error:
            self._hands.tell("error", "enrolment.failed", f"{name}: {error}")
            return None

    # the service

    def met(self, peer: Peer) -> None:
        """It speaks first."""

    def gone(self, peer: Peer) -> None:
        """It is no peer any more: whoever takes one away here has forgotten it."""

    def deaf(self, peer: Peer) -> None:
        """It cannot enrol."""

    def heard(self, peer: Peer, body: bytes) -> None:
        """An invitation wants to be redeemed. Raises Malformed."""
        message = enrolment.decode(body)
        if not isinstance(message, Enrol):
            return
        key = self._by_peer.get(peer)
        reason: str | None = "no invitation: only who was invited can enrol"
        if key is not None:
            try:
                new = decode_key(message.key)
                reason = self._membership.redeem(key, new, time.time())
                self._synchronise()
                if reason is None and new not in self._members:
                    reason = "the key cannot be a peer's"
            except (ConfigurationError, HostError) as error:
                self._hands.tell("error", "enrolment.failed", str(error))
                reason = "the hub cannot store it"
        name = peer.name.removeprefix("invitation ")
        if reason is None:
            self._hands.say(peer, Kind.ENROLMENT, enrolment.encode(Welcome(name)))
            self._hands.tell("info", "enrolment.joined", f"{name} has joined", peer=name)
        else:
            self._hands.say(peer, Kind.ENROLMENT, enrolment.encode(Denied(reason)))
            self._hands.tell("warning", "enrolment.denied", f"{name}: {reason}", peer=name)

    def rows(self, wall: float) -> list[dict[str, Any]]:
        """Rows for `caetun show members`."""
        rows = [
            {"name": member.name, "state": "member", "up": "yes" if self._up(member.key) else "", "expires in s": ""}
            for member in self._membership.members()
        ]
        for each in self._membership.invitations(wall):
            if each.used is None:
                left = round(each.expires - wall)
                state = "invited" if left > 0 else "expired"
                rows.append({"name": each.name, "state": state, "up": "", "expires in s": str(max(0, left))})
        return rows

    def _up(self, key: bytes) -> bool:
        peer = self._members.get(key)
        return peer is not None and peer.present
