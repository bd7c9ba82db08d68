"""Whether ML-KEM-768 takes part in a handshake, and what each side does for it, whichever the security module."""

from __future__ import annotations

from caetun.errors import Refused
from caetun.session import kem
from caetun.session.noise import Entropy
from caetun.session.security import PostQuantum
from caetun.types import DropReason


class Hybrid:
    """One node's part. Where ML-KEM does not take part, the shared secret is empty."""

    def __init__(self, wanted: PostQuantum, entropy: Entropy) -> None:
        self._wanted = wanted
        self._entropy = entropy

    @property
    def _able(self) -> bool:
        # Asked only once there is a handshake: to find out takes some of the time of a start.
        return self._wanted is not PostQuantum.OFF and kem.supported()

    def offer(self) -> kem.DecapsulationKey | None:
        """The initiator's key, of which the responder is sent the public half; None: it is not asked to."""
        return kem.DecapsulationKey(self._entropy) if self._able else None

    def encapsulate(self, offer: bytes | None) -> tuple[bytes, bytes | None]:
        """The responder's shared secret, and the ciphertext for the initiator's public half; raises Refused."""
        if offer is not None and self._able:
            return kem.encapsulate(offer)
        if self._wanted is PostQuantum.REQUIRE:
            raise Refused(DropReason.HANDSHAKE_KEM, "the initiator offers no ML-KEM")
        return b"", None

    def decapsulate(self, key: kem.DecapsulationKey | None, ciphertext: bytes | None) -> bytes:
        """The initiator's shared secret, if the responder took the offer; raises Refused."""
        if ciphertext is None:
            if self._wanted is PostQuantum.REQUIRE:
                raise Refused(DropReason.HANDSHAKE_KEM, "the responder has no ML-KEM")
            return b""
        if key is None:
            raise Refused(DropReason.HANDSHAKE_KEM, "a ciphertext that we did not ask for")
        return key.decapsulate(ciphertext)
