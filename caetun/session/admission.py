"""What a handshake datagram must pass before it costs us public-key work. Cheapest checks first:

    1. genuine    mac1 is right: the sender knows our key. About 4 us in all, the price of a flood by a stranger.
    2. challenge  under load, mac2 is right: the sender receives at the address it claims; else it gets a cookie.
    3. join       all pieces are there.
    4. charge     there were not too many handshakes lately, in all and, under load, from this host.

Whoever knows our public key but has no address of its own gets no further than 2 while we are under load.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections import Counter, deque
from typing import Final

from caetun.errors import Refused
from caetun.session.cookies import CookieMint, keyed, mac1_key
from caetun.session.noise import Entropy
from caetun.session.parts import MAX_UNFINISHED, Parts
from caetun.types import DropReason, Drops
from caetun.wire.handshake import Codes, Piece

# chosen by us
LOAD_HANDSHAKES: Final = 20
"""A second; more of them is load. Answering one takes about 0.5 ms, so load begins at 1 % of a core."""
LOAD_UNFINISHED: Final = MAX_UNFINISHED // 2
"""Messages waiting for pieces; more of them is load: who crowds out others must at least get a cookie."""
MAX_HANDSHAKES: Final = 100
"""A second, in all, even with cookies: 5 % of a core. A hub with 1,000 peers has them back 10 s after a restart."""
MAX_HANDSHAKES_PER_HOST: Final = 5
"""A second, under load."""
MAX_COOKIES: Final = 1000
"""Cookie replies a second, in all: about 15 us each. Smaller than what they answer: nothing to amplify with."""
MAX_COOKIES_PER_HOST: Final = 10
"""A second: a single flooder does not use up the replies of all."""
WINDOW_SECONDS: Final = 1.0
IPV6_HOST_BITS: Final = 64
"""Whoever has one IPv6 address usually has the 2^64 around it."""


def host_of(source: str) -> str:
    """What of a source address ("192.0.2.1 4500") costs something to change: no port, and of IPv6 only the network."""
    host = source.rpartition(" ")[0] or source
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> (128 - IPV6_HOST_BITS):x}/{IPV6_HOST_BITS}"


class Rate:
    """Events of the last second, in all and by host. Remembers no more of them than it allows."""

    def __init__(self, total: int, per_host: int) -> None:
        self._total = total
        self._per_host = per_host
        self._events: deque[tuple[float, str]] = deque()
        self._hosts: Counter[str] = Counter()

    def recent(self, now: float) -> int:
        """How many events there were."""
        events = self._events
        while events and now - events[0][0] >= WINDOW_SECONDS:
            _, host = events.popleft()
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
        return len(events)

    def full(self, now: float) -> bool:
        """Whether no host may cause another event."""
        return self.recent(now) >= self._total

    def take(self, host: str, now: float, *, strict: bool) -> bool:
        """Note one more event, if it is allowed; `strict`: by the limit of its host too."""
        if self.full(now) or (strict and self._hosts[host] >= self._per_host):
            return False
        self._events.append((now, host))
        self._hosts[host] += 1
        return True


class Admission:
    """The gate in front of the handshake."""

    def __init__(self, target: bytes, entropy: Entropy, drops: Drops) -> None:
        """`target`: ours, 32 bytes (docs/wire.md, section 2.2)."""
        self.target = target
        self._mac1 = keyed(mac1_key(target))
        self._mint = CookieMint(target, entropy)
        self._parts = Parts(drops)
        self._handshakes = Rate(MAX_HANDSHAKES, MAX_HANDSHAKES_PER_HOST)
        self._cookies = Rate(MAX_COOKIES, MAX_COOKIES_PER_HOST)

    def genuine(self, codes: Codes) -> bool:
        """Whether mac1 is right. Hot while flooded."""
        mac1 = self._mac1.copy()
        mac1.update(codes.covered)
        return hmac.compare_digest(mac1.digest(), codes.mac1)

    def under_load(self, now: float) -> bool:
        """Whether senders must show a cookie."""
        self._parts.expire(now)
        return self._handshakes.recent(now) > LOAD_HANDSHAKES or len(self._parts) > LOAD_UNFINISHED

    def challenge(
        self, piece: Piece, codes: Codes, source: str, now: float, *, always: bool = False
    ) -> list[bytes] | None:
        """None if the piece may pass; else the answer to it: a cookie reply, or nothing. Hot while flooded.

        `always`: without load too, because what the message asks for is long.
        """
        if not (always or self.under_load(now)) or self._mint.right(codes, source, now):
            return None
        # The first piece stands for its message: one reply is enough, for it is sent again as a whole.
        if piece.number or self._cookies.full(now) or not self._cookies.take(host_of(source), now, strict=True):
            return []
        return [self._mint.reply(piece.header.sender, codes.mac1, source, now)]

    def join(self, piece: Piece, source: str, now: float) -> bytes | None:
        """The Noise message that this piece completes, if it does."""
        return self._parts.add(piece, source, host_of(source), now)

    def charge(self, source: str, now: float) -> None:
        """Public-key work is about to begin; raises Refused if there was too much lately, in all or for this host."""
        if not self._handshakes.take(host_of(source), now, strict=self.under_load(now)):
            raise Refused(DropReason.HANDSHAKE_OVERLOAD)
