"""Calls one far end until it answers: initiations, by which of its links, when, and when to ask for other ways.

New keys for a session are asked for by the link in use. A far end that is looked for, by all links that were offered.
One that answers no probe may have been started again, and is asked whether it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from caetun import notices
from caetun.output import Output
from caetun.way import Way
from caetun.ways import Ways

if TYPE_CHECKING:
    from caetun.session.attempts import Attempts
    from caetun.session.identity import PeerId
    from caetun.session.liveness import Liveness
    from caetun.session.security import Cipher, Security

# chosen by us
CALLED_AT_PROBE: Final = 2
"""The probe of a link that is needed with which an initiation goes along."""
PATIENT_ATTEMPTS: Final = 8
"""Attempts (some 13 s of them) before a person hears that nobody answers."""
RESOLVE_ATTEMPTS: Final = 4
"""Attempts before other ways are looked for: the far end's name may mean another address by now."""


class Called(Protocol):
    """Who is called."""

    ident: PeerId
    name: str

    @property
    def present(self) -> bool:
        """Whether there are keys."""


class Caller:
    """Initiations to one peer."""

    def __init__(self, peer: Called, handshakes: Security, attempts: Attempts, life: Liveness, ways: Ways) -> None:
        self._peer = peer
        self._handshakes = handshakes
        self._attempts = attempts
        self._life = life
        self._ways = ways

    @property
    def at(self) -> float | None:
        """When the next attempt is due; None if none is wanted."""
        return self._attempts.at

    @property
    def paused_until(self) -> float:
        """When a pause ends."""
        return self._attempts.paused_until

    def begin(self, now: float, *, at_once: bool = True) -> None:
        """Call from now on, or after the first short delay."""
        self._attempts.begin(now, at_once=at_once)
        self._ways.begin_asking()

    def pause(self, until: float) -> None:
        """Calling soon is of no use."""
        self._attempts.pause(until)

    def end(self) -> None:
        """There are keys, or nobody to call."""
        self._attempts.end()

    def prefer(self, ciphers: Sequence[Cipher]) -> None:
        """Another order of the allowed ciphers, best first."""
        self._attempts.prefer(ciphers)

    def askable(self, now: float) -> list[Way]:
        """Links to call by."""
        ways, silent_at = self._ways, self._life.unanswered_at
        current = [ways.current] if ways.current is not None else []
        if current and not ways.suspect and not (silent_at is not None and now >= silent_at):
            return current
        return current + [way for way in ways.offered if way is not ways.current]

    def tick(self, probed: list[Way], now: float, wall: float, out: Output) -> None:
        """Call if it is time to. `probed`: links to which a probe has just gone."""
        for way in probed:
            # Unanswered so far: the far end may have been started again, and know nothing of this session.
            again = way.trial is not None and len(way.trial.sent) == CALLED_AT_PROBE
            if again and self._ways.need and way is not self._ways.current:
                self.call(way, now, wall, out)
            # Nor does the link in use answer: there, too, somebody may be who has lost the keys.
            if way is self._ways.current and way.trial is not None and way.trial.over and self.at is None:
                self.begin(now)
        for way in self._ways.fresh():
            self.call(way, now, wall, out)
        if self._attempts.at is None or now < self._attempts.at:
            return
        ways = self.askable(now)
        if not ways:
            self._attempts.end()
            return
        way = min(ways, key=lambda way: way.asked_at)  # who has waited longest
        self._attempts.take(now)
        self.call(way, now, wall, out)
        made = self._attempts.made
        if self._peer.present:
            return
        if made >= RESOLVE_ATTEMPTS and made % len(ways) == 0:
            out.seek.append(self._peer)
        if made == PATIENT_ATTEMPTS:
            out.events.append(notices.silent(self._peer.name, way.link.name, getattr(way.link, "refusal", "")))

    def call(self, way: Way, now: float, wall: float, out: Output) -> None:
        """One initiation."""
        cipher = self._attempts.cipher(way.asked)
        self._ways.asked(way, now)
        out.messages.append((way.link, self._handshakes.initiate(self._peer.ident, now, wall, cipher)))
