"""Brings up links to a peer by the rungs of its ladder, offers them to the core, and ends those of no more use.

The ladder (`transports/ladder.py`) says what to try when, the core (`ways.py`) which link is used; here are the tasks
that dial, and the one timer between two looks at the ladder.

    ladder: dial --> dial_now, or a task --> offer to the core --> settled: the ladder hears who is up
                                                              \\-> unanswered, unused, closed: the link is ended
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from caetun import logs
from caetun.errors import CaeTunError
from caetun.transports import registry
from caetun.transports.base import Context, Link, Target, Transport
from caetun.transports.ladder import Ladder, Rung, Status

if TYPE_CHECKING:
    from caetun.endpoint import Endpoint
    from caetun.peers import Peer

# chosen by us
DIAL_SECONDS: Final = 15.0
"""For everything up to a link: name, proxy, TCP, TLS and upgrade. A path that takes longer is of no use to a person."""
SILENT_SECONDS: Final = 1.5
"""From when the link in use is suspect until its connection is given up and made anew, if nothing else answers either:
what stands between may have forgotten it, the far end was started again, or this host has another address."""
UPROOTED_SECONDS: Final = 3.0
"""Since this host's addresses or routes changed: a connection that turns out to be silent so soon has lost the address
it was made from, and nothing is to be gained by waiting."""

log = logs.logger("dial")


class Offers(Protocol):
    """What the core takes and gives; `daemon.pump.Pump` has it."""

    def offer(self, peer: Peer, link: Link, rank: int) -> None:
        """A link to a peer is up."""

    def withdraw(self, peer: Peer, link: Link) -> None:
        """It is not any more."""


class Dialer:
    """The links that one peer has because this side calls it."""

    def __init__(
        self,
        peer: Peer,
        remotes: Sequence[Endpoint],
        context: Context,
        offers: Offers,
        entropy: Callable[[int], bytes],
    ) -> None:
        """`remotes`: best first; each is a rung."""
        self._peer = peer
        self._context = context
        self._offers = offers
        self._targets: dict[Rung, Target] = {}
        for rank, remote in enumerate(remotes):
            family = f"{registry.family(remote.scheme)} {remote.host}"
            rung = Rung(remote.scheme, str(remote), rank, f"{remote.scheme} {_where(remote)}", family)
            self._targets[rung] = Target(remote.host, remote.port, remote.path)
        self._ladder = Ladder(list(self._targets), entropy)
        self._tasks: dict[Rung, asyncio.Task[None]] = {}
        self._links: dict[Link, Rung] = {}
        self._lasting: set[Rung] = set()
        """Rungs whose links are no connections."""
        self._silent: set[Link] = set()
        """Links of these that did not answer."""
        self._changed_at = -math.inf
        """When this host's addresses or routes changed last."""
        self._timer: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        """Runs while the link in use is suspect."""

    def describe(self) -> list[Status]:
        """All rungs and what became of them, best first."""
        return self._ladder.describe()

    # what happens

    def start(self, now: float) -> None:
        """Begin to call."""
        self._ladder.start(now)
        self._step(now)

    def seek(self, now: float) -> None:
        """The core needs another way: the link in use is silent, or gone."""
        if self._peer.link is None:
            self._ladder.lost(now, "lost")
        else:
            self._ladder.suspect(now)
            if self._silence is None:
                patience = 0.0 if now < self._changed_at + UPROOTED_SECONDS else SILENT_SECONDS
                self._silence = self._context.loop.call_later(patience, self._give_up)
        self._step(now)

    def _give_up(self) -> None:
        """A connection is silent, and nothing else has answered: make it anew. The session lives on."""
        self._silence = None
        link = next((link for link in self._links if link is self._peer.link), None)
        if link is None or self._links[link] in self._lasting:
            return  # there is nothing to be made anew
        now = time.monotonic()
        self._ladder.lost(now, "went silent")
        self._drop(link)
        self._step(now)

    def _heard(self) -> None:
        """The link in use is not suspect any more."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def settled(self, now: float) -> None:
        """The core uses another link now, or the one in use works again."""
        link = self._peer.link
        self._heard()
        if link is not None:
            ours = next((rung for each, rung in self._links.items() if each is self._peer.offered), None)
            # A link that the far end brought up is a rung of its own, which need not be climbed down from.
            self._ladder.up(ours or Rung("", "", self._peer.rank, link.name), now)
        self._step(now)

    def unanswered(self, link: Link, now: float) -> None:
        """Nobody answers at a link."""
        rung = self._links.get(link)
        if rung is None:
            return
        if rung in self._lasting:
            self._silent.add(link)  # it costs nothing, and the core goes on asking there, ever more rarely
        else:
            self._drop(link)
        if not self._has_links(rung):
            self._ladder.failed(rung, now)
            self._step(now)

    def unused(self, link: Link) -> bool:
        """The core has left a link; returns whether it was one of ours."""
        return self._drop(link) is not None

    def closed(self, link: Link, why: str, now: float) -> None:
        """A link has ended; the core has been told."""
        rung = self._links.pop(link, None)
        if rung is not None and not self._has_links(rung):
            self._ladder.failed(rung, now, why)
            self._step(now)

    def network_changed(self, now: float) -> None:
        """This host's addresses or routes are others now."""
        self._changed_at = now
        self._ladder.network_changed(now)
        self._step(now)

    def close(self) -> None:
        """Stop calling, and end what was brought up."""
        self._heard()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        for link in self._links:
            link.close()
        self._links.clear()

    # what to do

    def _step(self, now: float) -> None:
        """Do what the ladder says, until it says nothing more."""
        while True:
            orders = self._ladder.poll(now)
            for line in orders.lines:
                level = logging.WARNING if self._ladder.up_rung is None else logging.INFO
                logs.event(log, level, "ladder", line)
            for rung in orders.cancel:
                self._cancel(rung)
            for rung in orders.dial:
                self._dial(rung, now)
            if not orders.dial:
                break
        self._arm(now)

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._ladder.next_deadline()
        if due is not None:
            self._timer = self._context.loop.call_later(max(due - now, 0.0), self._due)

    def _due(self) -> None:
        self._timer = None
        self._step(time.monotonic())

    def _cancel(self, rung: Rung) -> None:
        task = self._tasks.pop(rung, None)
        if task is not None:
            task.cancel()
        for link in [link for link, its in self._links.items() if its == rung and link is not self._peer.link]:
            self._drop(link)

    def _drop(self, link: Link) -> Rung | None:
        """End a link of ours; returns its rung."""
        rung = self._links.pop(link, None)
        self._silent.discard(link)
        if rung is not None:
            self._offers.withdraw(self._peer, link)
            link.close()
        return rung

    def _has_links(self, rung: Rung) -> bool:
        return any(its == rung and link not in self._silent for link, its in self._links.items())

    # dialling

    def _dial(self, rung: Rung, now: float) -> None:
        """Bring a rung up, at once if that takes no waiting."""
        links = None
        if registry.loaded(rung.transport) or not (self._links or self._tasks):
            try:
                links = self._dial_now(rung, registry.find(rung.transport))
            except CaeTunError as error:
                self._ladder.failed(rung, now, _why(error, rung))
                return
        if links is not None:
            self._up(rung, links, now)
            return
        self._tasks[rung] = self._context.loop.create_task(self._dialling(rung))

    async def _transport(self, name: str) -> Transport:
        """The transport of that name; raises ConfigurationError."""
        if registry.loaded(name):
            return registry.find(name)
        # On a thread: what QUIC imports takes 0.3 s, in which a link that is there would stand still.
        return await self._context.loop.run_in_executor(None, registry.find, name)

    def _dial_now(self, rung: Rung, transport: Transport) -> list[Link] | None:
        """Links that take no waiting, if the transport has such. Raises CaeTunError."""
        target = self._targets[rung]
        links = transport.dial_now(target, self._for(rung, target))
        if links is not None:
            self._lasting.add(rung)
        return links

    async def _dialling(self, rung: Rung) -> None:
        target = self._targets[rung]
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                transport = await self._transport(rung.transport)
                links = self._dial_now(rung, transport)
                if links is None:
                    links = await transport.dial(target, self._for(rung, target))
        except CaeTunError as error:
            failure = _why(error, rung)
        except TimeoutError:
            failure = f"no answer in {DIAL_SECONDS:.0f} s"
        else:
            self._tasks.pop(rung, None)
            now = time.monotonic()
            self._up(rung, links, now)
            self._step(now)
            return
        self._tasks.pop(rung, None)
        now = time.monotonic()
        self._ladder.failed(rung, now, failure)
        self._step(now)

    def _up(self, rung: Rung, links: Iterable[Link], now: float) -> None:
        """Offer what was brought up."""
        self._ladder.dialled(rung, now)
        some = list(links)
        for link in [link for link, its in self._links.items() if its == rung and link not in some]:
            if link is not self._peer.link:
                self._drop(link)  # of an earlier time
        self._links.update(dict.fromkeys(some, rung))
        self._silent.difference_update(some)
        for link in some:
            self._offers.offer(self._peer, link, rung.rank)

    def _for(self, rung: Rung, target: Target) -> Context:
        """The context, with the proxy that is right for this target."""
        options = self._context.options
        if options.proxy and rung.transport in registry.PROXIED:
            return self._context
        proxy = ""
        if rung.transport in registry.PROXIED:
            from caetun.transports.proxy import proxy_from_environment

            proxy = proxy_from_environment(os.environ, target.host)
        if proxy == options.proxy:
            return self._context
        return dataclasses.replace(self._context, options=dataclasses.replace(options, proxy=proxy))


def _why(error: CaeTunError, rung: Rung) -> str:
    """Why a rung could not be dialled, without its place in front: the ladder names that."""
    place = rung.text.partition(" ")[2].partition("/")[0]
    return str(error).removeprefix(f"{rung.transport} ").removeprefix(f"{place}: ")


def _where(remote: Endpoint) -> str:
    """Host, port and path, for people."""
    return str(remote).partition("://")[2] or str(remote)
