"""What is said to a proxy: HTTP CONNECT and SOCKS5, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caetun.wire import proxy as wire

# -- HTTP --


def test_connect_names_the_target_twice_and_ends_with_an_empty_line() -> None:
    assert wire.encode_connect("hub.example", 443, None) == (
        b"CONNECT hub.example:443 HTTP/1.1\r\nHost: hub.example:443\r\n\r\n"
    )


def test_an_ipv6_address_gets_brackets() -> None:
    assert wire.encode_connect("2001:db8::1", 443, None).startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")


def test_user_and_password_are_sent_as_basic_credentials() -> None:
    # the example of RFC 7617 section 2
    request = wire.encode_connect("hub.example", 443, (b"Aladdin", b"open sesame"))
    assert b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in request


@pytest.mark.parametrize("host", ["", "a\r\nX-Y: z", "a b", "a" * 256, "ä.example"])
def test_a_host_that_could_break_the_request_is_not_asked_for(host: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        wire.encode_connect(host, 443, None)
    with pytest.raises(ValueError, match="printable ASCII"):
        wire.encode_request(host, 443)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", (200, "Connection established", ())),
        (b"HTTP/1.0 200\r\n\r\n", (200, "", ())),
        (b"HTTP/1.1 200 \n\n", (200, "", ())),
        (b"HTTP/1.1 502 b\xfcd\x1b[2J\r\n\r\n", (502, "b?d?[2J", ())),
        (b"HTTP/1.1 502 " + b"x" * 500 + b"\r\n\r\n", (502, "x" * 60, ())),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate:Basic realm=x\r\n\r\n",
         (407, "No", ("NTLM", "Basic"))),
    ],
)  # fmt: skip
def test_an_answer_is_read(head: bytes, answer: tuple[int, str, tuple[str, ...]]) -> None:
    assert wire.decode_head(head) == answer


@pytest.mark.parametrize(
    "head", [b"\r\n\r\n", b"\x05\xff\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 2000 x\r\n\r\n", b"HTTP/1.1 999 x\n\n"]
)
def test_what_is_no_answer_is_none(head: bytes) -> None:
    assert wire.decode_head(head) is None


@given(st.binary(max_size=200))
def test_any_head_is_read_or_none(head: bytes) -> None:
    answer = wire.decode_head(head)
    assert answer is None or (100 <= answer.status <= 599 and answer.phrase.isprintable())


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"xyz"]), max_size=30).map(b"".join), st.data())
def test_the_end_of_a_head_is_found_however_it_was_cut(data: bytes, chance: st.DataObject) -> None:
    whole = wire.find_head_end(data, len(data))
    have, end = b"", None
    while end is None and len(have) < len(data):
        new = chance.draw(st.integers(1, len(data) - len(have)))
        have = data[: len(have) + new]
        end = wire.find_head_end(have, new)
    assert end == whole


# -- SOCKS5 --


def test_the_greeting_offers_a_password_only_if_there_is_one() -> None:
    assert wire.encode_greeting(with_password=False) == b"\x05\x01\x00"
    assert wire.encode_greeting(with_password=True) == b"\x05\x02\x00\x02"


def test_credentials_travel_with_their_lengths() -> None:
    assert wire.encode_credentials(b"me", b"\xffsecret") == b"\x01\x02me\x07\xffsecret"


@pytest.mark.parametrize(("user", "password"), [(b"", b"x"), (b"x", b""), (b"x" * 256, b"x"), (b"x", b"x" * 256)])
def test_credentials_that_do_not_fit_are_not_sent(user: bytes, password: bytes) -> None:
    with pytest.raises(ValueError, match=r"1\.\.255 bytes"):
        wire.encode_credentials(user, password)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ("hub.example", b"\x03\x0bhub.example"),
    ],
)
def test_a_request_names_addresses_and_names(host: str, address: bytes) -> None:
    assert wire.encode_request(host, 443) == b"\x05\x01\x00" + address + b"\x01\xbb"


@pytest.mark.parametrize(("bound", "rest"), [(b"\x00\x01\x7f", 5), (b"\x00\x04\x20", 17), (b"\x00\x03\x00", 2)])
def test_the_rest_of_a_reply_has_a_length(bound: bytes, rest: int) -> None:
    assert wire.decode_bound(bound) == rest


@given(st.binary(max_size=4))
def test_any_bytes_are_an_answer_or_none(data: bytes) -> None:
    assert wire.decode_choice(data) in (None, *range(256))
    assert wire.decode_verdict(data) in (None, False, True)
    assert wire.decode_reply(data) in (None, *range(256))
    assert wire.decode_bound(data) in (None, *range(2, 258))
