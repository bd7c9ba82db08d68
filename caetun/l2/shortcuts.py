"""Which hosts are behind which other member of a mesh, and for which of them there is a direct way that works.

    said     a member has told which hosts are behind it: the last one to say so of a host is believed
    ways     host -> port, as far as the way to that member works; whatever is not in there goes by the hub

What a member says is doubted where frames say something else: if a host sends by the hub to one that its member knows
to be behind us, then the direct way is dead as seen from there, or the host has moved. At once that is a hint to test
the way; after `DISBELIEF_SECONDS`, what is for that host goes where its frames come from, until one comes directly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from caetun.types import DropReason, Drops

# chosen by us
MAX_HOSTS: Final = 1024
"""Behind one member; those beyond are reached by the hub. A neighbour table (`neighbours.py`) holds as many a port."""
DISBELIEF_SECONDS: Final = 3.0
"""Longer than both sides need to agree on whether a direct way works."""


class Shortcuts:
    """Of one member. A host is its MAC address, behind two bytes of VLAN if it has a tag."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self.ways: dict[bytes, int] = {}
        """Host -> the port by which to send to it directly. Looked up once a frame."""
        self._said: dict[bytes, list[int]] = {}
        """Who says that a host is behind him, the last one last."""
        self._hosts: dict[int, set[bytes]] = {}
        """The same by port."""
        self._up: set[int] = set()
        self._suspect: set[int] = set()
        self._by_hub: dict[bytes, tuple[float, float]] = {}
        """Since when a host with a way sends by the hub nevertheless, and when it has done so last."""
        self._disbelieved: set[bytes] = set()
        self._avoided: set[int] = set()

    # what members say

    def claimed(self, host: bytes) -> bool:
        """Whether a member says that a host is behind it."""
        return host in self._said

    def said(self, port: int, come: Iterable[bytes], gone: Iterable[bytes] = ()) -> None:
        """The member of this port has some hosts behind it, and others no more."""
        hosts = self._hosts.setdefault(port, set())
        for host in gone:
            if host in hosts:
                hosts.remove(host)
                self._unsay(port, host)
        for host in come:
            if host not in hosts and len(hosts) >= MAX_HOSTS:
                self._drops.count(DropReason.MESH_FULL)
                continue
            if host in hosts:
                self._unsay(port, host)
            hosts.add(host)
            self._said.setdefault(host, []).append(port)
            self._believe(host)

    def forget(self, port: int) -> None:
        """What that member has said is not so any more."""
        for host in self._hosts.pop(port, set()):
            self._unsay(port, host)

    def _unsay(self, port: int, host: bytes) -> None:
        ports = self._said[host]
        ports.remove(port)
        if not ports:
            del self._said[host]
        self._believe(host)

    def count(self, port: int) -> int:
        """Hosts behind a member, by what it says."""
        return len(self._hosts.get(port, ()))

    # which ways work

    def up(self, port: int) -> None:
        """There is a direct way to a member."""
        self._up.add(port)
        self._suspect.discard(port)
        for host in self._hosts.get(port, ()):
            self._believe(host)

    def down(self, port: int) -> None:
        """There is none any more."""
        self._up.discard(port)
        self._choose_again(port)

    def suspect(self, port: int, suspect: bool) -> None:
        """The direct way does not answer: the hub has what is for that member; or it answers again."""
        (self._suspect.add if suspect else self._suspect.discard)(port)
        self._choose_again(port)

    def works(self, port: int) -> bool:
        """Whether frames go directly to a member."""
        return port in self._up and port not in self._suspect

    @property
    def any_up(self) -> bool:
        """Whether there is any direct way, if perhaps one that does not answer at the moment."""
        return bool(self._up)

    def _choose_again(self, port: int) -> None:
        for host in self._hosts.get(port, ()):
            self._choose(host)

    def _believe(self, host: bytes) -> None:
        """There is news of a host: what was held against it is old."""
        self._by_hub.pop(host, None)
        self._disbelieved.discard(host)
        self._choose(host)

    def _choose(self, host: bytes) -> None:
        ports = self._said.get(host)
        if ports and self.works(ports[-1]) and host not in self._disbelieved:
            self.ways[host] = ports[-1]
        else:
            self.ways.pop(host, None)

    # what comes in

    @property
    def doubts(self) -> bool:
        """Whether it matters which hosts send directly."""
        return bool(self._by_hub or self._disbelieved)

    def came_directly(self, port: int, host: bytes) -> None:
        """A host has sent by the way to a member."""
        if (host in self._by_hub or host in self._disbelieved) and self._said[host][-1] == port:
            self._believe(host)

    def came_by_hub(self, host: bytes, now: float) -> None:
        """A host that has a way has sent by the hub to one of ours, of which its member knows."""
        self._avoided.add(self.ways[host])
        since, last = self._by_hub.get(host, (now, now))
        if now - last > DISBELIEF_SECONDS:  # the way was dead meanwhile, or there was nothing to send
            since = now
        self._by_hub[host] = since, now
        if now - since >= DISBELIEF_SECONDS:
            self._disbelieved.add(host)
            self._choose(host)

    def avoided(self) -> list[int]:
        """Ports of members whose hosts have sent by the hub since this was last asked, though there is a way."""
        ports = [port for port in self._avoided if self.works(port)]
        self._avoided.clear()
        return ports
