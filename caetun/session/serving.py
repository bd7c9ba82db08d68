"""TLS handshakes under way; and a bounded table of those that a node is answering: repeated flights alike."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from caetun.session.agreement import Offer
from caetun.session.engine import TlsEngine
from caetun.session.identity import PeerId
from caetun.session.pending import ATTEMPT_SECONDS
from caetun.session.security import Cipher
from caetun.wire import tls
from caetun.wire.handshake import Header

# chosen by us
NOBODY: Final = PeerId(b"")
MAX_SERVED: Final = 64
"""Handshakes that are being answered: some 50 KiB each."""
MAX_SERVED_PER_HOST: Final = 8


@dataclass(slots=True)
class Channel:
    """One end of a TLS connection."""

    engine: TlsEngine
    cipher: Cipher
    started: float
    exchange: int = 1
    remote_index: int = 0
    stream: bytes = field(default=b"", repr=False)

    def read(self) -> tls.Inner | None:
        """The far end's message in the channel, once it is whole. Raises TlsFailure, Malformed."""
        if not self.engine.ready:
            return None
        self.stream += self.engine.read()
        return tls.decode_inner(self.stream)


@dataclass(slots=True)
class Attempt(Channel):
    """One that we began: `tls.py` has a table of these."""

    peer: PeerId = NOBODY
    flight: bytes = b""
    """The newest: what is repeated."""
    repeats: int = 0
    offer: Offer | None = None


@dataclass(slots=True)
class Served(Channel):
    """One that the far end began."""

    opening: bytes = b""
    """Hash of its first flight, by which it is known again."""
    host: str = ""
    target: bytes = b""
    """What the codes of this handshake are made with."""
    reply: list[bytes] = field(default_factory=list)
    over: bool = False
    """Whether there is nothing to do but to repeat the last reply."""


class Serving:
    """Served handshakes by local index, the oldest first. One more than the cap takes the place of the oldest."""

    def __init__(self) -> None:
        self._served: OrderedDict[int, Served] = OrderedDict()
        self._openings: dict[bytes, int] = {}
        """Local index by the hash of the first flight."""

    def __contains__(self, index: object) -> bool:
        return index in self._served

    def __len__(self) -> int:
        return len(self._served)

    def get(self, index: int, now: float) -> Served | None:
        """The one under this index."""
        self._expire(now)
        return self._served.get(index)

    def known(self, opening: bytes, now: float) -> Served | None:
        """The one that began with this flight."""
        self._expire(now)
        index = self._openings.get(opening)
        return None if index is None else self._served[index]

    def add(self, index: int, served: Served) -> None:
        """Take in a new one."""
        of_host = [each for each, other in self._served.items() if other.host == served.host]
        if len(of_host) >= MAX_SERVED_PER_HOST:
            self._forget(of_host[0])
        elif len(self._served) >= MAX_SERVED:
            self._forget(next(iter(self._served)))
        self._served[index] = served
        self._openings[served.opening] = index

    def _expire(self, now: float) -> None:
        while self._served:
            index, oldest = next(iter(self._served.items()))
            if now - oldest.started < ATTEMPT_SECONDS:
                return
            self._forget(index)

    def _forget(self, index: int) -> None:
        del self._openings[self._served.pop(index).opening]


def opening_of(header: Header, message: bytes) -> bytes:
    """By what a first flight is known again."""
    return hashlib.sha256(bytes((header.suite,)) + header.sender.to_bytes(4, "big") + message).digest()
