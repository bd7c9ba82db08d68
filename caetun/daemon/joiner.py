"""The invited one's part of enrolment: calls the hub as the invitation, tells the key it made, awaits the answer.

A tunnel without a device: nothing of this host is changed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caetun.daemon import loop as loops
from caetun.daemon.dialer import Dialer
from caetun.daemon.engine import make_core
from caetun.daemon.outer import outer_options
from caetun.daemon.pump import Pump
from caetun.errors import CaeTunError, Disagreement, NetworkError, PeerError
from caetun.keyfiles import Keys, Secret
from caetun.ports import PeerRef
from caetun.session.channel import DEAF, MET, Kind
from caetun.session.identity import encode_key
from caetun.settings import Settings
from caetun.transports.base import Context
from caetun.types import Drops, Iovec, Mode
from caetun.wire import enrolment
from caetun.wire.container import Batch
from caetun.wire.enrolment import Denied, Enrol, Welcome

if TYPE_CHECKING:
    from caetun.negotiation.invitation import Invitation
    from caetun.peers import Event, Peer
    from caetun.transports.base import Link

# chosen by us
ANSWER_SECONDS: Final = 30.0
"""For all of it: every carrier has been tried by then."""
_LAST_SECONDS: Final = 0.1
"""In which the acknowledgement of the answer goes out."""


class NoDevice:
    """Fulfils the device contract: nothing comes, and what is written vanishes."""

    name = "none"
    offloads = 0

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Never readable."""
        return self._descriptor

    def read_batch(self, batch: Batch) -> None:
        """There is nothing."""

    def write_batch(self, frames: Sequence[Iovec]) -> None:
        """Nobody wants them."""

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def enrol(invitation: Invitation, public: bytes) -> None:
    """Redeem an invitation for a key of our own. Raises CaeTunError with the reason if that fails."""
    loop = loops.new_loop()
    asyncio.set_event_loop(loop)
    joiner = Joiner(loop, invitation, public)
    try:
        joiner.start()
        loop.run_forever()
    finally:
        joiner.close()
        loops.close(loop)
    if joiner.failure is not None:
        raise joiner.failure


class Joiner:
    """One attempt to enrol. Fulfils `daemon.pump.Shell`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, invitation: Invitation, public: bytes) -> None:
        self._loop = loop
        self._public = public
        self.failure: CaeTunError | None = None
        drops = Drops()
        settings = Settings(
            connect=invitation.places, peer=(PeerRef(invitation.hub),), key=Path("invitation"), mode=invitation.mode
        )
        keys = Keys(None, Secret(invitation.token), (invitation.hub,), None, ())
        self._device = NoDevice(invitation.mode)
        node = make_core(settings, keys, self._device, settings.mtu, drops).node
        self._pump = Pump(loop, node, self._device, self, Batch(1))
        self._context = Context(loop, self._pump, node.sessions, drops, outer_options(settings), self._told)
        (peer,) = node.peers.values()
        self._dialer = Dialer(peer, invitation.places, self._context, self._pump, os.urandom)

    def start(self) -> None:
        """Call."""
        self._dialer.start(time.monotonic())
        self._pump.start()
        self._loop.call_later(ANSWER_SECONDS, self._too_late)

    def close(self) -> None:
        """Give everything back."""
        self._pump.stop()
        self._dialer.close()
        for shared in self._context.shared.values():
            if hasattr(shared, "close"):
                shared.close()
        self._device.close()

    def _too_late(self) -> None:
        tried = "; ".join(f"{status.rung.text}: {status.why or status.phase}" for status in self._dialer.describe())
        self.failed(
            NetworkError(
                f"no answer from the hub within {ANSWER_SECONDS:g} s ({tried}): does it run with this invitation? "
                "It is silent to one that it does not know"
            )
        )

    # the shell

    def said(self, peer: Peer, kind: int, body: bytes) -> None:
        """The hub answers."""
        if kind == MET:
            self._pump.say(peer, Kind.ENROLMENT, enrolment.encode(Enrol(encode_key(self._public))))
        elif kind == DEAF:
            self.failed(Disagreement("the hub is of a version that knows no invitations: update it"))
        elif kind == Kind.ENROLMENT:
            try:
                message = enrolment.decode(body)
            except PeerError as error:
                self.failed(Disagreement(f"the hub answers what is not understood ({error}): update this side"))
                return
            if isinstance(message, Welcome):
                self._loop.call_later(_LAST_SECONDS, self._loop.stop)
            elif isinstance(message, Denied):
                self._loop.call_later(_LAST_SECONDS, self.failed, Disagreement(f"the hub refuses: {message.reason}"))

    def _told(self, level: str, event: str, text: str) -> None:
        """What a transport has to say; `_too_late` tells what became of each."""

    def report(self, event: Event) -> None:
        """Only the outcome is told."""

    def failed(self, error: CaeTunError) -> None:
        """End, with this error."""
        self.failure = error
        self._loop.stop()

    def seek(self, peer: Peer) -> None:
        """Look for other ways."""
        self._dialer.seek(time.monotonic())

    def settled(self, peer: Peer) -> None:
        """There is one."""
        self._dialer.settled(time.monotonic())

    def unanswered(self, peer: Peer, link: Link) -> None:
        """Nobody answers there."""
        self._dialer.unanswered(link, time.monotonic())

    def unused(self, link: Link) -> None:
        """A link is not needed any more."""
        if not self._dialer.unused(link):
            link.close()

    def closed(self, link: Link, why: str) -> None:
        """A link is gone."""
        self._dialer.closed(link, why, time.monotonic())
