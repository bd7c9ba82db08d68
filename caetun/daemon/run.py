"""Settings -> a running tunnel -> an exit status. Builds the parts, joins them, and takes them down again.

Whatever ends it (a signal, an error, the device vanishing), the device, sockets and timer are given back.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import math
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from caetun import logs
from caetun.daemon import loop as loops
from caetun.daemon.authentication import Authentication
from caetun.daemon.dialer import Dialer
from caetun.daemon.engine import GUEST, make_core, make_peer, make_trust
from caetun.daemon.heap import keep_freed_memory
from caetun.daemon.hostside import HostSide
from caetun.daemon.negotiations import Negotiations
from caetun.daemon.outer import outer_options
from caetun.daemon.pump import Pump
from caetun.daemon.services import Hands
from caetun.endpoint import Endpoint
from caetun.errors import CaeTunError, ConfigurationError, NetworkError
from caetun.keyfiles import load_keys
from caetun.peers import Event, Peer
from caetun.runtime import socket_path
from caetun.sources import reread
from caetun.transports import base as transports
from caetun.transports import registry
from caetun.transports.base import Context, Link, Target
from caetun.types import Drops
from caetun.wire.container import Batch

if TYPE_CHECKING:
    from caetun.daemon.control import Control
    from caetun.daemon.mesh import Mesh
    from caetun.daemon.netwatch import NetWatch
    from caetun.devices.base import Device
    from caetun.devices.tuntap import TunTap
    from caetun.mangle.pipeline import Pipeline
    from caetun.node import Node
    from caetun.settings import Settings

# chosen by us
BATCH_LIMIT: Final = 61 * 1024
"""Bytes after which no further frame is read into a batch."""
GC_THRESHOLD: Final = 50_000
"""Objects made between two looks for cycles: the data path makes a tuple a frame, and no cycles."""
AT_WILL: Final = frozenset(
    (
        *("peer.moved", "bridge.moved", "path.mtu", "peer.mtu", "peer.silent", "peer.refused", "route.source"),
        *("mesh.relayed", "peer.doubled"),
    )
)
"""Events that a far end, or somebody between, can cause as often as he likes: told now and then. So are all of a guest
that has not said yet who it is."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""What a tunnel listens to."""

log = logs.logger("tunnel")


def run(settings: Settings) -> int:
    """Run a tunnel until a signal or an error ends it; the exit status."""
    logs.set_up(settings.log_level, settings.log_format)
    keep_freed_memory()
    loop = loops.new_loop()
    asyncio.set_event_loop(loop)
    daemon = Daemon(settings, loop)
    try:
        daemon.start()
        # Data structures made so far live as long as the process: the collector need not walk them again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        loop.run_forever()
    finally:
        daemon.close()
        loops.close(loop)
    if daemon.failure is not None:
        raise daemon.failure
    return 0


