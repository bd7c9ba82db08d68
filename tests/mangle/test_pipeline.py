"""What was decided about a flow is what the rules would say of each of its packets."""

from __future__ import annotations

from typing import Final

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.devices import mangled
from caetun.mangle import pipeline
from caetun.mangle.frame import Frame
from caetun.mangle.pipeline import Decision, Flows
from caetun.types import Mode
from tests.mangle.packets import Host, echo, ethernet, packet, syn, tag, udp

_RULES: Final = (
    ("mss auto", "drop udp port 53", "accept to 10.2.0.0/16", "ttl -1 tcp", "drop"),
    ("dscp ef udp", "nat 10.1.0.0/24 to 10.9.0.0/24", "out dscp outer", "accept tcp", "drop from 10.1.0.6"),
    ("out dscp outer", "ecn clear not vlan 7", "ttl 64 vlan 7", "drop vlan 8", "accept from 02:00:00:00:00:0a", "drop"),
)
_ENDS: Final = (("10.1.0.5", "10.2.0.9"), ("10.1.0.6", "10.3.0.9"), ("fd00::5", "fd00::9"))


def asking_each_time(rules: tuple[str, ...], mode: Mode) -> Host:
    """A host for which no packet is of a flow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mangled, "key_maker", lambda mode: lambda buffer, at, stop: None)
        return Host(*rules, mode=mode)


@given(st.data())
def test_any_packets_in_any_order(data: st.DataObject) -> None:
    """Also those that are cut short, or have something behind them."""
    mode, rules = data.draw(st.sampled_from(list(Mode))), data.draw(st.sampled_from(_RULES))
    uppers = [udp(dport=53), udp(dport=54), syn(), dpkt.tcp.TCP(flags=dpkt.tcp.TH_ACK), echo()]
    host, other = Host(*rules, mode=mode), asking_each_time(rules, mode)
    for _ in range(data.draw(st.integers(1, 8))):
        upper, tos = data.draw(st.sampled_from(uppers)), data.draw(st.sampled_from([0, 1, 0xB8]))
        content = packet(upper, *data.draw(st.sampled_from(_ENDS)), tos=tos)
        if mode is Mode.TAP:
            content = ethernet(content, data.draw(st.sampled_from([b"", tag(7), tag(8), tag(7) + tag(8)])))
        content = (content + bytes(20))[: data.draw(st.integers(len(content) // 2, len(content) + 20))]
        if data.draw(st.booleans()):
            assert host.send(content) == other.send(content)
        else:
            cut = data.draw(st.sampled_from([0, 20, 60, 200]))
            assert host.receive(content, cut=cut) == other.receive(content)
    assert host.drops == other.drops
    assert [(rule.frames, rule.octets) for rule in host.rules] == [(rule.frames, rule.octets) for rule in other.rules]


def test_rules_are_asked_once_a_flow() -> None:
    host = Host("drop udp port 53", "accept udp port 54")
    shown: list[int] = []
    rule = host.rules[0]

    def noted(frame: Frame) -> bool:
        shown.append(1)
        return True

    rule.conditions = (noted, *rule.conditions)
    some = [packet(udp(dport=port)) for port in (54, 55)] * 5
    assert host.send(*some) == some
    assert host.receive(*some, cut=0) == some
    assert len(shown) == 4, "two flows, two directions"
    assert [rule.frames for rule in host.rules] == [0, 10]


def test_decisions_are_kept_for_so_many_flows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_FLOWS", 3)
    flows = Flows()
    for number in range(9):
        flows.keep((number,), Decision())
        assert (number,) in flows
        assert len(flows) <= 3
    flows.keep(None, Decision())
    flows.keep((10,), None)
    assert None not in flows
    assert (10,) not in flows
