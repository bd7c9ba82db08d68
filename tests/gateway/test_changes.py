"""Changes go into the state file and come back as they were."""

from __future__ import annotations

import json

import pytest

from caetun.gateway.changes import Change, ResolvConf, ResolvedLink, Route, Rule, Ruleset, Sysctl, from_json, to_json

EXAMPLES: list[Change] = [
    Route("0.0.0.0/0", 51943, "tun0", "10.8.0.2", 7),
    Rule(6, 31900, 254, "fc00::/7", except_mark=3, ignore_default=True),
    Sysctl("net/ipv4/ip_forward", "1", ("net/ipv4/conf/*/forwarding",)),
    Ruleset("inet caetun_tun0", " chain a { }\n"),
    ResolvConf("tun0", ("10.8.0.2", "fd88::2"), ("corp.example",)),
    ResolvedLink("tun0", ("10.8.0.2",), everything=True),
]


@pytest.mark.parametrize("change", EXAMPLES, ids=lambda change: type(change).__name__)
def test_there_and_back(change: Change) -> None:
    assert from_json(json.loads(json.dumps(to_json(change)))) == change
    assert "\n" not in str(change)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({}, "unknown kind"),
        ({"kind": "Folder"}, "unknown kind"),
        ({"kind": "Rule", "version": 4, "priority": 1, "table": 2, "colour": "red"}, "unknown properties: colour"),
        ({"kind": "Rule", "version": 4}, "missing"),
    ],
)
def test_what_makes_no_sense(raw: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_json(raw)


def test_what_is_replaced_and_what_stands_beside() -> None:
    assert Ruleset("inet a", "1").key == Ruleset("inet a", "2").key
    assert ResolvConf("tun0", ("1.1.1.1",)).key == ResolvConf("tun0", ("2.2.2.2",)).key
    assert Route("10.0.0.0/8", 1, "a").key != Route("10.0.0.0/8", 2, "a").key
