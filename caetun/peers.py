"""One far end over time: finding it, keeping keys fresh, noticing that it is gone, following it when it moves.

Pure: `now` is monotonic seconds, `wall` seconds since 1970. What is to be done comes back in an `Output`; when to be
asked again is `next_deadline`. The state, as a table:

| state   | keys | leaves it by                                                                            |
|---------|------|-----------------------------------------------------------------------------------------|
| absent  | no   | an initiation answered (connecting side) or the far end's own handshake                 |
| present | yes  | nothing heard for `dead_after`, or a close: back to absent; a fresh handshake: stays     |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from caetun.session.pathmtu import PathMtu
from caetun.session.retry import Retry
from caetun.session.session import Session
from caetun.types import DropReason, Drops, Iovec, Mode
from caetun.wire import control
from caetun.wire.container import Batch
from caetun.wire.record import HEADER_SIZE, TAG_SIZE, Record

if TYPE_CHECKING:
    from caetun.session.handshake import Established, Handshakes, PeerId
    from caetun.session.keypair import KeyPair

# chosen by us
MAX_STAGED: Final = 64
"""Frames kept while there are no keys yet: the newest, so that a first ping needs no second."""
STAGED_SECONDS: Final = 2.0
RESPONDER_PATIENCE: Final = 1.375
"""A responder asks for new keys after this many times the initiator's interval: 165 s for 120 s."""
LIFETIME: Final = 1.5
"""Keys are used for this many times the interval: 180 s for 120 s."""
UNANSWERED_GRACE: Final = 5.0
"""Seconds beyond the keepalive interval that something sent may go unanswered before we ask for a new handshake."""
BUSY_TICK: Final = 1.0
"""Seconds between looks at a path that carries traffic: has it gone silent, are the keys worn?"""
MISMATCH_PAUSE: Final = 30.0
"""Seconds before trying a far end again whose settings do not go with ours."""


