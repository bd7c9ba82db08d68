"""Our bridge and a Linux bridge side by side, with the same settings and the same frames."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

from caetun.l2.bridge import BpduPolicy, Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.vlan import UNAWARE
from caetun.types import Drops
from caetun.wire.membership import Query
from conformance.bridge_oracle.differences import Case, Difference, explanation
from conformance.bridge_oracle.kernel import KernelBridge, Plan
from conformance.bridge_oracle.traces import NOBODY4, NOBODY6, PORTS, Step
from tests.l2.frames import ipv4, ipv6, query

# chosen by us
QUERIER_PORT: Final = 4
"""Where the real querier is, if there is one: host 9."""
GRACE: Final = 0.1
"""Seconds that its first questions leave for answers; both bridges flood until then."""
SETTLE: Final = 0.03
"""Seconds: some ticks of the kernel (250 a second here)."""
PROBES: Final = LoopProbes(bytes(32), bytes.fromhex("02ffffffff01"))
_HASTE: Final = {"mcast_query_response_interval": 10, "mcast_last_member_interval": 10_000}
"""In 1/100 s: what a Linux bridge waits for in real time."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """Settings that both bridges can have."""

    asked: bool = False
    """A real querier has spoken at `QUERIER_PORT`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of our `SnoopingSettings`; no querier of our own unless it says so."""
    options: dict[str, int] = field(default_factory=dict)
    """Of the Linux bridge, beyond `_HASTE`."""
    addresses: tuple[str, str] = ("", "")
    isolated: frozenset[int] = frozenset()
    ports: dict[str, Any] = field(default_factory=dict)
    """Of our `PortSettings`, for all ports."""

    slave: str = ""
    """Of the Linux bridge's ports, as ip-link(8) wants it."""
    static: tuple[tuple[bytes, int], ...] = ()
    """Addresses that are said to be at a port."""

    def plan(self) -> Plan:
        """The Linux bridge, without static addresses."""
        return Plan(PORTS, {**_HASTE, **self.options}, self.isolated, *self.addresses, self.slave)

    def bridge(self) -> Bridge:
        """Ours, without a limit on what it floods, at time 0."""
        made = Bridge(Drops(), PROBES, SnoopingSettings(**{"querier": False, **self.settings}))
        for port in range(PORTS):
            self.plug(made, port, 0.0)
        for address, port in self.static:
            made.fdb.set_static(UNAWARE, address, port, 0.0)
        made.tick(0.0)
        return made

    def plug(self, bridge: Bridge, port: int, now: float) -> None:
        """A port of ours comes up."""
        settings = {"storm": {}, "bpdu": BpduPolicy.FORWARD, "isolated": port in self.isolated, **self.ports}
        bridge.add_port(port, PortSettings(f"port {port}", **settings), now)


QUIET: Final = Flavour()
ASKED: Final = Flavour(asked=True)
OWN: Final = Flavour(
    settings={"querier": True, "address6": ipv6(100)}, options={"mcast_querier": 1}, addresses=("", "fe80::64")
)
ELECTED: Final = Flavour(
    settings={"querier": True, "address4": ipv4(100), "address6": ipv6(100)},
    options={"mcast_querier": 1, "mcast_query_use_ifaddr": 1},
    addresses=("10.0.0.100", "fe80::64"),
    asked=True,
)
"""Ours would ask, but the real querier has a lower address."""
OFF: Final = Flavour(settings={"snooping": False}, options={"mcast_snooping": 0})
ISOLATED: Final = Flavour(asked=True, isolated=frozenset({1, 2, 3}))
FLAVOURS: Final = {
    "nobody asks": QUIET,
    "somebody else asks": ASKED,
    "the bridge asks": OWN,
    "the bridge loses the election": ELECTED,
    "no snooping": OFF,
    "isolated ports": ISOLATED,
}


@dataclass(slots=True)
class Pair:
    """One bridge of each kind."""

    flavour: Flavour
    kernel: KernelBridge
    ours: Bridge

    def begin(self, now: float) -> None:
        """Let the real querier speak, if there is one."""
        if self.flavour.asked:
            for first in (Query(2, ipv4(9), NOBODY4, GRACE), Query(1, ipv6(9), NOBODY6, GRACE)):
                self.forward(QUERIER_PORT, query(9, first), now)
        else:
            self.kernel.waiting()

    def judge(self, step: Step, now: float, settle: float = SETTLE) -> tuple[Difference | None, str]:
        """Let both decide: (the difference that accounts for it, if they do not agree; what nothing accounts for).

        `settle`: seconds to wait before they are asked again about what nothing accounts for.
        """
        linux, ours = self.forward(step.port, step.frame, now)
        if linux == ours:
            return None, ""
        case = self._case(step, linux, ours, now)
        if found := explanation(case):
            return found, ""
        time.sleep(settle)  # a Linux bridge clears away what is over a little later
        linux, ours = self.forward(step.port, step.frame, now)
        case = self._case(step, linux, ours, now)
        if linux == ours or (found := explanation(case)):
            return found, ""
        return None, f"port {step.port}, {step.what}, {step.frame.hex()}: Linux {linux}, ours {ours}"

    def _case(self, step: Step, linux: set[int], ours: set[int], now: float) -> Case:
        isolated = self.flavour.isolated if step.port in self.flavour.isolated else frozenset()
        everybody = set(self.ours.ports.members(UNAWARE)) - {step.port} - isolated
        snooping = self.ours.snooping
        routers = {port for _, port, _ in snooping.routers(now)}
        return Case(step.frame, linux, ours, everybody, routers).seen_by(snooping.rows(now))

    def forward(self, port: int, frame: bytes, now: float) -> tuple[set[int], set[int]]:
        """Where a frame goes: (Linux, ours)."""
        out = self.kernel.forward(port, frame)
        assert all(some == [frame] for some in out.values()), f"Linux changed {frame.hex()}: {out}"
        return set(out), set(self.ours.forward(port, frame, now).ports)
