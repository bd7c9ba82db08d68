"""Whether there is a switch: with several peers, or as soon as something is said about a port."""

from __future__ import annotations

import pytest

from caetun.daemon.engine import make_core
from caetun.devices.memory import MemoryDevice
from caetun.keyfiles import Keys, Secret
from caetun.l2.switchboard import Switchboard
from caetun.sources import load
from caetun.types import Drops, Mode


def board(**flags: object) -> Switchboard | None:
    """The switch of a tunnel with a shared secret, in which the far end has come up."""
    settings = load({"mode": "tap", "listen": ":4500", "secret_file": "s.key", **flags})
    keys = Keys(Secret(bytes(range(32))), None, (), None, ())
    node = make_core(settings, keys, MemoryDevice(Mode.TAP), 1500, Drops(), None).node
    made = node.board
    assert made is None or isinstance(made, Switchboard)
    if made is not None:
        (peer,) = node.peers.values()
        made.add_port(1, node._ports[node._port_of[peer]][1], 0.0)
    return made


def test_between_two_ends_there_is_none() -> None:
    assert board() is None
    assert board(bridge="br0") is None, "a device in a bridge is no switch"


@pytest.mark.parametrize(
    "flags",
    [{"port": "isolated"}, {"port_defaults": "role=host"}, {"vlan": "7"}, {"suppression": "direct"}, {"ageing": "60"}],
)
def test_unless_something_is_said(flags: dict[str, object]) -> None:
    made = board(**flags)
    assert made is not None
    assert sorted(made.bridge.ports.table) == [0, 1]


def test_of_who_shares_the_secret_it_is_said_by_defaults() -> None:
    made = board(port_defaults="access=7")
    assert made is not None
    assert made.bridge.ports.aware
    assert made.bridge.ports.vlans(1).native == 7
