"""Whether what is said about the gateway goes together, before anything is looked up or opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from caetun.errors import ConfigurationError
from caetun.types import Mode


class Addressed(Protocol):
    """What has an IP version: an address, with or without a prefix length."""

    @property
    def version(self) -> int:
        """4 or 6."""


class GatewaySettings(Protocol):
    """The options this is about; `settings.Settings` has them."""

    @property
    def connect(self) -> Sequence[object]:
        """Far ends that are called."""

    @property
    def mode(self) -> Mode | None:
        """What the device carries."""

    @property
    def gateway(self) -> bool:
        """All traffic through the tunnel."""

    @property
    def gateway_lan(self) -> bool:
        """Less that to local networks."""

    @property
    def gateway_via(self) -> Sequence[Addressed]:
        """Next hops in the tunnel."""

    @property
    def kill_switch(self) -> bool:
        """Nothing otherwise."""

    @property
    def dns(self) -> Sequence[Addressed]:
        """Name servers."""

    @property
    def dns_domain(self) -> Sequence[str]:
        """Domains."""

    @property
    def masquerade(self) -> bool:
        """Far ends may go out here."""


def check_gateway(settings: GatewaySettings) -> None:
    """Raises ConfigurationError: which option, why, and what to do."""
    if settings.gateway and not settings.connect:
        raise ConfigurationError(
            "--gateway: given without --connect: it is for the end that calls; --masquerade for a hub"
        )
    if not settings.gateway:
        for flag, given in (
            ("--kill-switch", settings.kill_switch),
            ("--no-gateway-lan", not settings.gateway_lan),
            ("--gateway-via", settings.gateway_via),
        ):
            if given:
                raise ConfigurationError(f"{flag}: given without --gateway, which it belongs to: give both")
    if settings.dns_domain and not settings.dns:
        raise ConfigurationError("--dns-domain: given without --dns: say who is to be asked")
    if settings.gateway and settings.mode is Mode.TAP and not settings.gateway_via:
        raise ConfigurationError(
            "--gateway: with --mode tap there may be many hosts: name the one that leads on by --gateway-via ADDRESS"
        )
    versions = [each.version for each in settings.gateway_via]
    if len(set(versions)) < len(versions):
        raise ConfigurationError("--gateway-via: two addresses of one IP version: give one each")
