"""What people say in flags or the file reaches the switch that is made of it."""

from __future__ import annotations

from pathlib import Path

from caetun.board import LOCAL
from caetun.daemon.switching import make_switchboard
from caetun.l2.bridge import Bridge
from caetun.l2.neighbours import Suppression
from caetun.l2.policy import Source
from caetun.l2.querier import State
from caetun.session.identity import encode_key
from caetun.sources import load
from caetun.types import DropReason, Drops
from caetun.wire.membership import GroupRecord, Kind
from tests.l2.frames import data, mac, report
from tests.l2.hosts import router_advertises, sends

HUB = Path(__file__).parents[2] / "docs" / "examples" / "hub.toml"
ATTIC, GUESTS, OFFICE, STUDIO = 1, 2, 3, 4
GROUP = bytes((239, 1, 2, 3))


def bridge(*peers: str, drops: Drops | None = None, **flags: object) -> Bridge:
    """The switch of a hub whose peers are described so, all of them up."""
    keys = [encode_key(bytes([number]) * 32) for number in range(1, len(peers) + 1)]
    given = {"mode": "tap", "listen": ":4500", "key": "hub.key", **flags}
    settings = load({**given, "peer": [f"{key},{words}" for key, words in zip(keys, peers, strict=True)]})
    made = make_switchboard(settings, Drops() if drops is None else drops, 0.0).bridge
    for number, peer in enumerate(settings.peer, 1):
        made.add_port(number, peer.port.settings(f"peer{number}"), 0.0)
    made.tick(0.0)
    return made


def goes(switch: Bridge, port: int, frame: bytes, now: float = 1.0) -> set[int]:
    return set(switch.forward(port, memoryview(frame), now).ports)


def test_the_example_of_a_hub() -> None:
    settings = load({"config": str(HUB)})
    switch = make_switchboard(settings, Drops(), 0.0).bridge
    for number, peer in enumerate(settings.peer, 1):
        switch.add_port(number, peer.port.settings(peer.port.name), 0.0)
    assert switch.neighbours.suppression is Suppression.DIRECT
    assert switch.snooping.settings.router_ports == {LOCAL}
    assert switch.snooping.settings.fast_leave == {GUESTS}
    assert (switch.fdb.lookup(7, mac(1), 1e6), switch.fdb.lookup(8, mac(1), 1.0)) == (LOCAL, None)
    studio = {row.vlan for row in switch.snooping.rows(1.0) if row.port == STUDIO}
    assert studio == {7}, "groups without a VLAN are in that of the port"
    queriers = {(row.vlan, row.ipv4): row for row in switch.snooping.queriers(1.0)}
    assert queriers[7, True].address == bytes((10, 7, 0, 1))
    assert queriers[8, True].address == bytes((10, 8, 0, 1))
    assert (100, True) not in queriers, "nobody is kept in mind where nothing is snooped"
    guards = switch.guard._ports
    assert guards[ATTIC].settings.source is Source.DHCP
    assert guards[OFFICE].settings.source is Source.ANY


def test_roles_are_guards() -> None:
    drops = Drops()
    switch = bridge("role=host", "role=server", "role=router", "name=lan", drops=drops)
    passed = [bool(goes(switch, port, router_advertises(10 + port))) for port in (1, 2, 3, 4)]
    assert passed == [False, False, True, True]
    assert drops == {DropReason.GUARD_ROUTER: 2}


def test_a_static_host_is_nowhere_else_even_while_its_port_is_down() -> None:
    drops = Drops()
    switch = bridge(f"static-mac={mac(5).hex(':')}", "name=b", "name=c", drops=drops)
    assert goes(switch, 2, sends(6, 5)) == {1}
    switch.remove_port(1)
    assert goes(switch, 2, sends(6, 5)) == set()
    assert goes(switch, 3, sends(5, 6)) == set(), "nor may anybody else use its address"
    assert drops == {DropReason.BRIDGE_PORT_DOWN: 1, DropReason.BRIDGE_PINNED: 1}


def test_a_static_group() -> None:
    switch = bridge("static-group=239.1.2.3", "name=b", "name=c")
    assert goes(switch, 2, data(6, GROUP)) == {1}
    goes(switch, 3, report(7, 3, GroupRecord(Kind.TO_EXCLUDE, GROUP)))
    assert goes(switch, 2, data(6, GROUP)) == {1, 3}
    switch.remove_port(1)
    assert goes(switch, 2, data(6, GROUP)) == {3}


def test_snooping_of_one_vlan() -> None:
    switch = bridge("access=7", "access=7", "access=8", "access=8", vlan=["7,snooping=off", "8"])
    assert goes(switch, 1, data(6, GROUP)) == {2}
    assert goes(switch, 3, data(6, GROUP)) == set(), "nobody has asked for it"


def test_a_querier_of_one_vlan() -> None:
    switch = bridge("access=7", "access=8", vlan=["7,querier=off", "8,querier=10.8.0.1"], querier=True)
    states = {(row.vlan, row.state) for row in switch.snooping.queriers(1.0) if row.ipv4}
    assert {(7, State.OFF), (8, State.ASKING)} <= states


def test_vlans_matter_whatever_ports_are_up() -> None:
    """Else frames with a tag would pass between plain ports while the one with VLANs is down."""
    switch = bridge("access=7", "name=b", "name=c")
    tagged = sends(6, 9)[:12] + b"\x81\0\0\x09" + sends(6, 9)[12:]
    assert goes(switch, 2, tagged) == set()
    switch.remove_port(1)
    assert goes(switch, 2, tagged) == set()
    assert switch.ports.aware


def test_probes_and_the_flap_guard_can_be_switched_off() -> None:
    assert bridge("name=a").next_deadline() is not None
    loud, silent = bridge("name=a", "name=b"), bridge("name=a", "name=b", loop_probes=False, flap_guard=False)
    assert any(each.frame[12:14] == b"\x88\xb5" for each in loud.tick(10.0)[0])
    assert not any(each.frame[12:14] == b"\x88\xb5" for each in silent.tick(10.0)[0])
    for turn in range(20):
        loud.forward(1 + turn % 2, memoryview(sends(6, 9)), 11.0)
        silent.forward(1 + turn % 2, memoryview(sends(6, 9)), 11.0)
    assert silent.fdb.lookup(0, mac(6), 11.0) == 2
    assert [notice.event for notice in loud.notices] == ["bridge.flapping"]
    assert silent.notices == []
