"""Streams between simulated hosts, and a shell that climbs a ladder: what `daemon/dialer.py` does, in virtual time.

    world = World()
    hub = listener(world, "hub", "client")
    client = caller(world, "client", "hub", ["udp", "tcp"])
    world.all_paths(cut=True)                    # UDP
    client.shell.lines["tcp"].cut = True         # TCP: what is sent waits

A listener takes a stream whose first message it does not answer for a stranger's, and closes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from caetun.peers import Output, Peer
from caetun.transports.ladder import Ladder, Phase, Rung
from caetun.wire.record import Record
from tests.simulator import Host, Setup, World

LARGEST: Final = 65536 + 16
_RETRANSMISSION: Final = 0.05
"""Seconds after which a stream looks whether its line is back."""


@dataclass(slots=True)
class Line:
    """How streams of one transport fare."""

    delay: float = 0.01
    """Seconds one way; dialling takes four of them."""
    cut: bool = False
    """What is sent waits; who dials gets no answer."""
    refuses: bool = False
    """Who dials is refused."""


class StreamEnd:
    """One end of a connection; fulfils the link contract."""

    full = False
    datagram = 0
    datagram_ceiling = None
    unit = max_record = LARGEST

    def __init__(self, shell: Shell, line: Line, name: str) -> None:
        self.shell, self.line, self.name = shell, line, name
        self.source = f"{name.split()[1]} 1"
        self.other: StreamEnd | None = None
        self.open, self.proven = True, False
        self._waiting: deque[Record | bytes] = deque()

    def resize(self, datagram: int) -> None:
        """Nothing: a stream has no datagrams."""

    def send(self, records: Sequence[Record]) -> None:
        for record in records:
            self._put(Record(record.session, record.counter, bytes(record.body)))

    def probe(self, record: Record) -> None:
        self.send([record])

    def send_messages(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            self._put(message)

    def _put(self, content: Record | bytes) -> None:
        if not self.open:
            return
        self.proven = True
        self._waiting.append(content)
        self.shell.world.after(self.line.delay, self._carry)

    def _carry(self) -> None:
        if self.line.cut and self._waiting:
            self.shell.world.after(_RETRANSMISSION, self._carry)
        elif self._waiting and self.other is not None and self.other.open:
            self.other.hear(self._waiting.popleft())

    def hear(self, content: Record | bytes) -> None:
        host = self.shell.host
        if not host.running:
            return
        now, out = host.world.now, host._out
        if isinstance(content, Record):
            host.node.records_received(self, [content], now, out)
        else:
            host.node.messages_received(self, [content], now, host.wall, out)
        host.node.burst_end(now, out)
        host._flush()
        if not self.proven:
            self.close()

    def close(self) -> None:
        """End the connection: the far end hears of it."""
        if self.open:
            self.open = False
            self.shell.ends.discard(self)
            if self.other is not None:
                self.shell.world.after(self.line.delay, self.other.ended)

    def ended(self, why: str = "closed by the far end") -> None:
        if self.open:
            self.open = False
            self.shell.ends.discard(self)
            if self.shell.host.running:
                self.shell.closed(self, why)


class Shell:
    """Brings up links for one host, and closes those of no more use."""

    def __init__(self, host: Host, target: str = "", transports: Sequence[str] = ()) -> None:
        """`transports`: best first; none on a host that only listens."""
        self.host, self.world, self.target = host, host.world, target
        self.ends: set[StreamEnd] = set()
        """Streams that are open."""
        self.lines = {transport: Line() for transport in transports}
        self.rungs = [Rung(transport, target, rank, transport) for rank, transport in enumerate(transports)]
        self.dials: list[tuple[float, str]] = []
        self.told: list[tuple[float, str]] = []
        host.shell = self.act
        self.start()

    def start(self) -> None:
        """The program starts, or starts again."""
        for end in [*self.ends]:
            end.close()
        self.links: dict[Any, Rung] = {}
        self._dialling: set[Rung] = set()
        self._due_at: float | None = None
        if self.rungs:
            self.ladder = Ladder(self.rungs, self.host._entropy)
            self.ladder.start(self.world.now)
            self._step()

    @property
    def peer(self) -> Peer:
        return self.host.peer

    def up(self) -> str | None:
        """The transport in use."""
        name = None if self.peer.link is None else self.peer.link.name
        return None if name is None else "udp" if name.startswith("sim") else name.split()[0]

    # what the core says

    def act(self, out: Output) -> None:
        for peer, link in out.unanswered:
            self._unanswered(peer, link)
        for link in out.unused:
            self._drop(link)
            if isinstance(link, StreamEnd):
                link.close()
        if not self.rungs:
            return
        if out.settled and self.peer.link is not None:
            foreign = Rung("", "", self.peer.rank, self.peer.link.name)
            self.ladder.up(self.links.get(self.peer.offered, foreign), self.world.now)
        for peer in out.seek:
            if peer.link is None:
                self.ladder.lost(self.world.now)
            else:
                self.ladder.suspect(self.world.now)
        if out.settled or out.seek or out.unanswered:
            self._step()

    def _unanswered(self, peer: Peer, link: Any) -> None:
        rung = self.links.get(link)
        if isinstance(link, StreamEnd):
            self._drop(link)
        if rung is not None:
            self.ladder.failed(rung, self.world.now)

    def closed(self, link: StreamEnd, why: str) -> None:
        rung = self.links.pop(link, None)
        if rung is not None:
            self.ladder.failed(rung, self.world.now, why)
        self.host.node.link_closed(link, self.world.now, self.host._out)
        self.host._flush()
        if rung is not None:
            self._step()

    # what the ladder says

    def _step(self) -> None:
        orders = self.ladder.poll(self.world.now)
        self.told += [(self.world.now, line) for line in orders.lines]
        for rung in orders.cancel:
            self._dialling.discard(rung)
            for link in [link for link, its in self.links.items() if its == rung and link is not self.peer.link]:
                self._drop(link)
        for rung in orders.dial:
            self.dials.append((self.world.now, rung.transport))
            self._dial(rung)
        self._wait()

    def _wait(self) -> None:
        due = self.ladder.next_deadline()
        if due is not None and (self._due_at is None or due < self._due_at):
            self._due_at = due
            self.world.after(max(0.0, due - self.world.now), partial(self._due, self.ladder))

    def _due(self, ladder: Ladder) -> None:
        if ladder is self.ladder and self.host.running:
            self._due_at = None
            self._step()

    def _drop(self, link: Any) -> None:
        if self.links.pop(link, None) is not None:
            self.peer.withdraw(link, self.world.now, self.host._out)
            if isinstance(link, StreamEnd):
                link.close()

    def _dial(self, rung: Rung) -> None:
        if rung.transport == "udp":
            self._offer(rung, self.host.link(self.target))
            return
        self._dialling.add(rung)
        self.world.after(
            4 * self.lines[rung.transport].delay, partial(self._dialled, rung, self.ladder, self.world.now)
        )

    def _dialled(self, rung: Rung, ladder: Ladder, began: float) -> None:
        line, hub = self.lines[rung.transport], self.world.hosts.get(self.target)
        if rung not in self._dialling or ladder is not self.ladder or not self.host.running:
            return
        if line.cut and self.world.now < began + 5.0:
            self.world.after(_RETRANSMISSION, partial(self._dialled, rung, ladder, began))
            return
        self._dialling.discard(rung)
        if line.cut or line.refuses or hub is None or not hub.running:
            self.ladder.failed(rung, self.world.now, "no answer" if line.cut else "refused")
            self._step()
            return
        shell = hub.shell.__self__  # type: ignore[attr-defined]
        near = StreamEnd(self, line, f"{rung.transport} {self.target}")
        far = StreamEnd(shell, line, f"{rung.transport} {self.host.name}")
        near.other, far.other, near.proven = far, near, True
        self.ends.add(near)
        shell.ends.add(far)
        self._offer(rung, near)

    def _offer(self, rung: Rung, link: Any) -> None:
        self.ladder.dialled(rung, self.world.now)
        self.links[link] = rung
        self.peer.offer(link, rung.rank, self.world.now, self.host._out)

    @property
    def phases(self) -> dict[str, Phase]:
        """What each rung is doing."""
        return {status.rung.transport: status.phase for status in self.ladder.describe()}


def listener(world: World, name: str, *peers: str, **settings: Any) -> tuple[Host, Shell]:
    """A host that waits for others, by every transport."""
    host = world.host(name, Setup({peer: [] for peer in peers}, **settings))
    return host, Shell(host)


def caller(world: World, name: str, target: str, transports: Sequence[str], **settings: Any) -> tuple[Host, Shell]:
    """A host that calls another, by the first of these transports that gets through."""
    host = world.host(name, Setup({target: []}, **settings))
    return host, Shell(host, target, transports)
