"""What rules do to frames: segment sizes, classes, ECN, hops to live; superframes stay what they are."""

from __future__ import annotations

import dataclasses

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.devices.mangled import MangledDevice
from caetun.offload.segment import segment
from caetun.types import DropReason, Mode
from tests.mangle.packets import Host, echo, ethernet, packet, sound, syn, tag, udp
from tests.offload.superframes import Superframe, superframes, verified

V6 = {"source": "fd00::1", "destination": "fd00::2"}


def mss_of(content: bytes) -> int:
    """As dpkt reads it."""
    ip = dpkt.ip.IP(content) if content[0] >> 4 == 4 else dpkt.ip6.IP6(content)
    options = dict(dpkt.tcp.parse_opts(ip.data.opts))
    return int.from_bytes(options[dpkt.tcp.TCP_OPT_MSS], "big")


# segment size


@pytest.mark.parametrize("before", [b"", b"\1", b"\1\1\1", b"\4\2", b"\3\3\7"])
def test_a_segment_size_is_clamped_wherever_it_stands(before: bytes) -> None:
    for where, most in (({}, 1460), (V6, 1440)):
        content = packet(syn(8960, before), **where)
        assert sound(content)
        (out,) = Host("mss auto").send(content)
        assert mss_of(out) == most
        assert sound(out)
        (back,) = Host("mss 1200").receive(content)
        assert mss_of(back) == 1200
        assert sound(back)


@pytest.mark.parametrize("tags", [tag(7), tag(7) + tag(8), tag(9, 0x88A8) + tag(7)])
def test_inside_vlan_tags_too(tags: bytes) -> None:
    (out,) = Host("mss auto", mode=Mode.TAP, mtu=1400).send(ethernet(packet(syn()), tags))
    assert mss_of(out[14 + len(tags) :]) == 1360
    assert sound(out[14 + len(tags) :])


def test_a_smaller_one_stays_and_is_not_counted() -> None:
    host = Host("mss auto")
    content = packet(syn(1000))
    assert host.send(content) == [content]
    assert host.rules[0].frames == 0


def test_what_fits_the_device_follows_its_mtu() -> None:
    host = Host("mss auto", "mss 1300", mtu=1500)
    host.pipeline.resized(1280)
    (out,) = host.send(packet(syn(8960), **V6))
    assert mss_of(out) == 1220
    host.pipeline.resized(9000)
    (out,) = host.send(packet(syn(8960), **V6))
    assert mss_of(out) == 1300


def test_an_open_checksum_stays_what_it_is() -> None:
    whole = Superframe(mode=Mode.TUN, payload=b"x", gso_size=0, flags=0x02, tcp_options=b"\2\4\x23\0")
    (out,) = Host("mss 1000").send(whole.frame, header=whole.header)
    assert out == dataclasses.replace(whole, tcp_options=b"\2\4\x03\xe8").frame


