"""One far end over time: finding it, keeping keys fresh, noticing that it is gone, following it when it moves.

Pure: `now` is monotonic seconds, `wall` seconds since 1970. What is to be done comes back in an `Output`; when to be
asked again is `next_deadline`. The state, as a table:

| state   | keys | leaves it by                                                                            |
|---------|------|-----------------------------------------------------------------------------------------|
| absent  | no   | an initiation answered (connecting side) or the far end's own handshake                 |
| present | yes  | nothing heard for `dead_after`, or a close: back to absent; a fresh handshake: stays     |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from caetun import notices
from caetun.notices import Event
from caetun.session.attempts import Attempts
from caetun.session.liveness import RESPONDER_PATIENCE, Liveness, Timing
from caetun.session.pathmtu import PathMtu
from caetun.session.session import Session
from caetun.session.staging import Staging
from caetun.types import DropReason, Drops, Iovec, Mode
from caetun.wire import control
from caetun.wire.container import Batch
from caetun.wire.record import HEADER_SIZE, TAG_SIZE, Record

if TYPE_CHECKING:
    from caetun.session.handshake import Established, Handshakes, PeerId
    from caetun.session.keypair import KeyPair

__all__ = ["Event", "LinkView", "Output", "Peer", "Timing"]

# chosen by us
BUSY_TICK: Final = 1.0
"""Seconds between looks at a path that carries traffic: are the keys worn?"""
SUSPECT_TICK: Final = 0.1
"""Seconds at least between two looks at a path that has gone silent."""
MISMATCH_PAUSE: Final = 30.0
"""Seconds before trying a far end again whose settings do not go with ours."""
PATIENT_ATTEMPTS: Final = 8
"""Attempts (some 13 s of them) before a person hears that nobody answers."""
RESOLVE_ATTEMPTS: Final = 4
"""Attempts before the far end's name is looked up again."""


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
        self._lifetime = timing.lifetime
        self._entropy = entropy
        self._drops: Drops = handshakes.drops
        self._life = Liveness(timing)
        self._staging = Staging(self._drops)
        self._attempts = Attempts(handshakes.ciphers, entropy)
        self.mode = handshakes.hello.mode
        self.link: LinkView | None = None
        """Where records go: the link the newest authenticated record came by."""
        self.path: PathMtu | None = None
        """Path MTU discovery on that link; None on a stream."""
        self.candidates: list[LinkView] = []
        """Links to try when connecting; empty on a side that only listens."""
        self.connects = False
        self._rekey_jitter = self._ticked_at = 0.0
        self._probe_ident = 0
        self._probes_elsewhere = 0
        """Probes up to this one went by another link: their acknowledgements say nothing about this one."""
        self._told_mode: Mode | None = None
        self._told_mtu = handshakes.hello.mtu

    @property
    def present(self) -> bool:
        """Whether there are keys to send with."""
        return self.session.current is not None

    # connecting

    def connect(self, candidates: list[LinkView], now: float) -> None:
        """Try these links, in turn, until one answers; and again whenever the far end is lost."""
        self.connects, self.candidates = True, candidates
        if not self.present and candidates:
            self._attempts.begin(now)

    def _attempt(self, now: float, wall: float, out: Output) -> None:
        """One initiation, on the next link."""
        links = [self.link] if self.present and self.link is not None else []
        links += [link for link in self.candidates if link not in links]
        if not links:
            self._attempts.end()
            return
        link, cipher = self._attempts.take(links, now)
        out.messages.append((link, self._handshakes.initiate(self.ident, now, wall, cipher)))
        made = self._attempts.made
        if self.present:
            return
        if made >= RESOLVE_ATTEMPTS and made % len(links) == 0:
            out.resolve.append(self)
        if made == PATIENT_ATTEMPTS:
            out.events.append(notices.silent(self.name, link.name))

    # handshake

    def established(self, established: Established, link: LinkView, now: float, out: Output) -> list[KeyPair]:
        """A handshake has ended well; returns key pairs that are of no more use."""
        mode, mtu, ours = established.hello.mode, established.hello.mtu, self._handshakes.hello.mtu
        if mode is not self.mode:
            self._mismatch(mode, link, now, out)
            return []
        self._told_mode = None
        if mtu not in (self._told_mtu, ours):
            out.events.append(notices.mtus_differ(self.name, link.name, mtu, ours))
        self._told_mtu = mtu
        announce = not self.present
        stale = self.session.install(established, now)
        if established.initiator:
            self._up(link, now, out, announce)
        return stale

    def _mismatch(self, theirs: Mode, link: LinkView, now: float, out: Output) -> None:
        """The far end carries what we cannot: no session, and rare attempts until somebody has mended it."""
        if self.connects:
            self._attempts.pause(now + MISMATCH_PAUSE)
        else:
            self._attempts.end()
        if self._told_mode is not theirs:
            self._told_mode = theirs
            out.events.append(notices.modes_differ(self.name, link.name, theirs, self.mode))

    def _up(self, link: LinkView, now: float, out: Output, announce: bool) -> None:
        """There is a new current key pair: use it at once, as the far end may be waiting for a first record."""
        pair = self.session.current
        assert pair is not None
        self._attempts.end()
        self._life.heard(now)
        self._life.reported()
        self._rekey_jitter = self._entropy(1)[0] / 256 * 0.04
        if announce:
            self._move(link, now)
            out.events.append(notices.up(self.name, link.name, pair.established))
        elif link is not self.link:
            self._roam(link, now, out)
        before = len(out.records)
        for batch in self._staging.take(now):
            self.send_batch(batch, now, out)
        if len(out.records) == before:
            self._send_elements(b"", now, out)

    def _move(self, link: LinkView, now: float) -> None:
        """Send by another link from now on."""
        self.link = link
        ceiling = link.datagram_ceiling
        self.path = None if ceiling is None else PathMtu(ceiling=ceiling, now=now)
        self._probes_elsewhere = self._probe_ident
        if self.path is not None:
            link.resize(self.path.size)

    # outbound

    def send_batch(self, batch: Batch, now: float, out: Output) -> None:
        """Frames from the device. Hot."""
        link = self.link
        pair = self.session.current
        if pair is None or link is None or now >= pair.born + self._lifetime:
            self._stage(batch, now)
            return
        out.records.append((link, self.session.seal_batch(batch, link.unit, link.max_record)))
        self._life.sent(now)
        if self.path is not None:
            self.path.sent()

    def _stage(self, batch: Batch, now: float) -> None:
        """No keys yet: keep the newest frames for a moment, if it is for us to change that."""
        if self.connects or self.link is not None:
            self._staging.keep(batch, now)
        else:
            self._drops.count(DropReason.NO_SESSION, len(batch))

    def _send_elements(self, elements: bytes, now: float, out: Output) -> None:
        if self._can_seal(now):
            out.records.append((self.link, [self.session.seal_elements(elements)]))
            self._life.sent_at = now

    def _can_seal(self, now: float) -> bool:
        """Whether there is a key pair, and not too old a one: `tick` may be late."""
        pair = self.session.current
        return pair is not None and now < pair.born + self._lifetime

    def close(self, now: float, out: Output) -> None:
        """Tell the far end that we go."""
        self._send_elements(control.encode(control.Close(control.SHUTTING_DOWN)), now, out)

    # inbound

    def record(self, pair: KeyPair, record: Record, link: LinkView, now: float, out: Output) -> list[KeyPair]:
        """A record under one of our indices; returns key pairs that are of no more use. Hot."""
        controls: list[control.Control] = []
        session = self.session
        newest = record.counter > pair.window.highest
        if now - pair.born > self._lifetime:
            self._drops.count(DropReason.RECORD_EXPIRED_KEY)
            return []
        if not session.open(pair, record, now, out.frames, controls):
            return []
        self._life.heard(now)
        stale: list[KeyPair] = []
        if pair is not session.current:
            if pair in session.unconfirmed and session.prefers(pair, now):
                announce = not self.present
                stale = session.confirm(pair, now)
                self._handshakes.abandon(self.ident)
                self._up(link, now, out, announce)
        elif link is not self.link and newest:
            self._roam(link, now, out)
        for message in controls:
            stale += self._control(pair, message, now, out)
        return stale

    def _roam(self, link: LinkView, now: float, out: Output) -> None:
        """The far end's address has changed: a record newer than all others authenticates from there."""
        before = self.link.name if self.link is not None else "nowhere"
        self._move(link, now)
        out.events.append(notices.moved(self.name, before, link.name))

    def _control(self, pair: KeyPair, message: control.Control, now: float, out: Output) -> list[KeyPair]:
        match message:
            case control.Report():
                self._life.reported()
                self.session.reported(pair, message, now)
            case control.Probe(ident, size):
                self._send_elements(control.encode(control.ProbeAcknowledgement(ident, size)), now, out)
            case control.ProbeAcknowledgement(ident, size):
                if self.path is not None and ident > self._probes_elsewhere:
                    self.path.acknowledged(size, now)
                    self._probe(now, out)
            case control.Close() if pair is self.session.current:
                # Under a former pair it is late: whoever sent it has been started again since.
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

    def withdraw(self, link: LinkView, now: float, out: Output) -> None:
        """A link is gone: it was ours or is none of our business."""
        if link is self.link:
            self.link = self.path = None

    # time

    def tick(self, now: float, wall: float, out: Output) -> list[KeyPair]:
        """Do what is due; returns key pairs that are of no more use."""
        self._ticked_at = now
        self._staging.expire(now)
        stale = self.session.expire(now, self._lifetime)
        if self.session.current is not None:
            stale += self._tick_present(self.session.current, now, out)
        if self._attempts.at is not None and now >= self._attempts.at:
            self._attempt(now, wall, out)
        return stale

    def _tick_present(self, pair: KeyPair, now: float, out: Output) -> list[KeyPair]:
        life = self._life
        if now >= life.dead_at:
            return self._lost(f"nothing heard for {now - life.heard_at:.0f} s", now, out)
        if now >= pair.born + self._lifetime:
            return self._lost("its keys are too old, and it has not agreed on new ones", now, out)
        unanswered_at = life.unanswered_at
        unanswered = self.connects and unanswered_at is not None and now >= unanswered_at
        if self._attempts.at is None and (unanswered or pair.worn or now >= self._rekey_at(pair)):
            self._attempts.begin(now)
        if now >= life.keepalive_at or (self._unheard(pair) and now >= life.greet_at(pair.born)):
            self._send_elements(b"", now, out)
        if self.session.path_suspect(now, life.overdue_since):
            life.reported()
            if self.path is not None:
                self.path.suspect(now)
        self._probe(now, out)
        return []

    def _rekey_at(self, pair: KeyPair) -> float:
        patience = 1.0 if pair.initiator else RESPONDER_PATIENCE + self._rekey_jitter
        return pair.born + self._timing.interval * patience

    @staticmethod
    def _unheard(pair: KeyPair) -> bool:
        """Whether the far end may not know yet that it can use this pair."""
        return pair.initiator and not pair.window.opened

    def _probe(self, now: float, out: Output) -> None:
        """Send a path MTU probe if one is due, and let the link use what was found."""
        path, link = self.path, self.link
        if path is None or link is None or not self._can_seal(now):
            return
        size = path.poll(now)
        if link.datagram != path.size:
            link.resize(path.size)
        event = path.take_event()
        if event is not None:
            out.events.append(notices.resized(self.name, link.name, event))
        if size is None:
            return
        self._probe_ident = (self._probe_ident + 1) & 0xFFFFFFFF
        element = control.encode(control.Probe(self._probe_ident, size))
        padding = bytes(size - HEADER_SIZE - TAG_SIZE - len(element))
        out.probes.append((link, self.session.seal_elements(element + padding)))

    def _lost(self, why: str, now: float, out: Output) -> list[KeyPair]:
        """The far end is gone: forget its keys, and look for it again if we are the one who connects."""
        out.events.append(notices.down(self.name, why))
        self.path = self.link = None
        if self.connects:
            self._attempts.begin(now, at_once=False)
        else:
            self._attempts.end()
        return self.session.forget()

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [self._attempts.at, self.session.next_deadline(self._lifetime), self._staging.next_deadline()]
        if self.session.current is not None:
            due += self._deadlines_present(self.session.current)
        return min((at for at in due if at is not None), default=None)

    def _deadlines_present(self, pair: KeyPair) -> list[float | None]:
        life = self._life
        due: list[float | None] = [life.dead_at, life.keepalive_at, pair.born + self._lifetime]
        if self._unheard(pair):
            due.append(life.greet_at(pair.born))
        suspect_at = self.session.suspect_at(life.overdue_since)
        if suspect_at is not None:
            due.append(max(suspect_at, self._ticked_at + SUSPECT_TICK))
        if self._attempts.at is None:
            due += [self._rekey_at(pair), life.unanswered_at if self.connects else None]
        if self.path is not None:
            due.append(self.path.next_deadline())
        if life.sent_at > self._ticked_at:
            due.append(self._ticked_at + BUSY_TICK)
        return due
