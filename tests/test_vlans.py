"""VLANs as people describe them."""

from __future__ import annotations

import tomllib

import pytest

from caetun.vlans import VlanRef, parse_vlan, parse_vlan_table

LINK_LOCAL = bytes.fromhex("fe80" + "00" * 13 + "01")


@pytest.mark.parametrize(
    ("text", "table", "said"),
    [
        ("7", "id = 7", VlanRef(7)),
        ("7,snooping=off", "id = 7\nsnooping = false", VlanRef(7, snooping=False)),
        ("7,querier=off", "id = 7\nquerier = false", VlanRef(7, querier=False)),
        ("7,querier=on,snooping=on", "id = 7\nquerier = true\nsnooping = true", VlanRef(7, True, True)),
        (
            "7,querier=10.7.0.1+fe80::1",
            'id = 7\nquerier = ["fe80::1", "10.7.0.1"]',
            VlanRef(7, querier=True, addresses=(bytes((10, 7, 0, 1)), LINK_LOCAL)),
        ),
    ],
)
def test_words_and_tables(text: str, table: str, said: VlanRef) -> None:
    assert parse_vlan(text) == parse_vlan_table(tomllib.loads(table)) == said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "not a number from 1 to 4094"),
        ("4095", "not a number from 1 to 4094"),
        ("7,colour=red", "'colour' is not known: known are snooping="),
        ("7,snooping=off,snooping=on", "said twice"),
        ("7,snooping=maybe", "neither on nor off"),
        ("7,snooping=off,querier=on", "goes with snooping only"),
        ("7,querier=attic", "'attic' is not an IP address"),
        ("7,querier=10.0.0.1+10.0.0.2", "two addresses of one protocol"),
        ("7,querier=fd00::1", "is link-local"),
    ],
)
def test_what_people_get_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_vlan(text)


def test_a_table_names_its_vlan() -> None:
    with pytest.raises(ValueError, match="has no id"):
        parse_vlan_table({"snooping": False})
