"""What of the agreement between ends concerns the daemon: who answers, and what another configuration changes.

Built for every tunnel; whatever costs time to import is, where nothing is negotiated, not imported.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from caetun.daemon.outer import state_directory
from caetun.daemon.services import Hands, Services, Unnegotiated
from caetun.errors import DeviceError
from caetun.peers import Peer
from caetun.ports import PortWords
from caetun.session.channel import Kind
from caetun.session.liveness import Timing
from caetun.settings import OPTIONS, Origin
from caetun.types import Mode

if TYPE_CHECKING:
    from caetun.daemon.assigner import Assigner
    from caetun.daemon.enrolment import Enrolments
    from caetun.daemon.hostnet import Interface
    from caetun.daemon.negotiator import Negotiator, Role
    from caetun.daemon.puller import Puller
    from caetun.devices.tuntap import TunTap
    from caetun.keyfiles import Keys
    from caetun.l3.table import Network
    from caetun.negotiation.store import Store
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.wire.configuration import Assigned


class Host(Protocol):
    """Who has the device, and sets things on this host."""

    @property
    def device(self) -> TunTap:
        """What was opened."""

    def interface(self) -> Interface:
        """The device's. Raises DeviceError."""


class Negotiations:
    """All of it, for one tunnel."""

    def __init__(self, settings: Settings, keys: Keys, node: Node, mtu: int, *, hands: Hands, host: Host) -> None:
        """`mtu`: of the device, bytes. Raises CaeTunError."""
        device = host.device
        self._settings = settings
        self._node = node
        self._mtu = mtu
        self._hands = hands
        self._host = host
        self.services = Services(node.drops)
        self.own_addresses: Sequence[Any] = settings.address
        """Of the device: those of the settings, and what a server takes of its own pool."""
        ethernet = settings.key is not None and device.mode is Mode.TAP
        self.hardware_address = _hardware_address(keys, settings.dev.name or "") if ethernet else ""
        """Of an Ethernet device: the same after a restart. Else neighbours would send to the former one until their
        tables forget it, half a minute and more."""
        self.store: Store | None = None
        self.on_mtu: Callable[[int], None] = lambda mtu: None
        """Whoever else wants to know that the device has another MTU."""
        self._negotiator: Negotiator | None = None
        self._assigner: Assigner | None = None
        self._puller: Puller | None = None
        self._enrolments: Enrolments | None = None
        if settings.negotiation == "off":
            self.services.add(Kind.CONFIGURATION, Unnegotiated(hands))
        else:
            self._negotiate(keys, device)

    def _negotiate(self, keys: Keys, device: TunTap) -> None:
        from caetun.daemon.negotiator import Equal, Negotiator, make_offer

        settings, hands, node = self._settings, self._hands, self._node
        role: Role = Equal(hands)
        if settings.negotiation == "server" and settings.connect:
            from caetun.daemon.puller import Puller

            place = (device.name, not device.created)
            role = self._puller = Puller(hands, settings, self._host.interface, device.mode, place, self._resized)
            if settings.mesh:
                from caetun.daemon.routing import assigned

                self._puller.on_addresses = partial(assigned, node)
            self._puller.repair()
        elif settings.negotiation == "server":
            role = self._assigner = self._serve(keys, device)
            if settings.enrols:
                self._enrol(keys, device)
        offer = make_offer(settings, str(device.mode), self._mtu)
        self._negotiator = Negotiator(hands, offer, role, list(node.peers.values()))
        if self._puller is not None:
            self._puller.ask = self._negotiator.offer
        self.services.add(Kind.CONFIGURATION, self._negotiator)

    def _serve(self, keys: Keys, device: TunTap) -> Assigner:
        from caetun.daemon.assigner import Assigner, own_interfaces
        from caetun.daemon.routing import granted
        from caetun.negotiation.pool import Pool

        settings = self._settings
        own = self.own_addresses = own_interfaces(settings)
        pool = None
        if settings.pool_network:
            pool = Pool(
                self._open_store(keys), settings.pool_network, settings.pool_reserved, [each.ip for each in own]
            )
        return Assigner(self._hands, self._node, settings, self._mtu, pool, partial(granted, self._node))

    def _enrol(self, keys: Keys, device: TunTap) -> None:
        from caetun.daemon.engine import make_peer
        from caetun.daemon.enrolment import Enrolments
        from caetun.l3.router import Router
        from caetun.negotiation.membership import Membership

        membership = Membership(self._open_store(keys))
        node = self._node

        networks: dict[Peer, Sequence[Network]] = {}

        def admit(key: bytes, name: str, words: PortWords | None) -> Peer:
            peer = make_peer(self._settings, node, device, node.handshakes.admit(key), name)
            said = words or PortWords()
            node.add(peer, said.settings(name) if device.mode is Mode.TAP else None)
            if isinstance(node.board, Router):
                node.board.name(node.port_of(peer), name)
                node.board.add_routes(node.port_of(peer), said.networks)
                networks[peer] = said.networks
            return peer

        def dismiss(peer: Peer, why: str) -> None:
            if self._assigner is not None:
                self._assigner.forget(peer)
            if isinstance(node.board, Router):
                node.board.grant(node.port_of(peer), ())
                node.board.remove_routes(networks.pop(peer, ()))
            self._hands.remove(peer, why)

        self._enrolments = Enrolments(self._hands, membership, admit, dismiss)
        self.services.add(Kind.ENROLMENT, self._enrolments)

    def _open_store(self, keys: Keys) -> Store:
        from caetun.negotiation.store import Store, store_path

        if self.store is None:
            state = state_directory(os.environ, os.geteuid())
            self.store = Store(store_path(state, keys.identity))
        return self.store

    # while it runs

    def on_names(self, follow: Callable[[Peer, Assigned], None], steers: bool) -> None:
        """Who is to set name servers and default route as a server assigns them; nothing where none does.

        `steers`: whether routes that would take the tunnel's own packets along are led there, too.
        """
        if self._puller is not None:
            self._puller.on_names, self._puller.steers = follow, steers

    def mode_differs(self, peer: str, there: str) -> None:
        """There is no session with a far end, as it carries something else."""
        if self._negotiator is not None:
            self._negotiator.mode_differs(peer, there)

    def reload(self, settings: Settings) -> None:
        """SIGHUP has brought other settings, of which only reloadable ones differ."""
        before, self._settings = self._settings, settings
        if settings.mtu != before.mtu:
            try:
                self._host.interface().resize(settings.mtu)
                self._mtu = settings.mtu
                self._resized(settings.mtu)
            except DeviceError as error:
                self._hands.tell("error", "reload.failed", str(error))
        if settings.keepalive != before.keepalive:
            for peer in self._node.peers.values():
                peer.retime(Timing(settings.keepalive, settings.rekey_after))
            self._hands.wake()
        if self._assigner is not None:
            self._assigner.reload(settings, self._mtu)
        if self._puller is not None:
            self._puller.reload(settings)

    def _resized(self, mtu: int) -> None:
        """The device has another MTU now."""
        self._mtu = mtu
        self._node.resized(mtu)
        self.on_mtu(mtu)
        if self._negotiator is not None:
            self._negotiator.resized(mtu)

    def close(self) -> None:
        """Take back what was set, and note what is to be remembered."""
        for part in (self._enrolments, self._assigner, self._puller, self.store):
            if part is not None:
                part.close()

    # status

    def leases(self) -> list[dict[str, Any]]:
        """Rows for `caetun show leases`."""
        return [] if self._assigner is None else self._assigner.leases(time.time())

    def members(self) -> list[dict[str, Any]]:
        """Rows for `caetun show members`."""
        return [] if self._enrolments is None else self._enrolments.rows(time.time())

    def config(self) -> list[dict[str, Any]]:
        """Rows for `caetun show config`: each setting that is no default, and where it comes from."""
        settings = self._settings
        pushed = {} if self._puller is None else self._puller.rows()
        rows = [
            {"setting": OPTIONS[name].key, "value": _text(getattr(settings, name)), "from": str(origin)}
            for name, origin in settings.origins.items()
            if origin is not Origin.DEFAULT
        ]
        rows += [{"setting": word, "value": _text(value), "from": "pushed"} for word, value in pushed.items()]
        ignored = () if self._puller is None else self._puller.ignored
        return rows + [{"setting": line.partition(" ")[0], "value": line, "from": "left out"} for line in ignored]


def _hardware_address(keys: Keys, name: str) -> str:
    """A locally administered one that stands for a public key, and for the device's name if the user has given one."""
    digest = hashlib.blake2s(keys.identity + name.encode(), digest_size=5, person=b"caetunma").digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest))


def _text(value: object) -> str:
    if type(value) is tuple:
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
