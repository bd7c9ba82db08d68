"""The switch: one frame comes in by a port, and is decided upon. Pure and deterministic.

| step | where                        | what ends here                                                        |
|------|------------------------------|-----------------------------------------------------------------------|
| 1    | `forward`: muted ports       | everything, while a loop is being waited out                          |
| 2    | `vlan.py` ingress            | frames of VLANs the port does not have                                |
| 3    | reserved addresses           | 01-80-C2-00-00-0X stays on its link; PAUSE always, BPDUs by policy     |
| 4    | `guard.py`, if the port has one | senders, DHCP servers, IPv6 routers that must not be there          |
| 5    | `fdb.py` learn               | sources that are nobody, or flap                                      |
| 6    | `neighbours.py`              | questions the switch answers, if it is told to                        |
| 7    | `fdb.py` look-up, `snooping.py` | frames whose destination is where they came from                    |
| 8    | `storm.py`                   | what is more than a port may flood                                    |
| 9    | isolation, split horizon, VLAN of the egress port | ports that must not get it                       |

A superframe is one frame here: TCP is decided once for 64 KiB.
"""

from __future__ import annotations

from typing import Final

from caetun.l2.fdb import REFRESH, Fdb, Learned
from caetun.l2.guard import Guard
from caetun.l2.healing import Healing
from caetun.l2.loop import DESTINATION, LoopProbes
from caetun.l2.muting import Muting
from caetun.l2.neighbours import Neighbours, Suppression
from caetun.l2.outcome import NOWHERE, Egress, Emission, Notice
from caetun.l2.port import BpduPolicy, Port, Ports, PortSettings
from caetun.l2.snooping import Snooping, SnoopingSettings, To, Wanted
from caetun.l2.storm import classify
from caetun.l2.vlan import UNAWARE
from caetun.types import Buffer, DropReason, Drops

__all__ = ["NOWHERE", "BpduPolicy", "Bridge", "Egress", "Emission", "Notice", "PortSettings"]

# fixed by the specification
_RESERVED: Final = bytes.fromhex("0180c20000")
"""With a last byte below 0x10: not forwarded by a bridge (IEEE 802.1Q, table 8-1)."""
_PAUSE: Final = 0x01
_BPDU: Final = 0x00
_BROADCAST: Final = b"\xff" * 6

# whose frames go no further, and whose entry is another than it was
_REFUSED: Final = {
    Learned.NEVER: DropReason.BRIDGE_SOURCE,
    Learned.PINNED: DropReason.BRIDGE_PINNED,
    Learned.HELD: DropReason.BRIDGE_FLAPPING,
}
_NEWS: Final = (Learned.NEW, Learned.MOVED, Learned.FLAPPING)

# chosen by us
MAX_KNOWN: Final = 8192
"""Decisions kept: pairs of hosts that talk to each other within a second."""
MAX_NOTICES: Final = 256
"""Notices kept until somebody takes them: each of them can be had by who sends the right frames."""
FULL_FRAME: Final = 1600
"""Bytes: what is longer counts as several frames in storm control, as it is where it leaves a device in pieces."""
MAX_WAITING: Final = 1024
"""Frames of our own that wait for `tick`: answers and questions beyond are not sent."""


