"""Frames on their way to one peer: sealed at once if that can be, or else kept for keys, for a link, or for room on it.

    send_batch      gate -> keys and a link? else staged -> room? else the backlog -> sealed
    send_waiting    the backlog -> sealed, once there is room
    resume          what was staged, or may have been lost with the last link -> send_batch

Pure.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from caetun.session.staging import Staging
from caetun.session.unheard import Unheard
from caetun.types import DropReason, Drops

if TYPE_CHECKING:
    from caetun.conversation import Conversation
    from caetun.journey import Journey
    from caetun.output import Output
    from caetun.session.backlog import Backlog
    from caetun.session.liveness import Liveness
    from caetun.session.session import Session
    from caetun.wire.container import Batch


class Outbound:
    """What takes the frames for one peer."""

    def __init__(
        self,
        session: Session,
        life: Liveness,
        journey: Journey,
        conversation: Conversation,
        backlog: Backlog,
        drops: Drops,
    ) -> None:
        self._session = session
        self._life = life
        self._lifetime = life.lifetime
        self._journey = journey
        self._conversation = conversation
        self._backlog = backlog
        self._drops = drops
        self._staging = Staging(drops)
        self._doubtful = Unheard(session.mode)

    def send_batch(self, batch: Batch, now: float, out: Output) -> None:
        """Frames from the device. Hot."""
        if self._conversation.held:
            self._conversation.dropped(len(batch))
            return
        journey = self._journey
        link = journey.link
        pair = self._session.current
        if pair is None or link is None or now >= pair.born + self._lifetime:
            self._stage(batch, now)
            return
        if link.full or self._backlog.size:
            self._backlog.put(batch, now)
            self._life.waits(now)
            return
        if self._life.sent(now):
            self._doubtful.keep(batch, now)  # before it is sealed where it lies
        out.records.append((link, self._session.seal_batch(batch, link.unit, link.max_record)))
        if journey.path is not None:
            journey.path.sent()

    def _stage(self, batch: Batch, now: float) -> None:
        """No keys or no link: keep the newest frames for a moment, if that may change."""
        if self._journey.connects or self._session.current is not None:
            self._staging.keep(batch, now)
        else:
            self._drops.count(DropReason.NO_SESSION, len(batch))

    def send_waiting(self, now: float, out: Output) -> bool:
        """Send some of what has waited while the link was full; returns whether there was any.

        To be called again, once that has been sent, until there is none: a link says that it is full only then.
        """
        backlog, link = self._backlog, self._journey.link
        if backlog.empty or link is None or link.full or not self._journey.can_seal(now):
            return False
        batch = backlog.take(now, backlog.limit)
        if batch is None:
            return False
        out.records.append((link, self._session.seal_batch(batch, link.unit, link.max_record)))
        self._life.sent(now)
        return True

    def resume(self, now: float, out: Output) -> None:
        """Send what has waited for keys or a link, or may have been lost with the last one, if it need not wait on."""
        if self._journey.link is None or not self._journey.can_seal(now):
            return
        for batch in chain(self._doubtful.take(now), self._staging.take(now)):
            self.send_batch(batch, now, out)

    def arrived(self) -> None:
        """The far end is heard: what was sent is not in doubt any more."""
        self._doubtful.clear()

    def abandon(self) -> None:
        """The far end is gone: what waits for room on its link is dropped."""
        self._backlog.abandon(DropReason.NO_SESSION)

    def tick(self, now: float) -> None:
        """Let go of what has waited too long, or was answered."""
        self._staging.expire(now)
        if self._life.unanswered_since is None:
            self._doubtful.clear()

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        return self._staging.next_deadline()
