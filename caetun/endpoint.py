"""Endpoints as people write them: `HOST:PORT`, or a URL `SCHEME://HOST[:PORT][/PATH]`.

hub.example:4500   192.0.2.1:4500   [2001:db8::1]:4500   udp://hub.example:4500   wss://hub.example/secret/path
:4500   *:4500     every local address, IPv4 and IPv6
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from caetun.transports import registry

# fixed by the specification
_PORT_LIMIT: Final = 65535
_NAME_LIMIT: Final = 253
"""Characters of a domain name in text (RFC 1035 section 2.3.4: 255 bytes on the wire)."""
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
"""One label (RFC 1123 section 2.1), and the underscore, which resolvers take."""
_NUMBER: Final = r"[0-9]+|0[xX][0-9A-Fa-f]*"
_PATH: Final = r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
"""A URL's path (RFC 3986 section 3.3)."""
PATH_TRANSPORTS: Final = ("ws", "wss")
"""Those of ours whose URLs have a path."""

# chosen by us
_FORMS: Final = "write HOST:PORT, [IPV6]:PORT, :PORT or SCHEME://HOST[:PORT][/PATH]"
_PATH_LIMIT: Final = 1024
"""Characters of a path."""


class Endpoint(NamedTuple):
    """Where to listen, or whom to call.

    `scheme`: a transport, or "" until the settings fill in `--transport`. `host`: a name or an address without
    brackets, "" for every local address. `port`: 0..65535, 0 lets the kernel choose. `path`: of a URL, "" for none.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        """The form that `parse_endpoint` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}" if self.scheme else f"{host}:{self.port}"


def parse_transports(text: str) -> tuple[str, ...]:
    """Names of transports, separated by commas, or `auto`; raises ValueError (why, what to do) if one is unknown."""
    names = registry.AUTO if text == "auto" else tuple(name.strip() for name in text.split(","))
    for name in names:
        _check_transport(name)
    if len(set(names)) < len(names):
        raise ValueError(f"{text!r} names a transport twice: leave one away")
    return names


def _check_transport(name: str) -> None:
    if not registry.known(name):
        raise ValueError(f"{name!r} is not a transport: give auto, or some of {', '.join(registry.names())}")


def parse_endpoint(text: str) -> Endpoint:
    """Read an endpoint to listen on. Raises ValueError (why, what to do)."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Endpoint("", *_parse_place(text, text, None))
    _check_transport(scheme)
    place, slash, path = rest.partition("/")
    host, port = _parse_place(text, place, registry.default_port(scheme))
    path = slash + path
    if path == "/" or not path:
        return Endpoint(scheme, host, port)
    if scheme in registry.BUILT_IN and scheme not in PATH_TRANSPORTS:
        raise ValueError(f"{text!r} has a path, which {scheme} has no use for: leave {path!r} away")
    if len(path) > _PATH_LIMIT or not re.fullmatch(_PATH, path):
        raise ValueError(f"{text!r} has a path that is not one of a URL: use letters, digits and -._~/ only")
    return Endpoint(scheme, host, port, path)


def _parse_place(text: str, place: str, default_port: int | None) -> tuple[str, int]:
    """Host and port."""
    if place.count(":") > 1 and not place.startswith("["):
        raise ValueError(f"{text!r} looks like an IPv6 address without brackets: write [IPV6]:PORT")
    host, separator, port = place.rpartition(":")
    if not separator or port.endswith("]"):
        if default_port is None:
            raise ValueError(f"{text!r} has no port: {_FORMS}")
        return _parse_host(place), default_port
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > _PORT_LIMIT:
        raise ValueError(f"{text!r} has port {port!r}, which is not 0..{_PORT_LIMIT}: {_FORMS}")
    return _parse_host(host), int(port)


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
    if re.fullmatch(_NUMBER, labels[-1]):
        # No top-level domain is a number (RFC 3696 section 2), and resolvers read "10.1" as 10.0.0.1: insist on four.
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv4 address: write all four numbers, 0..255 each") from None
    if len(text) > _NAME_LIMIT or not all(re.fullmatch(_LABEL, label) for label in labels):
        raise ValueError(f"{text!r} is not a host name: use letters, digits, hyphens and dots, or an address")
    return text
