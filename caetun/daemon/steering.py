"""The gateway's part in a tunnel's life. Its package is imported where it is wanted, or has left something behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from caetun import logs, runtime
from caetun.daemon import hostnet
from caetun.errors import CaeTunError, ConfigurationError

if TYPE_CHECKING:
    from caetun.devices.tuntap import TunTap
    from caetun.gateway.steward import Steward
    from caetun.settings import Settings

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
