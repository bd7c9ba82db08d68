"""Endpoints as people write them: `[SCHEME://]HOST:PORT`.

hub.example:4500   192.0.2.1:4500   [2001:db8::1]:4500   udp://hub.example:4500
:4500   *:4500     every local address, IPv4 and IPv6
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

# fixed by the specification
_PORT_LIMIT: Final = 65535
_NAME_LIMIT: Final = 253
"""Characters of a domain name in text (RFC 1035 section 2.3.4: 255 bytes on the wire)."""
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
"""One label (RFC 1123 section 2.1), and the underscore, which resolvers take."""
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

# chosen by us
TRANSPORTS: Final = ("udp",)
"""What this version can travel over."""
_FORMS: Final = "write HOST:PORT, [IPV6]:PORT or :PORT"


class Endpoint(NamedTuple):
    """Where to listen, or whom to call.

    `scheme`: a transport, or "" until the settings fill in `--transport`. `host`: a name or an address without
    brackets, "" for every local address. `port`: 0..65535, 0 lets the kernel choose.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """The form that `parse_endpoint` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" if self.scheme else f"{host}:{self.port}"


def parse_transport(text: str) -> str:
    """A transport's name; raises ValueError (why, what to do) if this version lacks it."""
    if text not in TRANSPORTS:
        raise ValueError(f"transport {text!r} is not in this version: available: {', '.join(TRANSPORTS)}")
    return text


def parse_endpoint(text: str) -> Endpoint:
    """Read an endpoint to listen on. Raises ValueError (why, what to do)."""
    scheme, separator, rest = text.rpartition("://")
    if separator:
        parse_transport(scheme)
    if rest.count(":") > 1 and not rest.startswith("["):
        raise ValueError(f"{text!r} looks like an IPv6 address without brackets: write [IPV6]:PORT")
    host, separator, port = rest.rpartition(":")
    if not separator or port.endswith("]"):
        raise ValueError(f"{text!r} has no port: {_FORMS}")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > _PORT_LIMIT:
        raise ValueError(f"{text!r} has port {port!r}, which is not 0..{_PORT_LIMIT}: {_FORMS}")
    return Endpoint(scheme, _parse_host(host), int(port))


def parse_remote(text: str) -> Endpoint:
    """Read an endpoint to call, which needs a host and a port. Raises ValueError (why, what to do)."""
    endpoint = parse_endpoint(text)
    if not endpoint.host:
        raise ValueError(f"{text!r} names no host to call: write HOST:PORT or [IPV6]:PORT")
    if not endpoint.port:
        raise ValueError(f"{text!r} has port 0, which nobody can be called on: give 1..{_PORT_LIMIT}")
    return endpoint


def _parse_host(text: str) -> str:
    """A name or address in its usual form; "" for the wildcards."""
    if text in ("", "*"):
        return ""
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv6 address: {_FORMS}") from None
    labels = text.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # No top-level domain is a number (RFC 3696 section 2), and resolvers read "10.1" as 10.0.0.1: insist on four.
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv4 address: write all four numbers, 0..255 each") from None
    if len(text) > _NAME_LIMIT or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is not a host name: use letters, digits, hyphens and dots, or an address")
    return text