class LinkView(Protocol):
    """What a peer needs of `transports.base.Link`."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def unit(self) -> int: ...
    @property
    def max_record(self) -> int: ...
    @property
    def datagram(self) -> int: ...
    @property
    def datagram_ceiling(self) -> int | None: ...
    def resize(self, datagram: int) -> None: ...


class Event(NamedTuple):
    """Something a person may want to know."""

    level: str
    """error, warning, info or debug."""
    event: str
    """Stable name: `peer.up`."""
    text: str
    fields: dict[str, Any]


@dataclass(slots=True)
class Output:
    """What the core wants done, in this order within each list."""

    records: list[tuple[Any, list[Record]]] = field(default_factory=list)
    """(link, records) to send."""
    probes: list[tuple[Any, Record]] = field(default_factory=list)
    """(link, record) to send in one datagram."""
    messages: list[tuple[Any, list[bytes]]] = field(default_factory=list)
    """(link, handshake messages) to send."""
    frames: list[Iovec] = field(default_factory=list)
    """For the device."""
    events: list[Event] = field(default_factory=list)
    """For the log."""
    resolve: list[Peer] = field(default_factory=list)
    """Peers whose names should be looked up again: no address known so far has answered."""

    def clear(self) -> None:
        """Forget everything."""
        for part in (self.records, self.probes, self.messages, self.frames, self.events, self.resolve):
            part.clear()


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    keepalive: float = 10.0
    rekey_after: float = 120.0

    @property
    def unanswered_after(self) -> float:
        """Something we sent was not answered for so long: ask for a new handshake."""
        return self.keepalive + UNANSWERED_GRACE

    @property
    def dead_after(self) -> float:
        """Nothing was heard for so long: the far end is gone."""
        return 2 * self.keepalive + 2 * UNANSWERED_GRACE


class Peer:
    """One far end."""

    def __init__(
        self,
        ident: PeerId,
        name: str,
        session: Session,
        handshakes: Handshakes,
        timing: Timing,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.ident = ident
        self.name = name
        self.session = session
        self._handshakes = handshakes
        self._timing = timing
        self._entropy = entropy
        self._retry = Retry(entropy)
        self._drops: Drops = handshakes.drops
        self.mode = handshakes.hello.mode
        self.link: LinkView | None = None
        """Where records go: the link the newest authenticated record came by."""
        self.path: PathMtu | None = None
        """Path MTU discovery on that link; None on a stream."""
        self.candidates: list[LinkView] = []
        """Links to try when connecting; empty on a side that only listens."""
        self.connects = False
        self._turn = 0
        self._attempt_at: float | None = None
        self._attempts = 0
        self._rekey_jitter = 0.0
        self._staged: deque[tuple[float, bytes, bytes]] = deque(maxlen=MAX_STAGED)
        self._sent_at = self._heard_at = 0.0
        self._unanswered_since: float | None = None
        self._ticked_at = 0.0
        self._probe_ident = 0
        self._warned: set[str] = set()

    @property
    def present(self) -> bool:
        """Whether there are keys to send with."""
        return self.session.current is not None

    # connecting

    def connect(self, candidates: list[LinkView], now: float) -> None:
        """Try these links, in turn, until one answers; and again whenever the far end is lost."""
        self.connects = True
        self.candidates = candidates
        self._turn = 0
        if not self.present and candidates:
            self._attempt_at = now
            self._retry.reset()

    def _attempt(self, now: float, wall: float, out: Output) -> None:
        """One initiation, on the next link."""
        links = [self.link] if self.present and self.link is not None else []
        links += [link for link in self.candidates if link not in links]
        self._attempt_at = now + self._retry.next()
        if not links:
            if not self.connects:
                self._attempt_at = None
            return
        link = links[self._turn % len(links)]
        self._turn += 1
        self._attempts += 1
        out.messages.append((link, self._handshakes.initiate(self.ident, now, wall)))
        if not self.present and self._turn % len(links) == 0 and self._attempts >= 4:
            out.resolve.append(self)
        if self._attempts == 8 and not self.present:
            out.events.append(
                Event(
                    "warning",
                    "peer.silent",
                    f"no answer from {link.name} yet: does the far end run, is its port open, are the keys right?",
                    {"peer": self.name, "link": link.name},
                )
            )

    # handshake

    def established(self, established: Established, link: LinkView, now: float, out: Output) -> list[KeyPair]:
        """A handshake has ended well; returns key pairs that are of no more use."""
        hello = established.hello
        if hello.mode is not self.mode:
            self._mismatch(hello.mode, link, now, out)
            return []
        fresh = not self.present
        stale = self.session.install(established, now)
        if established.initiator:
            self._attempt_at = None
            self._attempts = 0
            self._retry.reset()
            self._handshakes.abandon(self.ident)
            self._up(link, now, out, announce=fresh)
            self._send_staged(now, out, always=True)
        return stale

    def _mismatch(self, theirs: Mode, link: LinkView, now: float, out: Output) -> None:
        self._attempt_at = now + MISMATCH_PAUSE if self.connects else None
        if "mode" not in self._warned:
            self._warned.add("mode")
            out.events.append(
                Event(
                    "error",
                    "peer.mismatch",
                    f"{link.name} carries {theirs}, this side {self.mode}: use the same --mode on both sides",
                    {"peer": self.name},
                )
            )

    def _up(self, link: LinkView, now: float, out: Output, announce: bool) -> None:
        self._heard_at = now
        self._unanswered_since = None
        self._rekey_jitter = self._entropy(1)[0] / 256 * 0.04
        if self.link is not link or announce:
            self._move(link, now)
        if not announce or self.session.current is None:
            return
        established = self.session.current.established
        extra = ", post-quantum" if established.post_quantum else ""
        out.events.append(
            Event(
                "info",
                "peer.up",
                f"up via {link.name} ({established.cipher}{extra})",
                {"peer": self.name, "link": link.name},
            )
        )

    def _move(self, link: LinkView, now: float) -> None:
        """Send by another link from now on."""
        self.link = link
        ceiling = link.datagram_ceiling
        self.path = None if ceiling is None else PathMtu(ceiling=ceiling, now=now)
        if self.path is not None:
            link.resize(self.path.size)

    # outbound

    def send_batch(self, batch: Batch, now: float, out: Output) -> None:
        """Frames from the device. Hot."""
        link = self.link
        if self.session.current is None or link is None:
            self._stage(batch, now)
            return
        out.records.append((link, self.session.seal_batch(batch, link.unit, link.max_record)))
        self._sent_at = now
        if self._unanswered_since is None:
            self._unanswered_since = now
        if self.path is not None:
            self.path.sent()

    def _stage(self, batch: Batch, now: float) -> None:
        """No keys yet: keep the newest frames for a moment."""
        if not self.connects and self.link is None:
            self._drops.count(DropReason.NO_SESSION, len(batch))
            return
        for frame, header in batch.frames():
            if len(self._staged) == MAX_STAGED:
                self._drops.count(DropReason.NO_SESSION)
            self._staged.append((now, bytes(frame), bytes(header)))

    def _send_staged(self, now: float, out: Output, always: bool) -> None:
        """Send what was kept; `always` sends a keepalive if there is nothing: the far end waits for a first record."""
        batch = Batch()
        while self._staged and not batch.full:
            since, frame, header = self._staged.popleft()
            if now - since <= STAGED_SECONDS:
                batch.append(frame, header)
            else:
                self._drops.count(DropReason.NO_SESSION)
        if len(batch):
            self.send_batch(batch, now, out)
        elif always:
            self._send_elements(b"", now, out)

    def _send_elements(self, elements: bytes, now: float, out: Output) -> None:
        if self.session.current is not None and self.link is not None:
            out.records.append((self.link, [self.session.seal_elements(elements)]))
            self._sent_at = now

    def close(self, now: float, out: Output) -> None:
        """Tell the far end that we go."""
        self._send_elements(control.encode(control.Close(control.SHUTTING_DOWN)), now, out)

    # inbound

    def record(self, pair: KeyPair, record: Record, link: LinkView, now: float, out: Output) -> list[KeyPair]:
        """A record under one of our indices; returns key pairs that are of no more use. Hot."""
        controls: list[control.Control] = []
        newest = record.counter > pair.window.highest
        if now - pair.born > self._timing.rekey_after * LIFETIME:
            self._drops.count(DropReason.RECORD_EXPIRED_KEY)
            return []
        if not self.session.open(pair, record, now, out.frames, controls):
            return []
        self._heard_at = now
        self._unanswered_since = None
        stale: list[KeyPair] = []
        if pair is not self.session.current:
            if pair in self.session.unconfirmed:
                announce = not self.present
                stale = self.session.confirm(pair, now)
                self._attempt_at = None
                self._attempts = 0
                self._up(link, now, out, announce)
                self._send_staged(now, out, always=False)
        elif link is not self.link and newest:
            self._roam(link, now, out)
        for message in controls:
            stale += self._control(pair, message, now, out)
        return stale

    def _roam(self, link: LinkView, now: float, out: Output) -> None:
        """The far end's address has changed: a record newer than all others authenticates from there."""
        before = self.link.name if self.link is not None else "nowhere"
        self._move(link, now)
        out.events.append(
            Event("info", "peer.moved", f"moved from {before} to {link.name}", {"peer": self.name, "link": link.name})
        )

    def _control(self, pair: KeyPair, message: control.Control, now: float, out: Output) -> list[KeyPair]:
        match message:
            case control.Report():
                self.session.reported(pair, message, now)
            case control.Probe(ident, size):
                self._send_elements(control.encode(control.ProbeAcknowledgement(ident, size)), now, out)
            case control.ProbeAcknowledgement(_, size):
                if self.path is not None:
                    self.path.acknowledged(size, now)
                    self._probe(now, out)
            case control.Close():
                return self._lost("closed by the far end", now, out)
        return []

    def burst_end(self, now: float, out: Output) -> None:
        """Nothing more is waiting from the network."""
        elements = self.session.burst_end(now, out.frames)
        if elements:
            self._send_elements(elements, now, out)

    def too_big(self, datagram: int, now: float, out: Output) -> None:
        """The local kernel refused a datagram of this size."""
        if self.path is not None:
            self.path.too_big(0, now)
            self._probe(now, out)

    def _resized(self, out: Output) -> None:
        """Let the link use what path MTU discovery has found."""
        if self.path is None or self.link is None:
            return
        if self.link.datagram != self.path.size:
            self.link.resize(self.path.size)
        event = self.path.take_event()
        if event is None:
            return
        level = "warning" if event.state == "error" else "info"
        text = f"{self.link.name} carries datagrams of {event.size} bytes ({event.why})"
        out.events.append(Event(level, "path.mtu", text, {"peer": self.name, "size": event.size}))

    # time

    def tick(self, now: float, wall: float, out: Output) -> list[KeyPair]:
        """Do what is due; returns key pairs that are of no more use."""
        stale: list[KeyPair] = []
        session = self.session
        self._ticked_at = now
        session.expire(now)
        if session.current is not None:
            stale += self._tick_present(session.current, now, out)
        if self._attempt_at is not None and now >= self._attempt_at:
            self._attempt(now, wall, out)
        return stale

    def _tick_present(self, pair: KeyPair, now: float, out: Output) -> list[KeyPair]:
        timing = self._timing
        lifetime = timing.rekey_after * LIFETIME
        if now >= self._heard_at + timing.dead_after or now >= pair.born + lifetime:
            return self._lost(f"nothing heard for {now - self._heard_at:.0f} s", now, out)
        rekey_due = now >= self._rekey_at(pair) or pair.worn
        unanswered = self._unanswered_since is not None and now >= self._unanswered_since + timing.unanswered_after
        if self._attempt_at is None and (rekey_due or (unanswered and self.connects)):
            self._attempt_at = now
            self._retry.reset()
            self._turn = 0
        if now >= self._sent_at + timing.keepalive:
            self._send_elements(b"", now, out)
        if self.session.path_suspect(now) and self.path is not None:
            self.path.suspect(now)
        self._probe(now, out)
        previous = self.session.previous
        if previous is not None and now >= previous.born + lifetime:
            return self.session.retire_previous()
        return []

    def _rekey_at(self, pair: KeyPair) -> float:
        patience = 1.0 if pair.initiator else RESPONDER_PATIENCE
        return pair.born + self._timing.rekey_after * (patience + self._rekey_jitter * (not pair.initiator))

    def _probe(self, now: float, out: Output) -> None:
        """Send a path MTU probe if one is due."""
        if self.path is None or self.link is None or self.session.current is None:
            return
        size = self.path.poll(now)
        self._resized(out)
        if size is None:
            return
        self._probe_ident = (self._probe_ident + 1) & 0xFFFFFFFF
        element = control.encode(control.Probe(self._probe_ident, size))
        padding = bytes(size - HEADER_SIZE - TAG_SIZE - len(element))
        out.probes.append((self.link, self.session.seal_elements(element + padding)))

    def _lost(self, why: str, now: float, out: Output) -> list[KeyPair]:
        """The far end is gone: forget its keys, and look for it again if we are the one who connects."""
        out.events.append(Event("warning", "peer.down", f"down: {why}", {"peer": self.name}))
        self.path = None
        self.link = None
        self._unanswered_since = None
        self._attempts = 0
        self._turn = 0
        if self.connects:
            self._retry.reset()
            self._attempt_at = now + self._retry.next()
        else:
            self._attempt_at = None
        return self.session.forget()

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [self._attempt_at, self.session.next_deadline()]
        pair = self.session.current
        if pair is not None:
            timing = self._timing
            lifetime = timing.rekey_after * LIFETIME
            due += [self._heard_at + timing.dead_after, pair.born + lifetime, self._sent_at + timing.keepalive]
            if self._attempt_at is None:
                due.append(self._rekey_at(pair))
                if self._unanswered_since is not None and self.connects:
                    due.append(self._unanswered_since + timing.unanswered_after)
            if self.session.previous is not None:
                due.append(self.session.previous.born + lifetime)
            if self.path is not None:
                due.append(self.path.next_deadline())
            if self._sent_at > self._ticked_at:
                due.append(self._ticked_at + BUSY_TICK)
        return min((at for at in due if at is not None), default=None)
