"""Where each peer stands on its way in: asked, being checked, let in, refused. Pure.

| state    | leaves it by                                                                                |
|----------|---------------------------------------------------------------------------------------------|
| ASKED    | an answer: CHECKING, or REFUSED after too many failures; no answer for long: REFUSED        |
| CHECKING | the chain's verdict: PASSED or REFUSED                                                      |
| PASSED   | a far end that was started again: ASKED                                                     |
| REFUSED  | a far end that was started again: ASKED; a moment later whoever holds the table ends it     |
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from caetun.auth.base import USER, WRONG, Denied
from caetun.auth.limit import Limiter
from caetun.wire.authentication import NONCE_SIZE, Accepted, Ask, Field, Reply
from caetun.wire.authentication import Denied as DeniedMessage

# chosen by us
ANSWER_SECONDS: Final = 120.0
"""For an answer: somebody may have to find his telephone first."""
CHECK_SECONDS: Final = 60.0
"""For a verdict: a command has 10 s, and may have to wait for others."""
FAREWELL_SECONDS: Final = 3.0
"""Until a refused peer is sent away: it must have heard why, and will mostly go by itself."""
TOO_MANY: Final = "too many attempts"
LATE: Final = "no answer within 120 s"

P = TypeVar("P", bound=Hashable)


class State(enum.Enum):
    """See the table above."""

    ASKED = enum.auto()
    CHECKING = enum.auto()
    PASSED = enum.auto()
    REFUSED = enum.auto()


@dataclass(slots=True)
class _Stage:
    nonce: bytes
    state: State
    due: float | None
    user: str = ""
    claimed: str = ""
    """The user that an answer was given as."""
    keys: tuple[str, ...] = ()
    """Of the limiter."""


class Stages(Generic[P]):
    """All peers that are there: no more than the table of peers holds."""

    def __init__(self, fields: tuple[Field, ...], entropy: Callable[[int], bytes]) -> None:
        self._fields = fields
        self._entropy = entropy
        self._stages: dict[P, _Stage] = {}
        self.limiter = Limiter()

    def state(self, peer: P) -> State | None:
        """None for one that was not asked yet."""
        stage = self._stages.get(peer)
        return None if stage is None else stage.state

    def user(self, peer: P) -> str:
        """Who it is; "" as long as it has not passed, or if no module tells."""
        stage = self._stages.get(peer)
        return "" if stage is None else stage.user

    def begin(self, peer: P, now: float) -> Ask:
        """A far end was met that has to tell who it is."""
        nonce = self._entropy(NONCE_SIZE)
        self._stages[peer] = _Stage(nonce, State.ASKED, now + ANSWER_SECONDS)
        return Ask(nonce, self._fields)

    def answered(self, peer: P, reply: Reply, ident: bytes, host: str, now: float) -> Denied | None:
        """An answer has come: None if it is to be checked, else why not. An answer to no question is ignored: raises
        KeyError.

        `ident`: by which the handshake knows the peer; `host`: where it is.
        """
        stage = self._stages[peer]
        if stage.state is not State.ASKED or stage.nonce != reply.nonce:
            raise KeyError(peer)
        stage.claimed = reply.values.get(USER.name, "")[:64]
        stage.keys = self.limiter.keys(stage.claimed, ident, host)
        wait = max(self.limiter.wait(key, now) for key in stage.keys)
        if wait > 0:
            return Denied(f"too many attempts: wait {math.ceil(wait)} s", TOO_MANY)
        for key in stage.keys:
            # Counted before it is looked at: many at a time are no way around it.
            self.limiter.failed(key, now)
        stage.state, stage.due = State.CHECKING, now + CHECK_SECONDS
        return None

    def checking(self, peer: P, nonce: bytes) -> bool:
        """Whether a verdict on this question is still wanted."""
        stage = self._stages.get(peer)
        return stage is not None and stage.state is State.CHECKING and stage.nonce == nonce

    def accept(self, peer: P, ident: bytes, user: str) -> Accepted:
        """The chain agrees."""
        stage = self._stages[peer]
        stage.state, stage.due, stage.user = State.PASSED, None, user
        self.limiter.passed(stage.keys, stage.claimed, ident)
        return Accepted(user)

    def refuse(self, peer: P, why: str, now: float) -> DeniedMessage:
        """It does not come in."""
        stage = self._stages[peer]
        stage.state, stage.due, stage.user = State.REFUSED, now + FAREWELL_SECONDS, ""
        return DeniedMessage(why or WRONG)

    def forget(self, peer: P) -> None:
        """It is gone."""
        self._stages.pop(peer, None)

    def late(self, now: float) -> list[tuple[P, State, float]]:
        """Those who have waited, or were waited for, too long, in which state, and by how many seconds."""
        return [
            (peer, stage.state, now - stage.due)
            for peer, stage in self._stages.items()
            if stage.due is not None and now >= stage.due
        ]

    def next_deadline(self) -> float | None:
        """When there is somebody in `late`."""
        return min((stage.due for stage in self._stages.values() if stage.due is not None), default=None)
