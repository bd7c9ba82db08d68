"""ARP: what the RFCs say, what dpkt knows, and all that chance can make."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.arp import Arp, Operation, decode, encode, frame_of, gratuitous, probe, reply

ONE, TWO = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
HERE, THERE = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
NOBODY, NO_ADDRESS, BROADCAST = bytes(6), bytes(4), b"\xff" * 6
REQUEST = Arp(Operation.REQUEST, ONE, HERE, NOBODY, THERE)
HOSTS = st.builds(
    lambda head, rest: bytes((head & 0xFE,)) + rest, st.integers(0, 255), st.binary(min_size=5, max_size=5)
)


def test_a_request_as_it_is_on_the_wire() -> None:
    octets = bytes.fromhex("0001 0800 06 04 0001 020000000001 c0000201 000000000000 c0000202")
    assert decode(octets, 0) == REQUEST
    assert encode(REQUEST) == octets


def test_dpkt_reads_what_we_write() -> None:
    frame = reply(REQUEST, TWO)
    told = dpkt.ethernet.Ethernet(frame)
    assert (told.dst, told.src, len(frame)) == (ONE, TWO, 60)
    assert (told.arp.op, told.arp.sha, told.arp.spa) == (dpkt.arp.ARP_OP_REPLY, TWO, THERE)
    assert (told.arp.tha, told.arp.tpa) == (ONE, HERE)


def test_rfc5227_3_an_announcement_has_the_same_address_twice() -> None:
    frame = gratuitous(ONE, HERE)
    told = decode(frame, 14)
    assert frame[:6] == BROADCAST
    assert told == Arp(Operation.REQUEST, ONE, HERE, NOBODY, HERE)
    assert told.announcement
    assert not told.probe


def test_rfc5227_1_1_a_probe_claims_nothing() -> None:
    told = decode(probe(ONE, THERE, TWO), 14)
    assert told == Arp(Operation.REQUEST, ONE, NO_ADDRESS, NOBODY, THERE)
    assert told.probe
    assert not told.announcement
    assert not Arp(Operation.REQUEST, ONE, NO_ADDRESS, NOBODY, NO_ADDRESS).announcement


@pytest.mark.parametrize(
    ("at", "octets"),
    [(0, "0006"), (2, "86dd"), (4, "08"), (5, "10"), (6, "0003"), (6, "0000")],
    ids=["hardware", "protocol", "hardware size", "protocol size", "RARP", "no operation"],
)
def test_what_is_about_something_else_is_nobodys_fault(at: int, octets: str) -> None:
    message = bytearray(encode(REQUEST))
    message[at : at + len(octets) // 2] = bytes.fromhex(octets)
    assert decode(message, 0) is None


@pytest.mark.parametrize(
    "arp",
    [
        REQUEST._replace(sender_mac=BROADCAST),
        REQUEST._replace(sender_mac=b"\x01" + ONE[1:]),
        REQUEST._replace(sender_mac=NOBODY),
        REQUEST._replace(sender=b"\xff" * 4),
        REQUEST._replace(sender=bytes((224, 0, 0, 1))),
    ],
)
def test_nobody_is_a_group(arp: Arp) -> None:
    with pytest.raises(Malformed) as caught:
        decode(encode(arp), 0)
    assert caught.value.reason is DropReason.ARP_MALFORMED


@given(
    st.builds(
        Arp, st.sampled_from(Operation), HOSTS.filter(any), st.just(HERE), HOSTS, st.binary(min_size=4, max_size=4)
    )
)
def test_what_is_written_is_read(arp: Arp) -> None:
    assert decode(frame_of(arp, BROADCAST), 14) == arp


def judged(octets: bytes, at: int = 0) -> Arp | DropReason | None:
    try:
        return decode(octets, at)
    except Malformed as bad:
        return bad.reason


@given(st.binary(max_size=60), st.integers(-1, 70))
def test_any_octets_are_read_or_refused(octets: bytes, at: int) -> None:
    told = judged(octets, at)
    assert told in (None, DropReason.ARP_MALFORMED) or encode(told) == octets[at : at + 28]


@given(st.integers(0, 27), st.integers(0, 255))
def test_any_change_of_a_request_is_read_or_refused(at: int, octet: int) -> None:
    message = encode(REQUEST)
    changed = message[:at] + bytes((octet,)) + message[at + 1 :]
    told = judged(changed)
    assert told in (None, DropReason.ARP_MALFORMED) or encode(told) == changed


@given(st.integers(0, 27))
def test_a_message_cut_short_is_refused(size: int) -> None:
    with pytest.raises(Malformed):
        decode(encode(REQUEST)[:size], 0)
