"""ML-KEM-768 (FIPS 203), as far as this machine's cryptographic library has it.

Not every version and backend of `cryptography` has it, so the imports are made where they are used.
"""

from __future__ import annotations

import functools
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm

from caetun.errors import Refused
from caetun.session.noise import Entropy
from caetun.types import DropReason

# fixed by the specification
SEED_SIZE: Final = 64


@functools.cache
def supported() -> bool:
    """Whether the rest of this module works here."""
    try:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        MLKEM768PrivateKey.from_seed_bytes(bytes(SEED_SIZE))
    except (ImportError, UnsupportedAlgorithm):
        return False
    return True


class DecapsulationKey:
    """The initiator's half."""

    __slots__ = ("_private", "public")

    def __init__(self, entropy: Entropy) -> None:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        self._private = MLKEM768PrivateKey.from_seed_bytes(entropy(SEED_SIZE))
        self.public = self._private.public_key().public_bytes_raw()
        """The encapsulation key, 1,184 bytes."""

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret, 32 bytes: an unrelated one if the ciphertext is not the far end's (section 6.3)."""
        try:
            return self._private.decapsulate(ciphertext)
        except ValueError:
            raise Refused(DropReason.HANDSHAKE_KEM, "ciphertext") from None


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Shared secret (32 bytes) and ciphertext (1,088) for an encapsulation key; raises Refused if it is none (7.2).

    The one place where the library draws its own entropy: it offers no other way.
    """
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise Refused(DropReason.HANDSHAKE_KEM, "encapsulation key") from None
