"""Which datagram size a path carries: packetization layer path MTU discovery for datagrams (RFC 8899).

All sizes are bytes of UDP payload. One `PathMtu` serves one datagram link for as long as the peer is there: when the
link or the peer is lost, it goes with it. It says when to send a padded, sealed probe of which size (docs/wire.md,
section 5), and learns from what is acknowledged and what is not.

             +-------------- black hole ---------------+
             v                                         |
           base --confirmed--> searching --searched--> complete        disabled
             |                  ^     ^                |               (no probing: the interface
        unconfirmed     confirmed     +----- raise ----+               is below the floor)
             +----> error ------+

The search asks for the most that may pass first: the ceiling, or what an ICMP message claims. One round trip settles
the usual path. Otherwise it climbs the sizes that real links have, as what passes costs one round trip and what does
not costs `MAX_PROBES` seconds, and halves what lies between the last that passed and the first that did not.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

# fixed by the specification
MAX_PROBES: Final = 3
"""Unanswered probes of one size before it counts as too large (RFC 8899, section 5.1.2)."""
PROBE_TIMER: Final = 1.0
"""Seconds to wait for an answer (section 5.1.1: never less). An answer that comes later is still believed."""
PMTU_RAISE_TIMER: Final = 600.0
"""Seconds after which a finished search is tried again (section 5.1.1)."""
BASE_SIZE: Final = 1200
"""Bytes any path must carry (section 5.1.2)."""

# chosen by us
CONFIRMATION_SECONDS: Final = 15.0
"""While data flows, the size in use is confirmed this often (the CONFIRMATION_TIMER of section 5.1.1)."""
ERROR_SECONDS: Final = 15.0
"""Between two probes of a path that does not even carry the floor."""
GRANULARITY: Final = 32
"""Bytes: the search ends when the first size that fails is so near; 2 % of a datagram is not worth three seconds."""
LIKELY_SIZES: Final = (
    *(1232, 1252, 1280, 1332, 1352, 1372, 1392, 1400, 1412, 1420, 1432, 1444, 1452, 1464, 1472),
    *(1972, 3972, 4324, 8848, 8868, 8952, 8972),
)
"""MTUs of real links, 1280 to 9000, less IPv4 and UDP (28) or IPv6 and UDP (48): PPPoE, tunnels, mobile, clouds."""


class State(enum.StrEnum):
    """The states of RFC 8899, section 5.2."""

    DISABLED = "disabled"
    BASE = "base"
    SEARCHING = "searching"
    COMPLETE = "complete"
    ERROR = "error"


class Turn(enum.Enum):
    """What leads from one state to another."""

    CONFIRMED = enum.auto()
    UNCONFIRMED = enum.auto()
    SEARCHED = enum.auto()
    RAISE = enum.auto()
    BLACK_HOLE = enum.auto()


TRANSITIONS: Final[dict[tuple[State, Turn], State]] = {
    (State.BASE, Turn.CONFIRMED): State.SEARCHING,
    (State.BASE, Turn.UNCONFIRMED): State.ERROR,
    (State.ERROR, Turn.CONFIRMED): State.SEARCHING,
    (State.SEARCHING, Turn.SEARCHED): State.COMPLETE,
    (State.SEARCHING, Turn.BLACK_HOLE): State.BASE,
    (State.COMPLETE, Turn.RAISE): State.SEARCHING,
    (State.COMPLETE, Turn.BLACK_HOLE): State.BASE,
}
"""Any other pair is a bug. Nothing leads to DISABLED or out of it: an interface's MTU is known from the start."""


class Event(NamedTuple):
    """Something for the log."""

    state: State
    size: int
    """Bytes of UDP payload, from now on."""
    why: str


