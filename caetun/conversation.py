"""What is said to one peer beside its traffic: its control channel upon whatever keys and link there are, and its gate.

The gate holds a peer's frames back, both ways, while somebody has a reason to (it has not authenticated, its settings
are not agreed upon); control messages pass. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from caetun.output import LinkView, Output
from caetun.session.channel import Channel
from caetun.types import DropReason, Drops
from caetun.wire import control

if TYPE_CHECKING:
    from caetun.session.keypair import KeyPair

# chosen by us
_REMEMBERED: Final = 8
"""Far ends that were here before the present one."""


class Speaker(Protocol):
    """What sends records of control elements: a `Journey`."""

    @property
    def link(self) -> LinkView | None: ...
    def can_seal(self, now: float) -> bool: ...
    def send(self, elements: bytes, now: float, out: Output) -> None: ...


class Conversation:
    """The control channel and the gate of one peer."""

    def __init__(self, owner: object, speaker: Speaker, drops: Drops) -> None:
        """`owner`: whom an `Output` names as the peer."""
        self._owner = owner
        self._speaker = speaker
        self._drops = drops
        self._spoke_by: LinkView | None = None
        self._present = 0
        """The incarnation of whoever was met last, and of those before."""
        self._former: deque[int] = deque(maxlen=_REMEMBERED)
        self._holds: set[str] = set()
        self.held = False
        """Whether frames are dropped (`peer.held`), both ways."""
        self.channel = Channel(drops)

    # the gate

    def hold(self, reason: str) -> None:
        """Let no frames pass before `release` is called with the same reason (and with every other one given)."""
        self._holds.add(reason)
        self.held = True

    def release(self, reason: str) -> None:
        """The reason is gone, if it was one."""
        self._holds.discard(reason)
        self.held = bool(self._holds)

    @property
    def holds(self) -> frozenset[str]:
        """Why frames do not pass."""
        return frozenset(self._holds)

    def dropped(self, frames: int) -> None:
        """Count what did not pass."""
        self._drops.count(DropReason.PEER_HELD, frames)

    def estrange(self) -> None:
        """Forget that we have met: the next keys are those of somebody new."""
        self.channel.forget()

    # the channel

    def met(self, pair: KeyPair, out: Output) -> bool:
        """Keys come into use: see whether the far end still knows us.

        Returns whether one is back whose place another one had taken: two far ends use one key, by turns.
        """
        incarnation = pair.established.hello.incarnation
        what = self.channel.meet(incarnation)
        if what is not None:
            out.said.append((self._owner, what, b""))
        if not incarnation or incarnation == self._present:
            return False
        back = incarnation in self._former
        if self._present:
            self._former.append(self._present)
        self._present = incarnation
        return back

    def say(self, kind: int, body: bytes, now: float, out: Output) -> bool:
        """Send a message (see `Channel.send`), at once if that can be."""
        accepted = self.channel.send(kind, body)
        self.tick(now, out)
        return accepted

    def heard(self, message: control.Part | control.PartAcknowledgement, pair: KeyPair, out: Output) -> None:
        """A part or an acknowledgement has come in."""
        channel = self.channel
        if not channel.open or pair.established.hello.incarnation != channel.far:
            self._drops.count(DropReason.CHANNEL_STRANGER)  # under way since before the far end was started again
        elif isinstance(message, control.Part):
            out.said += [(self._owner, kind, body) for kind, body in channel.received(message)]
        else:
            channel.acknowledged(message)

    def tick(self, now: float, out: Output) -> None:
        """Send what is due, if there is a way to."""
        link = self._speaker.link
        if link is None or not self._speaker.can_seal(now):
            return
        if link is not self._spoke_by:
            self._spoke_by = link
            self.channel.hurry(now)
        for element in self.channel.poll(now):
            self._speaker.send(element, now, out)

    def next_deadline(self, now: float) -> float | None:
        """When `tick` next has something to do, given a link."""
        return self.channel.next_deadline(now)
