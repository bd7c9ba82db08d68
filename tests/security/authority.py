"""Authorities in temporary directories at a time that tests choose, and nodes that trust them."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from caetun.security import credentials, openssl
from caetun.security.pki import Authority
from caetun.security.trust import Trust
from caetun.session.engine import CertificateIdentity, ca_target, peer_id, psk_target
from caetun.session.handshake import Established, Hello, Policy, PostQuantum, Refusal
from caetun.session.identity import NO_PSK
from caetun.session.module import Means
from caetun.session.tls import TlsHandshakes
from caetun.types import Drops, Mode

NOW = datetime.datetime.now(datetime.UTC)
"""OpenSSL looks at the clock itself: certificates are made around the present."""
WALL = NOW.timestamp()
PLAIN = Policy(post_quantum=PostQuantum.OFF)


def authority(path: Path, *names: str, at: datetime.datetime = NOW, days: int = 30) -> Authority:
    """One with certificates for these names."""
    made = Authority(path, lambda: at)
    made.create("test authority")
    for name in names:
        made.issue(name, days)
    return made


class Node:
    """One side with certificates, predictable entropy, and what it has seen so far."""

    def __init__(
        self,
        path: Path,
        name: str,
        knows: Sequence[str],
        *,
        library: Any = openssl.Library,
        policy: Policy = PLAIN,
        psk: bytes = NO_PSK,
        cas: Sequence[Path] = (),
        crl: Path | None = None,
    ) -> None:
        entropy, index = itertools.count(), itertools.count(ord(name[0]) * 1000)
        own = credentials.load(path / "ca.crt", path / f"{name}.crt", path / f"{name}.key")
        authorities = [
            der for ca in cas for der in credentials.load(ca, own.certificate_file, own.key_file).authorities
        ]
        trusted = authorities or list(own.authorities)
        self.drops = Drops()
        self.address = f"{name} 4500"
        self.established: list[Established] = []
        self.refusals: list[Refusal] = []
        self.identity = CertificateIdentity(
            [psk_target(psk)] if psk != NO_PSK else [ca_target(each) for each in trusted],
            {peer_id(each): each for each in knows},
            psk,
        )
        self.trust = Trust(trusted, crl)
        given = credentials.Credentials(own.certificate_file, own.key_file, own.chain, trusted)
        means = Means(
            Hello(Mode.TAP, offloads=15, mtu=9000 if name == "alice" else 1500),
            policy,
            entropy=lambda size: hashlib.shake_128(f"{name} {next(entropy)}".encode()).digest(size),
            allocate_index=lambda: next(index),
            drops=self.drops,
        )
        self.handshakes = TlsHandshakes(library(given), self.trust, self.identity, means)

    def call(self, name: str, now: float = 0.0) -> list[bytes]:
        return self.handshakes.initiate(peer_id(name), now, WALL + now)

    def hear(self, datagrams: Iterable[bytes], source: str, now: float = 0.0) -> list[bytes]:
        """Take in datagrams; returns the replies."""
        replies: list[bytes] = []
        for datagram in datagrams:
            answer = self.handshakes.receive(datagram, source, now, WALL + now)
            replies += answer.replies
            if answer.established is not None:
                self.established.append(answer.established)
            if answer.refusal is not None:
                self.refusals.append(answer.refusal)
        return replies


def deliver(caller: Node, called: Node, datagrams: list[bytes], now: float = 0.0) -> int:
    """Let both answer each other until they are silent; returns the number of exchanges."""
    exchanges = 0
    while datagrams:
        exchanges += 1
        datagrams = caller.hear(called.hear(datagrams, caller.address, now), called.address, now)
    return exchanges
