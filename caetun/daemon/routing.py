"""The router that the settings ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from typing import TYPE_CHECKING

from caetun.board import LOCAL
from caetun.l3.answers import Answers
from caetun.l3.router import Between, Router
from caetun.l3.table import VACANT, Network, Table
from caetun.ports import LOCAL_NAME
from caetun.types import Mode

if TYPE_CHECKING:
    from caetun.node import Node
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.types import Drops


def make_router(settings: Settings, drops: Drops) -> Router:
    """A router with the routes of all peers, whose ports have the numbers 1, 2, ... in the order of the settings.

    This host's addresses lead to itself; the rest of their networks, as far as no peer has it, to nobody: else packets
    to a peer that is not known would go to and fro between us and the host.
    """
    table = Table()
    own: Sequence[IPv4Interface | IPv6Interface] = settings.address
    if settings.pool_network:
        # Imported here: most hubs have their addresses from the settings.
        from caetun.daemon.assigner import own_interfaces

        own = own_interfaces(settings)
    answers = Answers(Mode.TUN, drops, [each.ip.packed for each in own])
    router = Router(table, answers, drops, Between(settings.client_to_client), patient=bool(settings.connect))
    router.name(LOCAL, LOCAL_NAME)
    taken: set[Network] = set()
    for number, peer in enumerate(settings.peer, 1):
        router.name(number, peer.port.name or ("peer" if len(settings.peer) == 1 else f"peer{number}"))
        router.add_routes(number, peer.port.networks)
        taken.update(peer.port.networks)
    for each in own:
        for network, port in ((ip_network(each.ip), LOCAL), (each.network, VACANT)):
            if network not in taken:
                taken.add(network)
                router.add_routes(port, [network])
    return router


class PeerRoutes:
    """What leads to a router's peers beside its settings: assigned addresses, networks of those who have joined."""

    def __init__(self, node: Node) -> None:
        """`node`: its board is a router."""
        board = node.board
        assert isinstance(board, Router)
        self._router = board
        self._node = node
        self._assigned: dict[Peer, list[Network]] = {}
        self._networks: dict[Peer, list[Network]] = {}

    def add(self, peer: Peer, networks: Sequence[Network]) -> None:
        """A peer has joined, with these networks behind it. Raises ValueError if one leads somewhere already."""
        self._router.name(self._node.port_of(peer), peer.name)
        self._networks[peer] = []
        self._add(peer, self._networks[peer], networks)

    def assigned(self, peer: Peer, interfaces: Sequence[IPv4Interface | IPv6Interface]) -> None:
        """A peer has these addresses now, instead of those before. What the settings say of an address stays."""
        networks = [ip_network(each.ip) for each in interfaces]
        before = self._assigned.setdefault(peer, [])
        if before != networks:
            self._router.remove_routes(before)
            before.clear()
            with contextlib.suppress(ValueError):
                self._add(peer, before, networks)

    def _add(self, peer: Peer, known: list[Network], networks: Sequence[Network]) -> None:
        for network in networks:
            self._router.add_routes(self._node.port_of(peer), [network])
            known.append(network)

    def remove(self, peer: Peer) -> None:
        """A peer is no more."""
        for known in (self._assigned, self._networks):
            self._router.remove_routes(known.pop(peer, []))
