"""One peer across its links: which of them is used, tested, moved to, and what the far end is told by which.

    our decision    a link on trial is acknowledged and better, or needed  -> use it, greet the far end there
    its decision    its newest record comes by another link                -> use that

Pure. What `ways.py` says is due is sealed and put into the `Output` here; keys and handshakes are for `peers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from caetun import notices
from caetun.output import LinkView, Output
from caetun.session.pathmtu import BASE_SIZE, PathMtu
from caetun.way import NEVER, PROBE_SECONDS, Way
from caetun.ways import Ways
from caetun.wire import control
from caetun.wire.record import HEADER_SIZE, TAG_SIZE, Record

if TYPE_CHECKING:
    from caetun.session.liveness import Liveness
    from caetun.session.session import Session

# chosen by us
TOLD_SECONDS: Final = 1.0
"""Between two lines in the log about moves."""


class Itinerary:
    """What a person has been told about moves: where the far end is, but not each step of one that hops about."""

    __slots__ = ("_told", "_told_at", "_where")

    def __init__(self) -> None:
        self._told = self._where = "nowhere"
        self._told_at = NEVER

    def begin(self, link: LinkView) -> None:
        """The far end was found here, which is told elsewhere."""
        self._told = self._where = link.name

    def moved(self, link: LinkView) -> None:
        """The far end is reached by another link."""
        self._where = link.name

    def due(self, now: float) -> tuple[str, str] | None:
        """(before, now) if that is to be told now."""
        if self._told == self._where or now < self._told_at + TOLD_SECONDS:
            return None
        before, self._told, self._told_at = self._told, self._where, now
        return before, self._where

    def next_deadline(self) -> float | None:
        """When `due` may have something to tell."""
        return None if self._told == self._where else self._told_at + TOLD_SECONDS


class Journey:
    """The links of one peer in use."""

    def __init__(self, owner: object, name: str, session: Session, life: Liveness, ways: Ways) -> None:
        """`owner`: whom an `Output` names as the peer; `name`: the same for people."""
        self._owner = owner
        self._name = name
        self._session = session
        self._life = life
        self.ways = ways
        self._itinerary = Itinerary()
        self.link: LinkView | None = None
        """Where records go: what was chosen here, or the link that the newest authenticated record came by."""
        self.path: PathMtu | None = None
        """Path MTU discovery on that link; None on a stream."""
        self.connects = False
        """Whether it is for us to find the far end."""

    def rename(self, name: str) -> None:
        """People know the peer by another name from now on."""
        self._name = name

    # from link to link

    def found(self, link: LinkView, now: float, out: Output) -> None:
        """The far end has been found, which is told elsewhere."""
        self._itinerary.begin(link)
        self.use(link, now, out)

    def use(self, link: LinkView, now: float, out: Output) -> None:
        """Send by another link from now on."""
        pair = self._session.current
        way = self.ways.use(link, now, leads=pair is not None and pair.initiator)
        out.unused += self.ways.crowded()
        self.link = link
        ceiling = link.datagram_ceiling
        if ceiling is None:
            way.path = None
        elif way.path is None or way.path.ceiling != ceiling:
            way.path, way.probes_before = PathMtu(ceiling=ceiling, now=now), self.ways.last_probe
        else:
            way.path.suspect(now)  # it carried that much when it was left
        self.path = way.path
        if self.path is not None:
            link.resize(self.path.size)
        self._life.moved()
        self._itinerary.moved(link)
        self._tell_move(now, out)
        out.moved.append(self._owner)
        if self.connects:
            out.settled.append(self._owner)
            self.ways.try_better(now)

    def follow(self, link: LinkView, now: float, out: Output) -> bool:
        """A record newer than all others came by this link: the far end has moved. Whether we go there, too."""
        if self.ways.may_follow(link, now):
            self.use(link, now, out)
            return True
        way = self.ways.get(link)
        if way is not None:
            way.heard_at = now
        return False

    def offered(self, way: Way, new: bool, now: float, out: Output) -> None:
        """A link has come up during a session: put it to the test if it is needed, or better than the one in use."""
        if not self.ways.need:
            self.ways.try_better_or_spare(way, now)
        elif new:
            # A far end that was started again takes a probe for a stranger's message. An initiation it understands.
            way.fresh = now
            self.ways.try_(way, now + PROBE_SECONDS)
        else:
            self.ways.try_(way, now)
        self.test(now, out)

    def leave(self) -> None:
        """There is no link to send by."""
        self.link = self.path = None

    def _tell_move(self, now: float, out: Output) -> None:
        told = self._itinerary.due(now)
        if told is not None:
            out.events.append(notices.moved(self._name, *told))

    # doubts

    def relieve(self, now: float, out: Output) -> None:
        """The link in use works: if that was doubted, it is not any more."""
        if self.ways.doubted_at is None:
            return
        self._life.relieved(now)
        if self.ways.relieve(now):
            out.settled.append(self._owner)

    def acknowledged(self, probe: control.ProbeAcknowledgement, link: LinkView, now: float, out: Output) -> bool:
        """A probe of ours has arrived, and the answer to it by the same link. Whether we move there."""
        ways = self.ways
        tried = ways.acknowledged(probe.ident, link, now)
        if tried is None:
            way = ways.get(link)
            if way is not None and way.path is not None and probe.ident > way.probes_before:
                if probe.ident == way.path_probe[0]:
                    way.round_trip = now - way.path_probe[1]
                way.path.acknowledged(probe.size, now)
                self.probe_path(now, out)
        elif tried is ways.current:
            self.relieve(now, out)
        elif ways.wanted(tried):
            self.use(link, now, out)
            ways.greet(now)
            self.send(b"", now, out)
            return True
        return False

    # outbound

    def can_seal(self, now: float) -> bool:
        """Whether there is a key pair, and not too old a one: `tick` may be late."""
        pair = self._session.current
        return pair is not None and now < pair.born + self._life.lifetime

    def send(self, elements: bytes, now: float, out: Output, link: LinkView | None = None) -> None:
        """A record of control elements, or of none, by the link in use or by another, if there is one and a key."""
        by = link or self.link
        if by is None or not self.can_seal(now):
            return
        out.records.append((by, [self._session.seal_elements(elements)]))
        if by is self.link:
            self._life.sent_at = now

    def test(self, now: float, out: Output) -> list[Way]:
        """Send the probes that are due, of full size unless any way is better than what there is; returns to whom."""
        if not self.can_seal(now):
            return []
        due = self.ways.due_probes(now)
        for way in due:
            assert way.trial is not None
            small = self.ways.need or way is self.ways.current or way.link.datagram_ceiling is None
            ident = self.ways.next_probe()
            out.probes.append((way.link, self._sealed_probe(ident, 0 if small else BASE_SIZE)))
            way.trial.probed(ident, now, way.round_trip)
        return due

    def probe_path(self, now: float, out: Output) -> None:
        """Send a path MTU probe if one is due, and let the link use what was found."""
        path, link, way = self.path, self.link, self.ways.current
        if path is None or link is None or way is None or not self.can_seal(now):
            return
        size = path.poll(now)
        if link.datagram != path.size:
            link.resize(path.size)
        event = path.take_event()
        if event is not None:
            out.events.append(notices.resized(self._name, link.name, event))
        if size is not None:
            way.path_probe = self.ways.next_probe(), now
            out.probes.append((link, self._sealed_probe(way.path_probe[0], size)))

    def _sealed_probe(self, ident: int, size: int) -> Record:
        """A record of nothing but a probe: a datagram of `size` bytes, or the shortest there can be if that is less."""
        least = HEADER_SIZE + TAG_SIZE + control.PROBE_SIZE
        element = control.encode(control.Probe(ident, max(size, least)))
        return self._session.seal_elements(element + bytes(max(0, size - least)))

    # time

    def tick(self, now: float, out: Output) -> list[Way]:
        """Do what is due; returns the links to which a probe went."""
        turn = self.ways.poll(now)
        if turn.suspected and self.link is not None:
            out.seek.append(self._owner)
            out.events.append(notices.doubted(self._name, self.link.name))
        if turn.greet:
            self.send(b"", now, out)
        out.unanswered += [(self._owner, link) for link in turn.unanswered]
        out.unused += turn.unused
        self._tell_move(now, out)
        return self.test(now, out)

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        due = self.ways.next_deadline(), self._itinerary.next_deadline()
        return min((at for at in due if at is not None), default=None)
