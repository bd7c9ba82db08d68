"""Keeps a session with a far end up: keepalives, fresh keys, doubts about the link; and knows when these are due.

Pure: asked by `tick`, and again at the first of `deadlines`. Both go by the same rules, so they are side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from caetun.caller import Caller
    from caetun.conversation import Conversation
    from caetun.journey import Journey
    from caetun.output import Output
    from caetun.session.keypair import KeyPair
    from caetun.session.liveness import Liveness
    from caetun.session.session import Session

# chosen by us
BUSY_TICK: Final = 1.0
"""Seconds between looks at a path that carries traffic: are the keys worn?"""
WATCHFUL_TICK: Final = 0.25
"""The same where we could move to another link: is there an answer?"""
SUSPECT_TICK: Final = 0.1
"""Seconds at least between two looks at a path that has gone silent."""


class Upkeep:
    """What is due for a peer as long as there are keys."""

    def __init__(
        self, session: Session, life: Liveness, journey: Journey, caller: Caller, conversation: Conversation
    ) -> None:
        self._session = session
        self._life = life
        self._journey = journey
        self._caller = caller
        self._conversation = conversation
        self._ticked_at = 0.0

    def tick(self, pair: KeyPair | None, now: float, out: Output) -> str | None:
        """Do what is due under the current pair, if there is one; returns why the far end is given up, if it is."""
        self._ticked_at = now
        if pair is None:
            return None
        life, journey = self._life, self._journey
        if now >= life.dead_at:
            return f"nothing heard for {now - life.heard_at:.0f} s"
        if now >= pair.born + life.lifetime:
            return "its keys are too old, and it has not agreed on new ones"
        if self._caller.at is None and self._caller.askable(now) and self._wants_keys(pair, now):
            self._caller.begin(now)
        if journey.link is None:
            return None
        if now >= life.keepalive_at or (_unheard(pair) and now >= life.greet_at(pair.born)):
            journey.send(b"", now, out)
        self._doubt(now)
        journey.probe_path(now, out)
        self._conversation.tick(now, out)
        return None

    def _wants_keys(self, pair: KeyPair, now: float) -> bool:
        """Whether it is time to call: the pair is old or worn, or the far end seems to have lost it."""
        life, journey = self._life, self._journey
        unanswered_at = life.unanswered_at
        unanswered = journey.connects and unanswered_at is not None and now >= unanswered_at
        nowhere = journey.link is None and not journey.ways.trying
        return unanswered or nowhere or pair.worn or now >= life.rekey_at

    def _doubt(self, now: float) -> None:
        """Look for other ways, if the link in use has been silent for too long."""
        life, journey = self._life, self._journey
        doubt_at = life.doubt_at
        if journey.connects and doubt_at is not None and now >= doubt_at:
            journey.ways.doubt(now, deaf=False)
        if self._session.path_suspect(now, life.overdue_since):
            life.reported()
            if journey.path is not None:
                journey.path.suspect(now)
            if journey.connects:
                journey.ways.doubt(now, deaf=True)

    def deadlines(self, pair: KeyPair) -> list[float | None]:
        """When `tick` has something to do under the current pair."""
        life, journey = self._life, self._journey
        due: list[float | None] = [life.dead_at, pair.born + life.lifetime]
        if self._caller.at is None and self._caller.askable(self._ticked_at):
            due += [life.rekey_at, life.unanswered_at if journey.connects else None]
        if journey.link is None:
            return due
        due += [life.keepalive_at, self._conversation.next_deadline(self._ticked_at)]
        if _unheard(pair):
            due.append(life.greet_at(pair.born))
        suspect_at = self._session.suspect_at(life.overdue_since)
        if suspect_at is not None:
            due.append(max(suspect_at, self._ticked_at + SUSPECT_TICK))
        if journey.path is not None:
            due.append(journey.path.next_deadline())
        if journey.connects and journey.ways.doubted_at is None:
            due.append(life.doubt_at)
        if life.sent_at > self._ticked_at:
            due.append(self._ticked_at + (WATCHFUL_TICK if journey.connects else BUSY_TICK))
        return due


def _unheard(pair: KeyPair) -> bool:
    """Whether the far end may not know yet that it can use this pair."""
    return pair.initiator and not pair.window.opened
