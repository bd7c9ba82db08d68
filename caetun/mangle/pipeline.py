"""The rules of one tunnel, in order, and what each has done.

A frame is shown to one rule after the other. The first `drop` or `accept` that matches ends that; every other rule
changes the frame, or not, and hands it on. What no rule holds back passes.

Most frames are of flows that no rule changes. What was decided about such a flow is kept (`Flows`), and rules are not
asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from caetun.mangle.frame import Frame
from caetun.mangle.steps import Outcome, OuterClass, SegmentClamp, Step, Verdict, traffic_class
from caetun.types import DropReason
from caetun.wire.flowkey import FlowKey

Condition: TypeAlias = Callable[[Frame], bool]

# chosen by us
MAX_FLOWS: Final = 4096
"""Decisions kept for one direction, some 200 bytes each."""


@dataclass(slots=True)
class Rule:
    """One rule, and how often it has acted."""

    text: str
    """As the user wrote it."""
    outgoing: bool
    incoming: bool
    conditions: tuple[Condition, ...]
    """All of them must hold."""
    step: Step
    steady: bool = False
    """Whether of a flow (`wire/flowkey.py`) it always leaves alone what it has left alone once."""
    frames: int = 0
    """Dropped, accepted or changed; a superframe counts once."""
    octets: int = 0
    """Their bytes."""

    def apply(self, frame: Frame, outgoing: bool) -> Outcome:
        """Do it, if the conditions hold."""
        for holds in self.conditions:
            if not holds(frame):
                return Verdict.NOT_MEANT
        frame.changed = False
        outcome = self.step(frame, outgoing)
        if outcome is not Verdict.UNTOUCHED:
            self.count(frame.length)
        return outcome

    def count(self, length: int) -> None:
        """It has acted on a frame of so many bytes."""
        self.frames += 1
        self.octets += length


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a flow that no rule changes."""

    rules: tuple[Rule, ...] = ()
    """That act on it, without a change: they count it."""
    reason: DropReason | None = None
    """Why it is dropped; None: it is not."""
    outer: int | None = None
    """Traffic class that its packets ask for outside."""


_PASSES: Final = Decision()


class Flows(dict[FlowKey | None, Decision]):
    """What was decided about which flow in one direction. What has no key is never in here."""

    def keep(self, key: FlowKey | None, decision: Decision | None) -> None:
        """Remember it, if there is a decision about all the flow."""
        if key is None or decision is None:
            return
        if len(self) >= MAX_FLOWS:
            self.clear()
        self[key] = decision


class Pipeline:
    """All rules."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.outgoing = tuple(rule for rule in rules if rule.outgoing)
        self.incoming = tuple(rule for rule in rules if rule.incoming)
        self.outer = next((rule.step for rule in rules if isinstance(rule.step, OuterClass)), None)
        """What says which class the tunnel's own packets get; None: none."""

    def resized(self, mtu: int) -> None:
        """The device has another MTU now."""
        for rule in self.rules:
            if isinstance(rule.step, SegmentClamp):
                rule.step.mtu = mtu

    def run(self, frame: Frame, outgoing: bool) -> tuple[DropReason | None, Decision | None]:
        """Show a frame to the rules, which may change it: why it is dropped, or None; what that says about its flow.

        `frame.changed` says whether it was changed. Once a frame of which no decision is known.
        """
        changed, steady = False, frame.packet is not None
        acting: list[Rule] = []
        reason = outer = None
        for rule in self.outgoing if outgoing else self.incoming:
            outcome = rule.apply(frame, outgoing)
            if outcome is Verdict.NOT_MEANT:
                continue
            steady = steady and rule.steady
            if outcome is Verdict.UNTOUCHED:
                continue
            acting.append(rule)
            if outcome is Verdict.CHANGED:
                changed = True
            elif outcome is Verdict.NOTED and self.outer is not None:
                outer = traffic_class(frame)
                self.outer.note(outer)
            else:
                reason = outcome if isinstance(outcome, DropReason) else None
                break
        frame.changed = changed
        if not steady or changed:
            return reason, None
        return reason, Decision(tuple(acting), reason, outer) if acting else _PASSES
