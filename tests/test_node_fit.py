"""A hub whose peers' devices take less than its own: what is too large is answered in the name of whom it is for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from caetun.board import LOCAL
from caetun.l2.bridge import Bridge, PortSettings
from caetun.l2.loop import LoopProbes
from caetun.l2.switchboard import Switchboard
from caetun.l2.vlan import PortVlans, access, trunk
from caetun.node import Node
from caetun.peers import Output
from caetun.types import DropReason, Drops, Mode
from caetun.wire.container import Batch
from tests.l2.frames import mac
from tests.l3.packets import batch, frames, packet, told

ALICE, BOB = "10.0.0.1", "10.0.0.2"


class Far:
    """What a node needs of a `Peer`, and of its `Outbound`."""

    def __init__(self, name: str, mtu: int = 0) -> None:
        self.ident = self.name = name
        self.narrower = mtu
        self.sent: list[bytes] = []
        self.outbound = self

    def send_batch(self, batch: Batch, now: float, out: Output) -> None:
        self.sent += [bytes(frame) for frame, _ in batch.frames()]


def hub(*peers: Far, vlans: tuple[PortVlans | None, ...] = ()) -> Node:
    drops = Drops()
    handshakes = cast(Any, SimpleNamespace(hello=SimpleNamespace(mode=Mode.TAP)))
    board = None
    if vlans:
        bridge = Bridge(drops, LoopProbes(bytes(32), mac(99)))
        board = Switchboard(bridge, mac(99))
        for number, each in enumerate(vlans):
            bridge.add_port(number, PortSettings(f"port{number}", vlans=each), 0.0)
    node = Node(handshakes, cast(Any, None), drops, board)
    for peer in peers:
        node.add(cast(Any, peer))
    return node


def ethernet(source: int, destination: int, payload: bytes, tag: bytes = b"") -> bytes:
    return mac(destination) + mac(source) + tag + b"\x08\0" + payload


def received(node: Node, peer: Far, *raw: bytes) -> list[bytes]:
    """Frames that a peer sends; returns what the host gets."""
    assert node.board is not None
    out = Output()
    number = next(number for number, name in node.port_names().items() if name == peer.name)
    local, parcels = node.board.inbound(number, frames(*raw), 0.0)
    node._send(parcels, number, 0.0, out)
    return [bytes(each[1]) for each in [*local, *out.frames]]


def test_between_two_ends_the_host_is_told() -> None:
    far = Far("far", 1400)
    node, out = hub(far), Output()
    fits, large = (ethernet(1, 2, packet(ALICE, BOB, size)) for size in (1400, 1401))
    node.device_received(batch(fits, large), 0.0, out)
    assert far.sent == [fits]
    ((_, answer),) = out.frames
    assert bytes(answer[:12]) == mac(1) + mac(2)
    assert told(bytes(answer[14:]))[:5] == (BOB, ALICE, 3, 4, 1400)
    assert node.drops == {DropReason.PACKET_TOO_BIG: 1}


def test_a_far_end_that_takes_as_much_gets_the_devices_own_batch() -> None:
    far = Far("far")
    large = ethernet(1, 2, packet(ALICE, BOB, 9000))
    hub(far).device_received(batch(large), 0.0, Output())
    assert far.sent == [large]


TAG = bytes.fromhex("81000007")


@pytest.mark.parametrize(
    ("vlans", "tag"),
    [
        ((None, None, None), b""),
        ((None, access(7), trunk(frozenset({7}))), b""),
        ((None, trunk(frozenset({7})), access(7)), TAG),
    ],
    ids=["without VLANs", "from an access port", "from a trunk"],
)
def test_a_switch_brings_the_answer_to_the_sender_in_the_form_of_his_port(
    vlans: tuple[PortVlans | None, ...], tag: bytes
) -> None:
    alice, bob = Far("alice"), Far("bob", 1400)
    node = hub(alice, bob, vlans=vlans)
    back = TAG if tag == b"" and vlans[2] is not None else b""
    received(node, bob, ethernet(2, 1, packet(BOB, ALICE), back))
    received(node, alice, ethernet(1, 2, packet(ALICE, BOB), tag))
    alice.sent.clear()
    bob.sent.clear()
    assert received(node, alice, ethernet(1, 2, packet(ALICE, BOB, 1401), tag)) == []
    assert bob.sent == []
    (answer,) = alice.sent
    head = mac(1) + mac(2) + tag + b"\x08\0"
    assert answer.startswith(head)
    assert told(answer[len(head) :])[:5] == (BOB, ALICE, 3, 4, 1400)


def test_the_host_of_a_switch_is_told_too() -> None:
    bob = Far("bob", 1400)
    node, out = hub(bob, vlans=(None, None)), Output()
    received(node, bob, ethernet(2, 1, packet(BOB, ALICE)))
    large = ethernet(1, 2, packet(ALICE, BOB, 1401))
    node.device_received(batch(large), 0.0, out)
    assert large not in bob.sent, "only what the switch has to say by itself"
    (answer,) = [bytes(frame) for _, frame in out.frames if frame[:12] == mac(1) + mac(2)]
    assert told(answer[14:])[:5] == (BOB, ALICE, 3, 4, 1400)
    assert LOCAL not in node.port_names()
