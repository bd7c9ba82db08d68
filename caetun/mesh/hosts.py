"""What other members know of the hosts behind this one: each is told what has come and gone since it was told last.

Pure. Used with Ethernet only: of IP packets the hub knows what is behind whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from caetun.wire.mesh import MAX_HOSTS, Host, Hosts

Key: TypeAlias = bytes
"""A member's public key."""


class Known:
    """By member."""

    def __init__(self) -> None:
        self._told: dict[Key, dict[Host, None]] = {}
        self._settled: dict[Key, Sequence[Host]] = {}
        """The list that held nothing new."""

    def met(self, key: Key) -> None:
        """A member is there that knows nothing."""
        self._told[key] = {}
        self._settled.pop(key, None)

    def forget(self, key: Key) -> None:
        """It is no member any more."""
        self._told.pop(key, None)
        self._settled.pop(key, None)

    def __iter__(self) -> Iterator[Key]:
        """Whoever was met."""
        return iter(list(self._told))

    def news(self, key: Key, here: Sequence[Host]) -> Hosts | None:
        """What a member has yet to be told if these hosts are here, as far as one message can say it; None: nothing.

        A list in which there was nothing new is not looked at again: whoever has another one gives another object.
        """
        if self._settled.get(key) is here:
            return None
        told, now = self._told[key], set(here)
        gone = tuple(islice((host for host in told if host not in now), MAX_HOSTS))
        come = tuple(islice((host for host in here if host not in told), MAX_HOSTS))
        if come or gone:
            return Hosts(come, gone)
        self._settled[key] = here
        return None

    def told(self, key: Key, hosts: Hosts) -> None:
        """It was told this."""
        told = self._told[key]
        for host in hosts.gone:
            del told[host]
        told.update(dict.fromkeys(hosts.come))
