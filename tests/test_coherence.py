"""What is said about the gateway or a mesh goes together, or is told in one line."""

from __future__ import annotations

import base64

import pytest

from caetun.errors import ConfigurationError
from caetun.session.identity import public_key
from caetun.sources import load

KEY, OTHER = (base64.b64encode(public_key(bytes((number,)) * 32)).decode() for number in (1, 2))
CALL = {"connect": ["hub.example:443"], "secret_file": "s.key"}
WAIT = {"listen": [":443"], "secret_file": "s.key"}
MEMBER = {"connect": ["hub.example:443"], "key": "a.key", "peer": [KEY], "mesh": True}
MESH = {"listen": [":443"], "key": "hub.key", "peer": [f"{KEY},name=a", f"{OTHER},name=b"], "mesh": True, "mode": "tap"}
ROUTED = {**MESH, "mode": "tun", "peer": [f"{KEY},allowed=10.8.0.2", f"{OTHER},allowed=10.8.0.3"]}


@pytest.mark.parametrize(
    "flags",
    [
        {**CALL, "gateway": True},
        {**CALL, "gateway": True, "gateway_lan": False, "kill_switch": True, "dns": ["10.8.0.2", "fd88::2"]},
        {**CALL, "gateway": True, "mode": "tap", "gateway_via": ["10.8.0.2", "fd88::2"]},
        {**CALL, "dns": ["10.8.0.2"], "dns_domain": ["corp.example"]},
        {**WAIT, "masquerade": True},
        {**MEMBER, "mode": "tap"},
        {**MEMBER, "mode": "tun", "address": ["10.8.0.2/24"]},
        {**MEMBER, "mode": "tun", "negotiation": "server"},
        {**MEMBER, "mode": "tap", "negotiation": "server"},
        MESH,
        ROUTED,
        {**MESH, "negotiation": "server", "pool_network": ["10.8.0.0/24"], "mode": "tun", "peer": []},
    ],
)
def test_what_goes_together(flags: dict[str, object]) -> None:
    load(flags)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({**WAIT, "gateway": True}, "--gateway: given without --connect: .* --masquerade for a hub"),
        ({**CALL, "kill_switch": True}, "--kill-switch: given without --gateway"),
        ({**CALL, "gateway_lan": False}, "--no-gateway-lan: given without --gateway"),
        ({**CALL, "gateway_via": ["10.8.0.2"]}, "--gateway-via: given without --gateway"),
        ({**CALL, "dns_domain": ["corp.example"]}, "--dns-domain: given without --dns"),
        ({**CALL, "gateway": True, "mode": "tap"}, "--gateway-via ADDRESS"),
        ({**CALL, "gateway": True, "gateway_via": ["10.8.0.2", "10.8.0.3"]}, "two addresses of one IP version"),
        ({**CALL, "dns": ["10.8.0.2:53"]}, "--dns: '10.8.0.2:53' is not an address"),
        ({**CALL, "dns": ["0.0.0.0"]}, "--dns: '0.0.0.0' cannot be a host's address"),
        ({**CALL, "dns": ["10.8.0.2"], "dns_domain": ["a b"]}, "--dns-domain: 'a b' is not a domain"),
        ({**MEMBER, "mode": "tun"}, "--mesh: a member's own address must be known: give --address, or have it"),
        ({**CALL, "mesh": True, "mode": "tap"}, "--mesh: given with --secret-file"),
        ({**ROUTED, "client_to_client": "off"}, "--mesh: lets peers go past this hub, but --client-to-client off"),
        ({**ROUTED, "client_to_client": "host"}, "but --client-to-client host is to keep them apart: leave one away"),
    ],
)
def test_what_does_not(flags: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load(flags)
