"""The traffic keys of one handshake: sealing and opening records (docs/wire.md, section 3)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from caetun.errors import Refused
from caetun.session.replay import ReplayWindow
from caetun.types import Buffer, DropReason
from caetun.wire.record import TAG_SIZE, Record

if TYPE_CHECKING:
    from caetun.session.deflation import Deflater
    from caetun.session.security import Established

# fixed by the specification (docs/wire.md, section 3)
MAX_RECORDS: Final = 1 << 26
"""Records sealed with one key before the initiator asks for new ones."""
MAX_BYTES: Final = 1 << 38
"""Bytes sealed with one key before the initiator asks for new ones: keeps AES-GCM's advantage far below 2^-50."""


class KeyPair:
    """Seals with one key, opens with the other, and remembers what it has seen."""

    __slots__ = (
        "_nonce",
        "_open",
        "_seal",
        "born",
        "deflater",
        "established",
        "initiator",
        "local_index",
        "remote_index",
        "reported",
        "sealed_bytes",
        "sent",
        "window",
    )

    def __init__(self, established: Established, now: float) -> None:
        aes = established.cipher == "aes-gcm"
        cipher = AESGCM if aes else ChaCha20Poly1305
        self._seal = cipher(established.send_key).encrypt
        self._open = cipher(established.receive_key).decrypt
        # Noise, sections 12.3 and 12.4: ChaChaPoly counts little-endian, AESGCM big-endian, both behind 4 zero bytes.
        self._nonce = struct.Struct(">IQ" if aes else "<IQ").pack
        self.established = established
        self.initiator = established.initiator
        self.local_index = established.local_index
        self.remote_index = established.remote_index
        self.born = now
        self.sent = 0
        """Records sealed so far: the next one's counter."""
        self.sealed_bytes = 0
        self.window = ReplayWindow()
        self.deflater: Deflater | None = None
        """What makes containers smaller before they are sealed; mostly nothing."""
        self.reported = 0
        """How many opened records the far end has been told of."""

    def seal(self, container: Buffer) -> Record:
        """The next record. Hot: once a record."""
        counter = self.sent
        self.sent = counter + 1
        self.sealed_bytes += len(container)
        return Record(self.remote_index, counter, self._seal(self._nonce(0, counter), container, None))

    def open(self, counter: int, body: Buffer) -> bytes:
        """The container of a record; raises Refused if it was seen before, is too old or does not authenticate. Hot."""
        reason = self.window.check(counter)
        if reason is not None:
            raise Refused(reason)
        if len(body) < TAG_SIZE:
            raise Refused(DropReason.DATAGRAM_SHORT)
        try:
            plain = self._open(self._nonce(0, counter), body, None)
        except InvalidTag:
            raise Refused(DropReason.RECORD_FORGED) from None
        self.window.mark(counter)
        return plain

    @property
    def worn(self) -> bool:
        """Whether so much has been sealed that new keys are due, whatever their age."""
        return self.sent >= MAX_RECORDS or self.sealed_bytes >= MAX_BYTES
