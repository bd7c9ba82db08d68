"""The 1-RTT keys of a QUIC connection, and their changes (RFC 9001 section 6).

aioquic changes both directions' keys at once, and forgets the former ones. Here those still open what was under way.
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.connection import QuicConnection
from aioquic.tls import Epoch

from caetun.transports.quic_packets import Opened, Opener, Sealer, shortest

# chosen by us
KEY_PACKETS: Final = 1 << 22
"""Packets sealed before the key is changed: half of what RFC 9001 section 6.6 allows for AES-GCM."""
FORMER_PTOS: Final = 3
"""Probe timeouts for which the keys before the present ones open what was under way (section 6.5)."""


class Keyring:
    """What seals and opens, now and a moment ago."""

    def __init__(self, quic: QuicConnection) -> None:
        """Once the handshake is complete."""
        self._quic = quic
        self._pair = quic._cryptos[Epoch.ONE_RTT]
        self.sealer = Sealer(self._pair.send)
        self._opener = Opener(self._pair.recv)
        self._former: Opener | None = None
        self._former_until = 0.0

    def renew(self, now: float) -> None:
        """Change the keys if they are worn, or somebody wants it; see what aioquic has changed. Cheap: once a burst."""
        pair = self._pair
        if (
            self.sealer.sealed < KEY_PACKETS
            and not pair._update_key_requested
            and pair.send.aead is self.sealer.origin
            and pair.recv.aead is self._opener.origin
        ):
            return
        if self.sealer.sealed >= KEY_PACKETS and self._quic._handshake_confirmed:
            pair.update_key()
        if pair._update_key_requested:
            pair._update_key("local_update")
        if pair.send.aead is not self.sealer.origin:
            self.sealer = Sealer(pair.send)
        if pair.recv.aead is not self._opener.origin:
            self._former, self._opener = self._opener, Opener(pair.recv)
            self._former_until = now + FORMER_PTOS * self._quic._loss.get_probe_timeout()

    def open(self, view: memoryview, size: int, cid: bytes, expected: int, now: float) -> Opened | None:
        """As `Opener.open`, under the present keys or the former; None too if a packet is too short."""
        if (len(view) - 1) % size + 1 < shortest(len(cid)):
            return None
        opened = self._opener.open(view, size, cid, expected)
        if opened is None and self._former is not None and now < self._former_until:
            return self._former.open(view, size, cid, expected)
        return opened
