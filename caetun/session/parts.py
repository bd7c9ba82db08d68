"""Handshake messages whose pieces come one by one, put together (docs/wire.md, section 2.1)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from caetun.types import DropReason, Drops
from caetun.wire.handshake import Header, Piece

# fixed by the specification
MAX_UNFINISHED: Final = 64
UNFINISHED_SECONDS: Final = 5.0

# chosen by us
MAX_UNFINISHED_PER_HOST: Final = 4
"""One host cannot push out what the others have begun: to fill the table it takes sixteen."""

_Key: TypeAlias = tuple[str, int, Header]


@dataclass(slots=True)
class _Unfinished:
    host: str
    born: float
    parts: list[bytes | None]


class Parts:
    """The messages that wait for pieces. One piece too many makes the oldest give way."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._unfinished: OrderedDict[_Key, _Unfinished] = OrderedDict()
        """Oldest first."""

    def __len__(self) -> int:
        return len(self._unfinished)

    def add(self, piece: Piece, source: str, host: str, now: float) -> bytes | None:
        """The whole Noise message if this piece completes it. `host`: of `source`, what is hard to change."""
        if piece.total == 1:
            return piece.part
        self.expire(now)
        key = (source, piece.total, piece.header)
        unfinished = self._unfinished.get(key)
        if unfinished is None:
            self._make_room(host)
            unfinished = self._unfinished[key] = _Unfinished(host, now, [None] * piece.total)
        if unfinished.parts[piece.number] is not None:
            self._drops.count(DropReason.HANDSHAKE_UNEXPECTED)
            return None
        unfinished.parts[piece.number] = piece.part
        whole = [part for part in unfinished.parts if part is not None]
        if len(whole) < piece.total:
            return None
        del self._unfinished[key]
        return b"".join(whole)

    def expire(self, now: float) -> None:
        """Drop messages whose missing pieces will not come any more."""
        while self._unfinished:
            key, oldest = next(iter(self._unfinished.items()))
            if now - oldest.born < UNFINISHED_SECONDS:
                return
            self._give_up(key)

    def _make_room(self, host: str) -> None:
        of_host = [key for key, unfinished in self._unfinished.items() if unfinished.host == host]
        if len(of_host) >= MAX_UNFINISHED_PER_HOST:
            self._give_up(of_host[0])
        elif len(self._unfinished) >= MAX_UNFINISHED:
            self._give_up(next(iter(self._unfinished)))

    def _give_up(self, key: _Key) -> None:
        del self._unfinished[key]
        self._drops.count(DropReason.HANDSHAKE_INCOMPLETE)
