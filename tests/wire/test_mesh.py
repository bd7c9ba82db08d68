"""Messages of a mesh."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.errors import Malformed
from caetun.session.channel import MAX_MESSAGE
from caetun.types import DropReason
from caetun.wire.mesh import (
    MAX_HOSTS,
    MAX_NAME,
    MAX_PLACES,
    MAX_PREFIXES,
    Gone,
    Host,
    Hosts,
    Introduce,
    Join,
    Message,
    Place,
    decode,
    encode,
)

KEY, PSK = bytes(range(32)), bytes(range(32, 64))

addresses = st.ip_addresses().filter(lambda each: not (each.is_multicast or each.is_unspecified or each.is_loopback))
places = st.lists(st.builds(Place, addresses, st.integers(1, 65535)), max_size=MAX_PLACES).map(tuple)
prefixes = st.lists(
    st.ip_addresses().flatmap(
        lambda each: st.integers(0, each.max_prefixlen).map(lambda bits: ip_network((each, bits), strict=False))
    ),
    max_size=20,
).map(tuple)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=MAX_NAME)
keys = st.binary(min_size=32, max_size=32)
macs = st.binary(min_size=6, max_size=6).filter(lambda mac: any(mac) and not mac[0] & 1)
hosts = st.lists(st.builds(Host, st.integers(0, 4094), macs), max_size=20).map(tuple)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Join, places),
    st.builds(Introduce, keys, keys, names, places, prefixes),
    st.builds(Gone, keys),
    st.builds(Hosts, hosts, hosts),
)


@given(messages)
def test_there_and_back(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.one_of(st.binary(max_size=200), messages.map(encode)), st.integers(0, 300), st.integers(0, 255))
def test_whatever_comes_is_read_or_refused(body: bytes, at: int, value: int) -> None:
    if at < len(body):
        body = body[:at] + bytes((value,)) + body[at + 1 :]
    reason = None
    try:
        assert encode(decode(body)) == body
    except Malformed as bad:
        reason = bad.reason
    assert reason in (None, DropReason.MESH_MALFORMED)


@given(messages, st.data())
def test_what_is_cut_short_or_goes_on_is_refused(message: Message, data: st.DataObject) -> None:
    body = encode(message)
    with pytest.raises(Malformed):
        decode(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(Malformed):
        decode(body + b"\0")


@pytest.mark.parametrize(
    "message",
    [
        Join((Place(ip_address("192.0.2.1"), 1),) * (MAX_PLACES + 1)),
        Join((Place(ip_address("192.0.2.1"), 0),)),
        Join((Place(ip_address("224.0.0.1"), 1),)),
        Join((Place(ip_address("::1"), 1),)),
        Introduce(KEY, PSK, "two\nlines", (), ()),
        Introduce(KEY, PSK, "", (), (ip_network("10.0.0.1"),) * (MAX_PREFIXES + 1)),
        Hosts((Host(0, bytes(5) + b"\1"),) * (MAX_HOSTS + 1)),
        Hosts((), (Host(4095, bytes(5) + b"\1"),)),
        Hosts((Host(0, bytes(6)),)),
        Hosts((Host(0, b"\1" + bytes(5)),)),
    ],
)
def test_what_nobody_should_say(message: Message) -> None:
    with pytest.raises(Malformed):
        decode(encode(message))


def test_a_message_with_all_the_hosts_it_may_have_fits_the_channel() -> None:
    hosts = tuple(Host(7, bytes((2, 0, 0, 0, *divmod(number, 256)))) for number in range(MAX_HOSTS))
    assert len(encode(Hosts(hosts, hosts))) <= MAX_MESSAGE
