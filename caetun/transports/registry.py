"""Which transports there are, by name: our own, and what other packages add by the entry point `caetun.transports`.

A module is imported when its transport is first used: most tunnels need one of them, and a start must be quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from caetun import plugins
from caetun.errors import ConfigurationError

if TYPE_CHECKING:
    from caetun.transports.base import Transport

ENTRY_POINTS: Final = "caetun.transports"
BUILT_IN: Final = {
    "udp": "caetun.transports.udp:UDP",
    "quic": "caetun.transports.quic:QUIC",
    "tcp": "caetun.transports.tcp:TCP",
    "tls": "caetun.transports.tcp:TLS",
    "ws": "caetun.transports.websocket:WS",
    "wss": "caetun.transports.websocket:WSS",
}
"""Name -> module and object."""
DEFAULT_PORTS: Final = {"udp": 4500, "quic": 443, "tcp": 443, "tls": 443, "ws": 80, "wss": 443}
"""Name -> port of a URL that names none."""
PROXIED: Final = frozenset(("tcp", "tls", "ws", "wss"))
"""Names of those that a proxy can carry."""
DATAGRAMS: Final = frozenset(("udp", "quic"))
"""Names of those that are UDP on the way."""
_PACKAGES: Final = {"quic": "aioquic", "ws": "websockets", "wss": "websockets"}
"""What else a transport needs, and comes with `pip install caetun[...]`."""
AUTO: Final = ("udp", "quic", "tcp", "wss", "ws")
"""What `--transport auto` stands for, best first. tcp before wss, as it costs half; tls is left out: what lets it pass
lets wss pass."""

_imported: set[str] = set()


def names() -> tuple[str, ...]:
    """Every transport that this installation can use, our own first."""
    return (*BUILT_IN, *sorted(name for name in plugins.added(ENTRY_POINTS) if name not in BUILT_IN))


def known(name: str) -> bool:
    """Whether there is a transport of that name. Looks for other packages only if it is none of ours."""
    return name in BUILT_IN or name in plugins.added(ENTRY_POINTS)


def find(name: str) -> Transport:
    """The transport of that name; raises ConfigurationError if it is unknown or cannot be loaded."""
    try:
        if name in BUILT_IN:
            found = plugins.built_in(BUILT_IN[name])
            _imported.add(name)
            return cast("Transport", found)
        added = plugins.added(ENTRY_POINTS)
        if name in added:
            return cast("Transport", plugins.load(added[name]))
    except ImportError as error:
        package = _PACKAGES.get(name, error.name)
        if package is None:
            raise ConfigurationError(f"transport {name}: cannot be loaded: {error}: ask whoever made it") from error
        raise ConfigurationError(
            f"transport {name}: needs the package {package}, which is not installed: pip install {package}"
        ) from error
    raise ConfigurationError(f"transport {name}: there is none of that name: available: {', '.join(names())}")


def loaded(name: str) -> bool:
    """Whether `find` has nothing to import for that name."""
    # Not sys.modules: a module is in there while another thread is still reading it.
    return name in _imported


def default_port(name: str) -> int | None:
    """The port of a URL of that scheme that names none; None if the transport has no usual one."""
    if name in BUILT_IN:
        return DEFAULT_PORTS[name]
    return find(name).default_port or None


def family(name: str) -> str:
    """What a firewall takes the transport of that name for: it drops all of a family or none, as a rule."""
    if name in DATAGRAMS:
        return "datagrams"
    return "streams" if name in PROXIED else name
