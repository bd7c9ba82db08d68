"""The gateway's part in a tunnel's life. Its package is imported where it is wanted, or has left something behind."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

from caetun import logs, runtime
from caetun.daemon import loop as loops
from caetun.errors import CaeTunError, ConfigurationError
from caetun.types import Mode

if TYPE_CHECKING:
    import asyncio
    from ipaddress import IPv4Interface, IPv6Interface

    from caetun.agreement import Network
    from caetun.devices.tuntap import TunTap
    from caetun.gateway.steward import Steward
    from caetun.settings import Settings
    from caetun.wire.configuration import Assigned

log = logs.logger("gateway")


def steward_for(settings: Settings, loop: asyncio.AbstractEventLoop) -> Steward | None:
    """Who changes this host as the settings want it, if they do; the host is checked. Raises CaeTunError.

    From now on `loop` looks names up outside of the tunnel, if that makes a difference.
    """
    pulls = settings.negotiation == "server" and bool(settings.connect)
    if not (_wished(settings) or pulls):
        return None
    from caetun.gateway import preflight
    from caetun.gateway.plan import Wish
    from caetun.gateway.steward import Steward

    pulls = pulls and preflight.may_administer()  # an ordinary user's tunnel leaves the host alone
    if not (_wished(settings) or pulls):
        return None
    wish = Wish(
        device=settings.dev.name or "",
        interfaces=settings.address,
        gateway=settings.gateway,
        lan=settings.gateway_lan,
        kill_switch=settings.kill_switch,
        via=settings.gateway_via,
        routes=steered(settings),
        dns=settings.dns,
        domains=settings.dns_domain,
        masquerade=settings.masquerade,
        pulls=pulls,
    )
    steward = Steward(wish)
    steward.check()
    if steward.getaddrinfo is not None:
        loops.use_resolver(loop, steward.getaddrinfo)
    return steward


def steer(
    steward: Steward | None, device: TunTap, settings: Settings, own: Sequence[IPv4Interface | IPv6Interface]
) -> None:
    """Change the host, now that the device is there; or repair what an earlier tunnel left. Raises CaeTunError.

    `own`: the addresses that the device has been given.
    """
    if steward is not None:
        from caetun.daemon.hostnet import interfaces_of

        if device.here is not True:
            if not _wished(settings):
                return
            raise ConfigurationError(
                f"{settings.dev}: {device.name} is of another network: --gateway, --dns, --masquerade and a --route to "
                "where the far end is act here"
            )
        known = own if device.created else tuple(interfaces_of(device.name))
        try:
            steward.start(device.name, known)
        except CaeTunError as error:
            if _wished(settings):
                raise
            words = f"what the server may assign cannot be set on this host: {error}"
            logs.event(log, logging.WARNING, "gateway.failed", words)
    elif runtime.journals():
        from caetun.gateway.steward import repair_leftovers

        with contextlib.suppress(CaeTunError):
            repair_leftovers(device.name)


def _wished(settings: Settings) -> bool:
    return settings.gateway or settings.masquerade or bool(settings.dns) or bool(steered(settings))


def steered(settings: Settings) -> tuple[Network, ...]:
    """Those of --route that need rules, as the tunnel's own packets would go into the tunnel."""
    if not settings.route:
        return ()
    # Imported here: most tunnels have none.
    from caetun.daemon.routes import outer_addresses, takes_along

    outside = outer_addresses(settings)
    return tuple(each for each in settings.route if takes_along(each, outside))


def follow(steward: Steward, settings: Settings, assigned: Assigned) -> None:
    """Change the host as a server wants it; what the settings say themselves goes before. A failure is logged.

    `assigned`: its routes are those that need rules.
    """
    if not steward.started:
        return
    interfaces = [*settings.address, *(ip_interface(each) for each in assigned.address)]
    hops = [ip_address(each) for each in assigned.via] if settings.mode is Mode.TAP else []
    reached = {hop.version: hop for hop in reversed(hops) if any(hop in each.network for each in interfaces)}
    try:
        steward.change(
            gateway=settings.gateway or assigned.gateway,
            interfaces=interfaces,
            via=settings.gateway_via or tuple(reached.values()),
            routes=(*steered(settings), *map(ip_network, assigned.route)),
            servers=settings.dns or tuple(ip_address(each) for each in assigned.dns),
            domains=settings.dns_domain or assigned.domain,
        )
    except CaeTunError as error:
        logs.event(log, logging.ERROR, "gateway.failed", f"what the server assigns cannot be set on this host: {error}")
