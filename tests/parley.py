"""Services of the control channel between simulated hosts: what `daemon/run.py` joins, in virtual time.

    world = World()
    hub = Hall(world, "hub", Setup({"a": []}))
    hub.services.add(Kind.CONFIGURATION, ...)
    stranger = Stranger(world, "a")             # calls the hub, and says whatever one has it say
    stranger.say(Kind.CONFIGURATION, b"...")
    world.run(1.0)

`Parley` is what state machines of `hypothesis` have in common: a stranger who says sound, garbled, doubled and stray
things, is started again, and waits, while the network loses and reorders. No message may raise.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Final, cast
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from caetun.daemon.services import Hands, Services
from caetun.errors import CaeTunError
from caetun.output import Output
from caetun.peers import Peer
from caetun.session.channel import MAX_MESSAGE, MAX_QUEUED, Kind
from caetun.types import DropReason
from caetun.wire import control
from caetun.wire.control import ACKNOWLEDGED_BEYOND, MAX_PART
from tests.simulator import WALL, Host, Setup, World

SOMETIMES: Final = st.sampled_from((0.01, 0.3, 2.0, 5.0, 40.0, 130.0))
"""Seconds: a moment, a retry, a farewell, a pause, a silence, a patience."""
NAMED: Final = frozenset(
    reason
    for reason in DropReason
    if reason.value.startswith(("auth.", "channel.", "control.", "mesh.", "handshake.", "record.", "container."))
) | {DropReason.PEER_HELD, DropReason.NO_SESSION, DropReason.ROUTE_DOWN}
"""What may be counted where somebody says what he likes. Frames are another matter."""
_COUNTERS: Final = st.integers(0, 2**64 - 1)
_TOO_MANY_TIMERS: Final = 16
_HISTORY: Final = 64


class Clock:
    """What services need of an event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.waiting = 0
        """Timers that are set."""

    def time(self) -> float:
        """Seconds, monotonic."""
        return self._world.now

    def call_later(self, seconds: float, work: Callable[..., object], *arguments: object) -> Any:
        """Like a loop's; the handle can be cancelled."""
        handle = SimpleNamespace(cancelled=False)

        def due() -> None:
            if not handle.cancelled:
                self._done(handle)
                work(*arguments)

        handle.cancel = lambda: self._done(handle)
        self.waiting += 1
        self._world.after(seconds, due)
        return handle

    def _done(self, handle: Any) -> None:
        if not handle.cancelled:
            handle.cancelled = True
            self.waiting -= 1


class VirtualPump:
    """What services have a `Pump` do."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def _flushed(self, act: Callable[..., Any], *arguments: Any) -> Any:
        host = self._host
        result = act(*arguments, host.world.now, host._out)
        host._flush()
        return result

    def say(self, peer: Peer, kind: int, body: bytes) -> bool:
        return bool(self._flushed(peer.say, kind, body))

    def expel(self, peer: Peer, why: str) -> None:
        self._flushed(self._host.node.expel, peer, why)

    def remove(self, peer: Peer, why: str) -> None:
        self._flushed(self._host.node.remove, peer, why)

    def offer(self, peer: Peer, link: Any, rank: int) -> None:
        self._flushed(peer.offer, link, rank)

    def withdraw(self, peer: Peer, link: Any) -> None:
        self._flushed(peer.withdraw, link)

    def doubt(self, peer: Peer) -> None:
        self._flushed(peer.network_changed)

    def wake(self) -> None:
        """Deadlines are looked at all the time."""


class VirtualWorker:
    """What is slow takes as long as a test wants it to."""

    room: ClassVar[int] = 32

    def __init__(self, world: World) -> None:
        self._world = world
        self.takes = 0.1
        """Seconds."""
        self.busy = 0

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> bool:
        """As `daemon/worker.py`."""
        if self.busy >= self.room:
            return False
        self.busy += 1

        def work() -> None:
            self.busy -= 1
            try:
                outcome = job()
            except Exception as error:
                outcome = error
            done(outcome)

        self._world.after(self.takes, work)
        return True


class Hall(Host):
    """A host with services."""

    def __init__(self, world: World, name: str, setup: Setup) -> None:
        super().__init__(world, name, setup)
        world.hosts[name] = self
        self.clock_of_services = Clock(world)
        self.stopped: list[CaeTunError] = []
        self.told_of: list[tuple[str, str]] = []
        """(event, text) of what services have said to people."""
        self.pump = VirtualPump(self)
        self.hands = Hands(cast(Any, self.clock_of_services), lambda: cast(Any, self.pump), self.stopped.append)
        self.hands.tell = lambda level, event, text, **_: self.told_of.append((event, text))  # type: ignore[method-assign]
        self.services = Services(self.drops)
        self.start()
        self.shell = self._hear

    def _hear(self, out: Output) -> None:
        for peer, kind, body in out.said:
            self.services.said(peer, kind, body)


class Stranger(Host):
    """Somebody with a key who calls a host, and knows no rules."""

    def __init__(self, world: World, name: str, calls: str = "hub", setup: Setup | None = None) -> None:
        super().__init__(world, name, setup or Setup({calls: [calls]}))
        world.hosts[name] = self
        self.heard: list[tuple[int, bytes]] = []
        """(kind, body), the last ones."""
        self.start()
        self.shell = self._hear

    def _hear(self, out: Output) -> None:
        self.heard += [(kind, body) for _, kind, body in out.said]
        del self.heard[:-_HISTORY]

    def bodies(self, kind: int) -> list[bytes]:
        """What it has heard of a kind."""
        return [body for of, body in self.heard if of == kind]

    def say(self, kind: int, body: bytes) -> None:
        """Say something on the control channel, if there is anybody."""
        self.peer.say(kind, body, self.world.now, self._out)
        self._flush()

    def put(self, element: bytes) -> None:
        """Send a control element as it is."""
        if self.peer.link is not None and self.peer.session.current is not None:
            self.peer._journey.send(element, self.world.now, self._out)
            self._flush()

    def again(self) -> None:
        """Start again, and know nothing of what was before."""
        self.crash()
        self.start()


@contextlib.contextmanager
def virtual_time(world: World, *modules: ModuleType) -> Iterator[None]:
    """These modules look at the world's clock."""
    clock = SimpleNamespace(monotonic=lambda: world.now, time=lambda: WALL + world.now)
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(patch.object(module, "time", clock))
        yield


