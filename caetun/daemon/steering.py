"""The gateway's part in a tunnel's life. Its package is imported where it is wanted, or has left something behind."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from caetun import logs, runtime
from caetun.daemon import hostnet
from caetun.daemon.hostnet import beside_loop
from caetun.errors import CaeTunError, ConfigurationError

if TYPE_CHECKING:
    from caetun.devices.tuntap import TunTap
    from caetun.gateway.steward import Steward
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.wire.configuration import Assigned

log = logs.logger("gateway")


def steward_for(settings: Settings) -> Steward | None:
    """Who changes this host as the settings want it, if they do; the host is checked. Raises CaeTunError."""
    if not (settings.gateway or settings.masquerade or settings.dns):
        return None
    from caetun.gateway.plan import Wish
    from caetun.gateway.steward import Steward

    wish = Wish(
        device=settings.dev.name or "",
        interfaces=settings.address,
        gateway=settings.gateway,
        lan=settings.gateway_lan,
        kill_switch=settings.kill_switch,
        via=settings.gateway_via,
        dns=settings.dns,
        domains=settings.dns_domain,
        masquerade=settings.masquerade,
    )
    steward = Steward(wish)
    steward.check()
    return steward


def steer(steward: Steward | None, device: TunTap, settings: Settings) -> None:
    """Change the host, now that the device is there; or repair what an earlier tunnel left. Raises CaeTunError."""
    if steward is not None:
        if device.here is not True:
            raise ConfigurationError(
                f"{settings.dev}: {device.name} is of another network: --gateway, --dns and --masquerade act here"
            )
        known = settings.address if device.created else tuple(hostnet.interfaces_of(device.name))
        steward.start(device.name, known)
    elif runtime.journals():
        from caetun.gateway.steward import repair_leftovers

        with contextlib.suppress(CaeTunError):
            repair_leftovers(device.name)


class Follower:
    """Carries out what a server assigns to a client beside its interface: name servers, and a gateway that waits for
    addresses, by which it is known what the tunnel carries."""

    def __init__(
        self, settings: Settings, device: TunTap, steward: Steward | None, keep: Callable[[Steward], None]
    ) -> None:
        """`steward`: one that waits to be started; `keep`: takes one that has been."""
        self._settings = settings
        self._device = device
        self._waiting = steward
        self._steward: Steward | None = None
        self._keep = keep
        self._names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def running(self, steward: Steward) -> None:
        """The tunnel's own steward has been started already."""
        self._steward = steward

    def assigned(self, peer: Peer, assigned: Assigned) -> None:
        """The server has told something for the first time, or something else than before."""
        try:
            self._follow(assigned)
        except CaeTunError as error:
            logs.event(log, logging.WARNING, "gateway.failed", f"what {peer.name} assigns is not set: {error}")
        if assigned.gateway and not self._settings.gateway:
            text = f"{peer.name} wants all traffic (gateway): not done without --gateway on this side"
            logs.event(log, logging.INFO, "gateway.offered", text)

    def _follow(self, assigned: Assigned) -> None:
        """Raises CaeTunError."""
        if self._device.here is not True:
            raise ConfigurationError(f"{self._device.name} is of another network namespace")
        # What this side has set itself wins.
        names = () if self._settings.dns else assigned.dns, () if self._settings.dns_domain else assigned.domain
        servers = None if self._settings.dns else [ip_address(each) for each in names[0]]
        domains = None if self._settings.dns_domain else names[1]
        if self._waiting is not None:
            interfaces = tuple(beside_loop(hostnet.interfaces_of)(self._device.name))
            steward, self._waiting = self._waiting, None
            self._keep(steward)
            beside_loop(steward.start)(self._device.name, interfaces, servers, domains)
            self._steward = steward
        elif names == self._names:
            return
        elif self._steward is None:
            self._steward = self._made(tuple(servers or ()), domains or ())
        else:
            self._steward.change(servers=servers, domains=domains)
        self._names = names

    def _made(self, servers: tuple[IPv4Address | IPv6Address, ...], domains: tuple[str, ...]) -> Steward:
        """One for names alone."""
        from caetun.gateway.plan import Wish
        from caetun.gateway.steward import Steward

        steward = Steward(Wish(device=self._device.name, dns=servers, domains=domains))
        beside_loop(steward.check)()
        self._keep(steward)
        beside_loop(steward.start)(self._device.name, ())
        return steward
