"""IGMP and MLD messages: those of the RFCs, those dpkt knows, and all that chance can make."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.types import DropReason
from caetun.wire.checksum import ones_sum
from caetun.wire.ip import outline
from caetun.wire.membership import (
    GroupRecord,
    Kind,
    Membership,
    Query,
    Report,
    RouterHello,
    decode,
    encode_query,
    encode_report,
    float_code,
    mld_checksum,
)

HOST4, GROUP4 = bytes((192, 0, 2, 7)), bytes((239, 1, 2, 3))
HOST6 = bytes.fromhex("fe80000000000000000000000000000a")
GROUP6 = bytes.fromhex("ff0e0000000000000000000000000123")
NO_GROUP4, NO_GROUP6 = bytes(4), bytes(16)
ROUTER_ALERT4 = bytes((0x94, 4, 0, 0))
ROUTER_ALERT6 = bytes((58, 0, 5, 2, 0, 0, 1, 0))


def ipv4(message: bytes, source: bytes = HOST4, protocol: int = 2, options: bytes = ROUTER_ALERT4) -> bytes:
    size = 20 + len(options)
    head = struct.pack(">BBHHHBBH", 0x40 | size // 4, 0xC0, size + len(message), 0, 0, 1, protocol, 0)
    head += source + bytes((224, 0, 0, 22)) + options
    return head[:10] + (ones_sum(head) ^ 0xFFFF).to_bytes(2, "big") + head[12:] + message


def ipv6(message: bytes, source: bytes = HOST6, hop_limit: int = 1, next_header: int = 0) -> bytes:
    destination = bytes.fromhex("ff020000000000000000000000000016")
    if next_header == 0:
        message = ROUTER_ALERT6 + mld_checksum(source, destination, message)
    return struct.pack(">IHBB", 6 << 28, len(message), next_header, hop_limit) + source + destination + message


def read(packet: bytes) -> Membership | None:
    return decode(packet, 0, outline(packet, 0))


def refused(packet: bytes) -> DropReason:
    with pytest.raises(Malformed) as caught:
        read(packet)
    return caught.value.reason


class TestIgmp:
    @pytest.mark.parametrize(
        ("octets", "meant"),
        [
            ("1100eeff00000000", Query(1, HOST4, NO_GROUP4, 10.0)),
            ("1164ee9b00000000", Query(2, HOST4, NO_GROUP4, 10.0)),
            ("110a0000ef010203", Query(2, HOST4, GROUP4, 1.0)),
            ("118f0000ef010203" + "0a8f0000", Query(3, HOST4, GROUP4, 24.8, True, 2, 248.0)),
            ("110a0000ef010203" + "027d0001c0000201", Query(3, HOST4, GROUP4, 1.0, False, 2, 125.0, (b"\xc0\0\2\1",))),
            ("12000000ef010203", Report(1, HOST4, (GroupRecord(Kind.IS_EXCLUDE, GROUP4),))),
            ("16000000ef010203", Report(2, HOST4, (GroupRecord(Kind.IS_EXCLUDE, GROUP4),))),
            ("17000000ef010203", Report(2, HOST4, (GroupRecord(Kind.TO_INCLUDE, GROUP4),))),
            ("2200000000000000", Report(3, HOST4, ())),
            ("30140000000a0002", RouterHello(HOST4)),
        ],
    )
    def test_messages(self, octets: str, meant: Membership) -> None:
        message = bytes.fromhex(octets)
        message = message[:2] + bytes(2) + message[4:]
        message = message[:2] + (ones_sum(message) ^ 0xFFFF).to_bytes(2, "big") + message[4:]
        assert read(ipv4(message)) == meant
        assert read(ipv4(message, options=b"")) == meant, "some hosts leave Router Alert away"

    def test_a_report_with_sources_auxiliary_data_and_an_unknown_kind(self) -> None:
        one, two = b"\xc0\0\2\1", b"\xc0\0\2\2"
        records = [
            struct.pack(">BBH", 6, 1, 2) + GROUP4 + one + two + b"more",
            struct.pack(">BBH", 9, 0, 0) + GROUP4,
            struct.pack(">BBH", 1, 0, 0) + GROUP4,
        ]
        message = struct.pack(">BBHHH", 0x22, 0, 0, 0, 3) + b"".join(records) + b"additional data"
        message = message[:2] + (ones_sum(message) ^ 0xFFFF).to_bytes(2, "big") + message[4:]
        expected = (GroupRecord(Kind.BLOCK, GROUP4, (one, two)), GroupRecord(Kind.IS_INCLUDE, GROUP4))
        assert read(ipv4(message)) == Report(3, HOST4, expected)

    def test_dpkt_reads_what_we_write(self) -> None:
        told = dpkt.igmp.IGMP(encode_query(Query(2, HOST4, GROUP4, 1.0)))
        assert (told.type, told.maxresp, told.group) == (0x11, 10, GROUP4)

    def test_what_is_wrong_has_a_name(self) -> None:
        message = encode_query(Query(2, HOST4, GROUP4, 1.0))
        assert refused(ipv4(message[:4])) is DropReason.MULTICAST_MALFORMED
        assert refused(ipv4(message[:2] + b"\xff" + message[3:])) is DropReason.MULTICAST_CHECKSUM
        packet = ipv4(message)
        assert refused(packet[:8] + b"\x02" + packet[9:]) is DropReason.MULTICAST_CHECKSUM, "of the IPv4 header"
        assert refused(packet[:-1]) is DropReason.MULTICAST_MALFORMED
        assert refused(ipv4(encode_query(Query(2, HOST4, HOST4, 1.0)))) is DropReason.MULTICAST_MALFORMED

    def test_what_is_not_known_is_nobodys_fault(self) -> None:
        message = b"\x13\0\xec\xff\0\0\0\0"
        assert ones_sum(message) == 0xFFFF
        assert read(ipv4(message)) is None
        assert read(ipv4(message, protocol=17)) is None
        assert read(ipv4(b"\x20\0\0\0", protocol=103)) == RouterHello(HOST4)
        assert read(ipv4(b"\x23\0\0\0", protocol=103)) is None


class TestMld:
    @pytest.mark.parametrize(
        "meant",
        [
            Query(1, HOST6, NO_GROUP6, 10.0),
            Query(1, HOST6, GROUP6, 1.0),
            Query(2, HOST6, GROUP6, 1.0, True, 2, 125.0, (HOST6,)),
            Query(2, HOST6, NO_GROUP6, 32.768, False, 7, 31744.0),
        ],
    )
    def test_queries(self, meant: Query) -> None:
        assert read(ipv6(encode_query(meant))) == meant

    @pytest.mark.parametrize(
        "meant",
        [
            Report(1, HOST6, (GroupRecord(Kind.IS_EXCLUDE, GROUP6),)),
            Report(1, bytes(16), (GroupRecord(Kind.TO_INCLUDE, GROUP6),)),
            Report(2, HOST6, (GroupRecord(Kind.ALLOW, GROUP6, (HOST6, GROUP6)), GroupRecord(Kind.TO_EXCLUDE, GROUP6))),
        ],
    )
    def test_reports(self, meant: Report) -> None:
        assert read(ipv6(encode_report(meant.version, meant.records, 16), meant.source)) == meant

    def test_a_router_says_hello(self) -> None:
        assert read(ipv6(struct.pack(">BBHHH", 151, 20, 0, 10, 2))) == RouterHello(HOST6)
        assert read(ipv6(b"\x20\0\0\0", next_header=103)) == RouterHello(HOST6)

    def test_what_is_wrong_has_a_name(self) -> None:
        message = encode_query(Query(1, HOST6, GROUP6, 1.0))
        whole = ipv6(message)
        assert refused(whole[:60] + b"\xee" + whole[61:]) is DropReason.MULTICAST_CHECKSUM
        assert refused(ipv6(message, hop_limit=64)) is DropReason.MULTICAST_MALFORMED
        assert refused(ipv6(message, source=b"\x20\x01" + HOST6[2:])) is DropReason.MULTICAST_MALFORMED
        assert refused(ipv6(message[:20])) is DropReason.MULTICAST_MALFORMED

    def test_neighbour_discovery_is_none_of_it(self) -> None:
        assert read(ipv6(struct.pack(">BBHI", 135, 0, 0, 0) + GROUP6)) is None


ADDRESS4, ADDRESS6 = st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)
GROUPS4 = st.binary(min_size=3, max_size=3).map(lambda rest: b"\xef" + rest)
GROUPS6 = st.binary(min_size=15, max_size=15).map(lambda rest: b"\xff" + rest)


@given(
    st.lists(
        st.builds(GroupRecord, st.sampled_from(Kind), GROUPS4, st.lists(ADDRESS4, max_size=4).map(tuple)), max_size=5
    )
)
def test_igmp_reports_mirror(records: list[GroupRecord]) -> None:
    assert read(ipv4(encode_report(3, records, 4))) == Report(3, HOST4, tuple(records))


@given(
    st.lists(
        st.builds(GroupRecord, st.sampled_from(Kind), GROUPS6, st.lists(ADDRESS6, max_size=4).map(tuple)), max_size=5
    )
)
def test_mld_reports_mirror(records: list[GroupRecord]) -> None:
    assert read(ipv6(encode_report(2, records, 16))) == Report(2, HOST6, tuple(records))


@pytest.mark.parametrize(("bits", "most"), [(8, 31744), (16, 8387584)])
def test_codes_are_never_larger_than_the_value(bits: int, most: int) -> None:
    def value(code: int) -> int:
        if code < 1 << (bits - 1):
            return code
        mantissa = bits - 4
        return ((code & ((1 << mantissa) - 1)) | 1 << mantissa) << ((code >> mantissa & 7) + 3)

    for wanted in [*range(1000), *range(1000, most, most // 999), most]:
        code = float_code(wanted, bits)
        assert value(code) <= wanted
        assert code + 1 == 1 << bits or value(code + 1) > wanted
    assert value(float_code(10 * most, bits)) == most


@given(st.binary(max_size=120), st.booleans(), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(body: bytes, checked: bool, kind: int) -> None:
    body = bytes((kind,)) + body
    if checked and len(body) >= 4:
        body = body[:2] + bytes(2) + body[4:]
        body = body[:2] + (ones_sum(body) ^ 0xFFFF).to_bytes(2, "big") + body[4:]
    for packet in (ipv4(body), ipv6(body) if len(body) >= 4 else ipv4(body, protocol=103)):
        try:
            read(packet)
        except Malformed:
            continue


@given(st.binary(max_size=300))
def test_any_packet_is_read_or_refused(packet: bytes) -> None:
    try:
        decode(packet, 0, outline(packet, 0))
    except Malformed:
        return
