"""The rules of one tunnel, in order, and what each has done.

A frame is shown to one rule after the other. The first `drop` or `accept` that matches ends that; every other rule
changes the frame, or not, and hands it on. What no rule holds back passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caetun.mangle.frame import Frame
from caetun.mangle.steps import Outcome, OuterClass, Step, Verdict
from caetun.types import DropReason

Condition: TypeAlias = Callable[[Frame], bool]


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
    frames: int = 0
    """Dropped, accepted or changed; a superframe counts once."""
    octets: int = 0
    """Their bytes."""

    def apply(self, frame: Frame, outgoing: bool) -> Outcome:
        """Do it, if the conditions hold."""
        for holds in self.conditions:
            if not holds(frame):
                return Verdict.UNTOUCHED
        frame.changed = False
        outcome = self.step(frame, outgoing)
        if outcome is not Verdict.UNTOUCHED:
            self.frames += 1
            self.octets += frame.length
        return outcome


class Pipeline:
    """All rules."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.outgoing = tuple(rule for rule in rules if rule.outgoing)
        self.incoming = tuple(rule for rule in rules if rule.incoming)
        self.outer = next((rule.step for rule in rules if isinstance(rule.step, OuterClass)), None)
        """What says which class the tunnel's own packets get; None: none."""

    def run(self, frame: Frame, outgoing: bool) -> DropReason | None:
        """Show a frame to the rules, which may change it; why it is dropped, or None. Hot: once a frame.

        `frame.changed` says whether it was changed.
        """
        changed = False
        for rule in self.outgoing if outgoing else self.incoming:
            outcome = rule.apply(frame, outgoing)
            if outcome is Verdict.UNTOUCHED:
                continue
            if isinstance(outcome, DropReason):
                return outcome
            if outcome is Verdict.ACCEPT:
                break
            changed = True
        frame.changed = changed
        return None
