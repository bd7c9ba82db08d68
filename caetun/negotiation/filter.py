"""The pull filter: what of that which a server assigns is taken (OpenVPN's words: accept, ignore, reject).

Each thing assigned is a line, as `route 10.1.0.0/16`. The first filter whose text the line begins with decides; if none
does, it is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from caetun.agreement import Action
    from caetun.wire.configuration import Assigned

LISTS: Final = ("address", "route", "dns", "domain")
"""Settings that are told one by one; the others as a whole."""


def judge(line: str, filters: Sequence[Action]) -> str:
    """accept, ignore or reject."""
    return next((action.word for action in filters if line.startswith(action.prefix)), "accept")


def rejected(assigned: Assigned, filters: Sequence[Action]) -> list[str]:
    """The lines that must not be there."""
    return [line for line in assigned.lines() if judge(line, filters) == "reject"]


def reduced(assigned: Assigned, ignored: Sequence[str]) -> Assigned:
    """The same without some of its lines."""
    import msgspec

    if not ignored:
        return assigned
    changes: dict[str, object] = {}
    for word in LISTS:
        changes[word] = tuple(value for value in getattr(assigned, word) if f"{word} {value}" not in ignored)
    for line in ignored:
        word = line.partition(" ")[0]
        if word not in LISTS:
            changes[word] = False if word == "gateway" else () if word == "cipher" else None
    return msgspec.structs.replace(assigned, **changes)
