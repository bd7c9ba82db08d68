"""Which host has which address, from the ARP and neighbour discovery that passes; and what to do with questions then.

| what passes                                                    | what becomes of it                               |
|----------------------------------------------------------------|--------------------------------------------------|
| ARP and advertisements that tell where an address is           | learned, and forwarded as any frame              |
| request for a neighbour known behind another port, with `OFF`  | flooded                                          |
|   with `DIRECT`                                                | sent to that port only: the host itself answers  |
|   with `ANSWER`, if heard of within `FRESH_SECONDS`            | answered by the switch, sent to nobody           |
| the same request again within `REPEAT_SECONDS`                 | flooded: the first had no good answer            |
| probe (RFC 5227), duplicate address detection (RFC 4862)       | flooded; nothing is answered until it is settled |
| announcement, unicast                                          | forwarded as any frame                           |

`OFF` is the default. ARP is a frame a host now and then, and storm control bounds the worst; what suppression breaks (a
service address that changes its host, a stale answer) costs people hours. `DIRECT` is what a hub of hundreds of peers
wants: it saves the flood, and a wrong entry costs one repeated request. `ANSWER` saves slow links the request as well.

The table is kept in any mode: `healing.py` needs to know who is behind a port, and that two hosts fight for an address
is told.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from math import inf
from typing import Final, NamedTuple, TypeAlias

from caetun.errors import Malformed
from caetun.l2.outcome import Notice
from caetun.l2.vlan import UNAWARE
from caetun.types import Buffer
from caetun.wire import arp, nd
from caetun.wire.ethernet import HEADER_SIZE, TAG_SIZE, TPID_8021Q, TYPE_IPV6, network_header
from caetun.wire.ip import outline

# fixed by the specification
_TYPES: Final = frozenset((arp.TYPE_ARP, TYPE_IPV6, TPID_8021Q))

# chosen by us
AGEING: Final = 300.0
"""Seconds without a word, after which a neighbour is not known any more; as in the FDB."""
FRESH_SECONDS: Final = 60.0
"""The switch answers for a neighbour that it heard of within this; hosts trust an entry for 15 to 45 s themselves."""
REPEAT_SECONDS: Final = 5.0
"""A question that comes again within this was not answered well: hosts repeat theirs after 1 s."""
DOUBT_SECONDS: Final = 10.0
"""An address that somebody probes for is not answered for so long: probing takes up to 9 s (RFC 5227, section 2.1)."""
FIGHT_SECONDS: Final = 60.0
"""An address that goes back to who had it within this has two owners; it is not answered for as long."""
TELL_SECONDS: Final = 300.0
"""People hear of one address so often."""
MAX_PER_PORT: Final = 1024
"""Neighbours behind one port: the longest unheard is forgotten."""
MAX_NEIGHBOURS: Final = 16_384
"""Of all ports, as many as the FDB has; beyond, no new ones are learned: their requests are flooded."""
MAX_QUESTIONS: Final = 4096
"""Questions remembered for `REPEAT_SECONDS`; beyond, all are forgotten."""
EXPIRE_SECONDS: Final = 30.0
"""Between two looks for those that are too old."""


Reach: TypeAlias = Callable[[int, int], tuple[int, ...]]
"""(port, VLAN) -> the ports that its frames may leave by."""


class Suppression(enum.StrEnum):
    """What becomes of a question for a known neighbour."""

    OFF = "off"
    DIRECT = "direct"
    ANSWER = "answer"


class Neighbour:
    """A host's address."""

    __slots__ = ("before", "doubted_until", "mac", "moved_at", "port", "router", "seen_at", "told_at")

    def __init__(self, port: int, mac: bytes, now: float) -> None:
        self.port, self.mac, self.seen_at = port, mac, now
        self.router: bool | None = None
        """Whether it is a router, once it has said so."""
        self.before: bytes | None = None
        """The MAC address that had it before, until `moved_at`."""
        self.moved_at = self.told_at = -inf
        self.doubted_until = 0.0


class Host(NamedTuple):
    """A neighbour, for `healing.py`."""

    vlan: int
    mac: bytes
    address: bytes
    router: bool | None
    seen_at: float


