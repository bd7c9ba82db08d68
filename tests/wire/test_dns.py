"""Queries out, addresses in; and whatever else comes in is refused in one way."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.wire.dns import AAAA, MAX_ADDRESSES, A, decode_answer, encode_query

QUERY = encode_query(0x1234, "hub.example", A)


def answer(query: bytes = QUERY, code: int = 0, records: bytes = b"", count: int = 0) -> bytes:
    return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, count, 0, 0) + query[12:] + records


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


ONE = record(A, bytes([192, 0, 2, 1]))
ALIAS = record(5, b"\x05other\xc0\x10")


def test_a_query_as_another_library_reads_it() -> None:
    read = dpkt.dns.DNS(encode_query(7, "Hub.Example.", AAAA))
    assert (read.id, read.rd, read.qr) == (7, 1, 0)
    assert [(each.name, each.type, each.cls) for each in read.qd] == [("Hub.Example", AAAA, 1)]


def test_an_answer_as_another_library_writes_it() -> None:
    message = dpkt.dns.DNS(QUERY)
    message.qr = 1
    message.an = [dpkt.dns.DNS.RR(name="hub.example", type=A, ip=bytes([192, 0, 2, each])) for each in (1, 2)]
    assert decode_answer(bytes(message), QUERY) == ([ip_address("192.0.2.1"), ip_address("192.0.2.2")], True)


def test_the_address_behind_an_alias() -> None:
    records = ALIAS + record(A, bytes([192, 0, 2, 9]), name=b"\x05other\xc0\x10")
    assert decode_answer(answer(records=records, count=2), QUERY) == ([ip_address("192.0.2.9")], True)


def test_ipv6() -> None:
    query = encode_query(1, "hub.example", AAAA)
    address = ip_address("2001:db8::1")
    records = record(AAAA, address.packed) + ONE
    assert decode_answer(answer(query, records=records, count=2), query) == ([address], True)


def test_no_such_name_and_no_such_address() -> None:
    assert decode_answer(answer(code=3), QUERY) == ([], False)
    assert decode_answer(answer(), QUERY) == ([], True)


def test_a_message_cut_off_is_worth_what_it_holds() -> None:
    assert decode_answer(answer(records=ONE + ONE[:-1], count=2), QUERY) == ([ip_address("192.0.2.1")], True)


def test_more_addresses_than_anybody_needs() -> None:
    found, _ = decode_answer(answer(records=ONE * 40, count=40), QUERY)
    assert len(found) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "another query"),
        (b"\x43\x21" + answer()[2:], "another query"),
        (QUERY, "another question"),
        (answer(encode_query(0x1234, "web.example", A)), "another question"),
        (answer(encode_query(0x1234, "hub.example", AAAA)), "another question"),
        (answer(code=2), "the server failed"),
        (answer(code=5), "the server failed"),
    ],
)
def test_what_is_no_answer(message: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_answer(message, QUERY)


@given(st.binary(max_size=64), st.integers(0, 0xFFFF))
def test_garbage_behind_the_question(garbage: bytes, count: int) -> None:
    found, exists = decode_answer(answer(records=garbage, count=count), QUERY)
    assert exists
    assert len(found) <= min(count, MAX_ADDRESSES)


@given(st.binary(max_size=80))
def test_garbage(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="another"):
        decode_answer(garbage, QUERY)


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, ".".join(["a" * 60] * 5), "é" * 64])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        encode_query(1, name, A)


def test_other_alphabets() -> None:
    assert b"xn--bcher-kva" in encode_query(1, "bücher.example", A)
