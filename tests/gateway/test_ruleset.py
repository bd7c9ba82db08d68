"""What nft is told; that it understands, and what it does, is in test_executor.py and tests/tunnel/test_gateway.py."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from caetun.gateway import ruleset


@pytest.mark.parametrize(
    ("device", "name"),
    [("tun0", "inet caetun_tun0"), ("wan-1.7", "inet caetun_wan_2d_1_2e_7"), ("é", "inet caetun__e9_")],
)
def test_every_device_has_a_table_of_its_own(device: str, name: str) -> None:
    assert ruleset.table_name(device) == name


@pytest.mark.parametrize("device", ['a"b', "tun*", "a\\b"])
def test_names_that_would_mean_something_else(device: str) -> None:
    with pytest.raises(ValueError, match="choose a name without quotes"):
        ruleset.kill_switch(device, 1, lan=True)


def test_only_the_tunnels_networks_are_let_out() -> None:
    text = ruleset.let_out("tun0", [ip_network("10.8.0.0/24"), ip_network("fd88::/64")])
    assert 'ip saddr 10.8.0.0/24 oifname != { "lo", "tun0" } masquerade' in text
    assert 'ip6 saddr fd88::/64 oifname != { "lo", "tun0" } masquerade' in text


def test_a_kill_switch_without_the_local_network() -> None:
    assert "192.168.0.0/16" in ruleset.kill_switch("tun0", 1, lan=True)
    assert "192.168.0.0/16" not in ruleset.kill_switch("tun0", 1, lan=False)


def test_nobody_talks_to_the_tunnels_addresses_from_outside() -> None:
    text = ruleset.steering("tun0", [ip_address("10.8.0.1"), ip_address("fd88::1")], 7)
    assert 'iifname != "tun0" ip daddr 10.8.0.1 fib saddr type != local drop' in text
    assert 'iifname != "tun0" ip6 daddr fd88::1 fib saddr type != local drop' in text
