"""One far end over time: finding it, keeping keys fresh, noticing that it is gone, moving with it and on our own.

Pure: `now` is monotonic seconds, `wall` seconds since 1970. What is to be done comes back in an `Output`; when to be
asked again is `next_deadline`. The state, as a table:

| state   | keys | leaves it by                                                                            |
|---------|------|-----------------------------------------------------------------------------------------|
| absent  | no   | an initiation answered (connecting side) or the far end's own handshake                 |
| present | yes  | nothing heard for `dead_after`, or a close: back to absent; a fresh handshake: stays     |

A session outlives its links: present without one, frames wait for a moment, and whatever link comes up is tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from caetun import notices
from caetun.caller import Caller
from caetun.conversation import Conversation
from caetun.journey import Journey
from caetun.notices import Event
from caetun.outbound import Outbound
from caetun.output import LinkView, Output
from caetun.session.attempts import Attempts
from caetun.session.backlog import Backlog
from caetun.session.liveness import RESPONDER_PATIENCE, Liveness, Timing
from caetun.session.session import Session
from caetun.types import DropReason, Drops
from caetun.upkeep import Upkeep
from caetun.ways import WORST, Ways
from caetun.wire import control
from caetun.wire.record import Record

if TYPE_CHECKING:
    from caetun.compression.base import Method
    from caetun.session.identity import PeerId
    from caetun.session.keypair import KeyPair
    from caetun.session.pathmtu import PathMtu
    from caetun.session.security import Cipher, Established, Security

__all__ = ["Event", "LinkView", "Output", "Peer", "Timing"]

# chosen by us
MISMATCH_PAUSE: Final = 30.0
"""Seconds before trying a far end again whose settings do not go with ours."""

_SHARED: Final = control.encode(control.Notice(control.KEY_SHARED))


class Peer:
    """One far end."""

    def __init__(
        self,
        ident: PeerId,
        name: str,
        session: Session,
        handshakes: Security,
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
        backlog = Backlog(handshakes.hello.mode, entropy(16), self._drops)
        self.mode = handshakes.hello.mode
        self._ways = Ways(entropy)
        self._caller = Caller(self, handshakes, Attempts(handshakes.ciphers, entropy), self._life, self._ways)
        self._journey = Journey(self, name, session, self._life, self._ways)
        self.conversation = Conversation(self, self._journey, self._drops)
        self.outbound = Outbound(session, self._life, self._journey, self.conversation, backlog, self._drops)
        self._differences = notices.Differences(handshakes.hello)
        self._upkeep = Upkeep(session, self._life, self._journey, self._caller, self.conversation)
        self.expelled = False
        """Whether the last session was ended because the far end is not welcome any more."""
        self.narrower = 0
        """The MTU of the far end's device, bytes, if that takes less than ours; else 0."""

    @property
    def present(self) -> bool:
        """Whether there are keys to send with."""
        return self.session.current is not None

    @property
    def carries(self) -> bool:
        """Whether frames pass: there are keys, and nobody has a reason to hold them back."""
        return self.session.current is not None and not self.conversation.held

    @property
    def link(self) -> LinkView | None:
        """Where records go; None if nobody is there, or no link leads there."""
        return self._journey.link

    @property
    def offered(self) -> LinkView | None:
        """The offered link that is in use, if only at another address now; None if the far end brought the link up."""
        current = self._ways.current
        return None if current is None else current.origin

    @property
    def rank(self) -> int:
        """Of the link in use; one that the far end brought up is better or worse than all offered ones."""
        return self._ways.current.rank if self._ways.current is not None else WORST

    @property
    def doubted(self) -> bool:
        """Whether the link in use has yet to prove that it works."""
        return self._ways.doubted_at is not None

    @property
    def path(self) -> PathMtu | None:
        """Path MTU discovery on that link; None on a stream."""
        return self._journey.path

    @property
    def connects(self) -> bool:
        """Whether it is for us to find the far end."""
        return self._journey.connects

    def retime(self, timing: Timing) -> None:
        """Another keepalive interval from now on."""
        self._timing = timing
        self._life.retime(timing)

    def prefer(self, ciphers: Sequence[Cipher]) -> None:
        """Call with the first of these ciphers from the next handshake on."""
        self._caller.prefer(self._handshakes.prefer(ciphers))

    def compress(self, methods: Sequence[Method], now: float) -> None:
        """Make records smaller by the first of these methods that the far end takes; ask it anew to do the same."""
        accepted = self.session.compress(methods)
        self._handshakes.hello = dataclasses.replace(self._handshakes.hello, compression=accepted)
        if self.present:
            self._caller.begin(now)

    # connecting

    def offer(self, link: LinkView, rank: int, now: float, out: Output) -> None:
        """A link that leads to the far end has come up; lower `rank` is preferred. Offer it again to try it again.

        Without a session an initiation goes out by it at the next `tick`, which is due at once; the schedule of further
        ones stays, unless the link is new and may lose what it is given. In a session it is put to the test if it is
        better than the one in use. It stays offered until it is withdrawn. Several addresses of a name are several
        links of equal rank.
        """
        self._journey.connects = True
        ways = self._ways
        new = ways.offer(link, rank, now)
        out.unused += ways.crowded()
        way = ways.get(link)
        if way is None or way is ways.current:
            return
        if self.present:
            self._journey.offered(way, new, now, out)
        elif now >= self._caller.paused_until:
            way.fresh = now
            if self._caller.at is None or (new and link.datagram_ceiling is not None):
                self._caller.begin(now, at_once=not new)

    def withdraw(self, link: LinkView, now: float, out: Output) -> None:
        """A link is gone. If it was ours, the session lives on by the first other one that answers."""
        ways = self._ways
        if not ways.withdraw(link, now):
            return
        if link is self.link:
            self._journey.leave()
            out.events.append(notices.cut_off(self.name, link.name))
            ways.try_others(now)
            self._journey.test(now, out)
        elif self.present or ways.offered:
            return
        if self.connects:
            out.seek.append(self)

    def network_changed(self, now: float, out: Output) -> None:
        """This host's addresses or routes are others now: see at once whether the link in use still works."""
        if self.connects and not self.present and now >= self._caller.paused_until:
            self._caller.begin(now)
        elif self.connects and self.link is not None:
            self._ways.doubt(now, deaf=True)
            self._journey.send(b"", now, out)
            self._journey.test(now, out)

    # handshake

    def established(self, established: Established, link: LinkView, now: float, out: Output) -> list[KeyPair]:
        """A handshake has ended well; returns key pairs that are of no more use."""
        out.events += self._differences.fresh(self.name, link.name, established.hello)
        if established.hello.mode is not self.mode:
            self._mismatch(now)
            return []
        announce = not self.present
        stale = self.session.install(established, now)
        if established.initiator:
            self._up(link, now, out, announce)
        return stale

    def refused(self, now: float) -> None:
        """A handshake with the far end has ended by a refusal: rare attempts until somebody has mended it."""
        self._ways.answered()
        if self.connects:
            self._caller.pause(now + MISMATCH_PAUSE)

    def _mismatch(self, now: float) -> None:
        """The far end carries what we cannot: no session, and rare attempts until somebody has mended it."""
        self._ways.answered()
        if self.connects:
            self._caller.pause(now + MISMATCH_PAUSE)
        else:
            self._caller.end()

    def _up(self, link: LinkView, now: float, out: Output, announce: bool) -> None:
        """There is a new current key pair: use it at once, as the far end may be waiting for a first record."""
        pair = self.session.current
        assert pair is not None
        self._caller.end()
        self.expelled = False
        self._life.heard(now)
        self._life.reported()
        self._life.rekey_at = self._rekey_at(pair)
        mtu = pair.established.hello.mtu
        self.narrower = mtu if mtu < self._handshakes.hello.mtu else 0
        self._ways.answered()
        doubled = self.conversation.met(pair, out)
        if doubled:
            self._shared(out)
        before = len(out.records)
        if announce:
            out.events.append(notices.up(self.name, link.name, pair.established))
            self._journey.found(link, now, out)
        elif link is not self.link:
            self._journey.use(link, now, out)
        else:
            self._journey.relieve(now, out)
            self.outbound.arrived()
        self.outbound.resume(now, out)
        if doubled or len(out.records) == before:
            self._journey.send(_SHARED if doubled else b"", now, out)

    def _shared(self, out: Output) -> None:
        """Two hosts have one key: tell our user, and whoever has just lost its place, by the link that it had."""
        out.events.append(notices.doubled(self.name))
        if self.link is not None and self.session.previous:
            out.records.append((self.link, [self.session.previous[0].seal(_SHARED)]))

    # telling

    def say(self, kind: int, body: bytes, now: float, out: Output) -> bool:
        """Send a message on the control channel; False if there is nobody to say it to, or no room (`Channel.send`)."""
        return self.conversation.say(kind, body, now, out)

    def close(self, now: float, out: Output) -> None:
        """Tell the far end that we go."""
        self._journey.send(control.encode(control.Close(control.SHUTTING_DOWN)), now, out)

    def rename(self, name: str) -> None:
        """It is known by another name from now on."""
        self.name = name
        self._journey.rename(name)

    def expel(self, why: str, now: float, out: Output) -> list[KeyPair]:
        """The far end is not welcome any more: end the session; returns its key pairs."""
        self.expelled = True
        if not self.present:
            return self.session.forget()
        self._journey.send(control.encode(control.Close(control.REVOKED)), now, out)
        return self._lost(why, now, out) + self.session.forget()

    @property
    def answered(self) -> bool:
        """Whether we have answered a handshake of the far end's, and not heard from it since."""
        return bool(self.session.unconfirmed)

    @property
    def certificate(self) -> bytes:
        """What the far end has shown in this session, DER; empty without a session or a certificate."""
        pair = self.session.current
        return b"" if pair is None else pair.established.certificate

    # inbound

    def record(self, pair: KeyPair, record: Record, link: LinkView, now: float, out: Output) -> list[KeyPair]:
        """A record under one of our indices; returns key pairs that are of no more use. Hot."""
        controls: list[control.Control] = []
        session = self.session
        newest = record.counter > pair.window.highest
        before = len(out.frames)
        if now - pair.born > self._lifetime:
            self._drops.count(DropReason.RECORD_EXPIRED_KEY)
            return []
        if not session.open(pair, record, now, out.frames, controls):
            return []
        self._life.heard(now)
        delivered = len(out.frames) > before
        if delivered:
            self._life.delivered_at = now
        stale: list[KeyPair] = []
        elsewhere = link is not self._journey.link
        # What only tests a link does not say that the far end wants to be reached there (RFC 9000, section 9.1).
        tests = elsewhere and not delivered and bool(controls) and _tests_links(controls)
        if pair is not session.current:
            if pair in session.unconfirmed and session.prefers(pair, now):
                announce = not self.present
                stale = session.confirm(pair, now)
                self._handshakes.abandon(self.ident)
                self._up((tests and self.link) or link, now, out, announce)
        elif elsewhere:
            if newest and not tests and self._journey.follow(link, now, out):
                self.outbound.resume(now, out)
        elif self._ways.doubted_at is not None and not self._ways.deaf:
            self._journey.relieve(now, out)
        if controls:
            stale += self._controls(pair, controls, link, now, out)
        if delivered and self.conversation.held:
            self._hold_back(before, out)
        return stale

    def _hold_back(self, before: int, out: Output) -> None:
        """Frames that came in must not pass: those behind the first `before`."""
        self.conversation.dropped(len(out.frames) - before)
        del out.frames[before:]

    def _controls(
        self, pair: KeyPair, controls: list[control.Control], link: LinkView, now: float, out: Output
    ) -> list[KeyPair]:
        probed = noticed = False
        for message in controls:
            match message:
                case control.Report():
                    self._life.reported()
                    self.session.reported(pair, message, now)
                    if link is self.link:
                        self._journey.relieve(now, out)
                case control.Probe(ident, size):
                    if probed:
                        self._drops.count(DropReason.CONTROL_SURPLUS)
                        continue
                    probed = True
                    acknowledgement = control.encode(control.ProbeAcknowledgement(ident, size))
                    self._journey.send(acknowledgement, now, out, link)
                case control.ProbeAcknowledgement() as answer:
                    if self._journey.acknowledged(answer, link, now, out):
                        self._caller.end()
                        self.outbound.resume(now, out)
                case control.Close(reason) if pair is self.session.current:
                    # Under a former pair it is late: whoever sent it has been started again since.
                    expected = reason == control.SHUTTING_DOWN and not self.connects
                    return self._lost(notices.closed(reason), now, out, expected)
                case control.Notice(control.KEY_SHARED) if self.connects:
                    if noticed:
                        self._drops.count(DropReason.CONTROL_SURPLUS)
                        continue
                    noticed = True
                    out.events.append(notices.shared(self.name))
                case control.Part() | control.PartAcknowledgement():
                    self.conversation.heard(message, pair, out)
        self.conversation.tick(now, out)
        return []

    def burst_end(self, now: float, out: Output) -> None:
        """Nothing more is waiting from the network."""
        before = len(out.frames)
        elements = self.session.burst_end(now, out.frames)
        if self.conversation.held and len(out.frames) > before:
            self._hold_back(before, out)
        if elements:
            self._life.reports(now)
            self._journey.send(elements, now, out)

    def too_big(self, datagram: int, now: float, out: Output) -> None:
        """The local kernel refused a datagram of this size."""
        if self.path is not None:
            self.path.too_big(0, now, datagram)
            self._journey.probe_path(now, out)

    # time

    def tick(self, now: float, wall: float, out: Output) -> list[KeyPair]:
        """Do what is due; returns key pairs that are of no more use."""
        self.outbound.tick(now)
        stale = self.session.expire(now, self._lifetime)
        why = self._upkeep.tick(self.session.current, now, out)
        if why is not None:
            stale += self._lost(why, now, out)
        self._caller.tick(self._journey.tick(now, out), now, wall, out)
        return stale

    def _rekey_at(self, pair: KeyPair) -> float:
        """When to ask for new keys; responders not all at once, if their initiators do not."""
        patience = 1.0 if pair.initiator else RESPONDER_PATIENCE + self._entropy(1)[0] / 256 * 0.04
        return pair.born + self._timing.interval * patience

    def _lost(self, why: str, now: float, out: Output, expected: bool = False) -> list[KeyPair]:
        """The far end is gone: forget its keys, and look for it again if we are the one who connects."""
        out.events.append(notices.down(self.name, why, expected))
        self._journey.leave()
        out.unused += self._ways.lost(now)
        self.outbound.abandon()
        if self.connects:
            self._caller.begin(now, at_once=False)
            out.seek.append(self)
        else:
            self._caller.end()
        return self.session.end()

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = [self._caller.at, self.session.next_deadline(self._lifetime), self.outbound.next_deadline()]
        due.append(self._journey.next_deadline())
        if self.session.current is not None:
            due += self._upkeep.deadlines(self.session.current)
        return min((at for at in due if at is not None), default=None)


def _tests_links(controls: list[control.Control]) -> bool:
    return all(isinstance(message, control.PROBING) for message in controls)
