"""What a person is told about a peer: every event of the core, with its words in one place.

An event's name is stable, its text is not. Whatever the text asks to do can be done with the options of the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from caetun.types import Mode
from caetun.wire.control import REVOKED

if TYPE_CHECKING:
    from caetun.session import pathmtu
    from caetun.session.security import Established, Refusal
    from caetun.wire.hello import Hello


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


def down(peer: str, why: str, expected: bool = False) -> Event:
    """The far end is gone. `expected`: it has said goodbye, and comes back when it likes."""
    return Event("info" if expected else "warning", "peer.down", f"down: {why}", {"peer": peer})


def refused(peer: str, link: str, refusal: Refusal) -> Event:
    """A handshake has ended because of who one side is."""
    who = "the far end refuses this side" if refusal.theirs else "this side refuses the far end"
    fields = {"peer": peer, "link": link} if peer else {"link": link}
    return Event("error" if peer else "warning", "peer.refused", f"{link}: {who}: {refusal.why}", fields)


def closed(reason: int) -> str:
    """Why the far end has ended the session."""
    said = ": it does not let this side in any more" if reason == REVOKED else ""
    return f"closed by the far end{said}"


def doubled(peer: str) -> Event:
    """Two processes shake hands by turns, and each ends what the other had."""
    text = "two far ends use one key, by turns, and neither gets far: give each a key of its own (caetun genkey)"
    return Event("warning", "peer.doubled", text, {"peer": peer})


def shared(peer: str) -> Event:
    """The far end says that another host has this one's key."""
    text = (
        "another host uses the key of this one, by turns, and neither gets far: "
        "give each a key of its own (caetun genkey)"
    )
    return Event("warning", "peer.doubled", text, {"peer": peer})


def moved(peer: str, before: str, link: str) -> Event:
    """The far end's address has changed."""
    return Event("info", "peer.moved", f"moved from {before} to {link}", {"peer": peer, "link": link})


def silent(peer: str, link: str, refusal: str = "") -> Event:
    """Several initiations got no answer. `refusal`: what the network said about it last, if it said anything."""
    said = f" ({refusal})" if refusal else ""
    text = (
        f"no answer from {link} yet{said}: does the far end run, is its port open, are the keys right, "
        "do --cipher and --post-quantum of both sides go together?"
    )
    return Event("warning", "peer.silent", text, {"peer": peer, "link": link})


def doubted(peer: str, link: str) -> Event:
    """The link in use has not answered for a while."""
    return Event(
        "debug", "link.silent", f"{link} does not answer: looking for another way", {"peer": peer, "link": link}
    )


def cut_off(peer: str, link: str) -> Event:
    """The link in use has ended; the session has not."""
    return Event("info", "link.lost", f"{link} has ended: looking for another way", {"peer": peer, "link": link})


class Differences:
    """Settings of the far end that do not go with ours: told once, as long as they stay what they are."""

    def __init__(self, ours: Hello) -> None:
        self._ours = ours
        self._mode: Mode | None = None
        self._mtu = ours.mtu

    def fresh(self, peer: str, link: str, theirs: Hello) -> list[Event]:
        """What has not been told yet."""
        ours = self._ours
        if theirs.mode is not ours.mode:
            told, self._mode = self._mode is theirs.mode, theirs.mode
            return [] if told else [modes_differ(peer, link, theirs.mode, ours.mode)]
        self._mode = None
        told, self._mtu = theirs.mtu in (self._mtu, ours.mtu), theirs.mtu
        return [] if told else [mtus_differ(peer, link, theirs.mtu, ours.mtu)]


def modes_differ(peer: str, link: str, theirs: Mode, ours: Mode) -> Event:
    """The far end carries what this device cannot."""
    text = f"{link} carries {theirs}, this side {ours}: use the same --mode on both sides"
    return Event("error", "peer.mismatch", text, {"peer": peer, "theirs": str(theirs)})


def mtus_differ(peer: str, link: str, theirs: int, ours: int) -> Event:
    """Frames of the larger side may be more than the smaller side's device takes."""
    text = (
        f"the MTU at {link} is {theirs}, on this side {ours}: larger packets than {min(theirs, ours)} are fragmented, "
        "or refused with ICMP: use the same --mtu on both sides"
    )
    return Event("warning", "peer.mtu", text, {"peer": peer, "theirs": theirs, "ours": ours})


def resized(peer: str, link: str, event: pathmtu.Event) -> Event:
    """Path MTU discovery has found something."""
    fields = {"peer": peer, "size": event.size}
    if event.state in ("error", "disabled"):
        text = f"{link} does not carry datagrams of {event.size} bytes ({event.why}), the least a tunnel needs: "
        return Event("warning", "path.mtu", text + "find what makes the path so narrow, or use --transport tcp", fields)
    return Event("info", "path.mtu", f"{link} carries datagrams of {event.size} bytes ({event.why})", fields)
