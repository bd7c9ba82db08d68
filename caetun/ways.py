"""The ways to one far end: which links lead there, which one is used, which are on trial, which is doubted.

    offer --> spare --trial--> answered: current, if it is better or needed --left--> unused, after a grace
                         \\--> unanswered                                    \\--doubt--> heard again, or suspect

A trial is a few probes that the far end acknowledges by the link they came by. Nothing moves before an acknowledgement
has come (make before break). Pure: this says what to probe and what to tell, `journey.py` seals and sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from caetun.output import LinkView
from caetun.way import NEVER, Trial, Way

# chosen by us
SUSPECT_SECONDS: Final = 0.65
"""From the first probe of the link in use, unanswered, until others are looked for; more on a long path. With the
silence before it (`QUIET_SECONDS`) 1.15 s: the third retransmission of TCP inside, after some 1.4 s, finds the new link
already (RFC 6298; the next one would come after 3 s). Longer than the round trip by a geostationary satellite."""
LONG_PATH: Final = 2.0
"""Round trips, as last measured, that an answer may take whatever the seconds say."""
SUSPECT_SECONDS_MOST: Final = 1.3
"""What a long path may make of them: a round trip by satellite, twice. One that is longer was measured while something
was busy or a queue full, and says nothing about how long a dead link is to be waited for."""
INITIATION_SECONDS: Final = 2.2
"""From an initiation until its link counts as unanswered: as long as a trial."""
GREETINGS: Final = 5
GREETING_SECONDS: Final = 0.3
"""Empty records sent after a move, and how far apart: far ends put off a return for up to `HOLD_SECONDS`."""
HOLD_SECONDS: Final = 1.0
"""At most so long (at least half of it, by chance) a link that was left is not returned to because the far end uses it:
two sides that move at the same time must not follow each other for ever."""
MAX_OFFERED: Final = 16
"""Offered links; at one more, the oldest that is not in use is given up."""
MAX_LEFT: Final = 4
"""Links that were left and have their grace; at one more, the oldest has no more of it."""
BEST: Final = -1
WORST: Final = 1 << 30
"""Ranks of a link that the far end brought up, on the side that answered and on the side that began the handshake: one
of the two must give way if both have links of their own."""


class Turn(NamedTuple):
    """What has come due, probes aside."""

    unanswered: list[LinkView]
    unused: list[LinkView]
    suspected: bool
    """Whether the link in use has just become suspect."""
    greet: bool
    """Whether to send another empty record by the link in use."""


class Ways:
    """All links to one far end."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        """`entropy`: gives as many random bytes as it is asked for."""
        self._entropy = entropy
        self._ways: dict[LinkView, Way] = {}
        self.current: Way | None = None
        self.suspect = False
        """Whether the link in use has not answered for so long that any other will do."""
        self.doubted_at: float | None = None
        """Since when the link in use must prove that it works."""
        self.deaf = False
        """Whether the doubt is about what we send: then that we hear something is no proof."""
        self.last_probe = 0
        self._greetings = 0
        self._greet_at = 0.0

    def __len__(self) -> int:
        return len(self._ways)

    # which there are

    @property
    def offered(self) -> list[Way]:
        """What this side has brought up, preferred ones first."""
        return sorted((way for way in self._ways.values() if way.offered), key=lambda way: way.rank)

    @property
    def need(self) -> bool:
        """Whether any way is better than what there is."""
        return self.current is None or self.suspect

    @property
    def trying(self) -> bool:
        """Whether a link is on trial that is not in use."""
        return any(way.trial is not None and way is not self.current for way in self._ways.values())

    def get(self, link: LinkView) -> Way | None:
        """What is known about a link."""
        return self._ways.get(link)

    def offer(self, link: LinkView, rank: int, now: float) -> bool:
        """A link has come up; returns whether it is new. One that was there before may be tried again."""
        way = self._ways.get(link)
        if way is not None and way.offered:
            way.rank, way.told, way.waiting_since, way.left_at = rank, False, None, None
            return False
        if way is not None:
            way.rank, way.offered, way.origin = rank, True, link
        else:
            way = self._ways[link] = Way(link, rank, True, link)
        return True

    def crowded(self) -> list[LinkView]:
        """Give up what is more than the caps allow; returns the links of no more use."""
        surplus: list[Way] = []
        others = [way for way in self._ways.values() if way is not self.current]
        offered = [way for way in others if way.offered]
        surplus += offered[: max(0, len(offered) - MAX_OFFERED)]
        left = sorted((way for way in others if way.left_at is not None), key=lambda way: way.left_at or 0.0)
        surplus += [way for way in left[: max(0, len(left) - MAX_LEFT)] if way not in surplus]
        for way in surplus:
            del self._ways[way.link]
        return [way.link for way in surplus]

    def withdraw(self, link: LinkView, now: float) -> bool:
        """A link is gone; returns whether it was known."""
        way = self._ways.pop(link, None)
        if way is not None and way is self.current:
            self.current, self._greetings = None, 0
            self._settle(now)
        return way is not None

    def use(self, link: LinkView, now: float, *, leads: bool) -> Way:
        """Take a link into use; the former one has its grace. `leads`: whether this side began the handshake."""
        before = self.current
        way = self._ways.get(link)
        if way is None:
            way = self._ways[link] = Way(link, WORST if leads else BEST, False, None)
            kin = self._kin(link)
            if kin is not None:
                way.rank, way.origin = kin.rank, kin.origin
        if before is not None and before is not way:
            before.left_at = now
            before.hold_until = now + HOLD_SECONDS * (0.5 + self._entropy(1)[0] / 512)
            before.trial = None
        self.current, self._greetings = way, 0
        way.left_at, way.heard_at, way.trial = None, NEVER, None
        self._settle(now)
        return way

    def _kin(self, link: LinkView) -> Way | None:
        """The way that this link continues: a datagram link of the same kind, to another address."""
        ways = self.offered if self.current is None else [self.current]
        if link.datagram_ceiling is None:
            return None
        return next((way for way in ways if type(way.link) is type(link) and way.origin is not None), None)

    def may_follow(self, link: LinkView, now: float) -> bool:
        """Whether to send by a link because the far end does."""
        way = self._ways.get(link)
        return way is None or self.need or now >= way.hold_until

    def lost(self, now: float) -> list[LinkView]:
        """The far end is gone; returns links that it has brought up: nobody uses them."""
        foreign = [way.link for way in self._ways.values() if not way.offered]
        self._ways = {link: way for link, way in self._ways.items() if way.offered}
        self.current, self._greetings = None, 0
        self._settle(now)
        for way in self._ways.values():
            way.trial = way.path = way.left_at = way.waiting_since = way.fresh = None
            way.told = False
        return foreign

    # shaking hands

    def begin_asking(self) -> None:
        """Looking for the far end begins anew."""
        for way in self._ways.values():
            way.asked, way.asked_at = 0, NEVER

    def asked(self, way: Way, now: float) -> None:
        """An initiation goes out by this link."""
        way.asked += 1
        way.asked_at = now
        way.fresh = None
        if way.waiting_since is None and not way.told:
            way.waiting_since = now

    def answered(self) -> None:
        """There are keys: what has not answered by now was not needed."""
        for way in self._ways.values():
            way.fresh = way.waiting_since = None
            way.told = False

    def fresh(self) -> list[Way]:
        """Links by which no initiation went out yet, although one should at once."""
        return [way for way in self._ways.values() if way.fresh is not None]

    # trials and doubts

    def try_(self, way: Way, at: float) -> None:
        """Begin a trial at that time, unless one is under way."""
        if way.trial is None:
            way.trial = Trial(at)

    def try_others(self, now: float) -> None:
        """Begin a trial of every link that was offered, the one in use aside."""
        for way in self.offered:
            if way is not self.current:
                self.try_(way, now)

    def try_better_or_spare(self, way: Way, now: float) -> None:
        """A link was offered to a session that has one that works."""
        if self.current is not None and way.rank < self.current.rank:
            self.try_(way, now)
        elif way is not self.current:
            self._spare(way, now)

    def try_better(self, now: float) -> None:
        """Begin a trial of every link that is preferred to the one in use."""
        for way in self.offered:
            if self.current is not None and way.rank < self.current.rank:
                self.try_(way, now)

    def doubt(self, now: float, *, deaf: bool) -> None:
        """The link in use must prove that it works."""
        if self.current is None:
            return
        if self.doubted_at is None:
            self.doubted_at, self.deaf = now, deaf
            self.current.trial = Trial(now)
        self.deaf = self.deaf or deaf

    def relieve(self, now: float) -> bool:
        """The link in use works; returns whether it was suspect."""
        was_suspect = self.suspect
        if self.current is not None:
            self.current.trial = None
        self._settle(now)
        return was_suspect

    def _settle(self, now: float) -> None:
        """A link in use that is not doubted: trials of links that are no better have no purpose any more."""
        self.suspect, self.doubted_at = False, None
        current = self.current
        if current is not None:
            for way in self._ways.values():
                if way.rank >= current.rank and way is not current:
                    self._spare(way, now)

    @staticmethod
    def _spare(way: Way, now: float) -> None:
        """A link that is not needed: one that costs the far end a connection is given up after the usual grace."""
        way.trial = None
        if way.left_at is None and not way.told and way.link.datagram_ceiling is None:
            way.left_at = now

    @property
    def _suspect_at(self) -> float | None:
        if self.doubted_at is None or self.suspect or self.current is None:
            return None
        patience = min(LONG_PATH * self.current.round_trip, SUSPECT_SECONDS_MOST)
        return self.doubted_at + max(SUSPECT_SECONDS, patience)

    def next_probe(self) -> int:
        """A number for a probe, 32 bits."""
        self.last_probe = (self.last_probe + 1) & 0xFFFFFFFF
        return self.last_probe

    def acknowledged(self, ident: int, link: LinkView, now: float) -> Way | None:
        """The way whose trial this acknowledgement ends well, if there is one."""
        way = self._ways.get(link)
        if way is None or way.trial is None:
            return None
        sent_at = way.trial.sent.get(ident)
        if sent_at is None:
            return None
        way.trial = None
        way.round_trip = now - sent_at
        return way

    def wanted(self, way: Way) -> bool:
        """Whether to move to a link that has answered."""
        return self.current is None or (way is not self.current and (self.suspect or way.rank < self.current.rank))

    def greet(self, now: float) -> None:
        """We have moved: the far end shall know it even if a record gets lost."""
        self._greetings, self._greet_at = GREETINGS - 1, now + GREETING_SECONDS

    # time

    def poll(self, now: float) -> Turn:
        """What is due, before `due_probes`."""
        suspected = self._suspect_at is not None and now >= self._suspect_at
        if suspected:
            self.suspect = True
            self.try_others(now)
        unanswered = self._failed(now)
        greet = self._greetings > 0 and now >= self._greet_at
        if greet:
            self._greetings -= 1
            self._greet_at = now + GREETING_SECONDS
        return Turn(unanswered, self._unused(now), suspected, greet)

    def due_probes(self, now: float) -> list[Way]:
        """Whom to send a probe now, and tell its trial by `Trial.probed`."""
        due = (way for way in self._ways.values() if way.trial is not None and now >= way.trial.due)
        return [way for way in due if way.trial is not None and not way.trial.over]

    def _failed(self, now: float) -> list[LinkView]:
        """End trials that were in vain. The link in use has no other judge than its doubt, one that was left none."""
        failed: list[LinkView] = []
        for way in self._ways.values():
            if way.trial is not None and way.trial.over and now >= way.trial.due:
                way.trial = way.waiting_since = None
                way.told = True
                if way is not self.current and way.left_at is None:
                    failed.append(way.link)
            if way.waiting_since is not None and now >= way.waiting_since + INITIATION_SECONDS:
                way.waiting_since, way.told = None, True
                if way is not self.current:
                    failed.append(way.link)
        return failed

    def _unused(self, now: float) -> list[LinkView]:
        """Links that were left long enough ago. Those that the far end brought up are forgotten."""
        unused = []
        for way in list(self._ways.values()):
            at = way.unused_at()
            if at is not None and now >= at and way.trial is None:
                way.left_at, way.told = None, True
                if not way.offered:
                    del self._ways[way.link]
                unused.append(way.link)
        return unused

    def next_deadline(self) -> float | None:
        """When `poll` next has something to say, or a fresh link waits for its initiation."""
        due: list[float | None] = [self._suspect_at, self._greet_at if self._greetings else None]
        for way in self._ways.values():
            due += [way.fresh, None if way.trial is None else way.trial.due]
            due.append(None if way.waiting_since is None else way.waiting_since + INITIATION_SECONDS)
            due.append(way.unused_at() if way.trial is None else None)
        return min((at for at in due if at is not None), default=None)
