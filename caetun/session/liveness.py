"""Signs of life between two peers, and what follows from their absence.

| nothing for so long                        | then                                                            |
|--------------------------------------------|-----------------------------------------------------------------|
| sent, for `keepalive`                      | send an empty record                                            |
| heard since data was sent, `unanswered`    | the far end has lost its keys: who connects shakes hands again  |
| heard at all, for `dead`                   | the far end is gone                                             |
"""

from __future__ import annotations

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
        "_dead_after",
        "_keepalive",
        "_unanswered_after",
        "heard_at",
        "overdue_since",
        "sent_at",
        "unanswered_since",
        "unreported_since",
    )

    def __init__(self, timing: Timing) -> None:
        self._keepalive = timing.keepalive
        self._unanswered_after = timing.unanswered_after
        self._dead_after = timing.dead_after
        self.sent_at = self.heard_at = 0.0
        self.unanswered_since: float | None = None
        """When frames were sent first since anything was heard."""
        self.unreported_since: float | None = None
        """When frames were sent first since the far end reported."""
        self.overdue_since: float | None = None
        """When frames were sent that the far end, if it got them, reports at once: the last report is old enough."""

    def sent(self, now: float) -> None:
        """A record with frames goes out. Hot: once a batch."""
        self.sent_at = now
        if self.unanswered_since is None:
            self.unanswered_since = now
        if self.unreported_since is None:
            self.unreported_since = now
        elif self.overdue_since is None and now >= self.unreported_since + REPORT_DUE:
            self.overdue_since = now

    def heard(self, now: float) -> None:
        """An authentic record, or a new key pair. Hot: once a record."""
        self.heard_at = now
        self.unanswered_since = None

    def reported(self) -> None:
        """The far end tells what it got."""
        self.unreported_since = self.overdue_since = None

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
