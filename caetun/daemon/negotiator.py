"""The configuration handshake (docs/negotiation.md): both ends offer; then equals compare, or a server tells a client.

| policy, role      | on its offer                                | then                                            |
|-------------------|---------------------------------------------|-------------------------------------------------|
| symmetric, equal  | alike: frames pass; else both say so, stop  |                                                 |
| server, server    | `Assigner` gives addresses, pushes          | pushes again when its configuration has changed |
| server, client    | waits                                       | `Puller` filters, applies, says what it left out|

A symmetric end that does not go with its only peer stops. A client stays: its hub may be set right at any time, and
then says so by starting again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from caetun.errors import Disagreement
from caetun.negotiation.differences import Difference, differences, table
from caetun.session.channel import Kind
from caetun.wire import configuration
from caetun.wire.configuration import Applied, Off, Offer, Push, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caetun.daemon.services import Hands
    from caetun.peers import Peer
    from caetun.settings import Settings

HOLD: Final = "configuration"
"""Why frames are held back until equals have compared their settings."""


class Role(Protocol):
    """What follows when the offers go together."""

    def agreed(self, peer: Peer) -> None:
        """Offers were exchanged."""

    def heard(self, peer: Peer, message: Push | Applied | Refused) -> None:
        """A message of another type."""

    def forget(self, peer: Peer) -> None:
        """It is no peer any more."""


class Equal:
    """Nothing follows: both ends are set alike."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def agreed(self, peer: Peer) -> None:
        """Let frames pass."""
        peer.conversation.release(HOLD)
        self._hands.tell("info", "negotiation.agreed", "both ends are set alike", peer=peer.name)
        self._hands.wake()

    def forget(self, peer: Peer) -> None:
        """There is nothing to forget."""

    def heard(self, peer: Peer, message: Push | Applied | Refused) -> None:
        """Not expected of an equal; what it refuses is told."""
        if isinstance(message, Refused):
            self._hands.tell("error", "negotiation.refused", f"the far end refuses: {message.reason}", peer=peer.name)


def make_offer(settings: Settings, mode: str, mtu: int) -> Offer:
    """What this end is set to."""
    if settings.negotiation == "symmetric":
        policy, role = "symmetric", "equal"
    else:
        policy, role = "server", "client" if settings.connect else "server"
    features = (["offload"] if settings.offload else []) + (["post-quantum"] if settings.post_quantum != "off" else [])
    return Offer(
        policy=policy,  # type: ignore[arg-type]
        role=role,  # type: ignore[arg-type]
        mode=mode,
        mtu=mtu,
        compression=",".join(settings.compress) or "none",
        features=tuple(sorted(features)),
    )


class Negotiator:
    """The service for configuration."""

    def __init__(self, hands: Hands, offer: Offer, role: Role, peers: Sequence[Peer]) -> None:
        self._hands = hands
        self._offer = offer
        self._role = role
        self._only = len(peers) == 1
        """With one peer a disagreement ends a symmetric tunnel; of several, that one stays shut out."""
        if offer.policy == "symmetric":
            for peer in peers:
                peer.conversation.hold(HOLD)

    def resized(self, mtu: int) -> None:
        """The device's MTU is another one: whoever is met next is told."""
        import msgspec

        self._offer = msgspec.structs.replace(self._offer, mtu=mtu)

    def met(self, peer: Peer) -> None:
        """Say what this end is set to."""
        if self._offer.policy == "symmetric":
            peer.conversation.hold(HOLD)
        self.offer(peer)

    def offer(self, peer: Peer) -> bool:
        """Ask to be told, or to compare; False if that could not be sent."""
        return self._hands.say(peer, Kind.CONFIGURATION, configuration.encode(self._offer))

    def gone(self, peer: Peer) -> None:
        """It is no peer any more."""
        self._role.forget(peer)

    def deaf(self, peer: Peer) -> None:
        """A version without a control channel."""
        self._silent(peer, "none (an older version)")

    def heard(self, peer: Peer, body: bytes) -> None:
        """Raises Malformed."""
        message = configuration.decode(body)
        if isinstance(message, Offer):
            found = differences(self._offer, message)
            if found:
                self._differ(peer, found)
            else:
                self._role.agreed(peer)
        elif isinstance(message, Off):
            self._silent(peer, "off")
        else:
            self._role.heard(peer, message)

    def mode_differs(self, peer: str, there: str) -> None:
        """The hellos carried different modes, so that there is no session to negotiate in."""
        if self._offer.policy == "symmetric":
            self._tell([Difference("mode", self._offer.mode, there)], peer)
            if self._only:
                self._hands.stop(_disagreement([Difference("mode", self._offer.mode, there)]))

    def _silent(self, peer: Peer, there: str) -> None:
        """It does not negotiate. A server lives with that: the peer may have an address of its own."""
        if self._offer.role == "server":
            text = "does not negotiate (--negotiation off): it keeps its own settings"
            self._hands.tell("info", "negotiation.off", text, peer=peer.name)
        else:
            self._differ(peer, [Difference("negotiation", self._offer.policy, there)])

    def _differ(self, peer: Peer, found: list[Difference]) -> None:
        self._tell(found, peer.name)
        if self._offer.role == "client":
            text = (
                f"{peer.name} assigns nothing as it is set now: waiting until it is started again with other settings"
            )
            self._hands.tell("warning", "negotiation.waiting", text, peer=peer.name)
        elif self._only and self._offer.role == "equal":
            self._hands.stop(_disagreement(found), peer)
        elif self._offer.role == "server":
            self._hands.say(peer, Kind.CONFIGURATION, configuration.encode(Refused(reason=_words(found)[:256])))

    def _tell(self, found: list[Difference], peer: str) -> None:
        heading, *lines = table(found)
        self._hands.tell("error", "negotiation.differs", heading, peer=peer)
        for line, each in zip(lines, found, strict=True):
            self._hands.tell(
                "error", "negotiation.differs", line, peer=peer, setting=each.setting, here=each.here, there=each.there
            )


def _words(found: list[Difference]) -> str:
    return "; ".join(f"{each.setting} {each.here} here, {each.there} there" for each in found)


def _disagreement(found: list[Difference]) -> Disagreement:
    return Disagreement(f"--negotiation: the two ends are not set alike: {_words(found)}: change one of them")
