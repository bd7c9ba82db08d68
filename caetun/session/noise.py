"""The Noise Protocol Framework, revision 34, driven by tables: http://noiseprotocol.org/noise.html

Objects as in its section 5: CipherState, SymmetricState, HandshakeState. Curve 25519; AESGCM and ChaChaPoly; SHA256 and
BLAKE2s. A pattern is a row of `PATTERNS`; adding one needs no code.

    write_message: tokens in order -> payload sealed -> one message
    read_message:  the same, backwards
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from caetun.errors import Malformed, Refused
from caetun.types import DropReason

Entropy: TypeAlias = Callable[[int], bytes]
"""Gives so many unpredictable bytes."""


class Pattern(NamedTuple):
    """A handshake pattern: pre-messages of both sides, then the messages in turn, initiator first. Tokens by spaces."""

    initiator_known: str
    responder_known: str
    messages: tuple[str, ...]


# fixed by the specification
DH_SIZE: Final = 32
KEY_SIZE: Final = 32
PSK_SIZE: Final = 32
TAG_SIZE: Final = 16
PATTERNS: Final = {  # sections 7.5 and 9.4
    "NN": Pattern("", "", ("e", "e ee")),
    "NNpsk0": Pattern("", "", ("psk e", "e ee")),
    "NK": Pattern("", "s", ("e es", "e ee")),
    "IK": Pattern("", "s", ("e es s ss", "e ee se")),
    "IKpsk1": Pattern("", "s", ("e es s ss psk", "e ee se")),
    "IKpsk2": Pattern("", "s", ("e es s ss", "e ee se psk")),
    "XX": Pattern("", "", ("e", "e ee s es", "s se")),
    "XXpsk3": Pattern("", "", ("e", "e ee s es", "s se psk")),
}
# Sections 12.3 and 12.4: the counter is little-endian for ChaChaPoly, big-endian for AESGCM.
_CIPHERS: Final[dict[str, tuple[type[AESGCM] | type[ChaCha20Poly1305], struct.Struct]]] = {
    "AESGCM": (AESGCM, struct.Struct(">IQ")),
    "ChaChaPoly": (ChaCha20Poly1305, struct.Struct("<IQ")),
}
_HASHES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "BLAKE2s": lambda data: hashlib.blake2s(data).digest(),
}


class DhKey:
    """A Curve25519 key pair."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        """`private`: 32 bytes, clamped when used (RFC 7748, section 5)."""
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()
        """32 bytes."""

    def exchange(self, remote: bytes) -> bytes:
        """The shared secret with a public key of 32 bytes; raises Refused if it is all zeros (RFC 7748, 6.1)."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(remote))
        except ValueError:
            raise Refused(DropReason.HANDSHAKE_FORGED, "a public key of low order") from None


@dataclass(slots=True)
class Keys:
    """What one side knows before the first message."""

    static: DhKey | None = None
    remote_static: bytes | None = None
    psk: bytes | None = None


class CipherState:
    """A key and its counter (section 5.1). Without a key, bytes pass as they are."""

    __slots__ = ("_aead", "_nonce", "_type", "counter", "key")

    def __init__(self, cipher: str, key: bytes | None = None) -> None:
        self._type, self._nonce = _CIPHERS[cipher]
        self.key = key
        self.counter = 0
        self._aead = None if key is None else self._type(key)

    def encrypt(self, plaintext: bytes, ad: bytes = b"") -> bytes:
        """Ciphertext and tag, under the next counter."""
        if self._aead is None:
            return plaintext
        sealed = self._aead.encrypt(self._nonce.pack(0, self.counter), plaintext, ad)
        self.counter += 1
        return sealed

    def decrypt(self, ciphertext: bytes, ad: bytes = b"") -> bytes:
        """The plaintext; raises Refused, and does not count, if it does not authenticate."""
        if self._aead is None:
            return ciphertext
        try:
            plaintext = self._aead.decrypt(self._nonce.pack(0, self.counter), ciphertext, ad)
        except InvalidTag:
            raise Refused(DropReason.HANDSHAKE_FORGED) from None
        self.counter += 1
        return plaintext


