"""Routes into the tunnel that a server has assigned: set through pyroute2, and gone when the tunnel is.

Routes by an interface that was made for the tunnel vanish with it, even after SIGKILL. Of one that stays, what was set
is written down before it is done (`Leftovers`), so that the next start can take it back.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caetun.agreement import Address, Network
from caetun.errors import DeviceError
from caetun.netlink import beside_loop, netlink

if TYPE_CHECKING:
    from caetun.settings import Settings

# chosen by us
PROTOCOL: Final = 16
"""Who has made a route (rtnetlink(7), rtm_protocol): 5..254 are the user's; `ip route` shows it as `proto 16`."""
WIDE: Final = {4: 8, 6: 16}
"""Bits of a prefix: a network of so few holds whatever address the far end is found at."""


def takes_along(network: Network, outside: Iterable[Address]) -> bool:
    """Whether a plain route to a network may lead the tunnel's own packets into the tunnel.

    `outside`: the addresses of the far end and of proxies, as far as they are known.
    """
    near = (each for each in outside if each.version == network.version)
    return network.prefixlen < WIDE[network.version] or any(each in network for each in near)


def outer_addresses(settings: Settings) -> list[Address]:
    """Those that the settings name."""
    found = []
    for each in settings.connect:
        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_address(each.host))
    if settings.proxy:
        from caetun.transports.proxy import parse_proxy

        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_address(parse_proxy(settings.proxy).host))
    return found


class Routes:
    """The routes by one interface."""

    def __init__(self, name: str, index: int) -> None:
        self._name = name
        self._index = index
        self._via: dict[Network, Address | None] = {}

    @beside_loop
    def assign(self, networks: Sequence[Network], via: Callable[[Network], Address | None]) -> list[str]:
        """Have routes to these networks and no others; what could not be done, in words. Raises DeviceError.

        `via`: by which address inside the tunnel a network is reached; None on a device that needs none.
        """
        failures = []
        with netlink(f"{self._name}: routes") as route:
            for network in [each for each in self._via if each not in networks or self._via[each] != via(each)]:
                self._change(route, "del", network, self._via.pop(network))
            for network in networks:
                if network in self._via:
                    continue
                try:
                    self._change(route, "add", network, via(network))
                    self._via[network] = via(network)
                except Exception as error:
                    if not hasattr(error, "code"):
                        raise
                    taken = error.code == errno.EEXIST
                    why = "there is another route to it" if taken else os.strerror(error.code).lower()
                    failures.append(f"no route to {network}: {why}")
        return failures

    def _change(self, route: Any, command: str, network: Network, via: Address | None) -> None:
        more = {"gateway": str(via)} if via is not None else {"scope": "link"} if network.version == 4 else {}
        suppressed = (Exception,) if command == "del" else ()
        with contextlib.suppress(*suppressed):  # whoever has removed it was quicker
            route.route(command, dst=str(network), oif=self._index, proto=PROTOCOL, **more)

    def undo(self) -> None:
        """Remove them. Raises DeviceError."""
        if self._via:
            self.assign((), lambda network: None)


class Leftovers:
    """What was set on an interface that stays, in a file: {"addresses": [...], "routes": [...], "mtu": before}."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def note(self, addresses: Sequence[str], routes: Sequence[str]) -> None:
        """Write down what is about to be set. A host that cannot is told nothing: it is a precaution."""
        known = self._read()
        content = {
            "addresses": sorted({*known.get("addresses", ()), *addresses}),
            "routes": sorted({*known.get("routes", ()), *routes}),
        }
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(content))
            fresh.replace(self._path)

    def clear(self) -> None:
        """All of it was taken back."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _read(self) -> dict[str, list[str]]:
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    @beside_loop
    def repair(self, index: int) -> list[str]:
        """Take back what a run that was killed has left; what that was."""
        content = self._read()
        done = []
        with contextlib.suppress(DeviceError), netlink(self._name) as route:
            for text in content.get("routes", ()):
                with contextlib.suppress(Exception):
                    route.route("del", dst=str(ipaddress.ip_network(text)), oif=index, proto=PROTOCOL)
                    done.append(f"route {text}")
            for text in content.get("addresses", ()):
                with contextlib.suppress(Exception):
                    interface = ipaddress.ip_interface(text)
                    route.addr("del", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)
                    done.append(f"address {text}")
        self.clear()
        return done
