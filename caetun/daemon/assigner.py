"""The server's part: addresses from the pool, routes and the rest from the settings, told to each client, and again
whenever they have changed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final

from caetun.errors import ConfigurationError, HostError
from caetun.negotiation.pool import Exhausted, Interface, Pool
from caetun.session.channel import Kind
from caetun.wire import configuration
from caetun.wire.configuration import Applied, Assigned, Push, Refused

if TYPE_CHECKING:
    from caetun.daemon.services import Hands
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.settings import Settings

# chosen by us
SEEN_SECONDS: Final = 600.0
"""Between two notes of who uses its address."""


def own_interfaces(settings: Settings) -> list[Interface]:
    """The server's addresses: those of the settings, and of each pool's network without one the first that is free."""
    own: list[Interface] = list(settings.address)
    for network in settings.pool_network:
        if not any(address.ip in network for address in own):
            reserved = settings.pool_reserved
            host = next((each for each in network.hosts() if not any(some.covers(each) for some in reserved)), None)
            if host is None:
                raise ConfigurationError(
                    f"--pool-reserved: leaves no address of {network} for this server: reserve less"
                )
            own.append(ip_interface(f"{host}/{network.prefixlen}"))
    return own


class Assigner:
    """Tells clients."""

    def __init__(
        self,
        hands: Hands,
        node: Node,
        settings: Settings,
        mtu: int,
        pool: Pool | None,
        assigned: Callable[[Peer, Sequence[Interface]], None] = lambda peer, interfaces: None,
    ) -> None:
        """`assigned`: is told which addresses a peer has now."""
        self._hands = hands
        self._node = node
        self._settings = settings
        self._mtu = mtu
        self._pool = pool
        self._assigned = assigned
        self._serial = itertools.count(1)
        self._told: dict[Peer, Assigned] = {}
        """What each client was told last."""
        self._seen = hands.loop.call_later(SEEN_SECONDS, self._note_seen)

    def close(self) -> None:
        """Note who has used its address until now."""
        self._seen.cancel()
        self._save_seen()

    def _note_seen(self) -> None:
        self._save_seen()
        self._seen = self._hands.loop.call_later(SEEN_SECONDS, self._note_seen)

    def _save_seen(self) -> None:
        if self._pool is not None and (live := self._live()):
            try:
                self._pool.seen([peer.ident for peer in live], time.time())
            except HostError as error:
                self._hands.tell("warning", "pool.failed", str(error))

    def _live(self) -> list[Peer]:
        return [peer for peer in self._node.peers.values() if peer.present]

    # telling

    def agreed(self, peer: Peer) -> None:
        """A client wants to be told."""
        told = self._settings_for(peer)
        if told is not None:
            self._push(peer, told)

    def reload(self, settings: Settings, mtu: int) -> None:
        """The configuration is another one: tell those who were told something else before."""
        self._settings, self._mtu = settings, mtu
        if self._pool is not None:
            self._pool.reserved = settings.pool_reserved
        count, changes = 0, ""
        for peer, before in list(self._told.items()):
            now = self._settings_for(peer)
            if now is not None and now != before and peer.conversation.channel.open:
                self._push(peer, now)
                count, changes = count + 1, changed(before, now)
        if count:
            clients = f"{count} client{'s' if count > 1 else ''}"
            self._hands.tell("info", "negotiation.pushed", f"pushed to {clients}: {changes}", clients=count)

    def forget(self, peer: Peer) -> None:
        """It is no peer any more: its port may be another one's next."""
        if self._told.pop(peer, None) is not None:
            self._assigned(peer, ())

    def _push(self, peer: Peer, told: Assigned) -> None:
        self._told[peer] = told
        body = configuration.encode(Push(serial=next(self._serial), settings=told))
        self._hands.say(peer, Kind.CONFIGURATION, body)

    def _settings_for(self, peer: Peer) -> Assigned | None:
        """None if there is no address for it, of which it is told the reason."""
        settings = self._settings
        interfaces: list[Interface] = []
        if self._pool is not None:
            busy = [other.ident for other in self._live() if other is not peer]
            try:
                interfaces = self._pool.assign(peer.ident, peer.name, time.time(), settings.pool_lease, busy)
            except (Exhausted, HostError) as error:
                self._hands.tell("error", "pool.failed", f"no address for {peer.name}: {error}", peer=peer.name)
                reason = str(error) if isinstance(error, Exhausted) else "the server cannot read its leases"
                self._hands.say(peer, Kind.CONFIGURATION, configuration.encode(Refused(reason=reason[:256])))
                return None
            self._assigned(peer, interfaces)
        return Assigned(
            address=tuple(map(str, interfaces)),
            via=tuple(str(address.ip) for address in own_interfaces(settings))[: configuration.MAX_ADDRESSES],
            route=tuple(map(str, settings.push_route)),
            dns=tuple(map(str, settings.push_dns)),
            domain=settings.push_domain,
            gateway=settings.push_gateway,
            mtu=self._mtu,
            keepalive=settings.keepalive,
            compression=",".join(settings.compress) or None,
            cipher=tuple(map(str, self._node.ciphers)),
        )

    def heard(self, peer: Peer, message: Push | Applied | Refused) -> None:
        """What it says to that."""
        if isinstance(message, Applied):
            told = self._told.get(peer)
            what = ", ".join(told.address) if told is not None and told.address else "no address"
            text = f"{peer.name} is configured: {what}"
            text += f"; it left out: {', '.join(message.ignored)}" if message.ignored else ""
            self._hands.tell("info", "negotiation.applied", text, peer=peer.name, serial=message.serial)
        elif isinstance(message, Refused):
            self._hands.tell("warning", "negotiation.refused", f"{peer.name} refuses: {message.reason}", peer=peer.name)

    # status

    def leases(self, wall: float) -> list[dict[str, Any]]:
        """Rows for `caetun show leases`."""
        if self._pool is None:
            return []
        live = {peer.ident.hex(): peer.name for peer in self._live()}
        patience = self._settings.pool_lease
        return lease_rows(self._pool, live, wall, patience)


def lease_rows(pool: Pool, live: dict[str, str], wall: float, patience: float) -> list[dict[str, Any]]:
    """Every lease; `live`: names of connected peers by key; `patience`: seconds until an unused one expires."""
    rows = []
    for lease in pool.leases():
        unused = max(0.0, wall - lease.seen)
        up = lease.peer in live
        rows.append(
            {
                "address": lease.address,
                "peer": live.get(lease.peer, lease.name),
                "state": "in use" if up else "expired" if unused > patience else "kept",
                "unused s": 0 if up else round(unused),
                "expires in s": "" if up else max(0, round(patience - unused)),
            }
        )
    return rows


def changed(before: Assigned, now: Assigned) -> str:
    """What is another one, in words."""
    old, new = before.lines(), now.lines()
    gone, come = [line for line in old if line not in new], [line for line in new if line not in old]
    words = []
    for line in come:
        word, _, value = line.partition(" ")
        former = next((each for each in gone if each.partition(" ")[0] == word), None)
        if former is not None and word not in ("route", "dns", "domain"):
            gone.remove(former)
            words.append(f"{former} -> {value}")
        else:
            words.append(f"+ {line}")
    return ", ".join(words + [f"- {line}" for line in gone]) or "nothing"