class PathMtu:
    """The datagram size of one link. Sizes never leave floor..ceiling, whatever the peer or the network says."""

    def __init__(self, *, floor: int = BASE_SIZE, ceiling: int, now: float) -> None:
        """`floor`, `ceiling`: bytes of UDP payload; the ceiling is the interface's MTU less IP and UDP headers."""
        self.floor = floor
        self.ceiling = ceiling
        self.size = floor
        """Bytes a datagram may have now."""
        self.state = State.BASE
        self._ready_at = self._confirmed_at = self._raise_at = now
        self._in_flight: int | None = None
        self._timeout = now
        # sizes probed since the last black hole, and how often in vain: one entry a size at most
        self._asked: set[int] = set()
        self._unanswered: dict[int, int] = {}
        self._doubt_at: float | None = None
        self._traffic = False
        self._event: Event | None = None
        self._told: tuple[State, int] | None = None
        self._aim_at(ceiling)
        if ceiling < floor:
            self.state = State.DISABLED
            self._tell(f"the interface carries {ceiling} bytes, {floor} are needed")

    def next_deadline(self) -> float | None:
        """When to `poll` next; None if only an answer or traffic can change anything."""
        if self.state is State.DISABLED:
            return None
        if self._in_flight is not None:
            return self._timeout if self._doubt_at is None else min(self._timeout, self._doubt_at)
        if self.state is State.COMPLETE and not self._unanswered.get(self.size):
            deadlines = [] if self._doubt_at is None else [self._doubt_at]
            if self.size < self.ceiling:
                deadlines.append(self._raise_at)
            if self._traffic:
                deadlines.append(self._confirmed_at + CONFIRMATION_SECONDS)
            return min(deadlines, default=None)
        return self._ready_at

    def poll(self, now: float) -> int | None:
        """The size of a probe to send now, or None. A probe counts as sent when it is returned."""
        if self._in_flight is not None and now >= self._timeout:
            self._timed_out(self._in_flight, now)
        if self.state is State.DISABLED or (self._in_flight is not None and not self._doubtful(now)):
            return None
        size = self._choose(now)
        if size is not None:
            self._in_flight = size
            self._timeout = now + PROBE_TIMER
            self._asked.add(size)
        return size

    def take_event(self) -> Event | None:
        """What is worth a line in the log since the last call; only the latest is kept."""
        event, self._event = self._event, None
        return event

    # what happens

    def sent(self) -> None:
        """Data was sent: the size in use is worth confirming. Cheap, once a burst."""
        self._traffic = True

    def acknowledged(self, size: int, now: float) -> bool:
        """The peer says that a probe of `size` bytes arrived; ignored unless one was sent. Whether `size` changed."""
        if size not in self._asked:
            return False
        self._unanswered.pop(size, None)
        if self._in_flight is not None and self._in_flight <= size:
            self._in_flight = None
        self._ready_at = now
        grown = size > self.size
        if size >= self.size:
            self.size = size
            self._confirmed_at = now
            self._doubt_at = None
            self._traffic = False
        if size >= self._too_large:
            self._aim_at(self.ceiling)  # it was late, not lost: what failed before may pass, too
        if self.state in (State.BASE, State.ERROR):
            self._turn(Turn.CONFIRMED)
        if self.state is State.SEARCHING and self._target() is None:
            self._searched(now)
        return grown

    def too_big(self, hint: int, now: float, refused: int = 0) -> bool:
        """The kernel refused a datagram as too long, or a validated ICMP message says so. Whether `size` changed.

        `hint`: bytes of UDP payload that pass, as far as known; 0, or one byte less than what was sent, says nothing
        but that it did not. A hint is believed only downwards: between the floor and the size it is about (RFC 8899,
        section 4.6.2). `refused`: bytes of the datagram it is about; 0 if unknown, then it is about the largest in use.
        """
        probed = self._in_flight
        about = refused or max(self.size, probed or 0)
        passes = hint or about - 1
        if self.state in (State.DISABLED, State.ERROR) or not self.floor <= passes < about:
            return False
        if about >= self._too_large:
            return False  # known: one of a burst was refused before
        fallen = passes < self.size
        if fallen:
            self._black_hole(now, f"{about} bytes are refused as too long")
        if probed is not None and probed > passes:
            self._in_flight = None
        self._ready_at = now
        if passes < about - 1:
            self._aim_at(passes)
        else:
            self._fails(about)
        return fallen

    def suspect(self, now: float) -> None:
        """The session sees heavy loss: confirm the size in use at once, but not more than once a second."""
        if self.state in (State.SEARCHING, State.COMPLETE) and self._in_flight != self.size:
            self._doubt_at = max(now, self._confirmed_at + PROBE_TIMER)

    # how it is decided

    def _turn(self, turn: Turn) -> None:
        self.state = TRANSITIONS[self.state, turn]

    def _forget(self) -> None:
        """Nothing is known about the path but that the floor should pass."""
        self._in_flight = None
        self._asked.clear()
        self._unanswered.clear()
        self._doubt_at = None
        self._traffic = False
        self._aim_at(self.ceiling)

    def _aim_at(self, size: int) -> None:
        """Take `size` for the most that may pass, and ask for it first."""
        self._too_large = size + 1
        self._untested = True

    def _fails(self, size: int) -> None:
        """Take `size` for too large."""
        self._too_large = size
        self._untested = False

    def _target(self) -> int | None:
        """What to probe next in a search; None when it is at its end."""
        low, high = self.size, self._too_large
        if self._untested and low < high - 1:
            return high - 1
        for likely in LIKELY_SIZES:
            if low < likely < high:
                return likely
        return (low + high) // 2 if high - low > GRANULARITY else None

    def _doubtful(self, now: float) -> bool:
        """Whether the size in use has to be confirmed now."""
        if self.state not in (State.SEARCHING, State.COMPLETE):
            return False
        if self._doubt_at is not None and now >= self._doubt_at:
            return True
        if self._in_flight is not None:
            return False
        if self._unanswered.get(self.size, 0) > 0:
            return True
        return self._traffic and now >= self._confirmed_at + CONFIRMATION_SECONDS

    def _choose(self, now: float) -> int | None:
        """What to probe now."""
        if self.state is State.ERROR:
            return self.floor if now >= self._ready_at else None
        if self.state is State.BASE:
            # a larger one that passes confirms the floor as well; if it is lost, the floor is asked for by itself
            hopeful = self._untested and not self._unanswered.get(self._too_large - 1)
            return self._too_large - 1 if hopeful else self.floor
        if self._doubtful(now):
            self._doubt_at = None
            return self.size
        if self.state is State.COMPLETE:
            if self.size >= self.ceiling or now < self._raise_at:
                return None
            self._turn(Turn.RAISE)
            self._unanswered.clear()
            self._aim_at(self.ceiling)
        target = self._target()
        if target is not None:
            return target
        self._searched(now)
        return self._choose(now)

    def _timed_out(self, size: int, now: float) -> None:
        """The probe under way was not answered in time."""
        self._in_flight = None
        self._ready_at = now
        unanswered = self._unanswered[size] = self._unanswered.get(size, 0) + 1
        if self.state is State.ERROR:
            self._ready_at = now + ERROR_SECONDS
        elif unanswered < MAX_PROBES:
            return
        elif self.state is State.BASE:
            self._turn(Turn.UNCONFIRMED)
            self._forget()
            self._ready_at = now + ERROR_SECONDS
            self._tell(f"not even {self.floor} bytes pass")
        elif size == self.size:
            self._black_hole(now, f"{size} bytes do not pass any more")
        else:
            self._fails(size)

    def _black_hole(self, now: float, why: str) -> None:
        """The size in use does not pass any more: fall to the floor, then search below what failed."""
        failed = self.size
        self._turn(Turn.BLACK_HOLE)
        self._forget()
        self.size = self.floor
        self._ready_at = now
        if failed > self.floor:
            self._fails(failed)
        self._tell(why)

    def _searched(self, now: float) -> None:
        self._turn(Turn.SEARCHED)
        self._raise_at = now + PMTU_RAISE_TIMER
        self._tell("found")

    def _tell(self, why: str) -> None:
        """Keep a line for the log, unless it says what the last one did."""
        if self._told != (self.state, self.size):
            self._told = self.state, self.size
            self._event = Event(self.state, self.size, why)
