"""The client's part: what the server assigns passes the pull filter and the client's own settings, is applied to this
host, and taken back at the end.

Name servers, domains and the default route are not set here: whoever does so is given them by `on_names`; without it,
they are told in the log and by `caetun show config`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Final

import msgspec

from caetun.compression.registry import NONE, find
from caetun.daemon.assigner import changed
from caetun.daemon.routes import Leftovers, Routes, outer_addresses, takes_along
from caetun.errors import ConfigurationError, DeviceError, Disagreement
from caetun.negotiation.filter import judge, reduced, rejected
from caetun.runtime import socket_path
from caetun.session.channel import Kind
from caetun.session.liveness import Timing
from caetun.session.security import Cipher
from caetun.settings import Origin
from caetun.types import Mode
from caetun.wire import configuration
from caetun.wire.configuration import Applied, Assigned, Push, Refused

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from caetun.agreement import Address, Network
    from caetun.daemon.hostnet import Interface
    from caetun.daemon.services import Hands
    from caetun.negotiation.pool import Interface as Assignable
    from caetun.peers import Peer
    from caetun.settings import Settings

_OWN = {
    "address": "address",
    "mtu": "mtu",
    "keepalive": "keepalive",
    "compression": "compress",
    "cipher": "cipher",
    "dns": "dns",
    "domain": "dns_domain",
}
"""First word of a line -> the setting of ours that wins over it if it was given."""
NOTHING = Assigned()

# chosen by us
FIRST_PAUSE: Final = 2.0
"""Seconds until a server that has refused is asked again; twice as long each further time."""
LONGEST_PAUSE: Final = 300.0


class Puller:
    """Takes what it is told."""

    def __init__(
        self,
        hands: Hands,
        settings: Settings,
        interface: Callable[[], Interface],
        mode: Mode,
        device: tuple[str, bool],
        resized: Callable[[int], None],
    ) -> None:
        """`interface`: of the device; `device`: its name, and whether it stays; `resized`: is told of another MTU."""
        self._hands = hands
        self._settings = settings
        self._interface = interface
        self._mode = mode
        self._name, self._stays = device
        self._resized = resized
        self._routes: Routes | None = None
        self._leftovers = Leftovers(socket_path(self._name).with_suffix(".assigned"), self._name)
        self.assigned = NOTHING
        """What is applied."""
        self.ignored: list[str] = []
        self.on_names: Callable[[Peer, Assigned], None] | None = None
        """The hand-over: is given the server and all that is applied (dns, domain, gateway) at each change; of routes,
        those that need rules, or the tunnel's own packets would go into the tunnel."""
        self.on_addresses: Callable[[Sequence[Assignable]], None] = lambda _: None
        """Is given the addresses that this host has now, at each change."""
        self.steers = False
        """Whether it leads such routes. If not, they are left out."""
        self._steered: tuple[str, ...] = ()
        self.ask: Callable[[Peer], object] = lambda _: None
        """Asks the server to tell."""
        self._again: TimerHandle | None = None
        self._pause = FIRST_PAUSE

    def forget(self, peer: Peer) -> None:
        """There is one server."""

    def repair(self) -> None:
        """Take back what a run that was killed has left on a device that stays."""
        if self._stays and (done := self._leftovers.repair(socket.if_nametoindex(self._name))):
            text = f"{self._name}: removed what an earlier run has left: {', '.join(done)}"
            self._hands.tell("info", "device.repaired", text)

    def close(self) -> None:
        """Take the routes back; addresses and MTU go with the interface's own."""
        self._cancel()
        if self._routes is not None:
            try:
                self._routes.undo()
            except DeviceError as error:
                self._hands.tell("warning", "device.left", str(error))
        if self._stays:
            self._leftovers.clear()

    def reload(self, settings: Settings) -> None:
        """The filter may be another one: it applies to the next push."""
        self._settings = settings

    def agreed(self, peer: Peer) -> None:
        """The server will tell."""

    def heard(self, peer: Peer, message: Push | Applied | Refused) -> None:
        """It tells, or cannot."""
        if isinstance(message, Refused):
            text = f"{peer.name} assigns nothing: {message.reason}: asking again in {self._pause:g} s"
            self._hands.tell("error", "negotiation.refused", text, peer=peer.name)
            self._ask_later(peer)
        elif isinstance(message, Push):
            self._cancel()
            self._pause = FIRST_PAUSE
            self._pushed(peer, message)

    def _ask_later(self, peer: Peer) -> None:
        """What it lacks, it may have later: an address, its leases. Until it has answered, ask now and then."""
        self._cancel()

        def ask() -> None:
            self.ask(peer)
            self._ask_later(peer)

        self._again = self._hands.loop.call_later(self._pause, ask)
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def _cancel(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _pushed(self, peer: Peer, push: Push) -> None:
        refused = rejected(push.settings, self._settings.pull_filter)
        if refused:
            reason = f"its pull filter rejects {', '.join(refused)}"[:256]
            self._hands.say(peer, Kind.CONFIGURATION, configuration.encode(Refused(reason=reason)))
            text = f"--pull-filter: rejects what {peer.name} assigns ({', '.join(refused)}): ask there, or change it"
            self._hands.stop(Disagreement(text), peer)
            return
        ignored = [line for line in push.settings.lines() if self._ignores(line, peer)]
        wanted, before = reduced(push.settings, ignored), self.assigned
        try:
            failures = self._apply(peer, before, wanted)
        except DeviceError as error:
            self._hands.tell("error", "negotiation.failed", f"cannot apply what {peer.name} assigns: {error}")
            self._hands.say(peer, Kind.CONFIGURATION, configuration.encode(Refused(reason=str(error)[:256])))
            return
        self.assigned, self.ignored = wanted, ignored
        answer = Applied(serial=push.serial, ignored=tuple(line[:256] for line in ignored + failures)[:256])
        self._hands.say(peer, Kind.CONFIGURATION, configuration.encode(answer))
        if self.on_names is not None:
            self.on_names(peer, msgspec.structs.replace(wanted, route=self._steered))
        self._report(peer, before, failures)

    def _ignores(self, line: str, peer: Peer) -> bool:
        """Whether the filter, or a setting of our own, leaves a line out."""
        word = line.partition(" ")[0]
        own = _OWN.get(word)
        if own is not None and self._settings.origins.get(own, Origin.DEFAULT) is not Origin.DEFAULT:
            return True
        if word == "route" and not self.steers and self._takes_along(line.partition(" ")[2], peer):
            return True
        return judge(line, self._settings.pull_filter) == "ignore"

    def _takes_along(self, route: str, peer: Peer) -> bool:
        """Whether the tunnel's own packets would go into the tunnel by a plain route."""
        outside = outer_addresses(self._settings)
        if peer.link is not None:
            with contextlib.suppress(ValueError):
                outside.append(ip_address(peer.link.source.partition(" ")[0]))
        return takes_along(ip_network(route), outside)

    def _report(self, peer: Peer, before: Assigned, failures: list[str]) -> None:
        first = before == NOTHING
        if self.assigned == before and not failures:
            return  # the server was started again
        what = ", ".join(self.assigned.lines()) if first else changed(before, self.assigned)
        text = f"{'configured' if first else 'changed'} by {peer.name}: {what or 'nothing'}"
        text += f"; left out: {', '.join(self.ignored)}" if self.ignored else ""
        self._hands.tell("info", "negotiation.configured", text, peer=peer.name)
        for failure in failures:
            self._hands.tell("warning", "route.failed", failure, peer=peer.name)
        names = [f"{word} {value}" for word in ("dns", "domain") for value in getattr(self.assigned, word)]
        names += ["gateway"] if self.assigned.gateway else []
        if names and self.on_names is None:
            text = f"not set on this host: {', '.join(names)}: set it yourself, or leave it"
            self._hands.tell("info", "negotiation.names", text, peer=peer.name)

    # applying

    def _apply(self, peer: Peer, before: Assigned, wanted: Assigned) -> list[str]:
        """Change this host; what could not be done of the routes. Raises DeviceError."""
        if self._stays:
            self._leftovers.note(wanted.address, wanted.route)
        if wanted.mtu is not None and wanted.mtu != before.mtu:
            self._interface().resize(wanted.mtu)
            self._resized(wanted.mtu)
        if wanted.address != before.address:
            self._interface().assign(wanted.address)
            self.on_addresses([ip_interface(text) for text in wanted.address])
        self._steered = tuple(each for each in wanted.route if self._takes_along(each, peer))
        failures = self._apply_routes(wanted)
        if wanted.keepalive is not None and wanted.keepalive != before.keepalive:
            peer.retime(Timing(wanted.keepalive, self._settings.rekey_after))
        if wanted.cipher != before.cipher:
            peer.prefer([Cipher(name) for name in wanted.cipher if name in set(Cipher)])
        if wanted.compression != before.compression:
            self._compress(peer, wanted.compression or NONE)
        self._hands.wake()
        return failures

    def _compress(self, peer: Peer, names: str) -> None:
        """By the server's order, as far as this installation has the methods."""
        methods = []
        for name in names.split(",") if names != NONE else ():
            try:
                methods.append(find(name))
            except ConfigurationError as error:
                text = str(error).replace("--compress", f"{peer.name} assigns compression")
                self._hands.tell("warning", "compression.failed", text, peer=peer.name)
        peer.compress(methods, time.monotonic())

    def _apply_routes(self, wanted: Assigned) -> list[str]:
        networks: list[Network] = [ip_network(text) for text in wanted.route if text not in self._steered]
        if self._routes is None:
            if not networks:
                return []
            self._routes = Routes(self._name, socket.if_nametoindex(self._name))
        return self._routes.assign(networks, lambda network: self._via(network, wanted))

    def _via(self, network: IPv4Network | IPv6Network, wanted: Assigned) -> Address | None:
        """On Ethernet the next hop has to be named: the server, if it is in a network of ours."""
        if self._mode is Mode.TUN:
            return None
        ours = [ip_interface(text).network for text in wanted.address] + [
            each.network for each in self._settings.address
        ]
        for text in wanted.via:
            address = ip_address(text)
            if address.version == network.version and any(address in each for each in ours):
                return address
        return None

    # status

    def rows(self) -> dict[str, Any]:
        """Setting -> value, of what the server has assigned."""
        words = ("address", "route", "dns", "domain", "gateway", "mtu", "keepalive", "compression", "cipher")
        return {word: value for word in words if (value := getattr(self.assigned, word))}
