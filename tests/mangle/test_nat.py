"""NAT 1:1: there and back is what it was, in between all checksums are right; ICMP errors, ARP and ND say the same."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.offload.segment import segment
from caetun.types import Mode
from tests.mangle.packets import Host, echo, ethernet, packed, packet, sound, syn, udp
from tests.offload.superframes import Superframe, superframes, verified

RULE = "nat 10.1.0.0/24 to 10.77.3.0/24"
RULE6 = "nat fd00:1::/48 to 2001:db8:7::/48"
SUPERFRAMES = ("nat 10.9.0.0/30 to 172.16.255.252/30", "nat fd00::/64 to 2001:db8:ffff:fffe::/64")
OUTSIDE4, OUTSIDE6 = packed("172.16.255.253"), packed("2001:db8:ffff:fffe::1")

uppers = st.one_of(
    st.builds(udp, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=60)),
    st.builds(syn, st.integers(1, 65535)),
)
hosts = st.integers(0, 255)


def swapped(content: bytes) -> bytes:
    """As the answer would be addressed."""
    if content[0] >> 4 == 4:
        return content[:12] + content[16:20] + content[12:16] + content[20:]
    return content[:8] + content[24:40] + content[8:24] + content[40:]


@given(uppers, hosts, st.binary(min_size=4, max_size=4))
def test_there_and_back_is_the_identity(upper: dpkt.Packet, host: int, far: bytes) -> None:
    content = packet(upper, f"10.1.0.{host}", ".".join(map(str, far)))
    nat = Host(RULE)
    (out,) = nat.send(content)
    assert out[12:16] == packed(f"10.77.3.{host}")
    assert sound(content)
    assert sound(out)
    (back,) = nat.receive(swapped(out))
    assert swapped(back) == content


@given(uppers, st.integers(0, 0xFFFF))
def test_ipv6_the_same(upper: dpkt.Packet, host: int) -> None:
    content = packet(upper, f"fd00:1::{host:x}", "2001:db8::9")
    nat = Host(RULE6)
    (out,) = nat.send(content)
    assert out[8:24] == packed(f"2001:db8:7::{host:x}")
    assert sound(out)
    (back,) = nat.receive(swapped(out))
    assert swapped(back) == content


@given(superframes())
def test_a_superframe_is_translated_once_for_all_its_packets(whole: Superframe) -> None:
    nat = Host(*SUPERFRAMES, mode=whole.mode)
    (out,) = nat.send(whole.frame, header=whole.header)
    at, expected = (12, OUTSIDE4) if whole.version == 4 else (8, OUTSIDE6)
    for each in segment(out, whole.header, whole.mode):
        verified(each, whole.mode)
        assert each[whole.network + at : whole.network + at + len(expected)] == expected
    # Whoever answers has the new address as destination.
    there = Host(*(" ".join(("nat", rule.split()[3], "to", rule.split()[1])) for rule in SUPERFRAMES), mode=whole.mode)
    assert there.send(out, header=whole.header) == [whole.frame]


def test_others_are_left_alone() -> None:
    nat = Host(RULE)
    for content in (packet(udp(), "10.1.1.5"), packet(udp(), "fd00::1", "fd00::2")):
        assert nat.send(content) == [content]
        assert nat.receive(content) == [content]
    assert nat.rules[0].frames == 0


@pytest.mark.parametrize("upper", [udp(), syn(), echo()])
def test_an_error_quotes_the_packet_as_the_other_side_has_sent_it(upper: dpkt.Packet) -> None:
    """We answer a packet from 10.2.0.9 to 10.77.3.5, which we know as 10.1.0.5, with an error."""
    theirs = packet(upper, "10.2.0.9", "10.77.3.5")
    nat = Host(RULE)
    (seen,) = nat.receive(theirs)
    assert seen == packet(upper, "10.2.0.9", "10.1.0.5")
    error = dpkt.icmp.ICMP(type=3, code=3, data=b"\0\0\0\0" + seen[:48])
    (out,) = nat.send(packet(error, "10.1.0.5", "10.2.0.9"))
    assert sound(out)
    assert out[12:16] == packed("10.77.3.5")
    assert out[28:] == theirs[:48]


def test_an_error_about_what_we_have_sent() -> None:
    ours = packet(udp(), "fd00:1::5", "2001:db8::9")
    nat = Host(RULE6)
    (out,) = nat.send(ours)
    error = dpkt.icmp6.ICMP6(type=3, code=0, data=b"\0\0\0\0" + out)
    (back,) = nat.receive(packet(error, "2001:db8::1", "2001:db8:7::5"))
    assert sound(back)
    assert back[24:40] == packed("fd00:1::5")
    assert back[48:] == ours


@given(st.binary(max_size=60), st.sampled_from([3, 11, 12, 4, 5, 0]))
def test_whatever_an_error_quotes(quote: bytes, kind: int) -> None:
    error = dpkt.icmp.ICMP(type=kind, data=b"\0\0\0\0" + quote)
    nat = Host(RULE)
    assert all(map(sound, nat.send(packet(error, "10.1.0.5")) + nat.receive(packet(error, "1.2.3.4", "10.77.3.9"))))


def test_arp_asks_and_answers_for_the_outside() -> None:
    def arp(operation: int, sender: str, target: str) -> bytes:
        body = dpkt.arp.ARP(op=operation, sha=b"\2\0\0\0\0\x0a", spa=packed(sender), tha=bytes(6), tpa=packed(target))
        return ethernet(bytes(body), kind=0x0806)

    nat = Host(RULE, mode=Mode.TAP)
    assert nat.receive(arp(1, "10.2.0.9", "10.77.3.5")) == [arp(1, "10.2.0.9", "10.1.0.5")]
    assert nat.send(arp(2, "10.1.0.5", "10.2.0.9")) == [arp(2, "10.77.3.5", "10.2.0.9")]
    assert nat.send(arp(1, "10.1.0.5", "10.1.0.5")) == [arp(1, "10.77.3.5", "10.77.3.5")]


def test_neighbour_discovery_asks_and_answers_for_the_outside() -> None:
    def nd(kind: int, target: str, source: str, destination: str) -> bytes:
        upper = dpkt.icmp6.ICMP6(type=kind, data=bytes(4) + packed(target) + bytes.fromhex("0101020000000009"))
        return ethernet(packet(upper, source, destination, ttl=255))

    nat = Host(RULE6, mode=Mode.TAP)
    asked = nd(135, "2001:db8:7::5", "2001:db8::9", "ff02::1:ff00:5")
    (seen,) = nat.receive(asked)
    assert seen == nd(135, "fd00:1::5", "2001:db8::9", "ff02::1:ff00:5")
    (answer,) = nat.send(nd(136, "fd00:1::5", "fd00:1::5", "2001:db8::9"))
    assert answer == nd(136, "2001:db8:7::5", "2001:db8:7::5", "2001:db8::9")
    assert sound(answer[14:])
