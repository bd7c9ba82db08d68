"""DHCP: which side speaks, and what is given away."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.dhcp import FOREVER, MAX_LEASES, Lease, from_server, leases
from caetun.wire.ip import outline
from tests.l2.frames import packet4, packet6

SERVER, HOST = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 9))
SERVER6, HOST6 = b"\xfe\x80" + bytes(13) + b"\1", b"\xfe\x80" + bytes(13) + b"\x09"
GIVEN6 = bytes.fromhex("20010db8" + "00" * 11 + "09")
MAC = bytes((2, 0, 0, 0, 0, 9))


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload


def ipv4(source: int, destination: int, payload: bytes) -> bytes:
    return packet4(SERVER, HOST, 17, udp(source, destination, payload))


def ipv6(source: int, destination: int, payload: bytes) -> bytes:
    return packet6(SERVER6, HOST6, 17, udp(source, destination, payload))


def bootp(operation: int, options: bytes, given: bytes = HOST) -> bytes:
    head = bytes((operation, 1, 6, 0)) + bytes(12) + given + bytes(8) + MAC.ljust(16, b"\0") + bytes(192)
    return head + b"\x63\x82\x53\x63" + options + b"\xff"


def ack(seconds: int = 3600, given: bytes = HOST, kind: int = 5) -> bytes:
    return bootp(2, b"\0\x35\1" + bytes((kind,)) + b"\x33\4" + seconds.to_bytes(4, "big") + b"\x36\4" + SERVER, given)


def option6(code: int, data: bytes) -> bytes:
    return struct.pack(">HH", code, len(data)) + data


def reply6(*given: tuple[bytes, int], code: int = 3) -> bytes:
    inner = b"".join(option6(5, address + bytes(4) + seconds.to_bytes(4, "big")) for address, seconds in given)
    body = option6(2, b"server") + option6(code, bytes(12 if code == 3 else 4) + inner + option6(13, b"\0\0"))
    return b"\7abc" + body


def speaks(octets: bytes) -> bool:
    return from_server(octets, outline(octets, 0))


def gives(octets: bytes) -> tuple[Lease, ...]:
    return leases(octets, outline(octets, 0))


class TestWhoSpeaks:
    @pytest.mark.parametrize(
        ("octets", "server"),
        [
            (ipv4(67, 68, ack()), True),
            (ipv4(9999, 68, b"whatever"), True),
            (ipv4(67, 67, bootp(2, b"")), True),
            (ipv4(67, 67, bootp(1, b"")), False),
            (ipv4(68, 67, bootp(1, b"\x35\1\1")), False),
            (ipv4(67, 53, b"dns"), False),
            (ipv6(547, 546, reply6()), True),
            (ipv6(547, 546, b"\2abc"), True),
            (ipv6(546, 547, b"\1abc"), False),
            (ipv6(546, 547, b"\x0cabc"), False),
            (ipv6(547, 547, b"\x0dabc"), True),
            (ipv6(546, 68, b"\2"), False),
            (packet4(SERVER, HOST, 6, bytes(20)), False),
        ],
    )
    def test_by_its_ports_and_first_octet(self, octets: bytes, server: bool) -> None:
        assert speaks(octets) is server

    def test_the_first_of_fragments_is_enough(self) -> None:
        octets = bytearray(ipv4(67, 68, ack()))
        octets[6] = 0x20
        assert speaks(bytes(octets))
        assert gives(bytes(octets)) == ()

    @pytest.mark.parametrize(
        "octets", [packet4(SERVER, HOST, 17, b"\0\x43"), packet4(SERVER, HOST, 17, b""), ipv4(1, 67, b"")]
    )
    def test_ports_that_are_cut_off_are_no_alibi(self, octets: bytes) -> None:
        for padded in (octets, octets + bytes(20)):
            with pytest.raises(Malformed) as caught:
                speaks(padded)
            assert caught.value.reason is DropReason.DHCP_MALFORMED


class TestLeases:
    def test_rfc2131_an_ack(self) -> None:
        assert gives(ipv4(67, 68, ack())) == (Lease(HOST, 3600, MAC),)
        assert gives(ipv4(67, 68, ack(FOREVER)))[0].seconds == FOREVER

    def test_dpkt_writes_what_we_read(self) -> None:
        told = dpkt.dhcp.DHCP(
            op=2,
            chaddr=MAC,
            yiaddr=int.from_bytes(HOST, "big"),
            opts=((53, b"\5"), (51, b"\0\0\0\x3c"), (1, b"\xff" * 4)),
        )
        assert gives(ipv4(67, 68, bytes(told))) == (Lease(HOST, 60, MAC),)

    def test_nothing_else_gives_an_address(self) -> None:
        assert gives(ipv4(67, 68, ack(kind=2))) == (), "an offer"
        assert gives(ipv4(67, 68, ack(given=bytes(4)))) == (), "RFC 2131, section 4.3.5: an answer to DHCPINFORM"
        assert gives(ipv4(67, 68, bootp(2, b"\x35\1\5"))) == ()
        assert gives(ipv4(68, 67, ack())) == ()
        assert gives(ipv6(547, 546, b"\2abc")) == ()

    def test_rfc8415_a_reply(self) -> None:
        assert gives(ipv6(547, 546, reply6((GIVEN6, 600)))) == (Lease(GIVEN6, 600, None),)
        assert gives(ipv6(547, 546, reply6((GIVEN6, 0), code=4))) == (Lease(GIVEN6, 0, None),)
        assert gives(ipv6(547, 546, reply6((GIVEN6, 0), code=25))) == (), "a prefix is a router's"
        assert len(gives(ipv6(547, 546, reply6(*[(GIVEN6, 1)] * 40)))) == MAX_LEASES

    @pytest.mark.parametrize(
        "octets",
        [
            ipv4(67, 68, ack()[:239]),
            ipv4(67, 68, ack()[:236] + bytes(20)),
            ipv4(67, 68, bootp(2, b"\x33\x20")),
            ipv4(67, 68, ack())[:-1],
            ipv6(547, 546, b"\7ab"),
            ipv6(547, 546, b"\7abc\0"),
            ipv6(547, 546, b"\7abc" + option6(3, bytes(11))),
            ipv6(547, 546, b"\7abc" + option6(3, bytes(12) + option6(5, bytes(23)))),
        ],
    )
    def test_what_is_cut_short_is_refused(self, octets: bytes) -> None:
        with pytest.raises(Malformed) as caught:
            gives(octets)
        assert caught.value.reason is DropReason.DHCP_MALFORMED


@given(
    st.sampled_from([ipv4, ipv6]),
    st.tuples(st.sampled_from([67, 68, 546, 547]), st.sampled_from([67, 68, 546, 547])),
    st.sampled_from([b"", ack()[:240], b"\7abc", b"\7abc" + option6(3, bytes(12))]),
    st.binary(max_size=80),
    st.integers(0, 30),
)
def test_any_message_is_read_or_refused(make, ports, head, rest, cut) -> None:  # type: ignore[no-untyped-def]
    octets = make(*ports, head + rest)
    octets = octets[: len(octets) - cut]
    for read in (from_server, leases):
        assert judged(read, octets) in (None, DropReason.DHCP_MALFORMED, DropReason.FRAME_SHORT)


def judged(read, octets: bytes) -> DropReason | None:  # type: ignore[no-untyped-def]
    try:
        read(octets, outline(octets, 0))
    except Malformed as bad:
        return bad.reason
    return None
