"""The switch that the settings ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from caetun.board import LOCAL
from caetun.l2.bridge import Bridge
from caetun.l2.fdb import Fdb
from caetun.l2.loop import LoopProbes
from caetun.l2.snooping import SnoopingSettings, Unregistered
from caetun.l2.switchboard import Switchboard
from caetun.ports import LOCAL_NAME, PortWords

if TYPE_CHECKING:
    from caetun.settings import Settings
    from caetun.types import Drops


def make_switchboard(settings: Settings, drops: Drops, now: float) -> Switchboard:
    """A switch with the device's port up; peers' ports have the numbers 1, 2, ... in the order of the settings."""
    words = {LOCAL: settings.port, **{number: peer.port for number, peer in enumerate(settings.peer, 1)}}
    address = bytes((0x02,)) + os.urandom(5)  # locally administered: ours alone, and of no vendor
    snooping = SnoopingSettings(
        snooping=settings.snooping,
        querier=settings.querier,
        address6=link_local(address),
        unregistered=Unregistered(settings.unregistered),
        fast_leave=_with(words, "fast-leave"),
        router_ports=_with(words, "router"),
    )
    bridge = Bridge(drops, LoopProbes(os.urandom(32), address), snooping, Fdb(settings.ageing))
    bridge.add_port(LOCAL, settings.port.settings(LOCAL_NAME), now)
    return Switchboard(bridge, address)


def _with(words: dict[int, PortWords], wanted: str) -> frozenset[int]:
    """Numbers of the ports of which a word was said."""
    return frozenset(number for number, port in words.items() if any(word == wanted for word, _ in port.words))


def link_local(address: bytes) -> bytes:
    """The IPv6 address that an interface with this MAC gives itself (RFC 4291, appendix A): MLD asks from there."""
    return b"\xfe\x80" + bytes(6) + bytes((address[0] ^ 0x02,)) + address[1:3] + b"\xff\xfe" + address[3:]
