"""Settings -> a running tunnel -> an exit status. Builds the parts, joins them, and takes them down again.

Whatever ends it (a signal, an error, the device vanishing), the device, sockets and timer are given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from caetun import logs
from caetun.daemon import hostnet
from caetun.daemon.pump import Pump
from caetun.devices.tuntap import TunTap, existing_mode, inherited_device, open_device
from caetun.endpoint import Endpoint
from caetun.errors import CaeTunError, ConfigurationError, NetworkError
from caetun.keyfiles import Keys, load_keys
from caetun.node import IndexAllocator, Node
from caetun.peers import Event, Peer, Timing
from caetun.session.handshake import Cipher, Handshakes, PeerId, Policy, PostQuantum
from caetun.session.identity import NO_PSK, SecretIdentity, StaticIdentity
from caetun.session.session import Session
from caetun.settings import Origin, reread
from caetun.transports.udp import UdpEndpoint, UdpLink, open_udp
from caetun.types import Drops
from caetun.wire.container import Batch
from caetun.wire.hello import Hello

if TYPE_CHECKING:
    from caetun.settings import Settings

# chosen by us
MAX_RECORD: Final = 64 * 1024
"""Bytes of sealed record this side puts together: what one burst of datagrams can carry."""
SUPERFRAME: Final = 60 * 1024
"""Bytes of the largest superframe asked of the kernel: one burst carries it, and small frames beside it."""
BATCH_LIMIT: Final = 61 * 1024
"""Bytes after which no further frame is read into a batch."""
GC_THRESHOLD: Final = 50_000
"""Objects made between two looks for cycles: the data path makes a tuple a frame, and no cycles."""
RESOLVE_SECONDS: Final = 10.0
"""Between two look-ups of a name that does not answer."""

log = logs.logger("tunnel")


def run(settings: Settings) -> int:
    """Run a tunnel until a signal or an error ends it; the exit status."""
    logs.set_up(settings.log_level, settings.log_format)
    loop = _new_loop()
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
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    if daemon.failure is not None:
        raise daemon.failure
    return 0


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Daemon:
    """One tunnel: device, endpoints, node and pump."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self.drops = Drops()
        self.failure: CaeTunError | None = None
        self._device: TunTap | None = None
        self._endpoints: dict[socket.AddressFamily, UdpEndpoint] = {}
        self._pump: Pump | None = None
        self._looking_up: asyncio.Task[None] | None = None
        self._looked_up_at = -RESOLVE_SECONDS
        self._repeated = logs.RepeatedEvents(log)

    # start

    def start(self) -> None:
        """Open everything and begin; raises CaeTunError."""
        settings = self._settings
        keys = load_keys(settings)
        for warning in keys.warnings:
            logs.event(log, logging.WARNING, "key.readable", warning)
        if settings.listen is not None:
            self._listen(settings.listen)
        device = self._device = self._open_device()
        entropy = os.urandom
        indices = IndexAllocator(entropy)
        mtu = self._mtu(device)
        hello = Hello(device.mode, device.offloads, mtu, MAX_RECORD)
        identity, ident = _identity(keys)
        handshakes = Handshakes(
            identity,
            hello,
            Policy(_ciphers(settings.cipher), PostQuantum(settings.post_quantum)),
            entropy=entropy,
            allocate_index=indices,
            drops=self.drops,
        )
        node = self._node = Node(handshakes, indices, self.drops)
        timing = Timing(settings.keepalive, settings.rekey_after)
        session = Session(device.mode, self.drops, settings.span)
        self._peer = Peer(ident, "peer", session, handshakes, timing, entropy)
        node.add(self._peer)
        self._pump = Pump(self._loop, node, device, self._report, self._resolve, self._fail, Batch(BATCH_LIMIT))
        for endpoint in self._endpoints.values():
            endpoint.start(self._loop, self._pump, node.sessions)
        # Numeric addresses at once: the first handshake message is on its way while the interface is being set up.
        self._connect_numeric()
        self._set_up_device(device, mtu)
        self._signals()
        self._announce(device, mtu)
        self._pump.start()
        if settings.connect and not self._peer.candidates:
            self._resolve(self._peer)

    def _open_device(self) -> TunTap:
        """The device the settings ask for; its kind is checked against --mode."""
        settings = self._settings
        dev = settings.dev
        if dev.fd is not None:
            device = inherited_device(dev.fd, self.drops)
            if settings.mode not in (None, device.mode):
                device.close()
                raise ConfigurationError(f"{dev}: is a {device.mode} device: use --mode {device.mode}")
        else:
            mode = settings.mode
            if mode is None:
                mode = existing_mode(dev.name or "")
                if mode is None:
                    raise ConfigurationError(
                        f"{dev.name}: no such device: make it first: ip tuntap add dev {dev.name} mode tun user NAME"
                    )
            device = open_device(dev.name, mode, self.drops, settings.offload)
        for note in device.notes:
            logs.event(log, logging.WARNING, "device.offload", f"{device.name}: {note}", device=device.name)
        return device

    @property
    def _mtu_given(self) -> bool:
        return self._settings.origins.get("mtu", Origin.DEFAULT) is not Origin.DEFAULT

    def _mtu(self, device: TunTap) -> int:
        """Bytes: an interface that was there before keeps its own, unless another was asked for."""
        settings = self._settings
        # A descriptor may belong to an interface of another network namespace, which cannot be asked.
        if settings.manage_device and (device.created or self._mtu_given or settings.dev.fd is not None):
            return settings.mtu
        return hostnet.mtu_of(device.name)

    def _set_up_device(self, device: TunTap, mtu: int) -> None:
        settings = self._settings
        if not settings.manage_device or not (device.created or settings.address or self._mtu_given):
            return
        hostnet.set_up(device.name, device.mode, mtu, [str(address) for address in settings.address], SUPERFRAME)

    def _listen(self, listen: Endpoint) -> None:
        """Open the socket to listen on: for IPv6 and IPv4 at once if the host is a wildcard."""
        if listen.host:
            address = ipaddress.ip_address(_only_numeric(listen.host))
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            self._endpoints[family] = open_udp(str(address), listen.port, family, self.drops)
            return
        try:
            self._endpoints[socket.AF_INET6] = open_udp("::", listen.port, socket.AF_INET6, self.drops)
        except (NetworkError, OSError) as error:
            # No IPv6 on this host: IPv4 alone serves. A port that is taken fails again below, with its reason.
            logs.event(log, logging.DEBUG, "listen.ipv4-only", f"no IPv6 here: {error}")
            self._endpoints[socket.AF_INET] = open_udp("0.0.0.0", listen.port, socket.AF_INET, self.drops)

    def _announce(self, device: TunTap, mtu: int) -> None:
        words = f"{device.name} ({device.mode}, MTU {mtu})"
        if self._settings.listen is not None:
            words += " listening on " + ", ".join(endpoint.name for endpoint in self._endpoints.values())
        if self._settings.connect:
            words += " connecting to " + ", ".join(str(remote) for remote in self._settings.connect)
        logs.event(log, logging.INFO, "start", words, device=device.name)
        for endpoint in self._endpoints.values():
            sizes = endpoint.buffers
            logs.event(log, logging.DEBUG, "socket", f"{endpoint.name}: buffers", send=sizes[0], receive=sizes[1])

    # finding the far end

    def _connect_numeric(self) -> None:
        """Send the first handshake message to remotes that are given by address."""
        found = []
        for remote in self._settings.connect:
            with contextlib.suppress(ValueError):
                address = ipaddress.ip_address(remote.host)
                family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
                found.append(self._link(family, str(address), remote.port))
        if found and len(found) == len(self._settings.connect):
            self._candidates(found)

    def _candidates(self, links: list[UdpLink]) -> None:
        assert self._pump is not None
        self._peer.connect(list(links), time.monotonic())
        self._pump.wake()

    def _link(self, family: socket.AddressFamily, host: str, port: int) -> UdpLink:
        """The link to an address, from the socket we listen on if it reaches it, or else one of its own."""
        dual = self._endpoints.get(socket.AF_INET6)
        if family == socket.AF_INET and family not in self._endpoints and dual is not None and dual.dual_stack:
            return dual.link((f"::ffff:{host}", port, 0, 0))
        if family not in self._endpoints:
            any_host = "::" if family == socket.AF_INET6 else "0.0.0.0"
            endpoint = self._endpoints[family] = open_udp(any_host, 0, family, self.drops)
            if self._pump is not None:
                endpoint.start(self._loop, self._pump, self._node.sessions)
        if family == socket.AF_INET6:
            return self._endpoints[family].link((host, port, 0, 0))
        return self._endpoints[family].link((host, port))

    def _resolve(self, peer: Peer) -> None:
        """Look the remotes' names up (again), unless that is under way or was done just now."""
        if self._looking_up is not None or time.monotonic() - self._looked_up_at < RESOLVE_SECONDS:
            return
        self._looked_up_at = time.monotonic()
        self._looking_up = self._loop.create_task(self._look_up())

    async def _look_up(self) -> None:
        """All addresses of all remotes, in the order of the settings and of the resolver (RFC 6724)."""
        found: list[UdpLink] = []
        for remote in self._settings.connect:
            try:
                answers = await self._loop.getaddrinfo(remote.host, remote.port, type=socket.SOCK_DGRAM)
            except OSError as error:
                text = f"{remote.host}: name not found ({error.strerror}): check the name and this host's DNS"
                self._repeated.event(time.monotonic(), logging.WARNING, "resolve.failed", text)
                continue
            for family, _kind, _proto, _canon, address in answers:
                try:
                    link = self._link(family, str(address[0]), remote.port)
                except (NetworkError, OSError):
                    continue  # this host lacks the address family
                if link not in found:
                    found.append(link)
        self._looking_up = None
        if found and found != self._peer.candidates:
            self._candidates(found)
        elif not found and not self._peer.candidates:
            self._loop.call_later(RESOLVE_SECONDS, self._resolve, self._peer)

    # while it runs

    def _report(self, event: Event) -> None:
        level = logging.getLevelNamesMapping()[event.level.upper()]
        logs.event(log, level, event.event, event.text, **event.fields)

    def _fail(self, error: CaeTunError) -> None:
        self.failure = error
        self._loop.stop()

    def _signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._loop.stop)
        self._loop.add_signal_handler(signal.SIGUSR1, self.print_counters)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        """SIGHUP: what can change while running changes, the rest is named."""
        try:
            fresh, applied, restart = reread(self._settings)
        except CaeTunError as error:
            logs.event(log, logging.ERROR, "reload.failed", f"configuration unchanged: {error}")
            return
        self._settings = fresh
        logs.set_up(fresh.log_level, fresh.log_format)
        text = "configuration read again: " + (f"changed {', '.join(applied)}" if applied else "nothing to change")
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
        if self._looking_up is not None:
            self._looking_up.cancel()
        for endpoint in self._endpoints.values():
            endpoint.close()
        if self._device is not None:
            self._device.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            self._loop.remove_signal_handler(number)


def _only_numeric(host: str) -> str:
    """An address to listen on: names are looked up for far ends only."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigurationError(
            f"--listen: {host!r} is a name: give an address of this host, or :PORT for all of them"
        ) from None


def _identity(keys: Keys) -> tuple[StaticIdentity | SecretIdentity, PeerId]:
    """Who we are, and whom we know."""
    if keys.secret is not None:
        secret = SecretIdentity(keys.secret.reveal())
        return secret, secret.peer
    assert keys.private is not None  # the settings see to it
    assert keys.peer is not None
    psk = keys.psk.reveal() if keys.psk is not None else NO_PSK
    return StaticIdentity(keys.private.reveal(), {keys.peer: psk}), PeerId(keys.peer)


def _ciphers(choice: str) -> tuple[Cipher, ...]:
    """What to accept, best first: AES where the processor has instructions for it."""
    if choice != "auto":
        return (Cipher(choice),)
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            words = set(cpuinfo.read().split())
    except OSError:
        words = {"aes"}
    fast_aes = not words.isdisjoint(("aes", "pmull"))
    return tuple(Cipher) if fast_aes else tuple(reversed(Cipher))
