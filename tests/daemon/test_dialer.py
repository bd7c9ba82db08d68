"""What is dialled, offered and ended for one peer, with transports that do as they are told and a clock that jumps."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from caetun.daemon import dialer as dialling
from caetun.daemon.dialer import SILENT_SECONDS, UPROOTED_SECONDS, Dialer
from caetun.endpoint import parse_remote
from caetun.errors import NetworkError
from caetun.transports import registry
from caetun.transports.base import Context, Options, Target
from caetun.transports.ladder import STAGGER, Phase
from caetun.types import Drops

SOON = 0.01


class Link:
    """Somewhere to send to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Carrier:
    """A transport: `answer` and `fail` say what becomes of a call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[asyncio.Future[list[Link]]] = []
        self.proxies: list[str] = []
        self.links: list[Link] = []

    def dial_now(self, target: Target, context: Context) -> list[Link] | None:
        if self.name != "udp":
            return None
        self.links.append(Link(f"udp {target.host}"))
        return self.links[-1:]

    async def dial(self, target: Target, context: Context) -> list[Link]:
        self.proxies.append(context.options.proxy)
        self.calls.append(asyncio.get_running_loop().create_future())
        return await self.calls[-1]

    def answer(self) -> Link:
        """The newest call gets through."""
        self.links.append(Link(self.name))
        self.calls[-1].set_result(self.links[-1:])
        return self.links[-1]

    def fail(self, why: str) -> None:
        self.calls[-1].set_exception(NetworkError(why))


class Peer:
    """Whose links they are; also what the core is given."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.offered: Link | None = None
        self.rank = 0
        self.offers: list[Link] = []

    def offer(self, peer: Peer, link: Link, rank: int) -> None:
        self.offers.append(link)

    def withdraw(self, peer: Peer, link: Link) -> None:
        if link in self.offers:
            self.offers.remove(link)
        if link is self.link:
            self.link = self.offered = None