class Parley(RuleBasedStateMachine):
    """What strangers do to a hall. Subclasses have `build`, and rules of their own for what is sound."""

    modules: ClassVar[tuple[ModuleType, ...]] = ()
    """Which look at a clock."""
    kind: ClassVar[Kind]
    """Of the messages in question."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(virtual_time(self.world, *self.modules))
        self._stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable()  # thousands of lines about what is wrong
        self.hall: Hall
        self.strangers: list[Stranger] = []
        self.build()
        self.said: list[bytes] = [b""]
        self.world.run(1.0)

    def build(self) -> None:
        """Make `hall` and `strangers`."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Give everything back."""
        self._stack.close()

    def speak(self, who: int, body: bytes) -> None:
        """Say something that may be sound."""
        self.said = [*self.said[-_HISTORY:], body]
        self.strangers[who % len(self.strangers)].say(self.kind, body)

    @rule(who=st.integers(0, 3), which=st.integers(0, 63), kind=st.integers(1, 5))
    def repeat(self, who: int, which: int, kind: int) -> None:
        """What was said before, perhaps by another one, perhaps to another service."""
        body = self.said[which % len(self.said)]
        self.strangers[who % len(self.strangers)].say(kind if kind == 5 else self.kind, body)

    @rule(who=st.integers(0, 3), which=st.integers(0, 63), at=st.integers(0, 300), by=st.integers(1, 255))
    def garble(self, who: int, which: int, at: int, by: int) -> None:
        """Some of it is another octet, or the rest is missing."""
        body = bytearray(self.said[which % len(self.said)])
        if body and at < len(body):
            body[at] ^= by
        else:
            del body[len(body) // 2 :]
        self.strangers[who % len(self.strangers)].say(self.kind, bytes(body))

    @rule(who=st.integers(0, 3), kind=st.integers(1, 255), body=st.binary(max_size=40))
    def babble(self, who: int, kind: int, body: bytes) -> None:
        """Anything to anybody."""
        self.strangers[who % len(self.strangers)].say(kind, body)

    @rule(
        who=st.integers(0, 3),
        sequence=st.integers(0, 40) | _COUNTERS,
        last=st.booleans(),
        size=st.integers(0, MAX_PART),
    )
    def part(self, who: int, sequence: int, last: bool, size: int) -> None:
        """A part of a message, out of turn."""
        stray = control.Part(sequence, self.kind, last, bytes(size))
        self.strangers[who % len(self.strangers)].put(control.encode(stray))

    @rule(
        who=st.integers(0, 3), expected=st.integers(0, 2**64 - 1) | st.integers(0, 9), beyond=st.integers(0, 2**32 - 1)
    )
    def acknowledge(self, who: int, expected: int, beyond: int) -> None:
        """What was never said."""
        stray = control.PartAcknowledgement(expected, beyond)
        self.strangers[who % len(self.strangers)].put(control.encode(stray))

    @rule(who=st.integers(0, 3))
    def start_again(self, who: int) -> None:
        """It knows nothing of what was before."""
        self.strangers[who % len(self.strangers)].again()

    @rule(loss=st.sampled_from((0.0, 0.3)), jitter=st.sampled_from((0.0, 0.4)))
    def weather(self, loss: float, jitter: float) -> None:
        """Of the network."""
        self.world.all_paths(loss=loss, jitter=jitter, duplication=loss)

    @rule(seconds=SOMETIMES)
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)

    @invariant()
    def all_is_bounded_and_named(self) -> None:
        """Whatever was said."""
        hall = self.hall
        assert hall.drops.keys() <= NAMED, set(hall.drops) - NAMED
        assert hall.clock_of_services.waiting <= _TOO_MANY_TIMERS + len(hall.node.peers)
        assert hall.services._outside.keys() <= set(hall.node.peers.values())
        for peer in hall.node.peers.values():
            channel = peer.conversation.channel
            assert channel._queued <= MAX_QUEUED
            assert len(channel._ahead) <= ACKNOWLEDGED_BEYOND
            assert sum(map(len, channel._incoming)) <= MAX_MESSAGE
        self.look()

    def look(self) -> None:
        """What else holds, whatever was said."""

    def calm(self, seconds: float, hosts: Iterable[Host] = ()) -> None:
        """The network is good again, and time passes."""
        self.world.all_paths(loss=0.0, jitter=0.0, duplication=0.0)
        self.world.run(seconds)


def machine_test(machine: type[Parley], examples: int = 6) -> Any:
    """A test case of it that takes some seconds."""
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return case