class Daemon:
    """One tunnel: device, endpoints, node and pump."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self.drops = Drops()
        self.failure: CaeTunError | None = None
        self._host = HostSide(settings, self.drops)
        self._context: Context | None = None
        self._endpoints: list[transports.Endpoint] = []
        self._dialer: Dialer | None = None
        self._watch: NetWatch | None = None
        self._control: Control | None = None
        self._node: Node | None = None
        self._pump: Pump | None = None
        self._pipeline: Pipeline | None = None
        self._mesh: Mesh | None = None
        self._negotiations: Negotiations | None = None
        self._authentication: Authentication | None = None
        self._repeated = logs.RepeatedEvents(log, call_later=loop.call_later)

    # start

    def start(self) -> None:
        """Open everything and begin; raises CaeTunError."""
        settings = self._settings
        keys = load_keys(settings)
        for warning in keys.warnings:
            logs.event(log, logging.WARNING, "key.readable", warning)
        trust = make_trust(settings)
        self._host.prepare(self._loop)
        device = self._host.open()
        mtu = self._host.mtu()
        core = make_core(settings, keys, device, mtu, self.drops, trust)
        node = self._node = core.node
        pump = self._pump = Pump(self._loop, node, self._mangled(device, mtu), self, Batch(BATCH_LIMIT))
        hands = Hands(self._loop, lambda: pump, self.failed)
        self._negotiations = Negotiations(settings, keys, node, mtu, hands=hands, host=self._host)
        if self._pipeline is not None:
            self._negotiations.on_mtu = self._pipeline.resized
        self._authentication = Authentication(settings, keys, core, trust, hands, self._negotiations.services)
        options = outer_options(settings, self._host.mark)
        self._context = Context(self._loop, pump, node.sessions, self.drops, options, self._told)
        self._call(node, pump, self._context)
        if settings.mesh:
            self._join_mesh(node, pump, self._context, device)
        self._authentication.start()
        self._signals()
        self._host.set_up(self._negotiations, mtu)
        self._answer_questions(node, device.name, self._negotiations, self._authentication)
        self._announce(device, mtu)
        self._watch = self._watch_network()
        pump.start()

    def _call(self, node: Node, pump: Pump, context: Context) -> None:
        """Listen, and call."""
        settings = self._settings
        for where in settings.listen:
            self._listen(where, context)
        if settings.connect:
            (peer,) = node.peers.values()
            self._dialer = Dialer(peer, settings.connect, context, pump, os.urandom)
            # At once: the first handshake message is on its way while the interface is being set up.
            self._dialer.start(time.monotonic())

    def _join_mesh(self, node: Node, pump: Pump, context: Context, device: TunTap) -> None:
        from caetun.daemon.mesh import make_mesh
        from caetun.session.channel import Kind

        settings = self._settings
        assert self._negotiations is not None
        self._mesh = make_mesh(
            settings, node, pump, context, lambda ident, name: make_peer(settings, node, device, ident, name)
        )
        self._negotiations.services.add(Kind.MESH, self._mesh)
        self._negotiations.services.confine(Kind.MESH, self._mesh.owns)

    def _answer_questions(
        self, node: Node, name: str, negotiations: Negotiations, authentication: Authentication
    ) -> None:
        """Open the control socket, if that is possible."""
        # Imported here: the first datagram is on its way by now.
        from caetun.daemon.control import Control
        from caetun.daemon.status import Status

        status = Status(node, self.drops, lambda: self._dialer, negotiations, self._pipeline, self._mesh)
        self._control = Control(self._loop, socket_path(name), status, authentication.revoke)
        try:
            self._control.start()
        except NetworkError as error:
            logs.event(log, logging.WARNING, "control.none", f"`caetun show` will not work: {error}")

    def _watch_network(self) -> NetWatch:
        from caetun.daemon.netwatch import NetWatch

        return NetWatch(self._loop, self._network_changed)

    def _mangled(self, device: TunTap, mtu: int) -> Device:
        """The device behind the user's rules; the device itself if there are none."""
        if not self._settings.mangle:
            return device
        # Imported here: most tunnels have no rules.
        from caetun.devices.mangled import MangledDevice
        from caetun.mangle.rules import make_pipeline

        try:
            self._pipeline = make_pipeline(self._settings.mangle, mtu)
        except ValueError as error:
            raise ConfigurationError(f"--mangle: {error}") from None
        return MangledDevice(device, self._pipeline, self.drops, self._classify)

    def _classify(self, traffic_class: int) -> None:
        """Have links that can do so send with a class."""
        assert self._node is not None
        for peer in self._node.peers.values():
            classify = getattr(peer.link, "classify", None)
            if classify is not None:
                classify(traffic_class)

    def _listen(self, where: Endpoint, context: Context) -> None:
        """Wait for far ends, by one transport."""
        host = _only_numeric(where.host) if where.host else ""
        transport = registry.find(where.scheme)
        endpoint = transport.listen(Target(host, where.port, where.path), context)
        if endpoint not in self._endpoints:
            self._endpoints.append(endpoint)

    def _announce(self, device: TunTap, mtu: int) -> None:
        words = f"{device.name} ({device.mode}, MTU {mtu})"
        if self._endpoints:
            words += " listening on " + ", ".join(endpoint.name for endpoint in self._endpoints)
        if self._settings.connect:
            words += " connecting to " + ", ".join(str(remote) for remote in self._settings.connect)
        logs.event(log, logging.INFO, "start", words, device=device.name)

    # while it runs

    def report(self, event: Event) -> None:
        """A line for the log."""
        if self._mesh is not None:
            event = self._mesh.told(event)
        level = logging.getLevelNamesMapping()[event.level.upper()]
        if event.event in AT_WILL or str(event.fields.get("peer", "")).startswith(GUEST):
            self._repeated.event(time.monotonic(), level, event.event, event.text, **event.fields)
        else:
            logs.event(log, level, event.event, event.text, **event.fields)
        if event.event == "peer.mismatch" and self._negotiations is not None:
            self._negotiations.mode_differs(event.fields["peer"], event.fields["theirs"])

    def _told(self, level: str, event: str, text: str) -> None:
        """What a transport has to say."""
        self._repeated.event(time.monotonic(), logging.getLevelNamesMapping()[level.upper()], event, text)

    def failed(self, error: CaeTunError) -> None:
        """End, with this error."""
        self.failure = error
        self._loop.stop()

    def seek(self, peer: Peer) -> None:
        """Look for other ways to a peer."""
        if self._mesh is not None and self._mesh.owns(peer):
            self._mesh.suspect(peer, True)
        elif self._dialer is not None:
            self._dialer.seek(time.monotonic())

    def settled(self, peer: Peer) -> None:
        """A peer uses another link now."""
        if self._mesh is not None and self._mesh.owns(peer):
            self._mesh.suspect(peer, False)
        elif self._dialer is not None:
            self._dialer.settled(time.monotonic())

    def unanswered(self, peer: Peer, link: Link) -> None:
        """Nobody answers there."""
        if self._dialer is not None and not (self._mesh is not None and self._mesh.owns(peer)):
            self._dialer.unanswered(link, time.monotonic())

    def _network_changed(self) -> None:
        assert self._pump is not None
        if self._dialer is not None:
            self._dialer.network_changed(time.monotonic())
        self._pump.network_changed()
        self._host.network_changed()

    def unused(self, link: Link) -> None:
        """A link is not needed any more."""
        if self._dialer is None or not self._dialer.unused(link):
            link.close()

    def closed(self, link: Link, why: str) -> None:
        """A link is gone."""
        if self._dialer is not None:
            self._dialer.closed(link, why, time.monotonic())

    def said(self, peer: Peer, kind: int, body: bytes) -> None:
        """A peer has said something on its control channel."""
        assert self._negotiations is not None
        self._negotiations.services.said(peer, kind, body)

    def _signals(self) -> None:
        # uvloop loses those that come before it runs: they wait until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._loop.stop)
        self._loop.add_signal_handler(signal.SIGUSR1, self.print_counters)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        """SIGHUP: what can change while running changes, the rest is named."""
        if self._authentication is not None:
            self._authentication.reread()
        if self._settings.config is None:
            files = [f"--{name}" for name in ("users", "crl") if getattr(self._settings, name) is not None]
            told = f"read again what {' and '.join(files)} name; " if files else ""
            text = f"{told}no configuration file was given (--config): no settings to read again"
            logs.event(log, logging.INFO, "reload", text)
            return
        try:
            fresh, applied, restart = reread(self._settings)
        except CaeTunError as error:
            logs.event(log, logging.ERROR, "reload.failed", f"configuration unchanged: {error}")
            return
        self._settings = self._host.settings = fresh
        logs.set_up(fresh.log_level, fresh.log_format)
        text = "configuration read again: " + (f"changed {', '.join(applied)}" if applied else "nothing to change")
        if applied and self._negotiations is not None:
            self._negotiations.reload(fresh)
        if restart:
            text += f"; needs a restart: {', '.join(restart)}"
        logs.event(log, logging.INFO, "reload", text)

    def print_counters(self) -> None:
        """One line with everything that was counted."""
        if self._pump is None:
            return
        totals = self._pump.totals
        fields = {name: getattr(totals, name) for name in totals.__slots__}
        drops = {str(reason): times for reason, times in sorted(self.drops.items()) if times}
        # Asked for by a person, so shown whatever --log-level hides.
        counters = logs.logger("counters")
        counters.setLevel(logging.INFO)
        logs.event(counters, logging.INFO, "counters", "totals and drops so far", **fields, drops=drops)

    # end

    def close(self) -> None:
        """Say goodbye and give everything back, in whatever state the start or the run was left."""
        if self._pump is not None:
            self._pump.stop()
            if self._settings.verbose:
                self.print_counters()
        for part in (self._control, self._watch, self._negotiations, self._authentication, self._mesh):
            if part is not None:
                part.close()
        if self._dialer is not None:
            self._dialer.close()
        for endpoint in self._endpoints:
            endpoint.close()
        if self._context is not None:
            for shared in self._context.shared.values():
                if hasattr(shared, "close"):
                    shared.close()
        self._host.close(failed=self.failure is not None)
        self._repeated.flush(math.inf)
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)


def _only_numeric(host: str) -> str:
    """An address to listen on: names are looked up for far ends only."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigurationError(
            f"--listen: {host!r} is a name: give an address of this host, or :PORT for all of them"
        ) from None
