"""The hub's part of a mesh: who is a member, where each is seen, and what whom has to be told.

    joined, seen, left   --->   poll: (member, message) ...

Two members are introduced to each other when both have joined and at least one can be called; again when anything
about one changes; and parted when one is gone. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from caetun.types import DropReason, Drops
from caetun.wire.mesh import MAX_PLACES, Gone, Introduce, Message, Network, Place

Key: TypeAlias = bytes
"""A member's public key."""

# chosen by us
MAX_MEMBERS: Final = 64
"""Each is told of all others: 4,032 introductions. Whoever joins beyond that uses the hub."""
PSK_SIZE: Final = 32


@dataclass(slots=True)
class _Member:
    """One that has joined."""

    name: str
    prefixes: tuple[Network, ...]
    own: tuple[Place, ...]
    """Where it sees itself, inside private networks."""
    seen: Place | None = None
    """Where the hub sees it, over UDP."""
    told: dict[Key, Introduce] = field(default_factory=dict)
    """What it knows of others."""


class Introductions:
    """All members of a hub."""

    def __init__(self, drops: Drops, entropy: Callable[[int], bytes]) -> None:
        self._drops = drops
        self._entropy = entropy
        self._members: dict[Key, _Member] = {}
        self._psks: dict[frozenset[Key], bytes] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def joined(self, key: Key, name: str, prefixes: tuple[Network, ...], own: tuple[Place, ...]) -> None:
        """A peer wants to be a member; a former one may have been started again, and knows nothing."""
        if key not in self._members and len(self._members) >= MAX_MEMBERS:
            self._drops.count(DropReason.MESH_FULL)
            return
        private = tuple(place for place in own if place.address.is_private and not place.address.is_link_local)
        self._members[key] = _Member(name, prefixes, private)

    def left(self, key: Key) -> None:
        """A peer is gone."""
        if self._members.pop(key, None) is not None:
            for pair in [pair for pair in self._psks if key in pair]:
                del self._psks[pair]

    def seen(self, key: Key, place: Place | None) -> None:
        """Where a peer is reached now; None if not over UDP."""
        member = self._members.get(key)
        if member is not None:
            member.seen = place

    def poll(self) -> Iterator[tuple[Key, Message]]:
        """What is to be told to whom; counts as told."""
        for key, member in self._members.items():
            for other, about in self._members.items():
                if other == key or (about.seen is None and member.seen is None):
                    continue
                wanted = self._introduction(key, member, other, about)
                if member.told.get(other) != wanted:
                    member.told[other] = wanted
                    yield key, wanted
            for other in [other for other in member.told if other not in self._members]:
                del member.told[other]
                yield key, Gone(other)

    def _introduction(self, key: Key, member: _Member, other: Key, about: _Member) -> Introduce:
        """What `member` is to know about another one. Behind the same NAT, private addresses are worth a try."""
        pair = frozenset((key, other))
        psk = self._psks.get(pair)
        if psk is None:
            psk = self._psks[pair] = self._entropy(PSK_SIZE)
        places: tuple[Place, ...] = () if about.seen is None else (about.seen,)
        if about.seen is not None and member.seen is not None and about.seen.address == member.seen.address:
            places += about.own
        return Introduce(other, psk, about.name, places[:MAX_PLACES], about.prefixes)
