"""What the core needs of a link, and what it wants done: the one thing that goes from it to the shell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from caetun.notices import Event
from caetun.types import Iovec
from caetun.wire.record import Record


class LinkView(Protocol):
    """What a peer needs of `transports.base.Link`."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def unit(self) -> int: ...
    @property
    def max_record(self) -> int: ...
    @property
    def full(self) -> bool: ...
    @property
    def datagram(self) -> int: ...
    @property
    def datagram_ceiling(self) -> int | None: ...
    def resize(self, datagram: int) -> None: ...


@dataclass(slots=True)
class Output:
    """What the core wants done, in this order within each list. Links and peers are the shell's own objects."""

    records: list[tuple[Any, list[Record]]] = field(default_factory=list)
    """(link, records) to send."""
    probes: list[tuple[Any, Record]] = field(default_factory=list)
    """(link, record) to send in one datagram."""
    messages: list[tuple[Any, list[bytes]]] = field(default_factory=list)
    """(link, handshake messages) to send."""
    frames: list[Iovec] = field(default_factory=list)
    """For the device."""
    events: list[Event] = field(default_factory=list)
    """For the log."""
    seek: list[Any] = field(default_factory=list)
    """Peers for which other ways should be looked for: what is known does not answer, or is gone (`peer.link` None)."""
    settled: list[Any] = field(default_factory=list)
    """Connecting peers whose link (`peer.link`) is another one now, or works after it was suspect."""
    moved: list[Any] = field(default_factory=list)
    """Peers whose records go by another link now: what has waited for the former one can go at once."""
    unanswered: list[tuple[Any, Any]] = field(default_factory=list)
    """(peer, link) that was offered and did not answer. It stays offered until it is withdrawn or offered again."""
    unused: list[Any] = field(default_factory=list)
    """Links that a peer has left, or that are too many: to be closed, and to be withdrawn if they were offered."""
    said: list[tuple[Any, int, bytes]] = field(default_factory=list)
    """(peer, kind, body) of what came by control channels, in order; MET and DEAF of `session/channel.py` among it."""

    def clear(self) -> None:
        """Forget everything."""
        for part in (self.records, self.probes, self.messages, self.frames, self.events):
            part.clear()
        for rare in (self.seek, self.settled, self.moved, self.unanswered, self.unused, self.said):
            rare.clear()
