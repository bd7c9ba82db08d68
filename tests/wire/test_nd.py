"""Neighbour discovery: the checks of RFC 4861 by their sections, what dpkt knows, and all that chance can make."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire import nd
from caetun.wire.checksum import ones_sum
from caetun.wire.ip import outline
from caetun.wire.nd import Advertisement, Redirect, RouterAdvertisement, RouterSolicitation, Solicitation

ONE, TWO = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
HERE, THERE = bytes.fromhex("fe80" + "00" * 13 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
ALL_NODES = bytes.fromhex("ff02" + "00" * 13 + "01")
GROUP = bytes.fromhex("ff02000000000000000000" + "01ff000002")
NOWHERE = bytes(16)
ASKED = Solicitation(HERE, GROUP, THERE, ONE)
TOLD = Advertisement(THERE, HERE, THERE, TWO, router=True, solicited=True)
LINK = b"\1\1" + ONE


def packet(
    body: bytes, source: bytes = HERE, destination: bytes = ALL_NODES, hops: int = 255, before: bytes = b""
) -> bytes:
    """A message with its checksum made right, behind extension headers."""
    body = body[:2] + bytes(2) + body[4:]
    total = ones_sum(body, ones_sum(source + destination) + len(body) + 58) ^ 0xFFFF
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    following = 58
    if before:
        following, before = before[0], b"\x3a" + before[1:]
    return struct.pack(">IHBB", 6 << 28, len(before + body), following, hops) + source + destination + before + body


def read(octets: bytes) -> nd.Discovery | None:
    return nd.decode(octets, 0, outline(octets, 0))


def refused(octets: bytes) -> DropReason:
    with pytest.raises(Malformed) as caught:
        read(octets)
    return caught.value.reason


def message(kind: int, middle: bytes, options: bytes = b"") -> bytes:
    return bytes((kind, 0, 0, 0)) + middle + options


class TestMessages:
    @pytest.mark.parametrize(
        ("body", "meant"),
        [
            (message(133, bytes(4), LINK), RouterSolicitation(HERE, ONE)),
            (message(133, bytes(4)), RouterSolicitation(HERE)),
            (message(134, b"\x40\0\x07\x08" + bytes(8), LINK), RouterAdvertisement(HERE, 1800, ONE)),
            (message(135, bytes(4) + THERE, LINK), Solicitation(HERE, ALL_NODES, THERE, ONE)),
            (message(136, b"\x20\0\0\0" + HERE), Advertisement(HERE, ALL_NODES, HERE)),
            (
                message(136, b"\x80\0\0\0" + HERE, b"\2\1" + TWO),
                Advertisement(HERE, ALL_NODES, HERE, TWO, True, False, False),
            ),
            (message(137, bytes(4) + HERE + THERE, b"\2\1" + TWO), Redirect(HERE, HERE, THERE, TWO)),
        ],
    )
    def test_each_is_read(self, body: bytes, meant: nd.Discovery) -> None:
        assert read(packet(body)) == meant

    def test_options_that_are_not_known_are_passed_over(self) -> None:
        nonce, prefix = b"\x0e\1" + bytes(6), b"\3\4" + bytes(30)
        assert read(packet(message(135, bytes(4) + THERE, nonce + LINK + prefix), destination=GROUP)) == ASKED

    def test_behind_extension_headers(self) -> None:
        assert read(packet(message(135, bytes(4) + THERE, LINK), destination=GROUP, before=b"\x3c" + bytes(7))) == ASKED

    def test_other_packets_say_nothing(self) -> None:
        assert read(packet(message(128, bytes(4)))) is None
        udp = struct.pack(">IHBB", 6 << 28, 8, 17, 255) + HERE + ALL_NODES + bytes(8)
        assert read(udp) is None
        assert nd.kind(udp, outline(udp, 0)) is None

    def test_dpkt_reads_what_we_write(self) -> None:
        told = dpkt.ethernet.Ethernet(nd.frame_of(TOLD, TWO, ONE))
        assert (told.dst, told.src, told.ip6.src, told.ip6.dst, told.ip6.hlim) == (ONE, TWO, THERE, HERE, 255)
        assert (told.ip6.icmp6.type, told.ip6.icmp6.code) == (136, 0)
        assert bytes(told.ip6.icmp6)[4:] == b"\xe0\0\0\0" + THERE + b"\2\1" + TWO


class TestRefusals:
    def test_rfc4861_7_1_from_another_link(self) -> None:
        assert refused(packet(message(135, bytes(4) + THERE), hops=254)) is DropReason.ND_MALFORMED

    def test_rfc4861_7_1_a_wrong_checksum(self) -> None:
        octets = packet(message(135, bytes(4) + THERE))
        assert refused(octets[:-1] + b"\xee") is DropReason.ND_CHECKSUM

    def test_rfc4861_7_1_a_code(self) -> None:
        assert refused(packet(b"\x87\1\0\0" + bytes(4) + THERE)) is DropReason.ND_MALFORMED

    @pytest.mark.parametrize("kind", nd.TYPES)
    def test_rfc4861_7_1_too_short(self, kind: int) -> None:
        assert refused(packet(message(kind, bytes(3)))) is DropReason.ND_MALFORMED

    @pytest.mark.parametrize("options", [b"\1\0", b"\1\1", b"\1", b"\1\2" + bytes(8), LINK + b"\0"])
    def test_rfc4861_7_1_an_option_of_no_length_or_cut_short(self, options: bytes) -> None:
        assert refused(packet(message(135, bytes(4) + THERE, options))) is DropReason.ND_MALFORMED

    def test_two_link_layer_addresses(self) -> None:
        body = message(135, bytes(4) + THERE, LINK + b"\1\1" + TWO)
        assert refused(packet(body)) is DropReason.ND_MALFORMED
        assert read(packet(message(135, bytes(4) + THERE, LINK + LINK))) is not None

    def test_rfc4861_7_1_1_the_target_is_a_group(self) -> None:
        assert refused(packet(message(135, bytes(4) + GROUP))) is DropReason.ND_MALFORMED

    def test_rfc4861_7_1_1_detection_asks_a_group_and_tells_nothing(self) -> None:
        probing = message(135, bytes(4) + THERE)
        assert read(packet(probing, NOWHERE, GROUP)) == Solicitation(NOWHERE, GROUP, THERE)
        assert refused(packet(probing, NOWHERE, THERE)) is DropReason.ND_MALFORMED
        assert refused(packet(probing + LINK, NOWHERE, GROUP)) is DropReason.ND_MALFORMED

    def test_rfc4861_7_1_2_solicited_by_everybody(self) -> None:
        assert refused(packet(message(136, b"\x40\0\0\0" + HERE))) is DropReason.ND_MALFORMED

    def test_rfc4861_6_1_1_a_link_layer_address_of_nobody(self) -> None:
        assert refused(packet(message(133, bytes(4), LINK), NOWHERE)) is DropReason.ND_MALFORMED
        assert read(packet(message(133, bytes(4)), NOWHERE)) == RouterSolicitation(NOWHERE)

    @pytest.mark.parametrize("body", [message(134, bytes(12)), message(137, bytes(4) + HERE + THERE)])
    def test_rfc4861_6_1_2_and_8_1_a_router_has_a_link_local_address(self, body: bytes) -> None:
        assert refused(packet(body, THERE)) is DropReason.ND_MALFORMED

    def test_rfc6980_5_fragments(self) -> None:
        octets = packet(message(134, bytes(12)), before=b"\x2c" + bytes(7))
        assert nd.kind(octets, outline(octets, 0)) == 134, "the guard sees what it is all the same"
        assert refused(octets) is DropReason.ND_MALFORMED

    def test_padding_is_no_message(self) -> None:
        octets = packet(b"")[:4] + b"\0\0" + packet(b"")[6:40] + message(134, bytes(12))
        assert nd.kind(octets, outline(octets, 0)) is None


class TestWriting:
    def test_rfc4862_5_4_2_a_probe(self) -> None:
        frame = nd.probe(ONE, THERE)
        assert frame[:6] == bytes.fromhex("3333ff000002")
        assert read(frame[14:]) == Solicitation(NOWHERE, GROUP, THERE)
        assert nd.probe(ONE, THERE, TWO)[:6] == TWO
        assert Solicitation(NOWHERE, GROUP, THERE).probe

    def test_rfc4861_7_2_6_unsolicited(self) -> None:
        frame = nd.unsolicited(TWO, THERE, router=True)
        assert frame[:12] == bytes.fromhex("333300000001") + TWO
        assert read(frame[14:]) == Advertisement(THERE, ALL_NODES, THERE, TWO, True, False, True)

    def test_rfc4861_7_2_8_an_answer_for_another_does_not_override(self) -> None:
        frame = nd.answer(ASKED, TWO, router=False, destination=ONE)
        assert frame[:12] == ONE + TWO
        assert read(frame[14:]) == Advertisement(THERE, HERE, THERE, TWO, False, True, False)


ADDRESSES = st.binary(min_size=16, max_size=16).filter(lambda each: each[0] != 0xFF and any(each))
MACS = st.none() | st.binary(min_size=6, max_size=6)


@given(
    st.builds(Solicitation, ADDRESSES, ADDRESSES, ADDRESSES, MACS)
    | st.builds(Advertisement, ADDRESSES, ADDRESSES, ADDRESSES, MACS, st.booleans(), st.booleans(), st.booleans())
)
def test_what_is_written_is_read(told: Solicitation | Advertisement) -> None:
    assert read(nd.frame_of(told, ONE, TWO)[14:]) == told


def judged(octets: bytes) -> nd.Discovery | DropReason | None:
    try:
        return read(octets)
    except Malformed as bad:
        return bad.reason


REASONS = (None, DropReason.ND_MALFORMED, DropReason.ND_CHECKSUM, DropReason.FRAME_SHORT)


@given(st.binary(max_size=120))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    assert judged(octets) in REASONS


@given(st.sampled_from(nd.TYPES), st.binary(max_size=80), st.sampled_from([HERE, NOWHERE, THERE]), st.integers(0, 40))
def test_any_message_is_read_or_refused(kind: int, rest: bytes, source: bytes, cut: int) -> None:
    octets = packet(message(kind, rest), source)
    told = judged(octets)
    assert told in REASONS or isinstance(told, tuple)
    assert judged(octets[: len(octets) - cut - 1]) in REASONS
