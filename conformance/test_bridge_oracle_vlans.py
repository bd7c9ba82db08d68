"""The same comparison with VLANs: one Linux bridge for each, and the tags put on and taken off by this test.

| port | is                            |
|------|-------------------------------|
| 0, 1 | access to VLAN 7              |
| 2    | access to VLAN 8              |
| 3    | trunk of 7 and 8              |
| 4    | trunk of 8, native 7          |
"""

from __future__ import annotations

import random
import time
from typing import Final

import pytest

from caetun.l2.bridge import BpduPolicy, Bridge, PortSettings
from caetun.l2.snooping import SnoopingSettings
from caetun.l2.vlan import PortVlans, access, trunk
from caetun.types import Drops
from caetun.wire.membership import Query
from caetun.wire.virtio_net import NO_OFFLOAD
from conformance.bridge_oracle.differences import Case, explanation
from conformance.bridge_oracle.kernel import KernelBridge, Plan, Workshop
from conformance.bridge_oracle.rigs import GRACE, PROBES, SETTLE
from conformance.bridge_oracle.traces import NOBODY4, NOBODY6, World
from tests.l2.frames import ipv4, ipv6, query

pytestmark = pytest.mark.needs("namespaces", "tun", "ip", "tc")

# fixed by the specification
_TPID: Final = b"\x81\x00"

# chosen by us
_NATIVE, _TAGGED = 0, 1
_MEMBERS: Final = {7: {0: _NATIVE, 1: _NATIVE, 3: _TAGGED, 4: _NATIVE}, 8: {2: _NATIVE, 3: _TAGGED, 4: _TAGGED}}
"""VLAN -> port -> how its frames leave there."""
_PORTS: Final[list[PortVlans]] = [access(7), access(7), access(8), trunk(frozenset({7, 8})), trunk(frozenset({8}), 7)]
_QUERIER_PORT: Final = 3
_TRACES: Final = 60
_FRAMES: Final = 120
"""Of each trace."""
_TURN: Final = 0.009
_NOW: Final = 1000.0


class _Office:
    """Our bridge with two VLANs, and a Linux bridge for each of them, whose ports are those of the VLAN in order."""

    def __init__(self, kernels: dict[int, KernelBridge], seed: int) -> None:
        self._kernels = kernels
        self._chance = random.Random(seed)
        self.ours = Bridge(Drops(), PROBES, SnoopingSettings(querier=False))
        for number, vlans in enumerate(_PORTS):
            settings = PortSettings(f"port {number}", vlans=vlans, storm={}, bpdu=BpduPolicy.FORWARD)
            self.ours.add_port(number, settings, 0.0)
        # The same hosts and groups in both VLANs, which must not know of each other.
        self.worlds = {vlan: World(seed, _QUERIER_PORT, sorted(ports)) for vlan, ports in _MEMBERS.items()}

    def begin(self) -> None:
        """A real querier in each VLAN."""
        for vlan in _MEMBERS:
            for first in (Query(2, ipv4(9), NOBODY4, GRACE), Query(1, ipv6(9), NOBODY6, GRACE)):
                self.forward(vlan, _QUERIER_PORT, query(9, first), _NOW - 2 * GRACE)

    def forward(self, vlan: int, port: int, frame: bytes, now: float) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """What comes out of each port, with tags: (Linux, ours). `frame`: without the tag."""
        ports = sorted(_MEMBERS[vlan])
        out = self._kernels[vlan].forward(ports.index(port), frame)
        priority = self._chance.randrange(8) << 13
        if _MEMBERS[vlan][port] == _TAGGED:
            incoming = _tagged(frame, priority | vlan)
        elif self._chance.random() < 0.2:
            incoming = _tagged(frame, priority)  # a priority tag
        else:
            priority, incoming = 0, frame
        linux = {
            ports[number]: some[0] if _MEMBERS[vlan][ports[number]] == _NATIVE else _tagged(some[0], priority | vlan)
            for number, some in out.items()
        }
        egress = self.ours.forward(port, incoming, now)
        assert not egress.ports or egress.vlan == vlan
        ours = {
            each: b"".join(self.ours.ports.vlans(each).egress(NO_OFFLOAD, memoryview(incoming), vlan)[1:])
            for each in egress.ports
        }
        return linux, ours

    def turn(self) -> str:
        """The next frame in one of the VLANs; returns what is wrong."""
        vlan = self._chance.choice(list(_MEMBERS))
        (step,) = self.worlds[vlan].steps(1, tagged=False)
        for settle in (SETTLE, 0.0):
            linux, ours = self.forward(vlan, step.port, step.frame, _NOW)
            if linux.keys() == ours.keys():
                return "" if linux == ours else f"other bytes: {linux}, {ours}"
            if explanation(self._case(vlan, step.port, step.frame, set(linux), set(ours))):
                return ""
            time.sleep(settle)
        return f"VLAN {vlan}, port {step.port}, {step.what}, {step.frame.hex()}: Linux {set(linux)}, ours {set(ours)}"

    def _case(self, vlan: int, port: int, frame: bytes, linux: set[int], ours: set[int]) -> Case:
        snooping = self.ours.snooping
        routers = {number for each, number, _ in snooping.routers(_NOW) if each == vlan}
        case = Case(frame, linux, ours, set(_MEMBERS[vlan]) - {port}, routers)
        return case.seen_by(row for row in snooping.rows(_NOW) if row.vlan == vlan)


def _tagged(frame: bytes, control: int) -> bytes:
    return frame[:12] + _TPID + control.to_bytes(2, "big") + frame[12:]


def test_each_vlan_is_a_bridge_of_its_own() -> None:
    options = {"mcast_query_response_interval": 10, "mcast_last_member_interval": 10_000}
    plans = [Plan(len(_MEMBERS[vlan]), options) for _ in range(_TRACES) for vlan in _MEMBERS]
    failures: dict[int, str] = {}
    with Workshop(plans) as workshop:
        made = iter(workshop.bridges)
        offices = [_Office({vlan: next(made) for vlan in _MEMBERS}, number) for number in range(_TRACES)]
        for office in offices:
            office.begin()
        time.sleep(2 * GRACE)
        for _ in range(_FRAMES):
            until = time.monotonic() + _TURN
            for number, office in enumerate(offices):
                if number not in failures and (failure := office.turn()):
                    failures[number] = f"trace {number}: {failure}"
            time.sleep(max(0.0, until - time.monotonic()))
    assert not failures, "\n".join(failures.values())
