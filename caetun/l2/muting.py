"""Ports that forward nothing for a while: of a loop the younger one, and any where no bridge may be.

a probe of ours comes back (`loop.py`)        --mute-->  muted  --`MUTE_SECONDS` without one-->  forwards again
many addresses keep moving (`flapping.py`)    --mute-->
a spanning-tree frame, where that is blocked  --mute-->
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from caetun.l2.flapping import Flapping
from caetun.l2.loop import DESTINATION, PROBE_SECONDS, LoopProbes
from caetun.l2.outcome import Emission, Notice
from caetun.l2.port import Port, Ports
from caetun.l2.vlan import UNAWARE
from caetun.types import Buffer

# chosen by us
MUTE_SECONDS: Final = 30.0
"""A port of a loop forwards nothing for so long; then it has another chance."""
MAX_PROBED: Final = 32
"""VLANs of a port that a loop is looked for in at a time; with more in use, they take turns."""


class Muting:
    """Looks for loops at the ports of one bridge, and mutes one port of each."""

    def __init__(
        self, probes: LoopProbes, ports: Ports, tell: Callable[[Notice], None], rerouted: Callable[[float], None]
    ) -> None:
        """`rerouted`: called (with now) when a port was muted, or is open again: hosts may be elsewhere than before."""
        self._probes = probes
        self._ports = ports
        self._tell = tell
        self._rerouted = rerouted
        self._flapping = Flapping(tell)
        self._probe_at = 0.0

    def forget_port(self, number: int) -> None:
        """A port goes down."""
        self._flapping.forget_port(number)

    # what shows a loop

    def still_looped(self, port: Port, frame: Buffer, now: float) -> None:
        """A frame came by a port that is muted: if it is a probe, the loop is still there."""
        if frame[:6] == DESTINATION and self._probes.recognise(frame, now) is not None:
            port.muted_until = now + MUTE_SECONDS

    def returned(self, number: int, vlan: int, frame: Buffer, now: float) -> bool:
        """Whether a frame is a probe of ours that has come back: then, of a loop, the younger port is muted."""
        returned = self._probes.recognise(frame, now)
        if returned is None or returned.vlan != vlan:
            return returned is not None
        sent_by = returned.port
        table = self._ports.table
        names = [table[each].settings.name for each in (sent_by, number) if each in table]
        both = f"{' and '.join(names)} are also joined by another way"
        text = f"what leaves by {names[0]} comes back by it" if number == sent_by else both
        self.mute(max(number, sent_by), f"loop: {text}", now)
        return True

    def flaps(self, source: bytes, home: int, intruder: int, now: float) -> bool:
        """An address (6 bytes) that is at home at one port keeps coming by another; returns whether probes are due."""
        table = self._ports.table
        if intruder not in table or home not in table:
            return False
        names = table[home].settings.name, table[intruder].settings.name
        news = self._flapping.began(source, intruder, names, now)
        if news:
            self._probe_at = now  # if it is a loop, a probe says so at once
        return news

    # muted, and open again

    def mute(self, number: int, why: str, now: float) -> None:
        """A port, if it is up, forwards nothing for a while."""
        port = self._ports.table.get(number)
        if port is None:
            return
        if not port.muted:
            text = f"{why}: {port.settings.name} is muted for {MUTE_SECONDS:.0f} s"
            self._tell(Notice("error", "bridge.muted", text))
            port.muted, port.muted_why = True, why
            self._change(now)
        port.muted_until = now + MUTE_SECONDS

    def _unmute(self, now: float) -> None:
        over = [port for port in self._ports.table.values() if port.muted and now >= port.muted_until]
        for port in over:
            port.muted = False
            self._tell(Notice("info", "bridge.unmuted", f"{port.settings.name} forwards again"))
        if over:
            self._change(now)

    def _change(self, now: float) -> None:
        self._flapping.clear()
        self._rerouted(now)

    # time

    def tick(self, now: float) -> None:
        """Let timers run out."""
        self._unmute(now)
        for number, why in self._flapping.loops(now):
            self.mute(number, why, now)

    def probes(self, vlans: Sequence[int], now: float) -> list[Emission]:
        """The probes that are due; `vlans`: those where somebody has been seen."""
        if not self._probing or now < self._probe_at:
            return []
        self._probe_at = now + PROBE_SECONDS
        return [
            Emission(number, vlan, self._probes.make(number, vlan, now))
            for number, port in self._ports.table.items()
            if not port.muted
            for vlan in self._probed(number, vlans, now)
        ]

    def _probed(self, number: int, vlans: Sequence[int], now: float) -> list[int]:
        """The VLANs of a port to look for a loop in: the one without a tag, and those where somebody is."""
        if not self._ports.aware:
            return [UNAWARE]
        own = self._ports.vlans(number)
        tagged = [vlan for vlan in vlans if vlan != own.native and own.has(vlan)]
        if len(tagged) > MAX_PROBED:
            turn = int(now / PROBE_SECONDS) * MAX_PROBED % len(tagged)
            tagged = (tagged[turn:] + tagged)[:MAX_PROBED]
        return tagged if own.native is None else [own.native, *tagged]

    @property
    def _probing(self) -> bool:
        return self._probes.enabled and len(self._ports.table) >= 2

    def next_deadline(self) -> float | None:
        """When `tick` or `probes` next has something to do."""
        due = [self._flapping.next_deadline()]
        due += [port.muted_until for port in self._ports.table.values() if port.muted]
        if self._probing:
            due.append(self._probe_at)
        return min((at for at in due if at is not None), default=None)
