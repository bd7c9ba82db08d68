"""A tunnel's side towards this host: device, interface, routes, Linux bridge, and who changes the host beyond them.

    prepare()  ->  open()  ->  set_up()  ->  network_changed(), interface()  ->  close()

Whatever a plain tunnel does not need before its first datagram is imported where it is used.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final

from caetun import logs
from caetun.daemon.steering import follow, steer, steered, steward_for
from caetun.devices.tuntap import TunTap, existing_mode, inherited_device, open_device
from caetun.errors import ConfigurationError, DeviceError
from caetun.settings import Origin
from caetun.types import Drops

if TYPE_CHECKING:
    import asyncio

    from caetun.daemon.hostnet import Interface
    from caetun.daemon.linuxbridge import LinuxBridge
    from caetun.daemon.negotiations import Negotiations
    from caetun.daemon.routes import Routes
    from caetun.gateway.steward import Steward
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.wire.configuration import Assigned

# chosen by us
SUPERFRAME: Final = 60 * 1024
"""Bytes of the largest superframe asked of the kernel: one burst carries it, and small frames beside it."""

log = logs.logger("tunnel")


class HostSide:
    """What a tunnel has and changes on this host."""

    def __init__(self, settings: Settings, drops: Drops) -> None:
        self.settings = settings
        """May be replaced while it runs, by settings of which only reloadable ones differ."""
        self._drops = drops
        self._device: TunTap | None = None
        self._interface: Interface | None = None
        self._routes: Routes | None = None
        self._bridge: LinuxBridge | None = None
        self._steward: Steward | None = None
        self._hardware_address = ""

    @property
    def mark(self) -> int:
        """The firewall mark of the tunnel's own sockets; 0: none."""
        return self._steward.mark if self._steward is not None else 0

    @property
    def device(self) -> TunTap:
        """What was opened."""
        assert self._device is not None
        return self._device

    # start

    def prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look whether the host can be changed as the settings want it. Raises CaeTunError."""
        self._steward = steward_for(self.settings, loop)

    def open(self) -> TunTap:
        """The device the settings ask for; its kind is checked against --mode. Raises CaeTunError."""
        dev = self.settings.dev
        device = self._device = self._make() if dev.fd is None else self._inherit(dev.fd)
        for note in device.notes:
            logs.event(log, logging.WARNING, "device.offload", f"{device.name}: {note}", device=device.name)
        return device

    def _make(self) -> TunTap:
        dev, mode = self.settings.dev, self.settings.mode
        if mode is None:
            mode = existing_mode(dev.name or "")
            if mode is None:
                raise DeviceError(
                    f"{dev.name}: no such device: make it first: ip tuntap add dev {dev.name} mode tun user NAME"
                )
        return open_device(dev.name, mode, self._drops, self.settings.offload)

    def _inherit(self, descriptor: int) -> TunTap:
        settings, dev = self.settings, self.settings.dev
        device = inherited_device(descriptor, self._drops, settings.offload)
        if settings.mode not in (None, device.mode):
            device.close()
            raise ConfigurationError(f"{dev}: is a {device.mode} device: use --mode {device.mode}")
        if device.here is not True and (settings.address or self._mtu_given):
            device.close()
            where = "is" if device.here is False else "may be"
            raise ConfigurationError(
                f"{dev}: {device.name} {where} of another network namespace: give it addresses and MTU there, "
                "not by --address and --mtu"
            )
        return device

    @property
    def _mtu_given(self) -> bool:
        return self.settings.origins.get("mtu", Origin.DEFAULT) is not Origin.DEFAULT

    def mtu(self) -> int:
        """Bytes: an interface that was there before keeps its own, unless another was asked for."""
        settings, device = self.settings, self.device
        if settings.manage_device and (device.created or self._mtu_given):
            return settings.mtu
        with contextlib.suppress(DeviceError):
            # One of another network namespace cannot be asked. Where the kernel does not say, the name decides.
            if device.here or (device.here is None and existing_mode(device.name) is device.mode):
                from caetun.daemon.hostnet import mtu_of

                return mtu_of(device.name)
        return settings.mtu

    def set_up(self, negotiations: Negotiations, mtu: int) -> None:
        """Give the interface what was asked for (`mtu`: bytes), and change the host. Raises CaeTunError."""
        settings, device = self.settings, self.device
        own = negotiations.own_addresses
        self._hardware_address = negotiations.hardware_address
        if settings.manage_device and (device.created or own or self._mtu_given):
            self._set_up_interface(mtu, [str(address) for address in own])
        if settings.route:
            self._lead()
        steer(self._steward, device, settings, own)
        if self._steward is not None:
            negotiations.on_names(self._follow, self._steward.started)
        if settings.bridge is not None:
            from caetun.daemon.linuxbridge import LinuxBridge

            self._bridge = LinuxBridge(settings.bridge)
            self._bridge.join(device.name)

    def _set_up_interface(self, mtu: int, addresses: list[str]) -> Interface:
        # Imported here: the first datagram is on its way by now.
        from caetun.daemon.hostnet import Interface

        device = self.device
        interface = self._interface = Interface(device.name, device.mode, keep=not device.created)
        if device.created and self._hardware_address:
            interface.identify(self._hardware_address)
        interface.set_up(mtu, addresses, SUPERFRAME)
        return interface

    def _lead(self) -> None:
        """Set the routes that the user asks for."""
        from caetun.daemon.routes import Routes

        name = self.device.name
        self._routes = Routes(name, socket.if_nametoindex(name))
        led = steered(self.settings)
        plain = [network for network in self.settings.route if network not in led]
        for failure in self._routes.assign(plain, lambda _: None):
            logs.event(log, logging.WARNING, "route.none", f"--route: {failure}")

    # while it runs

    def interface(self) -> Interface:
        """The device's, so that what a server assigns can be set on it. Raises DeviceError."""
        device = self.device
        if not self.settings.manage_device or device.here is False:
            raise DeviceError(f"{device.name}: is somebody else's: its addresses and MTU are set there")
        return self._interface or self._set_up_interface(self.mtu(), [])

    def _follow(self, _peer: Peer, assigned: Assigned) -> None:
        """A server assigns name servers and default route."""
        assert self._steward is not None
        follow(self._steward, self.settings, assigned)

    def network_changed(self) -> None:
        """This host's addresses, routes or rules have changed."""
        if self._steward is not None:
            self._steward.refresh()

    # end

    def close(self, failed: bool) -> None:
        """Give everything back, in whatever state the start was left; `failed`: the tunnel ends by an error."""
        if self._bridge is not None:
            self._bridge.close()
        if self._steward is not None:
            self._steward.close(failed=failed)
        for changed in (self._routes, self._interface):
            if changed is not None:
                try:
                    changed.undo()
                except DeviceError as error:
                    logs.event(log, logging.WARNING, "device.left", str(error))
        if self._device is not None:
            self._device.close()