class Bridge:
    """A learning, snooping switch; ports are numbers, given by whoever adds them."""

    def __init__(
        self,
        drops: Drops,
        probes: LoopProbes,
        snooping: SnoopingSettings | None = None,
        fdb: Fdb | None = None,
        suppression: Suppression = Suppression.OFF,
        aware: bool = False,
    ) -> None:
        """`aware`: whether VLANs matter even while no port that has some is up."""
        self._drops = drops
        self.fdb = Fdb() if fdb is None else fdb
        self.guard = Guard(probes.address, drops, self.fdb.lookup, self._emit, self._tell)
        self.neighbours = Neighbours(self.fdb.lookup, self._tell, suppression)
        self._healing = Healing()
        self.snooping = Snooping(SnoopingSettings() if snooping is None else snooping, drops)
        self.ports = Ports(aware)
        self._ports = self.ports.table
        self._muting = Muting(probes, self.ports, self._tell, self._rerouted)
        self._aware = aware
        self._known: dict[tuple[int, int, bytes], tuple[float, Egress]] = {}
        """(ingress port, VLAN, destination and source) -> (until when, where): frames between known hosts."""
        self.notices: list[Notice] = []
        """What has happened since somebody last took these."""
        self._waiting: list[Emission] = []
        """Answers and questions that `tick` gives."""
        self._stirred = False
        """Whether a port has come up or moved since `tick`."""

    # ports

    def add_port(self, number: int, settings: PortSettings, now: float) -> None:
        """A port comes up (again)."""
        self._ports[number] = Port(settings)
        self.fdb.limit_port(number, settings.mac_limit)
        self.guard.add_port(number, settings.name, settings.guard)
        self._changed()
        self.pin(number, settings, now)
        self._healing.returned(number, settings.name, now)
        self._stirred = True
        for vlan in self._vlans_of(settings):
            self.snooping.add_vlan(vlan, now)
        self.snooping.topology_changed(number, now)

    def pin(self, number: int, settings: PortSettings, now: float) -> None:
        """Take in the hosts and groups that the user has bound to a port, which need not be up: what is for such a host
        goes nowhere else meanwhile, and nobody else may use its address."""
        home = self.ports.home(settings)
        for address, vlan in settings.macs:
            self.fdb.set_static(home if vlan is None else vlan, address, number, now)
        for group, vlan in settings.groups:
            self.snooping.set_static(home if vlan is None else vlan, group, number)

    def remove_port(self, number: int) -> None:
        """A port goes down: what was learned there is forgotten."""
        port = self._ports.pop(number, None)
        if port is not None:
            self._healing.left(number, port.settings.name, self.neighbours.hosts(number))
        self.neighbours.forget_port(number)
        self.guard.remove_port(number)
        self.fdb.flush(port=number)
        self.fdb.limit_port(number, None)
        self._muting.forget_port(number)
        self.snooping.port_down(number)
        self._changed()

    def port_moved(self, number: int, now: float) -> None:
        """A port is reached by another way than before: groups are asked for and its hosts announced, for switches
        that may have to learn it."""
        port = self._ports.get(number)
        if port is None:
            return
        self._stirred = True
        self.snooping.topology_changed(number, now)
        self._healing.moved(number, port.settings.name, self.neighbours.hosts(number), now)
        self._tell(Notice("debug", "bridge.moved", f"{port.settings.name} is reached by another way: announced"))

    def _changed(self) -> None:
        self.ports.changed()
        self._aware = self.ports.aware
        for number, port in self._ports.items():
            port.guarded = self.guard.concerns(number)
        self._known.clear()

    def _vlans_of(self, settings: PortSettings) -> set[int]:
        vlans = settings.vlans
        return {self.ports.home(settings), *((vlans.trunk or ()) if vlans is not None and self._aware else ())}

    # the decision

    def forward(self, number: int, frame: Buffer, now: float) -> Egress:
        """Decide on a frame that came by a port. Hot: once a frame. `frame`: at least 14 bytes."""
        port = self._ports.get(number)
        if port is None:
            return self._drop(DropReason.BRIDGE_PORT_DOWN)
        if port.muted:
            self._muting.still_looped(port, frame, now)
            return self._drop(DropReason.BRIDGE_MUTED)
        found = self.ports.vlans(number).ingress(frame) if self._aware else UNAWARE
        if found is None:
            return self._drop(DropReason.BRIDGE_VLAN)
        vlan: int = found
        addresses = bytes(frame[:12])
        known = self._known.get((number, vlan, addresses))
        if known is not None and now < known[0]:
            return known[1] if not port.guarded or self.guard.admits(number, vlan, frame, now) else NOWHERE
        return self._decide(number, port, vlan, addresses, frame, now)

    def _decide(self, number: int, port: Port, vlan: int, addresses: bytes, frame: Buffer, now: float) -> Egress:
        """Steps 3 to 9, for a frame whose like was not decided upon within the last second."""
        destination, source = addresses[:6], addresses[6:]
        group = destination[0] & 1
        if group and (destination[:5] == _RESERVED or destination == DESTINATION):
            special = self._special(number, port, vlan, frame, now)
            if special is not None:
                return special
        if port.guarded and not self.guard.admits(number, vlan, frame, now):
            return NOWHERE
        learned = self.fdb.learn(vlan, source, number, now)
        if learned is not Learned.KNOWN:
            if learned in _NEWS:
                self._known.clear()  # what moved, or came, may change what was decided
            if not self._acceptable(learned, number, source, now):
                return NOWHERE
        asked = self.neighbours.heard(number, vlan, frame, self.ports.reach, now)
        if asked is not None:
            answered = asked.answer is not None and self._emit(Emission(number, vlan, asked.answer))
            return NOWHERE if answered else self._to((asked.port,), number, vlan)
        if not group:
            target = self.fdb.lookup(vlan, destination, now)
            if target is None:
                return self._flood(number, port, vlan, frame, now)
            if target == number:  # who speaks to itself wants to be known here, no more (`member.py`)
                return NOWHERE if destination == source else self._drop(DropReason.BRIDGE_SAME_PORT)
            egress = self._to((target,), number, vlan)
            if egress.ports and learned is Learned.KNOWN:
                self._remember((number, vlan, addresses), egress, now)
            return egress
        if destination == _BROADCAST:
            return self._flood(number, port, vlan, frame, now)
        members = self.snooping.egress(vlan, number, frame, now)
        if members is To.ALL:
            return self._flood(number, port, vlan, frame, now)
        if members is To.NOBODY:
            return NOWHERE  # counted by the snooper
        return self._to(tuple(sorted(members - {number})), number, vlan)

    def _remember(self, key: tuple[int, int, bytes], egress: Egress, now: float) -> None:
        """The next frame between two known hosts is decided by one look-up, until the entries want refreshing."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = now + REFRESH, egress

    def _drop(self, reason: DropReason) -> Egress:
        self._drops.count(reason)
        return NOWHERE

    def _to(self, targets: tuple[int, ...], number: int, vlan: int) -> Egress:
        """Those of some ports that may get what came by another one."""
        allowed = self.ports.reach(number, vlan)
        some = tuple([target for target in targets if target in allowed])
        if some:
            return Egress(vlan, some)
        if not targets:
            return NOWHERE
        up = any(target in self._ports for target in targets)
        return self._drop(DropReason.BRIDGE_ISOLATED if up else DropReason.BRIDGE_PORT_DOWN)

    def _flood(self, number: int, port: Port, vlan: int, frame: Buffer, now: float) -> Egress:
        if not port.storm.passes(classify(frame), now, 1 + len(frame) // FULL_FRAME):
            return self._drop(DropReason.BRIDGE_STORM)
        return Egress(vlan, self.ports.reach(number, vlan))

    def _special(self, number: int, port: Port, vlan: int, frame: Buffer, now: float) -> Egress | None:
        """Reserved addresses and loop probes; None if the frame is an ordinary one after all."""
        if frame[:5] != _RESERVED:
            return NOWHERE if self._muting.returned(number, vlan, frame, now) else None
        last = frame[5]
        if last >= 0x10:
            return None
        if last == _BPDU and port.settings.bpdu is BpduPolicy.FORWARD:
            return None
        if last == _BPDU and port.settings.bpdu is BpduPolicy.BLOCK:
            self._muting.mute(number, f"{port.settings.name} sends spanning-tree frames, so a bridge is there", now)
        return self._drop(DropReason.BRIDGE_PAUSE if last == _PAUSE else DropReason.BRIDGE_RESERVED)

    def _acceptable(self, learned: Learned, number: int, source: bytes, now: float) -> bool:
        """Whether a frame is forwarded although its source is not simply known."""
        reason = _REFUSED.get(learned)
        if learned is Learned.FLAPPING:
            home, intruder = self.fdb.flapped
            reason = DropReason.BRIDGE_FLAPPING if number == intruder else None
            if self._muting.flaps(source, home, intruder, now):
                self._stirred = True
        elif learned is Learned.FULL:
            self._drops.count(DropReason.BRIDGE_FDB_FULL)  # only its source is not remembered
        if reason is not None:
            self._drops.count(reason)
        return reason is None

    def _rerouted(self, now: float) -> None:
        """Hosts may be behind other ports than they were: by a loop they were seen, and maybe held, where they are not,
        and by what is joined outside they are reached by one port while the other one is muted."""
        self.fdb.flush()
        for number, port in self._ports.items():
            if not port.muted:
                self.snooping.topology_changed(number, now)
        self._stirred = True
        self._changed()

    @property
    def muted(self) -> list[int]:
        """Ports that forward nothing at the moment."""
        return self.ports.muted

    # what is our own

    def _emit(self, emission: Emission) -> bool:
        """Have a frame sent by the next `tick`; returns whether there is room."""
        room = len(self._waiting) < MAX_WAITING
        if room:
            self._waiting.append(emission)
        return room

    def _tell(self, notice: Notice) -> None:
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(notice)

    @property
    def waiting(self) -> bool:
        """Whether `tick` has frames that should go at once: worth asking after each batch of frames."""
        return self._stirred or bool(self._waiting)

    def _announced(self, now: float) -> list[Emission]:
        """What heals the ways to hosts whose port has moved or come back, if they are still behind it."""
        return [
            Emission(other, host.vlan, frame)
            for number, host, frame in self._healing.tick(now)
            if number in self._ports and self.fdb.lookup(host.vlan, host.mac, now) in (None, number)
            if not self.neighbours.elsewhere(number, host)
            for other in self.ports.reach(number, host.vlan)
        ]

    # time

    def tick(self, now: float) -> tuple[list[Emission], list[Wanted]]:
        """Let timers run out: frames of the bridge's own, and queries to be sent to all ports of their VLAN."""
        self._muting.tick(now)
        self._stirred = False
        emissions, self._waiting = self._waiting + self._announced(now), []
        self.neighbours.expire(now)
        if self.fdb.expire(now):
            self._known.clear()
        return emissions + self._muting.probes(self.fdb.vlans(), now), self.snooping.tick(now)

    def next_deadline(self) -> float | None:
        """When `tick` next has something to do."""
        if self.waiting:
            return 0.0
        due = [each.next_deadline() for each in (self.fdb, self.snooping, self._healing, self._muting)]
        return min((at for at in due if at is not None), default=None)
