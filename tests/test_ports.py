"""Ports of the switch as people describe them."""

from __future__ import annotations

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l2.bridge import BpduPolicy
from caetun.l2.policy import Allowed, GuardSettings, Source
from caetun.l2.storm import DEFAULTS, Rate, Storm
from caetun.l2.vlan import PortVlans
from caetun.ports import PortWords, nameless, parse_table, parse_words

MAC5 = bytes.fromhex("020000000005")


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


def test_who_may_be_there_and_what_may_be_said() -> None:
    port = words(
        "role=server,source=learn,bind=02:00:00:00:00:05@10.0.0.5+10.1.0.0/16+02-00-00-00-00-06,address-limit=8"
    )
    assert port.settings("port").guard == GuardSettings(
        Source.LEARN,
        (Allowed(MAC5, bytes((10, 0, 0, 5))), Allowed(None, bytes((10, 1, 0, 0)), 16), Allowed(MAC5[:5] + b"\6")),
        8,
        dhcp_server=True,
        router=False,
    )
    assert words("bind=fd00::5").settings("port").guard.source is Source.STATIC
    assert not words("role=host").settings("port").guard.dhcp_server
    for anybody in ("role=bridge", "role=router"):
        assert not words(anybody).settings("port").guard.active


def test_what_is_there_without_being_heard() -> None:
    port = words("static-mac=02:00:00:00:00:05+02:00:00:00:00:06@7,static-group=239.1.2.3@7+ff0e::5,fast-leave,router")
    found = port.settings("port")
    assert found.macs == ((MAC5, None), (MAC5[:5] + b"\6", 7))
    assert found.groups == ((bytes((239, 1, 2, 3)), 7), (bytes.fromhex("ff0e" + "00" * 13 + "05"), None))
    assert (found.fast_leave, found.multicast_router) == (True, True)


def test_what_is_said_of_all_ports_holds_unless_a_port_says_otherwise() -> None:
    defaults = words("isolated,access=7,role=host,storm.dhcp=10")
    over = words("name=a,trunk=8,native=1").over(defaults)
    assert str(over) == "name=a,isolated,role=host,storm.dhcp=10,trunk=8,native=1"
    assert not words("isolated=off").over(defaults).settings("port").isolated
    with pytest.raises(ValueError, match="'name' is said of all ports"):
        nameless(words("name=a"))


TABLE = """
name = "attic"
vlan.trunk = [7, 8, "100-102"]
native = 3
mac-limit = 100
isolated = true
mesh = false
role = "host"
bind = ["02:00:00:00:00:05@10.0.0.5", "fd00::/64"]
static-mac = "02:00:00:00:00:05"
storm.broadcast = 100
storm.dhcp = "10/50"
storm.unknown = false
"""


def test_a_table_says_the_same_as_words() -> None:
    said = parse_table(tomllib.loads(TABLE))
    assert said == words(
        "name=attic,vlan.trunk=7+8+100-102,native=3,mac-limit=100,isolated,mesh=off,role=host,"
        "bind=02:00:00:00:00:05@10.0.0.5+fd00::/64,static-mac=02:00:00:00:00:05,"
        "storm.broadcast=100,storm.dhcp=10/50,storm.unknown=off"
    )
    assert words(str(said)) == said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('nane = "x"', r"'nane' is not known: did you mean name\? known are name="),
        ("access = 0", "not a number from 1 to 4094"),
        ("access = 7\nvlan.access = 8", "said twice"),
        ("access = true", "'access' wants a value"),
        ("access = 7.5", "'access' is not understood"),
        ('isolated = "yes"', "takes no value"),
        ('name = ""', "'name' is not understood"),
        ('name = "a,isolated"', "without commas"),
        ("vlan.access.x = 1", "a table in a table"),
        (".".join(["a"] * 20_000) + " = 1", "a table in a table"),
        ("trunk = [[7]]", "'trunk' is not understood"),
        ("trunk = []", "wants a value"),
        ("storm.all = 1", "no class of storms"),
    ],
)
def test_what_people_get_wrong_in_tables(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why) if why[0] != "'" else why):
        parse_table(tomllib.loads(text))


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
        ("nane=x", r"'nane' is not known: did you mean name\? known are name="),
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
        ("role=boss", "'boss' is no role: give one of bridge, host, server, router"),
        ("source=maybe", "no source guard: give one of any, static, dhcp, learn"),
        ("source=static", "lets nobody send: name who may with bind="),
        ("source=any,bind=10.0.0.5", "'bind' does nothing with source=any"),
        ("bind=10.0.0.5/33", "'33' is not a number from 0 to 32"),
        ("bind=02:00:00:00:00:01@attic", "'attic' is not an IP address"),
        ("bind=02:00:00:00:00:01@239.1.1.1", "cannot be a host's address"),
        ("bind=01:00:5e:00:00:01", "is a group's, or nobody's"),
        ("address-limit=0", "not a number from 1 to 4096"),
        ("static-mac=02:00:00:00:00", "is not a MAC address"),
        ("static-mac=02:00:00:00:00:01@0", "not a number from 1 to 4094"),
        ("static-group=10.0.0.1", "is no group"),
        ("static-group=224.0.0.251", "is no group that is kept back"),
        ("static-group=" + "+".join(["239.1.1.1"] * 1025), "1025 values are too many"),
        ("mac-limit=", "wants a value behind '='"),
        ("access=7,vlan.access=8", "'access' is said twice"),
        ("storm.dhcp", "wants a value"),
        ("", "is not known"),
    ],
)
def test_what_people_get_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        words(text)


@given(
    st.dictionaries(
        st.sampled_from(["name", "access", "trunk", "bind", "isolated", "storm", "vlan", "role"]) | st.text(max_size=9),
        st.recursive(
            st.integers() | st.booleans() | st.text(max_size=9) | st.floats() | st.dates(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
        ),
        max_size=4,
    )
)
def test_any_table_is_read_or_refused(table: dict[str, object]) -> None:
    try:
        said = parse_table(table)
    except ValueError:
        return
    assert not str(said) or words(str(said)) == said


@given(st.text(max_size=40) | st.from_regex(r"[a-z.-]{1,9}(=[a-z0-9+/-]{0,9})?(,[a-z.-]{1,9}(=[a-z0-9+/-]{0,9})?)*"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        said = words(text)
    except ValueError:
        return
    assert words(str(said)) == said or not str(said)
