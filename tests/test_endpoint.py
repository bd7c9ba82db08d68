"""Endpoints: what people write, and what they get wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.endpoint import Endpoint, parse_endpoint, parse_remote, parse_transports

HOSTS = st.one_of(
    st.just(""),
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z][a-z0-9-]{0,9}[a-z0-9]){0,4}", fullmatch=True),
)
PORTS = st.integers(0, 65535)
PATHS = st.from_regex(r"(/[a-z0-9._~-]{1,9}){0,3}", fullmatch=True)
ENDPOINTS = st.builds(Endpoint, st.sampled_from(["", "udp", "quic", "tls"]), HOSTS, PORTS, st.just("")) | st.builds(
    Endpoint, st.sampled_from(["ws", "wss"]), HOSTS, PORTS, PATHS
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hub.example:4500", Endpoint("", "hub.example", 4500)),
        ("hub.example.:4500", Endpoint("", "hub.example.", 4500)),
        ("my_host:1", Endpoint("", "my_host", 1)),
        ("192.0.2.1:4500", Endpoint("", "192.0.2.1", 4500)),
        ("[2001:DB8:0::1]:4500", Endpoint("", "2001:db8::1", 4500)),
        ("[fe80::1%eth0]:4500", Endpoint("", "fe80::1%eth0", 4500)),
        (":4500", Endpoint("", "", 4500)),
        ("*:4500", Endpoint("", "", 4500)),
        ("udp://[::1]:65535", Endpoint("udp", "::1", 65535)),
        ("udp://*:0", Endpoint("udp", "", 0)),
        ("udp://hub.example", Endpoint("udp", "hub.example", 4500)),
        ("quic://[2001:db8::1]", Endpoint("quic", "2001:db8::1", 443)),
        ("tcp://hub.example:8443/", Endpoint("tcp", "hub.example", 8443)),
        ("wss://hub.example/secret/path", Endpoint("wss", "hub.example", 443, "/secret/path")),
        ("ws://:8080/", Endpoint("ws", "", 8080)),
    ],
)
def test_what_people_write(text: str, meant: Endpoint) -> None:
    assert parse_endpoint(text) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no port"),
        ("hub.example", "has no port"),
        ("[::1]", "has no port"),
        ("hub.example:", "port ''"),
        ("hub.example:65536", "port '65536'"),
        ("hub.example:-1", "port '-1'"),
        ("hub.example:٤", "port '٤'"),
        ("udp://hub.example:1/path", "a path, which udp has no use for"),
        ("wss://hub.example/two words", "not one of a URL"),
        ("wss://hub.example/" + "a" * 1024, "not one of a URL"),
        ("2001:db8::1", "without brackets"),
        ("2001:db8::1:4500", "without brackets"),
        ("[]:1", "not an IPv6 address"),
        ("[*]:1", "not an IPv6 address"),
        ("[::1]x:1", "not a host name"),
        ("127.1:1", "not an IPv4 address"),
        ("0x7f000001:1", "not an IPv4 address"),
        ("256.0.0.1:1", "not an IPv4 address"),
        ("-a:1", "not a host name"),
        ("a..b:1", "not a host name"),
        ("two words:1", "not a host name"),
        (f"{'a' * 64}:1", "not a host name"),
        (f"{'a.' * 127}b:1", "not a host name"),
        ("gopher://hub.example:1", "'gopher' is not a transport: give auto, or some of udp, quic, tcp, tls, ws, wss"),
    ],
)
def test_what_people_get_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", r"\*")) as caught:
        parse_endpoint(text)
    assert ": " in str(caught.value), "an error says why and what to do"


@pytest.mark.parametrize(("text", "why"), [(":4500", "no host"), ("*:4500", "no host"), ("hub.example:0", "port 0")])
def test_nobody_can_be_called_without_host_and_port(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_remote(text)


def test_transports_are_named_one_by_one_or_all_at_once() -> None:
    assert parse_transports("udp") == ("udp",)
    assert parse_transports("quic, wss") == ("quic", "wss")
    assert parse_transports("auto") == ("udp", "quic", "tcp", "wss", "ws")
    for text, why in (("websocket", "'websocket' is not a transport"), ("", "'' is not"), ("udp,udp", "twice")):
        with pytest.raises(ValueError, match=why):
            parse_transports(text)


@given(ENDPOINTS)
def test_text_and_endpoint_mirror_each_other(endpoint: Endpoint) -> None:
    assert parse_endpoint(str(endpoint)) == endpoint


@given(st.text() | st.from_regex(r"((udp|wss)://)?[^:]*:[0-9]{1,6}(/.*)?", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint
    assert 0 <= endpoint.port <= 65535
