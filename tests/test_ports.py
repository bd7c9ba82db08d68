"""Ports of the switch as people describe them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.bridge import BpduPolicy
from caetun.l2.storm import DEFAULTS, Rate, Storm
from caetun.l2.vlan import PortVlans
from caetun.ports import PortWords, parse_words


def words(text: str) -> PortWords:
    return parse_words(text.split(","))


def test_every_word() -> None:
    said = words(
        "name=attic,trunk=7+8+100-102,native=3,mac-limit=100,bpdu=forward,isolated,mesh,fast-leave,router,"
        "storm.broadcast=100,storm.dhcp=10/50,storm.unknown=off"
    )
    port = said.settings("peer1")
    assert (port.name, port.mac_limit, port.isolated, port.mesh) == ("attic", 100, True, True)
    assert port.vlans == PortVlans(native=3, trunk=frozenset({7, 8, 100, 101, 102}))
    assert port.bpdu is BpduPolicy.FORWARD
    assert port.storm[Storm.BROADCAST] == Rate(100, 200)
    assert port.storm[Storm.DHCP] == Rate(10, 50)
    assert Storm.UNKNOWN not in port.storm
    assert port.storm[Storm.NEIGHBOURS] == DEFAULTS[Storm.NEIGHBOURS]


def test_nothing_said_is_an_ordinary_port() -> None:
    port = parse_words([]).settings("peer1")
    assert (port.name, port.vlans, port.isolated, port.storm) == ("peer1", None, False, DEFAULTS)


@pytest.mark.parametrize(
    ("text", "vlans"),
    [
        ("access=7", PortVlans(native=7)),
        ("trunk=all", PortVlans(native=None, trunk=None)),
        ("trunk=7,native=1", PortVlans(native=1, trunk=frozenset({7}))),
    ],
)
def test_vlans(text: str, vlans: PortVlans) -> None:
    assert words(text).settings("port").vlans == vlans


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nane=x", "'nane' is not known: known are name="),
        ("name=two words", "not a name"),
        ("name=a,name=b", "said twice"),
        ("isolated,isolated", "said twice"),
        ("isolated=yes", "takes no value"),
        ("access", "wants a value"),
        ("access=0", "not a number from 1 to 4094"),
        ("access=4095", "not a number from 1 to 4094"),
        ("trunk=9-7", "ends before it begins"),
        ("access=1,trunk=2", "goes with neither"),
        ("bpdu=maybe", "no policy for BPDUs"),
        ("storm.all=1", "no class of storms"),
        ("storm.dhcp=fast", "is not a rate"),
        ("mac-limit=0", "not a number"),
        ("", "is not known"),
    ],
)
def test_what_people_get_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        words(text)


@given(st.text(max_size=40) | st.from_regex(r"[a-z.-]{1,9}(=[a-z0-9+/-]{0,9})?(,[a-z.-]{1,9}(=[a-z0-9+/-]{0,9})?)*"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        said = words(text)
    except ValueError:
        return
    assert words(str(said)) == said or not str(said)
