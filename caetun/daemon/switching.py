"""The switch that the settings ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from caetun.board import LOCAL
from caetun.l2.bridge import Bridge
from caetun.l2.fdb import Fdb
from caetun.l2.loop import LoopProbes
from caetun.l2.neighbours import Suppression
from caetun.l2.port import PortSettings
from caetun.l2.snooping import SnoopingSettings, Unregistered, VlanMulticast
from caetun.l2.switchboard import Switchboard
from caetun.ports import LOCAL_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from caetun.settings import Settings
    from caetun.types import Drops


def make_switchboard(settings: Settings, drops: Drops, now: float) -> Switchboard:
    """A switch with the device's port up; peers' ports have the numbers 1, 2, ... in the order of the settings.

    Of a member of a mesh, the first is the hub's.
    """
    ports = {LOCAL: settings.port.settings(LOCAL_NAME)}
    peers = [peer.port for peer in settings.peer] or [settings.port_defaults]  # who shares the secret has no words
    ports |= {number: words.settings(f"peer{number}") for number, words in enumerate(peers, 1)}
    address = bytes((0x02,)) + os.urandom(5)  # locally administered: ours alone, and of no vendor
    bridge = Bridge(
        drops,
        LoopProbes(os.urandom(32), address, settings.loop_probes),
        _multicast(settings, ports),
        Fdb(settings.ageing, flap_guard=settings.flap_guard),
        Suppression(settings.suppression),
        aware=bool(settings.vlan) or any(port.vlans is not None for port in ports.values()),
    )
    for number, port in ports.items():
        bridge.pin(number, port, now)
    bridge.add_port(LOCAL, ports[LOCAL], now)
    for vlan in settings.vlan:
        bridge.snooping.add_vlan(vlan.vlan, now)
    if settings.mesh and settings.connect:
        # Imported here: most switches are no member's.
        from caetun.l2.member import MemberSwitch

        return MemberSwitch(bridge, address, drops)
    return Switchboard(bridge, address)


def _multicast(settings: Settings, ports: dict[int, PortSettings]) -> SnoopingSettings:
    """What was said about multicast."""
    address4, address6 = _by_protocol(settings.querier_address, bytes(4), bytes(16))
    vlans = {}
    for said in settings.vlan:
        snooping = settings.snooping if said.snooping is None else said.snooping
        querier = settings.querier if said.querier is None else said.querier
        vlans[said.vlan] = VlanMulticast(snooping, querier, *_by_protocol(said.addresses, address4, address6))
    return SnoopingSettings(
        snooping=settings.snooping,
        querier=settings.querier,
        address4=address4,
        address6=address6,
        unregistered=Unregistered(settings.unregistered),
        fast_leave=frozenset(number for number, port in ports.items() if port.fast_leave),
        router_ports=frozenset(number for number, port in ports.items() if port.multicast_router),
        interval=settings.query_interval,
        vlans=vlans,
    )


def _by_protocol(given: Iterable[bytes], address4: bytes, address6: bytes) -> tuple[bytes, bytes]:
    """The IPv4 and the IPv6 address among those given, or else these."""
    found = {4: address4, 16: address6, **{len(each): each for each in given}}
    return found[4], found[16]