@given(st.binary(max_size=40), st.integers(0, 255))
def test_any_options_pass(options: bytes, flags: int) -> None:
    options += bytes(-len(options) % 4)
    upper = dpkt.tcp.TCP(flags=flags, off=5 + len(options) // 4, opts=options)
    (out,) = Host("mss 100").send(packet(upper))
    assert sound(out)


# class, ECN, hops


@given(superframes(), st.integers(0, 63))
def test_a_superframes_packets_all_get_the_class(whole: Superframe, dscp: int) -> None:
    host = Host(f"dscp {dscp}", mode=whole.mode)
    (out,) = host.send(whole.frame, header=whole.header)
    for each in segment(out, whole.header, whole.mode):
        verified(each, whole.mode)
        word = int.from_bytes(each[whole.network : whole.network + 2], "big") >> (0 if whole.version == 4 else 4)
        assert word & 0xFC == dscp << 2
        assert word & 0x03 == 2, "the ECN bits stay"
    assert host.receive(whole.frame, header=whole.header) == [out]


@pytest.mark.parametrize(("name", "tos"), [("ef", 0xB8), ("cs1", 0x20), ("af41", 0x88), ("le", 4), ("default", 0)])
def test_classes_have_names(name: str, tos: int) -> None:
    (out,) = Host(f"out dscp {name}").send(packet(udp(), tos=0x03))
    assert out[1] == tos | 3


def test_the_outer_class_is_the_one_of_the_whole_batch() -> None:
    marks: list[int] = []
    host = Host("out drop udp port 9", "out dscp outer")
    host.device = MangledDevice(host.memory, host.pipeline, host.drops, marks.append)
    voice, bulk, odd = packet(udp(), tos=0xB9), packet(udp(), tos=0x21, **V6), packet(udp(dport=9), tos=0x21)
    for frames in ((voice,), (voice, voice), (voice, bulk), (bulk, bulk), (voice, odd), (odd,)):
        host.send(*frames)
    assert marks == [0xB8, 0xB8, 0, 0x20, 0xB8]


def test_each_of_several_rules_says_whose_class_counts() -> None:
    """With what has no flow, too, and before and after a flow is known."""
    marks: list[int] = []
    host = Host("out dscp outer tcp", "out dscp outer udp")
    host.device = MangledDevice(host.memory, host.pipeline, host.drops, marks.append)
    for _ in range(3):
        host.send(packet(udp(), tos=0xB9))
        host.send(packet(syn(), tos=0x21))
    assert marks == [0xB8, 0x20] * 3


def test_ecn_is_cleared() -> None:
    for where in ({}, V6):
        out = Host("ecn clear", "dscp 0").send(packet(udp(), tos=0xBA, **where))
        assert out == [packet(udp(), tos=0, **where)]


def test_hops_to_live() -> None:
    for where in ({}, V6):
        content = packet(udp(), ttl=9, **where)
        assert Host("ttl 64").send(content) == [packet(udp(), ttl=64, **where)]
        assert Host("ttl -1").send(content) == [packet(udp(), ttl=8, **where)]
        host = Host("in ttl -9")
        assert host.receive(content) == []
        assert host.drops == {DropReason.MANGLE_TTL: 1}


def test_what_belongs_to_one_link_keeps_its_hops() -> None:
    for kind, passes in ((135, True), (136, True), (130, True), (128, False)):
        upper = dpkt.icmp6.ICMP6(type=kind, data=bytes(20))
        content = packet(upper, ttl=255, **V6)
        assert (Host("ttl 64").send(content) == [content]) is passes


# filters


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ("drop", False),
        ("out drop", False),
        ("in drop", True),
        ("drop udp", False),
        ("drop tcp", True),
        ("drop not tcp", False),
        ("drop proto 17", False),
        ("drop ip", False),
        ("drop ip6", True),
        ("drop arp", True),
        ("drop ethertype 0x0800", False),
        ("drop from 10.1.0.5", False),
        ("drop from 10.1.0.0/24 port 5000", False),
        ("drop from 10.1.0.0/24 port 53", True),
        ("drop from port 5000", False),
        ("drop to 10.1.0.5", True),
        ("drop to 10.0.0.0/8 port 50-60", False),
        ("drop to any port 1,53", False),
        ("drop to fd00::/8", True),
        ("drop port 53", False),
        ("drop port 5000", False),
        ("drop port 1-52,54-4999", True),
        ("drop not to 10.2.0.9 port 54", False),
        ("drop not to 10.2.0.9 port 53", True),
        ("drop vlan 7", False),
        ("drop vlan 1-6", True),
        ("drop vlan none", True),
        ("drop from 02:00:00:00:00:0a", False),
        ("drop to 02:00:00:00:00:0A", True),
        ("drop udp vlan 7 from 10.1.0.5 to 10.2.0.9 port 53", False),
        ("drop udp vlan 8 from 10.1.0.5 to 10.2.0.9 port 53", True),
    ],
)
def test_conditions(rule: str, passes: bool) -> None:
    content = ethernet(packet(udp(5000, 53)), tag(7))
    host = Host(rule, mode=Mode.TAP)
    assert host.send(content) == ([content] if passes else [])
    assert host.drops == ({} if passes else {DropReason.MANGLE_FILTER: 1})
    assert host.rules[0].frames == (not passes)
    assert host.rules[0].octets == (0 if passes else len(content))


def test_the_first_that_matches_wins() -> None:
    host = Host("accept udp port 53", "drop udp", "ttl 5")
    domain, other, ping = packet(udp(dport=53)), packet(udp(dport=54)), packet(echo())
    assert host.send(domain, other, ping) == [domain, packet(echo(), ttl=5)]
    assert [rule.frames for rule in host.rules] == [1, 1, 1]


def test_of_many_frames_those_dropped_leave_no_gap() -> None:
    host = Host("out drop udp port 1-100")
    frames = [packet(udp(dport=port, content=bytes(port))) for port in (50, 500, 51, 501, 52, 502, 503)]
    batch = host.batch(*frames)
    assert [frame for frame, _ in batch.frames()] == [frames[at] for at in (1, 3, 5, 6)]
    assert batch.end == sum(4 + len(frames[at]) for at in (1, 3, 5, 6))
    assert host.receive(*frames) == frames


@given(st.lists(superframes(), min_size=1, max_size=4))
def test_dropping_keeps_the_metadata_of_the_others(wholes: list[Superframe]) -> None:
    host = Host("drop udp", mode=Mode.TAP)
    some = [dataclasses.replace(whole, mode=Mode.TAP) for whole in wholes]
    for whole in some:
        host.memory.put(whole.frame, whole.header)
    batch = host.batch()
    assert [(bytes(frame), header) for frame, header in batch.frames()] == [
        (whole.frame, whole.header) for whole in some if whole.protocol == 6
    ]


def test_a_fragment_has_no_ports_but_addresses() -> None:
    content = bytearray(packet(udp()))
    content[6:8] = b"\0\x10"
    content[10:12] = bytes(2)
    content[10:12] = dpkt.in_cksum(bytes(content[:20])).to_bytes(2, "big")
    assert Host("drop port 53").send(bytes(content)) == [bytes(content)]
    assert Host("drop from 10.1.0.5").send(bytes(content)) == []


def test_a_direction_without_rules_goes_straight_to_the_device() -> None:
    host = Host("out drop udp")
    assert host.device.write_batch == host.memory.write_batch
    assert host.device.read_batch != host.memory.read_batch