class Row(NamedTuple):
    """A neighbour as people see it."""

    vlan: int
    address: bytes
    mac: bytes
    port: int
    router: bool | None
    age: float
    """Seconds since it was last heard of."""
    doubted: bool
    """Whether somebody else may have the address: the switch does not answer for it."""


class Known(NamedTuple):
    """A question whose target is known: it goes to one port, or is answered."""

    port: int
    answer: bytes | None


class _Told(NamedTuple):
    """What an ARP message or a neighbour's says: `address` is at `mac`; and what it asks."""

    address: bytes | None = None
    mac: bytes = b""
    router: bool | None = None
    question: arp.Arp | nd.Solicitation | None = None


class Neighbours:
    """The table of one bridge, per VLAN."""

    def __init__(
        self,
        where: Callable[[int, Buffer, float], int | None],
        tell: Callable[[Notice], None],
        suppression: Suppression = Suppression.OFF,
    ) -> None:
        """`where`: `Fdb.lookup`: only who is still behind the port is a neighbour there."""
        self._where, self._tell = where, tell
        self.suppression = suppression
        self._table: dict[tuple[int, bytes], Neighbour] = {}
        self._ports: dict[int, OrderedDict[tuple[int, bytes], Neighbour]] = {}
        """The same ones by port, the longest unheard first."""
        self._questions: dict[tuple[int, bytes, bytes], float] = {}
        """(VLAN, who asks, for what) -> when that was last settled here."""
        self._expire_at = 0.0

    def __len__(self) -> int:
        return len(self._table)

    # what passes

    def heard(self, number: int, vlan: int, frame: Buffer, reach: Reach, now: float) -> Known | None:
        """Learn from a frame of a port; returns where to send it if it asks for a known neighbour, else None.

        `reach`: to which ports who asks gets. `frame`: at least 14 bytes.
        """
        if frame[12] << 8 | frame[13] not in _TYPES:
            return None
        try:
            told = _read(frame, vlan)
        except Malformed:
            return None  # it goes on, as any frame: whoever takes it counts it
        if told is None:
            return None
        source = bytes(frame[6:12])
        # Who tells of another's MAC address (a proxy, a forger) is not where that host is.
        if told.address is not None and told.mac == source:
            self._learn(number, (vlan, told.address), told, now)
        question = told.question
        if question is None:
            return None
        if question.probe:
            self._doubt(vlan, question.target, source, now)
            return None
        if self.suppression is Suppression.OFF or not frame[0] & 1:
            return None
        return self._settle(number, (vlan, source, question.target), question, reach(number, vlan), now)

    def _settle(
        self,
        number: int,
        key: tuple[int, bytes, bytes],
        question: arp.Arp | nd.Solicitation,
        allowed: tuple[int, ...],
        now: float,
    ) -> Known | None:
        vlan, source, target = key
        found = self._table.get((vlan, target))
        if found is None or found.port == number or found.port not in allowed:
            return None
        if now < found.doubted_until or now - found.seen_at > AGEING:
            return None
        if self._where(vlan, found.mac, now) != found.port:
            return None
        if now - self._questions.get(key, -inf) < REPEAT_SECONDS:
            return None
        if len(self._questions) >= MAX_QUESTIONS:
            self._questions.clear()
        self._questions[key] = now
        answer = None
        if self.suppression is Suppression.ANSWER and now - found.seen_at < FRESH_SECONDS:
            if isinstance(question, arp.Arp):
                answer = arp.reply(question, found.mac)
            elif found.router is not None:
                answer = nd.answer(question, found.mac, found.router, source)
        return Known(found.port, answer)

    def _doubt(self, vlan: int, address: bytes, source: bytes, now: float) -> None:
        """Somebody probes for an address: he may have it soon."""
        found = self._table.get((vlan, address))
        if found is not None and found.mac != source:
            found.doubted_until = max(found.doubted_until, now + DOUBT_SECONDS)

    # learning

    def _learn(self, number: int, key: tuple[int, bytes], told: _Told, now: float) -> None:
        found = self._table.get(key)
        if found is None:
            found = self._add(number, key, told.mac, now)
            if found is None:
                return
        elif found.port != number:
            self._ports[found.port].pop(key)
            self._put(number, key, found)
            found.port = number
        if found.mac != told.mac:
            self._moved(key, found, told.mac, now)
        found.seen_at = now
        self._ports[number].move_to_end(key)
        if told.router is not None:
            found.router = told.router

    def _moved(self, key: tuple[int, bytes], found: Neighbour, mac: bytes, now: float) -> None:
        """Another host has the address. Once, that is a new one's turn; back again, it is two hosts' fight."""
        if found.before == mac and now - found.moved_at < FIGHT_SECONDS:
            found.doubted_until = now + FIGHT_SECONDS
            if now - found.told_at > TELL_SECONDS:
                found.told_at = now
                text = f"{ip_address(key[1])} is claimed by two hosts, {found.mac.hex(':')} and {mac.hex(':')}"
                self._tell(Notice("warning", "neighbours.conflict", text))
        found.before, found.moved_at, found.mac, found.router = found.mac, now, mac, None

    def _add(self, number: int, key: tuple[int, bytes], mac: bytes, now: float) -> Neighbour | None:
        if len(self._table) >= MAX_NEIGHBOURS and not self._ports.get(number):
            return None
        found = self._table[key] = Neighbour(number, mac, now)
        self._put(number, key, found)
        return found

    def _put(self, number: int, key: tuple[int, bytes], found: Neighbour) -> None:
        here = self._ports.setdefault(number, OrderedDict())
        if len(here) >= MAX_PER_PORT or (here and len(self._table) > MAX_NEIGHBOURS):
            oldest, _ = here.popitem(last=False)
            del self._table[oldest]
        here[key] = found

    # ports and time

    def forget_port(self, number: int) -> None:
        """The port is gone, and with it whoever was behind it."""
        for key in self._ports.pop(number, {}):
            del self._table[key]

    def hosts(self, number: int) -> Iterator[Host]:
        """Who is behind a port, the last heard of first."""
        for (vlan, address), found in reversed(self._ports.get(number, OrderedDict()).items()):
            yield Host(vlan, found.mac, address, found.router, found.seen_at)

    def elsewhere(self, number: int, host: Host) -> bool:
        """Whether an address has come up behind another port, or at another host, since `hosts` told of it."""
        found = self._table.get((host.vlan, host.address))
        return found is not None and (found.port != number or found.mac != host.mac)

    def rows(self, now: float) -> Iterator[Row]:
        """Every neighbour, by port, the longest unheard first."""
        for number, here in sorted(self._ports.items()):
            for (vlan, address), each in here.items():
                yield Row(vlan, address, each.mac, number, each.router, now - each.seen_at, now < each.doubted_until)

    def expire(self, now: float) -> None:
        """Forget who was not heard of for long. Looks seldom, and at the oldest only."""
        if now < self._expire_at:
            return
        self._expire_at = now + EXPIRE_SECONDS
        for here in self._ports.values():
            while here and now - next(iter(here.values())).seen_at > AGEING:
                key, _ = here.popitem(last=False)
                del self._table[key]
        self._questions = {key: at for key, at in self._questions.items() if now - at < REPEAT_SECONDS}


def _read(frame: Buffer, vlan: int) -> _Told | None:
    """What a frame tells of neighbours; None if nothing. Raises Malformed.

    Tags the bridge does not know are other people's networks: what is behind them is let be.
    """
    ethertype, at = network_header(frame)
    if at != HEADER_SIZE and (vlan == UNAWARE or at != HEADER_SIZE + TAG_SIZE):
        return None
    if ethertype == arp.TYPE_ARP:
        message = arp.decode(frame, at)
        if message is None:
            return None
        asks = message.operation is arp.Operation.REQUEST and not message.announcement
        return _Told(None if message.probe else message.sender, message.sender_mac, None, message if asks else None)
    if ethertype != TYPE_IPV6:
        return None
    packet = outline(frame, at)
    if nd.kind(frame, packet) not in (nd.SOLICITATION, nd.ADVERTISEMENT):
        return None
    match nd.decode(frame, at, packet):
        case nd.Advertisement() as told:
            return _Told(told.target, told.link_address or bytes(frame[6:12]), told.router)
        case nd.Solicitation() as asked:
            address = None if asked.link_address is None else asked.source
            return _Told(address, asked.link_address or b"", None, asked)
    return None
