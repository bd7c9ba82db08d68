"""What a person is told about a peer: every event of the core, with its words in one place.

An event's name is stable, its text is not. Whatever the text asks to do can be done with the options of the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from caetun.types import Mode

if TYPE_CHECKING:
    from caetun.session import pathmtu
    from caetun.session.handshake import Established


class Event(NamedTuple):
    """Something a person may want to know."""

    level: str
    """error, warning, info or debug."""
    event: str
    """Stable name: `peer.up`."""
    text: str
    fields: dict[str, Any]


def up(peer: str, link: str, established: Established) -> Event:
    """There are keys for the first time, or again."""
    extra = ", post-quantum" if established.post_quantum else ""
    return Event("info", "peer.up", f"up via {link} ({established.cipher}{extra})", {"peer": peer, "link": link})


def down(peer: str, why: str) -> Event:
    """The far end is gone."""
    return Event("warning", "peer.down", f"down: {why}", {"peer": peer})


def moved(peer: str, before: str, link: str) -> Event:
    """The far end's address has changed."""
    return Event("info", "peer.moved", f"moved from {before} to {link}", {"peer": peer, "link": link})


def silent(peer: str, link: str) -> Event:
    """Several initiations got no answer."""
    text = f"no answer from {link} yet: does the far end run, is its port open, are the keys right?"
    return Event("warning", "peer.silent", text, {"peer": peer, "link": link})


def modes_differ(peer: str, link: str, theirs: Mode, ours: Mode) -> Event:
    """The far end carries what this device cannot."""
    text = f"{link} carries {theirs}, this side {ours}: use the same --mode on both sides"
    return Event("error", "peer.mismatch", text, {"peer": peer})


def mtus_differ(peer: str, link: str, theirs: int, ours: int) -> Event:
    """Frames of the larger side may be more than the smaller side's device takes."""
    text = (
        f"the MTU at {link} is {theirs}, on this side {ours}: "
        f"larger packets than {min(theirs, ours)} get lost: use the same --mtu on both sides"
    )
    return Event("warning", "peer.mtu", text, {"peer": peer, "theirs": theirs, "ours": ours})


def resized(peer: str, link: str, event: pathmtu.Event) -> Event:
    """Path MTU discovery has found something."""
    level = "warning" if event.state == "error" else "info"
    text = f"{link} carries datagrams of {event.size} bytes ({event.why})"
    return Event(level, "path.mtu", text, {"peer": peer, "size": event.size})
