"""Two ends that must be set alike: what differs, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from caetun.wire.configuration import Offer


class Difference(NamedTuple):
    """One setting that is not the same at both ends."""

    setting: str
    here: str
    there: str


def differences(ours: Offer, theirs: Offer) -> list[Difference]:
    """What keeps two ends from working together: everything between equals; between server and client, their roles."""
    found = [Difference("negotiation", _policy(ours), _policy(theirs))]
    if ours.policy == theirs.policy == "symmetric":
        found = [
            Difference(word, str(getattr(ours, word)), str(getattr(theirs, word)))
            for word in ("version", "mode", "mtu", "compression")
        ]
        found.append(Difference("features", *(" ".join(offer.features) or "none" for offer in (ours, theirs))))
    elif {ours.role, theirs.role} == {"server", "client"}:
        found = [Difference("mode", ours.mode, theirs.mode)]
    elif ours.role == theirs.role:
        both = {"server": "server (it waits for clients: --listen)", "client": "client (it wants to be told)"}
        return [Difference("role", both[ours.role], both[theirs.role])]
    return [each for each in found if each.here != each.there]


def _policy(offer: Offer) -> str:
    return offer.policy


def table(rows: list[Difference]) -> list[str]:
    """Lines of a table, its heading first."""
    whole = [Difference("setting", "here", "there"), *rows]
    widths = [max(len(row[at]) for row in whole) for at in range(3)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in whole]
