"""What is said about the gateway goes together, or is told in one line."""

from __future__ import annotations

import pytest

from caetun.errors import ConfigurationError
from caetun.sources import load

CALL = {"connect": ["hub.example:443"], "secret_file": "s.key"}
WAIT = {"listen": [":443"], "secret_file": "s.key"}


@pytest.mark.parametrize(
    "flags",
    [
        {**CALL, "gateway": True},
        {**CALL, "gateway": True, "gateway_lan": False, "kill_switch": True, "dns": ["10.8.0.2", "fd88::2"]},
        {**CALL, "gateway": True, "mode": "tap", "gateway_via": ["10.8.0.2", "fd88::2"]},
        {**CALL, "dns": ["10.8.0.2"], "dns_domain": ["corp.example"]},
        {**WAIT, "masquerade": True},
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
    ],
)
def test_what_does_not(flags: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load(flags)
