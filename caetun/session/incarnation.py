"""Who we are to each peer: how it knows whether we know what was said on the control channel (docs/wire.md, 5.2)."""

from __future__ import annotations

import dataclasses

from caetun.session.identity import PeerId
from caetun.session.noise import Entropy
from caetun.wire.hello import Hello


class Incarnations:
    """One number a peer."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._numbers: dict[PeerId, int] = {}

    def hello_to(self, peer: PeerId, hello: Hello) -> Hello:
        """Our hello with what this peer is told."""
        number = self._numbers.get(peer)
        if number is None:
            number = self._numbers[peer] = int.from_bytes(self._entropy(8), "big") | 1
        return dataclasses.replace(hello, incarnation=number)

    def forget(self, peer: PeerId) -> None:
        """It was taken away. If it is added again, it will be told that we have forgotten what was said."""
        self._numbers.pop(peer, None)
