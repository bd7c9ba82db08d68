"""TCP that was sent into silence: if the link was dead, it goes again by the next one.

TCP inside repeats a segment after 0.2, 0.6, 1.4, 3 s (RFC 6298, section 5.5: twice as long each time). By the time
another link is found, its next attempt may be seconds away; what it sent last, repeated at once, gets an answer, and
all goes on. That a segment arrives twice does TCP no harm (RFC 9293, section 3.10.7.4); other things it may.
"""

from __future__ import annotations

from collections.abc import Iterator

from caetun.errors import Malformed
from caetun.session.staging import Staging
from caetun.types import Buffer, Mode
from caetun.wire import ip
from caetun.wire.container import Batch
from caetun.wire.ethernet import TYPE_IPV4, TYPE_IPV6, network_header


class Unheard:
    """Copies of the newest frames with TCP, for as long as `Staging` keeps any."""

    def __init__(self, mode: Mode) -> None:
        """`mode`: what frames are."""
        self._mode = mode
        self._copies = Staging(None)

    def keep(self, batch: Batch, now: float) -> None:
        """Copy what of a batch is TCP."""
        self._copies.keep_frames([each for each in batch.frames() if self._is_tcp(each[0])], now)

    def take(self, now: float) -> Iterator[Batch]:
        """All copies that are fresh enough, in order."""
        return self._copies.take(now)

    def clear(self) -> None:
        """The far end is heard: what was lost is for TCP itself to find out."""
        self._copies.clear()

    def _is_tcp(self, frame: Buffer) -> bool:
        try:
            if self._mode is Mode.TUN:
                return ip.outline(frame, 0).protocol == ip.TCP
            ethertype, at = network_header(frame)
            return ethertype in (TYPE_IPV4, TYPE_IPV6) and ip.outline(frame, at).protocol == ip.TCP
        except Malformed:
            return False
