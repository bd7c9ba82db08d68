"""Hooks: rules in Python, that other packages add by the entry point `caetun.mangle`."""

from __future__ import annotations

from typing import Final, Protocol, cast

from caetun import plugins
from caetun.mangle.frame import Frame
from caetun.mangle.steps import Outcome, Step, Verdict
from caetun.types import DropReason

ENTRY_POINTS: Final = "caetun.mangle"


class Hook(Protocol):
    """What an entry point names: a function, or an object that can be called like one."""

    def __call__(self, frame: Frame, outgoing: bool) -> bool:
        """Look at a frame, and change its headers by `frame.replace`; False: drop it. Called for each frame.

        `outgoing`: from this host into the tunnel. The frame may be a superframe; of a long one only the first 512
        bytes are at hand. It is not to be kept. If the hook raises, the frame is dropped.
        """


def known() -> tuple[str, ...]:
    """Every hook that is installed."""
    return tuple(sorted(plugins.added(ENTRY_POINTS)))


def load_hook(name: str) -> Step:
    """The hook of that name as a rule's step. Raises ValueError if it cannot be loaded."""
    try:
        hook = cast("Hook", plugins.load(plugins.added(ENTRY_POINTS)[name]))
    except ImportError as error:
        raise ValueError(f"hook {name}: cannot be loaded: {error}: is its package installed?") from None
    return wrapped(hook)


def wrapped(hook: Hook) -> Step:
    """A hook as a rule's step."""

    def step(frame: Frame, outgoing: bool) -> Outcome:
        try:
            passes = hook(frame, outgoing)
        except Exception:  # somebody else's code, and a frame that its author did not think of
            return DropReason.MANGLE_HOOK
        if not passes:
            return DropReason.MANGLE_HOOK
        return Verdict.CHANGED if frame.changed else Verdict.UNTOUCHED

    return step
