"""A and B, two nodes that shake hands over a network that is a list of datagrams, in virtual time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable

from caetun.session.admission import LOAD_HANDSHAKES
from caetun.session.cookies import mac, mac1_key
from caetun.session.handshake import (
    Cipher,
    Established,
    Handshakes,
    Hello,
    Identity,
    PeerId,
    Policy,
    PostQuantum,
    SecretIdentity,
    StaticIdentity,
)
from caetun.session.identity import NO_PSK, public_key
from caetun.session.module import Means
from caetun.types import DropReason, Drops, Mode

WALL = 1_700_000_000.0
PLAIN = Policy(post_quantum=PostQuantum.OFF)
HYBRID = Policy(post_quantum=PostQuantum.REQUIRE)
AES_ONLY = Policy((Cipher.AES_GCM,), PostQuantum.OFF)
A_KEY, B_KEY, C_KEY, PSK = (hashlib.sha256(name).digest() for name in (b"a", b"b", b"c", b"psk"))
SECRET = bytes(range(32))
A_HELLO = Hello(Mode.TAP, offloads=15, mtu=9000, max_record=65535)
B_HELLO = Hello(Mode.TUN, offloads=1, mtu=1400, max_record=1440)


class Node:
    """One side, with predictable entropy, and what it established so far."""

    def __init__(self, name: str, identity: Identity, hello: Hello = A_HELLO, policy: Policy = PLAIN) -> None:
        entropy_count, index_count = itertools.count(), itertools.count(1)
        self.drops = Drops()
        self.address = f"{name} 4500"
        self.established: list[Established] = []
        means = Means(
            hello,
            policy,
            entropy=lambda size: hashlib.shake_128(f"{name} {next(entropy_count)}".encode()).digest(size),
            allocate_index=lambda: ord(name[0]) * 1000 + next(index_count),
            drops=self.drops,
        )
        self.handshakes = Handshakes(identity, means)

    def hear(self, datagrams: Iterable[bytes], source: str, now: float = 0.0) -> list[bytes]:
        """Take in datagrams; returns the replies."""
        replies: list[bytes] = []
        for datagram in datagrams:
            answer = self.handshakes.receive(datagram, source, now, WALL + now)
            replies += answer.replies
            if answer.established is not None:
                self.established.append(answer.established)
        return replies

    def busy(self, now: float) -> None:
        """Others keep this node at work."""
        for number in range(LOAD_HANDSHAKES + 1):
            self.handshakes._admission.charge(f"198.51.100.{number} 1", now)


class Pair:
    """A and B, who know each other."""

    def __init__(self, kind: str = "static", a_policy: Policy = PLAIN, b_policy: Policy = PLAIN) -> None:
        a, b = identities(kind)
        self.a, self.b = Node("a", a, A_HELLO, a_policy), Node("b", b, B_HELLO, b_policy)
        self.to_b, self.to_a = PeerId(b.target), PeerId(a.target)

    def initiate(self, now: float = 0.0, wall: float | None = None, cipher: Cipher | None = None) -> list[bytes]:
        """A's initiation."""
        return self.a.handshakes.initiate(self.to_b, now, WALL + now if wall is None else wall, cipher)

    def deliver(self, datagrams: list[bytes], now: float = 0.0) -> None:
        """B hears datagrams of A, A the replies, and so on until both are silent."""
        while datagrams:
            replies = self.b.hear(datagrams, self.a.address, now)
            datagrams = self.a.hear(replies, self.b.address, now)

    def drops(self) -> dict[DropReason, int]:
        return dict(self.a.drops + self.b.drops)


def identities(kind: str) -> tuple[Identity, Identity]:
    if kind == "secret":
        return SecretIdentity(SECRET), SecretIdentity(SECRET)
    psk = PSK if kind == "static with psk" else NO_PSK
    return StaticIdentity(A_KEY, {public_key(B_KEY): psk}), StaticIdentity(B_KEY, {public_key(A_KEY): psk})


def agree(one: Established, other: Established) -> bool:
    """Whether two outcomes belong together."""
    return (one.send_key, one.receive_key, one.local_index, one.remote_index, one.initiator) == (
        other.receive_key,
        other.send_key,
        other.remote_index,
        other.local_index,
        not other.initiator,
    )


def flipped(datagram: bytes, at: int, bits: int = 1) -> bytes:
    return datagram[:at] + bytes((datagram[at] ^ bits,)) + datagram[at + 1 :]


def with_mac1(covered: bytes, target: bytes) -> bytes:
    """What somebody can send who knows only whom he writes to."""
    return covered + mac(mac1_key(target), covered) + bytes(16)


KINDS = ["static", "static with psk", "secret"]