class Scene:
    """A dialer in a time of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *urls: str, **options: Any) -> None:
        self.now = 100.0
        self.loaded = True
        """Whether transports need not be imported."""
        self._timers: list[tuple[float, int, Callable[[], object], asyncio.TimerHandle]] = []
        self._count = itertools.count()
        self.carriers = {name: Carrier(name) for name in ("udp", "quic", "tcp", "wss")}
        monkeypatch.setattr(dialling, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(registry, "find", self.carriers.__getitem__)
        monkeypatch.setattr(registry, "loaded", lambda name: self.loaded)
        self.peer = Peer()
        context: Any = Context(self, self.peer, (), Drops(), Options(**options), lambda *_: None)  # type: ignore[arg-type]
        peer: Any = self.peer
        self.dialer = Dialer(peer, [parse_remote(url) for url in urls], context, peer, lambda size: b"\x80" * size)
        self.dialer.start(self.now)

    # the loop that it sees

    def create_task(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, callback, (), asyncio.get_running_loop())
        heapq.heappush(self._timers, (self.now + delay, next(self._count), callback, handle))
        return handle

    def _timer_handle_cancelled(self, handle: object) -> None:
        """What asyncio's own loop has here."""

    def run_in_executor(self, executor: None, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    async def run(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        end = self.now + seconds
        await self._settle()
        while self._timers and self._timers[0][0] <= end:
            at, _, callback, handle = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if not handle.cancelled():
                callback()
            await self._settle()
        self.now = end

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    # what the core does

    def uses(self, link: Link) -> None:
        """The session moves there."""
        self.peer.link = self.peer.offered = link
        self.dialer.settled(self.now)

    def phases(self) -> list[Phase]:
        return [status.phase for status in self.dialer.describe()]

    async def up(self, name: str) -> Link:
        """The far end answers by this carrier, and it is used."""
        link = self.carriers[name].answer()
        await self.run()
        self.uses(link)
        await self.run()
        return link


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Two connections to try."""
    return Scene(monkeypatch, "tcp://hub:443", "wss://hub:443")


async def test_the_best_is_tried_first_and_the_next_a_moment_later(scene: Scene) -> None:
    await scene.run()
    assert [len(carrier.calls) for carrier in scene.carriers.values()] == [0, 0, 1, 0]
    await scene.run(STAGGER)
    assert scene.phases() == [Phase.DIALLING, Phase.DIALLING]
    link = await scene.up("tcp")
    assert scene.phases() == [Phase.UP, Phase.IDLE]
    assert scene.carriers["wss"].calls[0].cancelled(), "it is called no more"
    assert scene.peer.offers == [link]


async def test_one_that_fails_lets_the_next_in_at_once_and_says_why(scene: Scene) -> None:
    await scene.run()
    scene.carriers["tcp"].fail("hub:443: connection refused")
    await scene.run()
    assert len(scene.carriers["wss"].calls) == 1
    assert scene.dialer.describe()[0].why == "connection refused"


async def test_what_takes_no_waiting_is_offered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "udp://hub:4500", "tcp://hub:443")
    assert [link.name for link in scene.peer.offers] == ["udp hub"]
    assert scene.phases() == [Phase.TRYING, Phase.IDLE]


async def test_what_must_be_imported_is_while_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "tcp://hub:443", "wss://near:443", "udp://far:4500")
    scene.loaded = False
    imported_on = []

    def find(name: str) -> Carrier:
        imported_on.append(threading.current_thread())
        return scene.carriers[name]

    monkeypatch.setattr(registry, "find", find)
    await scene.run(STAGGER)
    while len(imported_on) < 1 or not scene.carriers["wss"].calls:
        await asyncio.sleep(SOON)
    await scene.run(STAGGER)
    while not scene.peer.offers:
        await asyncio.sleep(SOON)
    assert threading.main_thread() not in imported_on
    assert [link.name for link in scene.peer.offers] == ["udp far"]
    assert scene.phases() == [Phase.DIALLING, Phase.DIALLING, Phase.TRYING]
    scene.dialer.close()


async def test_a_call_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 0.0)
    scene = Scene(monkeypatch, "tcp://hub:443", "wss://hub:443")
    await scene.run()
    await asyncio.sleep(SOON)
    await scene.run()
    assert scene.dialer.describe()[0].why.startswith("no answer in")
    assert scene.carriers["tcp"].calls[0].cancelled()


async def test_a_connection_where_nobody_answers_is_ended_and_a_place_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "udp://hub:4500", "tcp://hub:443")
    await scene.run(STAGGER)
    udp, tcp = scene.carriers["udp"].links[0], scene.carriers["tcp"].answer()
    await scene.run()
    for link in (udp, tcp):
        scene.dialer.unanswered(link, scene.now)
    assert scene.peer.offers == [udp], "it costs nothing"
    assert (udp.closed, tcp.closed) == (False, True)
    assert scene.phases() == [Phase.FAILED, Phase.FAILED]


async def test_a_connection_that_ends_is_made_anew(scene: Scene) -> None:
    await scene.run()
    link = await scene.up("tcp")
    scene.peer.link = None
    scene.dialer.closed(link, "connection reset", scene.now)
    scene.dialer.seek(scene.now)
    await scene.run()
    assert [len(scene.carriers[name].calls) for name in ("tcp", "wss")] == [2, 1]


# a connection that is silent


async def test_it_is_given_up_after_a_while_if_nothing_else_answers(scene: Scene) -> None:
    await scene.run()
    link = await scene.up("tcp")
    scene.dialer.seek(scene.now)
    await scene.run(SILENT_SECONDS - SOON)
    assert len(scene.carriers["wss"].calls) == 1, "others are tried at once"
    assert not link.closed
    await scene.run(2 * SOON)
    assert link.closed
    assert len(scene.carriers["tcp"].calls) == 2


async def test_it_is_kept_once_it_answers(scene: Scene) -> None:
    await scene.run()
    link = await scene.up("tcp")
    scene.dialer.seek(scene.now)
    await scene.run(SILENT_SECONDS / 2)
    scene.dialer.settled(scene.now)
    await scene.run(10.0)
    assert not link.closed
    assert scene.phases() == [Phase.UP, Phase.IDLE]


async def test_right_after_a_change_of_the_network_there_is_nothing_to_wait_for(scene: Scene) -> None:
    await scene.run()
    link = await scene.up("tcp")
    scene.dialer.network_changed(scene.now)
    await scene.run(UPROOTED_SECONDS - SOON)
    assert not link.closed, "it may be as good as before"
    scene.dialer.seek(scene.now)
    await scene.run()
    assert link.closed
    assert len(scene.carriers["tcp"].calls) == 2


async def test_long_after_one_there_is(scene: Scene) -> None:
    await scene.run()
    link = await scene.up("tcp")
    scene.dialer.network_changed(scene.now)
    await scene.run(UPROOTED_SECONDS + SOON)
    scene.dialer.seek(scene.now)
    await scene.run()
    assert not link.closed


async def test_what_is_no_connection_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "udp://hub:4500")
    link = scene.carriers["udp"].links[0]
    scene.uses(link)
    scene.dialer.seek(scene.now)
    await scene.run(10 * SILENT_SECONDS)
    assert not link.closed


# moving


async def test_a_better_one_is_tried_again_and_what_is_left_is_ended_when_the_core_says_so(scene: Scene) -> None:
    await scene.run()
    scene.carriers["tcp"].fail("connection refused")
    await scene.run()
    wss = await scene.up("wss")
    await scene.run(10.0)
    assert len(scene.carriers["tcp"].calls) == 2
    tcp = await scene.up("tcp")
    assert not wss.closed, "make before break"
    assert scene.dialer.unused(wss)
    assert wss.closed
    assert not scene.dialer.unused(Link("brought up by the far end"))
    assert scene.peer.offers == [tcp]


async def test_a_link_that_the_far_end_brought_up_is_a_rung_of_its_own(scene: Scene) -> None:
    await scene.run()
    scene.peer.link, scene.peer.offered, scene.peer.rank = Link("udp guest"), None, -1
    scene.dialer.settled(scene.now)
    await scene.run(100.0)
    assert scene.carriers["tcp"].calls[0].cancelled()
    assert [len(scene.carriers[name].calls) for name in ("tcp", "wss")] == [1, 0], "nothing better is looked for"


# through a proxy


@pytest.mark.parametrize("option", ["", "http://here:1"])
async def test_streams_go_by_the_proxy_of_the_options_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://there:2")
    monkeypatch.setenv("no_proxy", "near")
    scene = Scene(monkeypatch, "tcp://hub:443", "wss://near:443", "quic://hub:443", proxy=option)
    await scene.run(3 * STAGGER)
    assert scene.carriers["tcp"].proxies == [option or "http://there:2"]
    assert scene.carriers["wss"].proxies == [option]
    assert scene.carriers["quic"].proxies == [""]
    scene.dialer.close()


# the end


async def test_everything_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "udp://hub:4500", "tcp://hub:443", "wss://hub:443")
    await scene.run(STAGGER)
    tcp = scene.carriers["tcp"].answer()
    await scene.run(STAGGER)
    scene.dialer.close()
    await scene.run(100.0)
    assert tcp.closed
    assert scene.carriers["udp"].links[0].closed
    assert scene.carriers["wss"].calls[0].cancelled()
    assert len(scene.carriers["wss"].calls) == 1
