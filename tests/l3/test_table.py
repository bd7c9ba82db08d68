"""Longest prefix first, held against a naive oracle."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.l3 import table
from caetun.l3.table import UNKNOWN, Network, Table


def where(made: Table, address: str) -> int:
    return made.find(ip_address(address).packed).port


def test_the_longest_prefix_wins() -> None:
    made = Table()
    for port, text in enumerate(("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd00::/8", "fd01::/64"), 1):
        made.add(ip_network(text), port)
    assert [where(made, text) for text in ("1.1.1.1", "10.9.9.9", "10.1.9.9", "10.1.2.3")] == [1, 2, 3, 4]
    assert [where(made, text) for text in ("fd99::1", "fd01::1", "2001:db8::1")] == [5, 6, UNKNOWN]
    assert len(made) == 6


def test_a_prefix_leads_to_one_port_only() -> None:
    made = Table()
    made.add(ip_network("10.1.0.0/16"), 1)
    with pytest.raises(ValueError, match=r"10\.1\.0\.0/16 leads somewhere already"):
        made.add(ip_network("10.1.0.0/16"), 2)


def test_a_prefix_that_is_taken_out_is_gone() -> None:
    made = Table()
    for port, text in enumerate(("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"), 1):
        made.add(ip_network(text), port)
    made.remove([ip_network("10.1.0.0/16")])
    assert (where(made, "10.1.0.1"), where(made, "10.2.0.1"), len(made)) == (1, 3, 2)
    made.remove([ip_network("10.2.0.0/16"), ip_network("10.0.0.0/8")])
    assert (where(made, "10.2.0.1"), len(made), list(made)) == (UNKNOWN, 0, [])


def test_the_table_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_ROUTES", 2)
    made = Table()
    made.add(ip_network("10.0.0.1"), 1)
    made.add(ip_network("10.0.0.2"), 1)
    with pytest.raises(ValueError, match="more than 2 prefixes"):
        made.add(ip_network("10.0.0.3"), 1)


# Addresses with few different bits, so that prefixes cover each other and addresses are covered.
four = st.integers(0, 0xFF).map(lambda bits: IPv4Address(0x0A000000 | (bits >> 4) << 20 | bits & 0xF))
six = st.integers(0, 0xFF).map(lambda bits: IPv6Address(0xFD << 120 | (bits >> 4) << 60 | bits & 0xF))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    address = draw(st.one_of(four, six))
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


@given(st.lists(networks(), max_size=30, unique=True), st.lists(st.one_of(four, six), max_size=20), st.integers(0, 30))
def test_as_a_search_through_all_prefixes_finds_it(
    chosen: list[Network], addresses: list[IPv4Address | IPv6Address], gone: int
) -> None:
    made = Table()
    for port, network in enumerate(chosen):
        made.add(network, port)
    made.remove(chosen[:gone])
    left = {network: port for port, network in enumerate(chosen) if port >= gone}
    for address in addresses:
        covering = [network for network in left if network.version == address.version and address in network]
        longest = max(covering, key=lambda network: network.prefixlen, default=None)
        assert made.find(address.packed).port == (UNKNOWN if longest is None else left[longest])
    assert {route.network: route.port for route in made} == left
