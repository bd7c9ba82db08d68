"""What is said to a proxy before the stream begins: HTTP CONNECT (RFC 9110 section 9.3.6), SOCKS5 (RFC 1928, RFC 1929).

HTTP    CONNECT host:port HTTP/1.1, fields, an empty line          ->
                                        <-  HTTP/1.1 200 ..., fields, an empty line; the stream begins behind it

SOCKS5  +----+---+-----------+                                         +----+--------+
        | 05 | n | n methods |                         ->      <-      | 05 | method |
        +----+---+-----------+                                         +----+--------+
        +----+------+------+------+----------+                         +----+--------+
        | 01 | 1..  | user | 1..  | password |         ->      <-      | 01 | status |      if the method is 02
        +----+------+------+------+----------+                         +----+--------+
        +----+----+----+------+---------+---------+                    +----+-------+----+------+---------+---------+
        | 05 | 01 | 00 | type | address | port: 2 |    ->      <-      | 05 | reply | 00 | type | address | port: 2 |
        +----+----+----+------+---------+---------+                    +----+-------+----+------+---------+---------+

A decoder returns None for bytes that are no such answer: whoever dials says so in words, nothing is counted.
"""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

# -- fixed by the specification --
_VERSION: Final = 5
_CONNECT: Final = 1
_RESERVED: Final = 0
_CREDENTIALS_VERSION: Final = 1
"""RFC 1929 section 2: of the sub-negotiation."""
NO_AUTHENTICATION: Final = 0x00
USER_PASSWORD: Final = 0x02
NONE_ACCEPTABLE: Final = 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_SIZES: Final = {_IPV4: 4, _IPV6: 16}
_PORT_SIZE: Final = 2
CHOICE_SIZE: Final = 2
VERDICT_SIZE: Final = 2
REPLY_SIZE: Final = 2
"""Bytes of a reply that say whether it is a refusal; some proxies send no more of one."""
BOUND_SIZE: Final = 3
"""Bytes behind those that say how long the rest is: reserved, type, and the first byte of the address."""
SUCCEEDED: Final = 0
REPLIES: Final = {
    1: "general SOCKS server failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
"""The words of RFC 1928 section 6."""
CREDENTIAL_LIMIT: Final = 255
"""Bytes of a user name or a password (RFC 1929 section 2), 1 at least."""
_HOST: Final = re.compile(r"[!-~]{1,255}")
"""What fits the length byte of RFC 1928 section 5, and cannot end a line of HTTP."""
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
"""RFC 9112 section 2.2: a recipient may take a single LF for the end of a line."""
_HEAD_END_LONGEST: Final = 4
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r?\n")
"""RFC 9112 section 4; some proxies leave out the space before an empty phrase."""
_CHALLENGE: Final = re.compile(rb"^proxy-authenticate:[ \t]*([A-Za-z0-9_-]{1,20})", re.IGNORECASE | re.MULTILINE)
"""The scheme at the head of the field (RFC 9110 section 11.7.1); each of several usually has a field of its own."""

# -- chosen by us --
_PHRASE_LIMIT: Final = 60
"""Characters of a proxy's own words in our messages."""
_CHALLENGE_LIMIT: Final = 4
"""Authentication schemes named in our messages."""


class HttpAnswer(NamedTuple):
    """The head of a proxy's answer to CONNECT."""

    status: int
    """100..599."""
    phrase: str
    """The proxy's words, printable ASCII, cut to a length fit for a line of log."""
    challenges: tuple[str, ...]
    """Names of the authentication schemes it asks for (`Basic`, `NTLM`), a few of them."""


# -- HTTP --


def authority(host: str, port: int) -> str:
    """`host:port`, with the brackets that an IPv6 address needs (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def encode_connect(host: str, port: int, credentials: tuple[bytes, bytes] | None) -> bytes:
    """Ask an HTTP proxy for a stream to `host`; `credentials`: user and password.

    Raises ValueError if the host is not printable ASCII of 1..255 characters.
    """
    where = authority(_checked(host), port)
    lines = [f"CONNECT {where} HTTP/1.1".encode(), f"Host: {where}".encode()]
    if credentials is not None:
        # unasked, as RFC 7617 section 2.2 allows: it saves a round trip, and many proxies hang up after a 407
        lines.append(b"Proxy-Authorization: Basic " + base64.b64encode(b":".join(credentials)))
    return b"\r\n".join([*lines, b"", b""])


def find_head_end(data: bytes, new: int) -> int | None:
    """Where the head at the start of `data` ends; None if it does not yet.

    `new`: how many of the last bytes of `data` have not been searched before.
    """
    found = _HEAD_END.search(data, max(0, len(data) - new - _HEAD_END_LONGEST + 1))
    return found.end() if found else None


def decode_head(head: bytes) -> HttpAnswer | None:
    """Read the head of an answer to CONNECT, up to and with its empty line; None if it is no HTTP/1."""
    line = _STATUS_LINE.match(head)
    if line is None:
        return None
    phrase = bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in (line[2] or b"")[:_PHRASE_LIMIT])
    challenges = dict.fromkeys(name.decode() for name in _CHALLENGE.findall(head))
    return HttpAnswer(int(line[1]), phrase.decode().strip(), tuple(challenges)[:_CHALLENGE_LIMIT])


# -- SOCKS5 --


def encode_greeting(with_password: bool) -> bytes:
    """Say which methods we know: none, and user and password if we have them."""
    methods = [NO_AUTHENTICATION, USER_PASSWORD] if with_password else [NO_AUTHENTICATION]
    return bytes([_VERSION, len(methods), *methods])


def decode_choice(data: bytes) -> int | None:
    """The method that a proxy chose, in `CHOICE_SIZE` bytes; None if they are no SOCKS5."""
    return data[1] if len(data) == CHOICE_SIZE and data[0] == _VERSION else None


def encode_credentials(user: bytes, password: bytes) -> bytes:
    """Say who we are (RFC 1929). Raises ValueError if either has not 1..255 bytes."""
    if not (0 < len(user) <= CREDENTIAL_LIMIT and 0 < len(password) <= CREDENTIAL_LIMIT):
        raise ValueError(f"SOCKS5 takes a user name and a password of 1..{CREDENTIAL_LIMIT} bytes each")
    return bytes([_CREDENTIALS_VERSION, len(user)]) + user + bytes([len(password)]) + password


def decode_verdict(data: bytes) -> bool | None:
    """Whether the proxy takes the credentials, in `VERDICT_SIZE` bytes; None if they are no such answer."""
    # RFC 1929 says version 1; some proxies repeat the 5 of the greeting.
    if len(data) != VERDICT_SIZE or data[0] not in (_CREDENTIALS_VERSION, _VERSION):
        return None
    return data[1] == SUCCEEDED


def encode_request(host: str, port: int) -> bytes:
    """Ask for a stream to `host`; a name is for the proxy to look up.

    Raises ValueError if the host is not printable ASCII of 1..255 characters.
    """
    return bytes([_VERSION, _CONNECT, _RESERVED]) + _encode_address(_checked(host)) + port.to_bytes(_PORT_SIZE)


def decode_reply(data: bytes) -> int | None:
    """The reply in its first `REPLY_SIZE` bytes: `SUCCEEDED`, a key of `REPLIES`, or another; None if no SOCKS5."""
    return data[1] if len(data) == REPLY_SIZE and data[0] == _VERSION else None


def decode_bound(data: bytes) -> int | None:
    """How many bytes follow the next `BOUND_SIZE` of a reply: 2..257; None if they are none of a reply."""
    if len(data) != BOUND_SIZE:
        return None
    if data[1] == _NAME:
        return data[2] + _PORT_SIZE
    size = _ADDRESS_SIZES.get(data[1])
    return None if size is None else size - 1 + _PORT_SIZE


def _encode_address(host: str) -> bytes:
    """Type and address (RFC 1928 section 5)."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return bytes([_NAME, len(host)]) + host.encode()
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _checked(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} cannot be asked of a proxy: it must be printable ASCII, 1..255 characters")
    return host
