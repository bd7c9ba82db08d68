"""`certificate`: an X.509 certificate of an authority of ours, not revoked; its first name is the user.

With `--security tls` the handshake has seen to it. With Noise the peer shows its chain here, and signs what says which
two keys it speaks for: whoever relays the signature cannot use it, because his keys are others.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from caetun.auth.base import CERTIFICATE, SIGNATURE, Claim, Denied
from caetun.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caetun.security.credentials import SigningKey
    from caetun.security.trust import Trust
    from caetun.wire.authentication import Field

# fixed by the specification
LABEL: Final = b"caetun 1 certificate"

# chosen by us
MAX_CHAIN: Final = 4


def signed(nonce: bytes, target: bytes, key: bytes) -> bytes:
    """What is signed: the question's nonce, who asks and who answers."""
    return LABEL + nonce + target + key


def sign(key: SigningKey, message: bytes) -> bytes:
    """With SHA-256 and the key's own scheme: ECDSA, PSS, or EdDSA as it is."""
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size), SHA256())
    return key.sign(message)


def encode_chain(chain: Sequence[bytes]) -> str:
    """DER, each in Base64, with spaces between."""
    return " ".join(base64.b64encode(each).decode() for each in chain[:MAX_CHAIN])


class Certificate:
    """Agrees with a certificate of an authority."""

    name = "certificate"

    def __init__(self, trust: Trust, *, shown: bool) -> None:
        """`shown`: whether the handshake shows certificates."""
        self._trust = trust
        self._shown = shown
        self.fields: Sequence[Field] = () if shown else (CERTIFICATE, SIGNATURE)

    def check(self, claim: Claim) -> str:
        """See `Method`."""
        chain = [claim.certificate] if self._shown else _chain(claim.values.get(CERTIFICATE.name, ""))
        try:
            names = self._trust.names(chain, verified=self._shown, wall=claim.wall)
        except Refused as refused:
            raise Denied(refused.detail) from None
        if not self._shown and not is_signed(chain[0], claim):
            raise Denied("the signature is not that of the certificate")
        if not names:
            raise Denied("the certificate has no name")
        return names[0]


def _chain(text: str) -> list[bytes]:
    try:
        chain = [base64.b64decode(each, validate=True) for each in text.split()[:MAX_CHAIN]]
    except (binascii.Error, ValueError):
        chain = []
    if not chain:
        raise Denied("no certificate was shown")
    return chain


def is_signed(certificate: bytes, claim: Claim) -> bool:
    """Whether the claim carries the signature of a certificate (DER) that was found good."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    message = signed(claim.nonce, claim.target, claim.key)
    try:
        signature = base64.b64decode(claim.values.get(SIGNATURE.name, ""), validate=True)
        key = x509.load_der_x509_certificate(certificate).public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size), SHA256())
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, message)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
