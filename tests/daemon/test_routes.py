"""Which routes would lead the tunnel's own packets into the tunnel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from caetun.daemon.routes import outer_addresses, takes_along
from caetun.sources import load

HUB = [ip_address("192.0.2.1"), ip_address("2001:db8::1")]


@pytest.mark.parametrize(
    ("network", "does"),
    [
        ("10.0.0.0/8", False),
        ("192.0.2.0/24", True),
        ("192.0.2.1/32", True),
        ("192.0.2.2/32", False),
        ("2001:db8::/32", True),
        ("fd00::/16", False),
        # so wide that the far end is in it, wherever it moves
        ("0.0.0.0/1", True),
        ("10.0.0.0/7", True),
        ("::/1", True),
    ],
)
def test_what_takes_the_far_end_along(network: str, does: bool) -> None:
    assert takes_along(ip_network(network), HUB) is does


def test_addresses_are_those_of_far_ends_and_proxy() -> None:
    settings = load(
        {
            "connect": ["tcp://192.0.2.1:4500", "tcp://[2001:db8::1]:4500", "tcp://hub.example:4500"],
            "proxy": "socks5://192.0.2.9:1080",
            "secret_file": "s.key",
        }
    )
    assert outer_addresses(settings) == [*HUB, ip_address("192.0.2.9")]
