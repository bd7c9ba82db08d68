"""Who carries out what the pump does not do itself, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from caetun.errors import CaeTunError
    from caetun.peers import Event, Peer
    from caetun.transports.base import Link


@dataclass(slots=True)
class Totals:
    """What has passed, for people and for metrics."""

    frames_out: int = 0
    """Frames (superframes count once) from the device to the network."""
    bytes_out: int = 0
    """As they lie in containers, a few bytes of element head included."""
    records_out: int = 0
    frames_in: int = 0
    bytes_in: int = 0
    """Of sealed records."""
    records_in: int = 0


class Shell(Protocol):
    """Who carries out what is not moving batches."""

    def report(self, event: Event) -> None:
        """Something a person may want to know."""

    def failed(self, error: CaeTunError) -> None:
        """The tunnel cannot go on."""

    def seek(self, peer: Peer) -> None:
        """Look for other ways to a peer."""

    def settled(self, peer: Peer) -> None:
        """A peer uses another link now, or the one in use works again."""

    def unanswered(self, peer: Peer, link: Link) -> None:
        """Nobody answers at a link that was offered."""

    def unused(self, link: Link) -> None:
        """A link is not needed any more."""

    def closed(self, link: Link, why: str) -> None:
        """A link is gone; the core is told next."""

    def said(self, peer: Peer, kind: int, body: bytes) -> None:
        """A peer has said something on its control channel (`Output.said`)."""
