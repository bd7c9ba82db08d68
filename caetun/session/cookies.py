"""The two message authentication codes of handshake datagrams, and cookies (docs/wire.md, section 2.2).

    mac1   proves that the sender knows whom it writes to
    mac2   proves that it receives what is sent to its address: needs a cookie, which a side under load hands out

`CookieMint` is the side that hands out, `Envelopes` the side that writes messages and uses cookies.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from caetun.errors import Refused
from caetun.session.identity import PeerId
from caetun.session.noise import Entropy
from caetun.types import DropReason
from caetun.wire.handshake import MAC_SIZE, SALT_SIZE, Codes, CookieReply, Header, cut, encode_cookie_reply
from caetun.wire.record import INITIATION, RESPONSE

# fixed by the specification
MAC1_LABEL: Final = b"caetun 1 mac1"
COOKIE_LABEL: Final = b"caetun 1 cookie"
COOKIE_SECONDS: Final = 120.0
"""How long a cookie is used, and the secret behind it hands out new ones."""
SECRET_SIZE: Final = 32
NO_MAC2: Final = bytes(MAC_SIZE)
_ZERO_NONCE: Final = bytes(12)

# chosen by us
MAX_KEPT: Final = {INITIATION: 12, RESPONSE: 1}
"""Messages to one peer that may still be sent again, by kind: as many initiations as wait for a response, because they
may have gone out by several links at once and all be challenged; of responses, which a hub keeps for all its peers, the
newest."""


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s, 16 bytes (RFC 7693)."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_SIZE).digest()


def keyed(key: bytes) -> hashlib.blake2s:
    """`mac` before its data: to be copied and fed, which takes a fifth less time."""
    return hashlib.blake2s(key=key, digest_size=MAC_SIZE)


def mac1_key(target: bytes) -> bytes:
    """32 bytes."""
    return hashlib.blake2s(MAC1_LABEL + target).digest()


def _cookie_cipher(target: bytes, salt: bytes) -> ChaCha20Poly1305:
    """A key for one cookie reply: the salt is random, so the nonce may be zero."""
    return ChaCha20Poly1305(hashlib.blake2s(COOKIE_LABEL + target + salt).digest())


class CookieMint:
    """Hands out cookies and knows them again, without a table: a cookie is a code over the address it was sent to."""

    def __init__(self, target: bytes, entropy: Entropy) -> None:
        """`target`: ours, 32 bytes."""
        self._target = target
        self._entropy = entropy
        self._secrets: list[bytes] = []
        self._born = 0.0

    def right(self, codes: Codes, source: str, now: float) -> bool:
        """Whether mac2 was made with a cookie that we gave to this address."""
        if codes.mac2 == NO_MAC2:
            return False
        data, address = codes.covered + codes.mac1, source.encode()
        return any(
            hmac.compare_digest(mac(mac(secret, address), data), codes.mac2) for secret in self._fresh_secrets(now)
        )

    def reply(self, receiver: int, mac1: bytes, source: str, now: float) -> bytes:
        """The cookie reply to a message with this sender index and mac1: a datagram of 64 bytes."""
        cookie = mac(self._fresh_secrets(now)[0], source.encode())
        salt = self._entropy(SALT_SIZE)
        sealed = _cookie_cipher(self._target, salt).encrypt(_ZERO_NONCE, cookie, mac1)
        return encode_cookie_reply(CookieReply(receiver, salt, sealed))

    def _fresh_secrets(self, now: float) -> list[bytes]:
        """The secret that makes cookies, then the one before it unless that is too old."""
        age = now - self._born
        if not self._secrets or age >= COOKIE_SECONDS:
            kept = self._secrets[:1] if age < 2 * COOKIE_SECONDS else []
            self._secrets = [self._entropy(SECRET_SIZE), *kept]
            self._born = now
        return self._secrets


@dataclass(slots=True)
class _Sent:
    """A message to one peer: kept to be sent again with a cookie, once."""

    peer: PeerId
    bare: list[bytes]
    """Its datagrams without codes."""
    mac1: bytes
    """Of its first piece: what a cookie reply refers to."""


class Addresses(Protocol):
    """Knows what must be known to write to a peer."""

    def target_of(self, peer: PeerId) -> bytes:
        """32 bytes (docs/wire.md, section 2.2)."""


class Envelopes:
    """Puts the codes on our handshake messages, and takes in the cookies that others demand.

    Keeps `MAX_KEPT` messages and one cookie a peer at most.
    """

    def __init__(self, identity: Addresses) -> None:
        self._identity = identity
        self._sent: dict[int, _Sent] = {}
        """By sender index."""
        self._order: dict[tuple[PeerId, int], deque[int]] = {}
        """Sender indices by peer and kind, oldest first; some of them are not in `_sent` any more."""
        self._cookies: dict[PeerId, tuple[bytes, float]] = {}
        """Cookie, and when it came."""

    def post(self, peer: PeerId, header: Header, message: bytes, now: float) -> list[bytes]:
        """The datagrams of a Noise message (1..4624 bytes), ready to be sent."""
        bare = cut(header, message)
        datagrams, mac1 = self._stamp(peer, bare, now)
        self._sent[header.sender] = _Sent(peer, bare, mac1)
        order = self._order.setdefault((peer, header.kind), deque())
        order.append(header.sender)
        if len(order) > MAX_KEPT[header.kind]:
            self._sent.pop(order.popleft(), None)
        return datagrams

    def forget(self, peer: PeerId, kind: int) -> None:
        """No message of this kind needs a cookie any more."""
        for index in self._order.pop((peer, kind), ()):
            self._sent.pop(index, None)

    def drop(self, peer: PeerId) -> None:
        """A peer is a stranger again."""
        for kind in (INITIATION, RESPONSE):
            self.forget(peer, kind)
        self._cookies.pop(peer, None)

    def take_cookie(self, reply: CookieReply, now: float) -> list[bytes]:
        """Use a cookie: returns the message it was demanded for, with mac2, to be sent again. Raises Refused.

        A message is repeated once, so that nobody can make us send more than he sends.
        """
        sent = self._sent.get(reply.receiver)
        if sent is None:
            raise Refused(DropReason.HANDSHAKE_UNEXPECTED, "a cookie for a message that needs none")
        try:
            cipher = _cookie_cipher(self._identity.target_of(sent.peer), reply.salt)
            cookie = cipher.decrypt(_ZERO_NONCE, reply.sealed, sent.mac1)
        except InvalidTag:
            raise Refused(DropReason.HANDSHAKE_FORGED, "cookie reply") from None
        self._cookies[sent.peer] = (cookie, now)
        del self._sent[reply.receiver]
        return self._stamp(sent.peer, sent.bare, now)[0]

    def _stamp(self, peer: PeerId, bare: list[bytes], now: float) -> tuple[list[bytes], bytes]:
        """Datagrams with both codes, and the mac1 of the first."""
        key = mac1_key(self._identity.target_of(peer))
        cookie, came = self._cookies.get(peer, (b"", 0.0))
        if cookie and now - came >= COOKIE_SECONDS:
            del self._cookies[peer]
            cookie = b""
        with_mac1 = [datagram + mac(key, datagram) for datagram in bare]
        datagrams = [datagram + (mac(cookie, datagram) if cookie else NO_MAC2) for datagram in with_mac1]
        return datagrams, with_mac1[0][-MAC_SIZE:]
