"""Signs of life between two peers, and what follows from their absence.

| nothing for so long                        | then                                                            |
|--------------------------------------------|-----------------------------------------------------------------|
| sent, for `keepalive`                      | send an empty record                                            |
| heard since data was sent, `QUIET_SECONDS` | who connects doubts the link in use (`ways.py`)                 |
| heard since data was sent, `unanswered`    | the far end has lost its keys: who connects shakes hands again  |
| heard at all, for `dead`                   | the far end is gone                                             |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# fixed by the specification (docs/wire.md, section 3)
REKEY_SECONDS: Final = 120.0
"""Age of a key pair at which its initiator starts a new handshake, at the latest."""
LIFETIME: Final = 1.5
"""Keys are used for this many times the interval: 180 s for 120 s."""

# chosen by us
RESPONDER_PATIENCE: Final = 1.375
"""A responder asks for new keys after this many times the initiator's interval: 165 s for 120 s."""
REPORT_DUE: Final = 0.5
"""Seconds after which a far end that gets a few records reports again, at the next one."""
GREETING_SECONDS: Final = 0.3
"""Until the first record under a new key pair is repeated: the far end may not use the pair before it has come."""
QUIET_SECONDS: Final = 0.5
"""Since frames were sent, without hearing anything: longer than most round trips, and still unnoticed by most users."""
QUIET_AFTER: Final = 0.3
"""Seconds after `QUIET_BATCHES`: a report is on its way. Where the round trip is longer, a probe more does no harm."""
QUIET_BATCHES: Final = 3
"""Batches of frames of which the far end hears enough to report at once; fewer may well have no answer, unless they
are one themselves: who sends us a lot goes on when it gets its acknowledgements."""
FLOW_SECONDS: Final = 2 * REPORT_DUE
"""Between two reports of what has come in: less, and it flows. If it stops, it has ended, or the link is dead. A slow
flow is reported every `REPORT_DUE`, and a busy machine keeps either end waiting."""
ANSWER_SECONDS: Final = 0.25
"""Since frames came in: what is sent so soon answers them (TCP delays an acknowledgement by 0.2 s at most)."""
CALM_SECONDS: Final = 10.0
"""After a doubt that was unfounded, until fewer batches that answer nothing may cause another: one-way traffic may be
that sparse."""
UNANSWERED_GRACE: Final = 5.0
"""Seconds beyond the keepalive interval that data may go unanswered before we ask for a new handshake."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    keepalive: float = 10.0
    rekey_after: float = REKEY_SECONDS
    """Whatever is asked for, not more than `REKEY_SECONDS`."""

    @property
    def interval(self) -> float:
        """Between two handshakes."""
        return min(self.rekey_after, REKEY_SECONDS)

    @property
    def lifetime(self) -> float:
        """A key pair is used for so long."""
        return self.interval * LIFETIME

    @property
    def unanswered_after(self) -> float:
        """Something we sent was not answered for so long: ask for a new handshake."""
        return self.keepalive + UNANSWERED_GRACE

    @property
    def dead_after(self) -> float:
        """Nothing was heard for so long: the far end is gone."""
        return 2 * self.unanswered_after


class Liveness:
    """When what was last sent and heard. Times are monotonic seconds."""

    __slots__ = (
        "_batches",
        "_dead_after",
        "_enough_at",
        "_flow_at",
        "_keepalive",
        "_relieved_at",
        "_unanswered_after",
        "delivered_at",
        "heard_at",
        "lifetime",
        "overdue_since",
        "rekey_at",
        "reported_at",
        "sent_at",
        "unanswered_since",
        "unreported_since",
    )

    def __init__(self, timing: Timing) -> None:
        self.lifetime = timing.lifetime
        """Seconds that a key pair is used."""
        self._keepalive = timing.keepalive
        self._unanswered_after = timing.unanswered_after
        self._dead_after = timing.dead_after
        self.sent_at = self.heard_at = 0.0
        self.delivered_at = -math.inf
        """When frames came in last."""
        self.rekey_at = 0.0
        """When new keys are due."""
        self._batches = 0
        self._enough_at = 0.0
        self.reported_at = self._flow_at = self._relieved_at = -math.inf
        self.unanswered_since: float | None = None
        """When frames were sent, or had to wait, first since anything was heard."""
        self.unreported_since: float | None = None
        """When frames were sent first since the far end reported."""
        self.overdue_since: float | None = None
        """When frames were sent that the far end, if it got them, reports at once: the last report is old enough."""

    def retime(self, timing: Timing) -> None:
        """Other intervals from now on; how long keys are used stays."""
        self._keepalive = timing.keepalive
        self._unanswered_after = timing.unanswered_after
        self._dead_after = timing.dead_after

    def sent(self, now: float) -> bool:
        """A record with frames goes out; returns whether into a silence that is too long. Hot: once a batch."""
        self.sent_at = now
        if self.unreported_since is None:
            self.unreported_since = now
        elif self.overdue_since is None and now >= self.unreported_since + REPORT_DUE:
            self.overdue_since = now
        return self.waits(now)

    def waits(self, now: float) -> bool:
        """Frames were sent, or would have been if the link were not full; returns as `sent`. Hot: once a batch.

        What fills a link should have an answer, too: a dead one stays full, and then nothing is sent any more.
        """
        if self.unanswered_since is None:
            self.unanswered_since = self._enough_at = now
            self._batches = QUIET_BATCHES if now < self.delivered_at + ANSWER_SECONDS else 1
            return False
        if self._batches < QUIET_BATCHES:
            self._batches += 1
            self._enough_at = now
        return now >= self.unanswered_since + QUIET_SECONDS

    def heard(self, now: float) -> None:
        """An authentic record, or a new key pair. Hot: once a record."""
        self.heard_at = now
        self.unanswered_since = None

    def reported(self) -> None:
        """The far end tells what it got."""
        self.unreported_since = self.overdue_since = None

    def reports(self, now: float) -> None:
        """We tell the far end what we got. Twice in so short a time: it sends a lot, and what follows is expected."""
        if now < self.reported_at + FLOW_SECONDS:
            self._flow_at = now
        self.reported_at = now

    def relieved(self, now: float) -> None:
        """A doubt about the link was unfounded."""
        self.unanswered_since = None
        self._flow_at = -math.inf
        self._relieved_at = now

    def moved(self) -> None:
        """What was sent by another link says nothing about this one."""
        self.unanswered_since = None
        self._flow_at = -math.inf
        self.reported()

    @property
    def doubt_at(self) -> float | None:
        """When silence makes the link doubtful; None while nothing is waited for."""
        # Within so short a time of the last report, the flow was still there.
        flow = self.heard_at + QUIET_SECONDS if self.heard_at < self._flow_at + FLOW_SECONDS else None
        if self.unanswered_since is None:
            return flow
        few = self._batches < QUIET_BATCHES
        not_before = self._relieved_at + CALM_SECONDS if few else self._enough_at + QUIET_AFTER
        at = max(self.unanswered_since + QUIET_SECONDS, not_before)
        return at if flow is None else min(at, flow)

    @property
    def keepalive_at(self) -> float:
        """When to send an empty record."""
        return self.sent_at + self._keepalive

    def greet_at(self, born: float) -> float:
        """When to send another empty record, later and later, if none has come back under a pair of this age."""
        return self.sent_at + max(GREETING_SECONDS, self.sent_at - born)

    @property
    def unanswered_at(self) -> float | None:
        """From when on the far end's keys are taken for lost; None while nothing waits for an answer."""
        return None if self.unanswered_since is None else self.unanswered_since + self._unanswered_after

    @property
    def dead_at(self) -> float:
        """From when on the far end is taken for gone."""
        return self.heard_at + self._dead_after
