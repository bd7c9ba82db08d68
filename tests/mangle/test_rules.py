"""Rules as people write them, and what they are told of those that are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.mangle.pipeline import Rule
from caetun.mangle.rules import MAX_RULES, make_pipeline, parse_rule


def directions(rule: Rule) -> tuple[bool, bool]:
    return rule.outgoing, rule.incoming


def test_directions() -> None:
    assert directions(parse_rule("out drop")) == (True, False)
    assert directions(parse_rule("in drop")) == (False, True)
    assert directions(parse_rule("drop")) == (True, True)
    assert directions(parse_rule("nat 10.0.0.0/8 to 11.0.0.0/8")) == (True, True)


def test_a_rule_is_shown_as_it_was_written() -> None:
    assert parse_rule("  out   drop udp ").text == "out drop udp"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "column 1: ends here: give in, out, or one of drop, accept, mss, dscp, ecn, ttl, nat, hook"),
        ("out", "column 4: ends here: give in, out, or one of"),
        ("block udp", "column 1: 'block': give in, out, or one of drop"),
        ("out in drop", "column 5: 'in': give in, out, or one of"),
        ("drop upd", "column 6: 'upd': give a condition: ip, ip6, arp"),
        ("drop not", "column 9: ends here: give a condition"),
        ("drop to 10.0.0.1/24", "column 9: '10.0.0.1/24': give an address, a prefix, .* without bits behind"),
        ("drop to 10.0.0.300", "column 9"),
        ("drop to", "column 8: ends here: give an address"),
        ("drop  port 99999", "column 12: '99999': give a port, 0 to 65535, or ranges"),
        ("drop port 9-5", "column 11: '9-5'"),
        ("drop port 1,,2", "column 11"),
        ("drop vlan 4095", "column 11: '4095': give none, or a VLAN, 0 to 4094"),
        ("drop proto tcp", "column 12: 'tcp': give a protocol number, 0 to 255"),
        ("drop ethertype 5", "column 16: '5': give an EtherType as 0x88cc"),
        ("mss", "column 4: ends here: give auto, or bytes, 64 to 65535"),
        ("mss 10", "column 5: '10': give auto, or bytes, 64 to 65535"),
        ("dscp gold", "column 6: 'gold': give outer, a class as ef"),
        ("dscp outer", "column 6: 'outer': give out in front of such a rule"),
        ("dscp 64", "column 6: '64'"),
        ("ecn set", "column 5: 'set': give clear"),
        ("ttl 0", "column 5: '0': give hops to live, 1 to 255, or -1"),
        ("ttl 256", "column 5"),
        ("out nat 10.0.0.0/8 to 11.0.0.0/8", "column 5: 'nat': give it without in or out"),
        ("nat 10.0.0.0/8 11.0.0.0/8", "column 16: '11.0.0.0/8': give to"),
        ("nat 10.0.0.0/8 to 11.0.0.0/16", "column 19: '11.0.0.0/16': give a prefix of IPv4 and /8"),
        ("nat 10.0.0.0/8 to fd00::/8", "column 19: 'fd00::/8': give a prefix of IPv4"),
        ("nat 10.0.0.0/8 to 11.0.0.0/8 tcp", "column 30: 'tcp': give nothing here"),
        ("hook frobnicate", "column 6: 'frobnicate': give one that is installed"),
    ],
)
def test_a_wrong_rule_is_told_with_the_column(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


WORDS = (
    "in out drop accept mss auto dscp ef ecn clear ttl -1 nat to from any not udp tcp arp ip6 port vlan none proto"
    " 5 7-9 10.0.0.0/8 fd00::/8 02:00:00:00:00:01 0x88cc hook"
)
words = st.sampled_from(WORDS.split())


@given(st.lists(words | st.text(max_size=6), max_size=8).map(" ".join))
def test_any_text_is_a_rule_or_told(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ValueError as error:
        told = str(error)
    else:
        told = ""
        assert parse_rule(rule.text).text == rule.text
    assert not told or told.startswith("column ")


def test_rules_have_a_cap() -> None:
    with pytest.raises(ValueError, match=f"257 rules are too many: give {MAX_RULES} at most"):
        make_pipeline(("drop udp",) * (MAX_RULES + 1), 1500)