class SymmetricState:
    """The chaining key, the hash of all that was said, and the current cipher (section 5.2)."""

    __slots__ = ("_chaining_key", "_cipher_name", "_hash", "_hash_name", "cipher", "digest")

    def __init__(self, protocol: str, cipher: str, hash_name: str) -> None:
        self._cipher_name = cipher
        self._hash_name = hash_name.lower()
        self._hash = _HASHES[hash_name]
        name = protocol.encode()
        self.digest = name.ljust(32, b"\0") if len(name) <= 32 else self._hash(name)
        """Hash of the transcript: `h` in the specification."""
        self._chaining_key = self.digest
        self.cipher = CipherState(cipher)

    def fork(self) -> SymmetricState:
        """An independent copy."""
        twin = copy.copy(self)
        twin.cipher = copy.copy(self.cipher)
        return twin

    def mix_hash(self, data: bytes) -> None:
        self.digest = self._hash(self.digest + data)

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = self._derive(secret, 2)
        self.cipher = CipherState(self._cipher_name, key)

    def mix_key_and_hash(self, secret: bytes) -> None:
        self._chaining_key, mixed, key = self._derive(secret, 3)
        self.mix_hash(mixed)
        self.cipher = CipherState(self._cipher_name, key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = self.cipher.encrypt(plaintext, self.digest)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self.cipher.decrypt(ciphertext, self.digest)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """The initiator's sending cipher, then the responder's."""
        first, second = self._derive(b"", 2)
        return CipherState(self._cipher_name, first), CipherState(self._cipher_name, second)

    def _derive(self, secret: bytes, count: int) -> list[bytes]:
        """HKDF of section 4.3: `count` outputs of 32 bytes from the chaining key and `secret`."""
        temporary = hmac.digest(self._chaining_key, secret, self._hash_name)
        outputs, last = [], b""
        for number in range(1, count + 1):
            last = hmac.digest(temporary, last + bytes((number,)), self._hash_name)
            outputs.append(last)
        return outputs


class HandshakeState:
    """One side of one handshake (section 5.3)."""

    def __init__(self, protocol: str, initiator: bool, prologue: bytes, keys: Keys, entropy: Entropy) -> None:
        """`protocol`: full name, such as `Noise_IKpsk2_25519_AESGCM_SHA256`; `entropy` makes the ephemeral key."""
        _, pattern, _, cipher, hash_name = protocol.split("_")
        known = PATTERNS[pattern]
        self._messages = [message.split() for message in known.messages]
        self._has_psk = any("psk" in tokens for tokens in self._messages)
        self._at = 0
        self.initiator = initiator
        self._entropy = entropy
        self._static = keys.static
        self._ephemeral: DhKey | None = None
        self._remote_ephemeral: bytes | None = None
        self.remote_static = keys.remote_static
        """The far end's static public key: given, or learned from its messages."""
        self.psk = keys.psk
        """May be set until a message with the token `psk` is written or read."""
        self.symmetric = SymmetricState(protocol, cipher, hash_name)
        self.symmetric.mix_hash(prologue)
        for of_initiator, tokens in ((True, known.initiator_known), (False, known.responder_known)):
            if tokens == "s":
                self.symmetric.mix_hash(self._own_static() if of_initiator == initiator else self._far_static())

    def _own_static(self) -> bytes:
        assert self._static is not None, "this pattern needs a static key of ours"
        return self._static.public

    def _far_static(self) -> bytes:
        assert self.remote_static is not None, "this pattern needs the far end's static key beforehand"
        return self.remote_static

    @property
    def finished(self) -> bool:
        """Whether all messages went through."""
        return self._at == len(self._messages)

    @property
    def ephemeral(self) -> bytes:
        """Our ephemeral public key; only after we have written."""
        assert self._ephemeral is not None
        return self._ephemeral.public

    def fork(self) -> HandshakeState:
        """An independent copy: try a message on it, and a forged one has changed nothing here."""
        twin = copy.copy(self)
        twin.symmetric = self.symmetric.fork()
        return twin

    def write_message(self, payload: bytes) -> bytes:
        """Our next message; it must be our turn."""
        assert (self._at % 2 == 0) == self.initiator
        parts = [self._write_token(token) for token in self._messages[self._at]]
        self._at += 1
        return b"".join(parts) + self.symmetric.encrypt_and_hash(payload)

    def read_message(self, message: bytes) -> bytes:
        """The payload of the far end's next message; raises Malformed or Refused, then only `fork`s are of use."""
        assert (self._at % 2 == 1) == self.initiator
        for token in self._messages[self._at]:
            message = self._read_token(token, message)
        self._at += 1
        return self.symmetric.decrypt_and_hash(message)

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers for sending and for receiving, once finished."""
        assert self.finished
        first, second = self.symmetric.split()
        return (first, second) if self.initiator else (second, first)

    def _write_token(self, token: str) -> bytes:
        """Carry out one token of our message; returns what it puts on the wire."""
        if token == "e":
            self._ephemeral = DhKey(self._entropy(KEY_SIZE))
            self._mix_ephemeral(self._ephemeral.public)
            return self._ephemeral.public
        if token == "s":
            return self.symmetric.encrypt_and_hash(self._own_static())
        self._mix_secret(token)
        return b""

    def _read_token(self, token: str, message: bytes) -> bytes:
        """Carry out one token of the far end's message; returns what is left of it."""
        if token == "e":
            self._remote_ephemeral, message = _take(message, DH_SIZE)
            self._mix_ephemeral(self._remote_ephemeral)
        elif token == "s":
            sealed, message = _take(message, DH_SIZE + (TAG_SIZE if self.symmetric.cipher.key is not None else 0))
            self.remote_static = self.symmetric.decrypt_and_hash(sealed)
        else:
            self._mix_secret(token)
        return message

    def _mix_ephemeral(self, public: bytes) -> None:
        self.symmetric.mix_hash(public)
        if self._has_psk:  # section 9.2: so that the psk is never used with the same key twice
            self.symmetric.mix_key(public)

    def _mix_secret(self, token: str) -> None:
        """`psk`, or a Diffie-Hellman token: the initiator's key first, then the responder's."""
        if token == "psk":
            assert self.psk is not None
            assert len(self.psk) == PSK_SIZE
            self.symmetric.mix_key_and_hash(self.psk)
            return
        own, far = (token[0], token[1]) if self.initiator else (token[1], token[0])
        local = self._ephemeral if own == "e" else self._static
        remote = self._remote_ephemeral if far == "e" else self.remote_static
        assert local is not None
        assert remote is not None
        self.symmetric.mix_key(local.exchange(remote))


def _take(message: bytes, length: int) -> tuple[bytes, bytes]:
    """The first bytes and the rest; raises Malformed if there are not enough."""
    if len(message) < length:
        raise Malformed(DropReason.HANDSHAKE_MALFORMED, "a Noise message is cut short")
    return message[:length], message[length:]
