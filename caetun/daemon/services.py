"""What peers say on their control channels goes to a service of its kind: configuration, enrolment, ...

    Output.said -> Pump -> Services.said -> Service.met | deaf | heard -> Hands.say -> Pump.say

A service is of this process, not of a peer: it keeps what it knows of each one. A message that it cannot read is
dropped by name; nothing that a peer says ends the tunnel, unless that is what was asked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from caetun import logs
from caetun.errors import CaeTunError, PeerError
from caetun.session.channel import DEAF, MET, Kind
from caetun.types import DropReason, Drops

if TYPE_CHECKING:
    import asyncio

    from caetun.daemon.pump import Pump
    from caetun.peers import Peer

# chosen by us
_LAST_WORDS_SECONDS: Final = 3.0
"""How long the end waits for the far end to have heard why."""
_LOOK_SECONDS: Final = 0.05
MAX_OUTSIDE: Final = 8
"""Messages kept of a peer that is not let in yet."""
OFF: Final = b'{"type":"off"}'
"""What a side says that does not negotiate: `wire.configuration.Off`, which it need not import."""

log = logs.logger("negotiation")


class Service(Protocol):
    """One kind of messages."""

    def met(self, peer: Peer) -> None:
        """A far end is there that knows nothing of what was said before."""

    def deaf(self, peer: Peer) -> None:
        """A far end is there that cannot be spoken to."""

    def heard(self, peer: Peer, body: bytes) -> None:
        """It says something. May raise PeerError, whose reason is counted."""

    def gone(self, peer: Peer) -> None:
        """It is no peer any more: forget it."""


class Hands:
    """What services may do."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pump: Callable[[], Pump], failed: Callable[[CaeTunError], None]
    ) -> None:
        self.loop = loop
        self._pump = pump
        self._failed = failed

    def say(self, peer: Peer, kind: Kind, body: bytes) -> bool:
        """Send a message; False if there is nobody to send it to, or no room."""
        return self._pump().say(peer, kind, body)

    def expel(self, peer: Peer, why: str) -> None:
        """End a peer's session at once."""
        self._pump().expel(peer, why)

    def remove(self, peer: Peer, why: str) -> None:
        """Forget a peer, and end its session."""
        self._pump().remove(peer, why)

    def wake(self) -> None:
        """Let the core look at what is due: a gate was opened, an interval is another one."""
        self._pump().wake()

    def tell(self, level: str, event: str, text: str, **fields: Any) -> None:
        """A line for the log."""
        logs.event(log, logging.getLevelNamesMapping()[level.upper()], event, text, **fields)

    def stop(self, error: CaeTunError, peer: Peer | None = None) -> None:
        """End the tunnel with this error, once `peer` has heard what was said to it."""
        deadline = time.monotonic() + _LAST_WORDS_SECONDS

        def look() -> None:
            if peer is None or peer.conversation.channel.idle or time.monotonic() >= deadline:
                self._failed(error)
            else:
                self.loop.call_later(_LOOK_SECONDS, look)

        # Not at once: the acknowledgement of what made us stop goes out first.
        self.loop.call_later(_LOOK_SECONDS, look)


class Services:
    """All of them, by kind."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._by_kind: dict[int, Service] = {}
        self._closed: Callable[[Peer], bool] | None = None
        self._outside: dict[Peer, list[tuple[int, bytes]]] = {}
        """What peers have said that are not let in yet."""
        self._confined: tuple[Kind, Callable[[Peer], bool]] | None = None

    def add(self, kind: Kind, service: Service) -> None:
        """Give a service the messages of this kind."""
        self._by_kind[kind] = service

    def guard(self, closed: Callable[[Peer], bool]) -> None:
        """Services other than authentication hear nothing of a peer as long as it is `closed` out."""
        self._closed = closed

    def confine(self, kind: Kind, confined: Callable[[Peer], bool]) -> None:
        """Peers of whom this is true have the service of this kind, and no other: they were introduced for nothing
        else, and nobody else's questions are theirs to ask."""
        self._confined = kind, confined

    def let_in(self, peer: Peer) -> None:
        """A peer is closed out no more: services hear of it, and what it has said so far."""
        for kind, body in self._outside.pop(peer, ()):
            self._pass_on(peer, kind, body)

    def gone(self, peer: Peer) -> None:
        """It is no peer any more."""
        self._outside.pop(peer, None)
        for service in self._by_kind.values():
            service.gone(peer)

    def said(self, peer: Peer, kind: int, body: bytes) -> None:
        """An entry of `Output.said`."""
        if self._confined is not None and self._confined[1](peer):
            self._said_by_confined(self._by_kind[self._confined[0]], peer, kind, body)
            return
        keeper = self._by_kind.get(Kind.AUTHENTICATION)
        if kind in (MET, DEAF) and keeper is not None:
            (keeper.met if kind == MET else keeper.deaf)(peer)
        if kind == Kind.AUTHENTICATION or self._closed is None or not self._closed(peer):
            self._pass_on(peer, kind, body)
            return
        if kind in (MET, DEAF):
            self._outside[peer] = []
        waiting = self._outside.setdefault(peer, [])
        if len(waiting) < MAX_OUTSIDE:
            waiting.append((kind, body))
        else:
            self._drops.count(DropReason.AUTH_UNEXPECTED)

    def _said_by_confined(self, service: Service, peer: Peer, kind: int, body: bytes) -> None:
        if kind == MET:
            service.met(peer)
        elif kind == DEAF:
            service.deaf(peer)
        elif self._by_kind.get(kind) is service:
            self._hear(service, peer, body)
        else:
            self._drops.count(DropReason.CHANNEL_UNKNOWN)

    def _pass_on(self, peer: Peer, kind: int, body: bytes) -> None:
        if kind in (MET, DEAF):
            for of, service in list(self._by_kind.items()):
                if of == Kind.AUTHENTICATION:
                    continue
                (service.met if kind == MET else service.deaf)(peer)
            return
        if kind not in self._by_kind:
            self._drops.count(DropReason.CHANNEL_UNKNOWN)
            return
        self._hear(self._by_kind[kind], peer, body)

    def _hear(self, service: Service, peer: Peer, body: bytes) -> None:
        try:
            service.heard(peer, body)
        except PeerError as error:
            self._drops.count(error.reason)


class Unnegotiated:
    """The service for configuration where there is nothing to negotiate: says so to whoever asks, once."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._told: set[Peer] = set()

    def gone(self, peer: Peer) -> None:
        """Forget it."""
        self._told.discard(peer)

    def met(self, peer: Peer) -> None:
        """It may ask."""
        self._told.discard(peer)

    def deaf(self, peer: Peer) -> None:
        """It will not ask."""

    def heard(self, peer: Peer, body: bytes) -> None:
        """It asks."""
        if peer not in self._told:
            self._told.add(peer)
            self._hands.say(peer, Kind.CONFIGURATION, OFF)
