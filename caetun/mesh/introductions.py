"""The hub's part of a mesh: who is a member, where each is seen, and what whom has to be told.

    joined, seen, has, left   --->   poll: (member, message) ...

Two members are introduced to each other when both have joined, at least one can be called, and nothing is against it;
again when anything about one changes; and parted when one is gone. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from caetun.types import DropReason, Drops
from caetun.wire.mesh import MAX_PLACES, MAX_PREFIXES, Gone, Introduce, Message, Network, Place

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
    own: tuple[Place, ...]
    """Where it sees itself, inside private networks."""
    prefixes: tuple[Network, ...] = ()
    seen: Place | None = None
    """Where the hub sees it, over UDP."""
    told: dict[Key, Introduce] = field(default_factory=dict)
    """What it knows of others."""


class Introductions:
    """All members of a hub."""

    def __init__(
        self,
        drops: Drops,
        entropy: Callable[[int], bytes],
        may_meet: Callable[[Key, Key], bool] = lambda one, other: True,
    ) -> None:
        """`may_meet`: whether two members may have a way of their own, past the hub."""
        self._drops = drops
        self._entropy = entropy
        self._may_meet = may_meet
        self._members: dict[Key, _Member] = {}
        self._psks: dict[frozenset[Key], bytes] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def joined(self, key: Key, name: str, own: tuple[Place, ...]) -> None:
        """A peer wants to be a member; a former one may have been started again, and knows nothing."""
        if key not in self._members and len(self._members) >= MAX_MEMBERS:
            self._drops.count(DropReason.MESH_FULL)
            return
        private = tuple(place for place in own if place.address.is_private and not place.address.is_link_local)
        self._members[key] = _Member(name, private)

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

    def has(self, key: Key, prefixes: tuple[Network, ...]) -> None:
        """What leads to a peer now. One with more prefixes than can be told is introduced to nobody: from those left
        out, others would take nothing."""
        member = self._members.get(key)
        if member is not None:
            member.prefixes = prefixes

    def known_to(self, key: Key) -> int:
        """To how many others a peer was introduced."""
        return sum(key in member.told for member in self._members.values())

    def poll(self) -> Iterator[tuple[Key, Message]]:
        """What is to be told to whom; counts as told."""
        for key, member in self._members.items():
            friends = {
                other: about for other, about in self._members.items() if other != key and self._friends(key, other)
            }
            for other in [other for other in member.told if other not in friends]:
                del member.told[other]
                yield key, Gone(other)
            for other, about in friends.items():
                if about.seen is None and member.seen is None:
                    continue
                wanted = self._introduction(key, member, other, about)
                if member.told.get(other) != wanted:
                    member.told[other] = wanted
                    yield key, wanted

    def _friends(self, one: Key, other: Key) -> bool:
        most = max(len(self._members[one].prefixes), len(self._members[other].prefixes))
        return most <= MAX_PREFIXES and self._may_meet(one, other)

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
