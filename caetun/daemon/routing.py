"""The router that the settings ask for."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from caetun.board import LOCAL
from caetun.l3.answers import Answers
from caetun.l3.router import Between, Router
from caetun.l3.table import VACANT, Network, Table
from caetun.ports import LOCAL_NAME
from caetun.types import Mode

if TYPE_CHECKING:
    from caetun.node import Node
    from caetun.options import Interface
    from caetun.peers import Peer
    from caetun.settings import Settings
    from caetun.types import Drops

_EVERYTHING: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def make_router(settings: Settings, drops: Drops) -> Router:
    """A router with the routes of all peers, whose ports have the numbers 1, 2, ... in the order of the settings.

    This host's addresses lead to itself; the rest of their networks, as far as no peer has it, to nobody: else packets
    to a peer that is not known would go to and fro between us and the host.
    """
    member = settings.mesh and bool(settings.connect)
    table = Table()
    answers = Answers(Mode.TUN, drops, [each.ip.packed for each in _own(settings)])
    router = Router(
        table,
        answers,
        drops,
        Between(settings.client_to_client),
        patient=bool(settings.connect),
        hub=1 if member else None,
    )
    router.name(LOCAL, LOCAL_NAME)
    taken: set[Network] = set()
    for number, peer in enumerate(settings.peer, 1):
        router.name(number, peer.port.name or ("peer" if len(settings.peer) == 1 else f"peer{number}"))
        networks = peer.port.networks or (_EVERYTHING if member else ())
        router.add_routes(number, networks)
        taken.update(networks)
    for each in _own(settings):
        for network, port in ((ip_network(each.ip), LOCAL), (each.network, VACANT)):
            if network not in taken and not (member and port == VACANT):  # a member knows only that the hub knows
                taken.add(network)
                router.add_routes(port, [network])
    return router


def _own(settings: Settings) -> Sequence[Interface]:
    """This host's addresses inside the tunnel."""
    if not settings.pool_network:
        return settings.address
    # Imported here: most hubs have their addresses from the settings.
    from caetun.daemon.assigner import own_interfaces

    return own_interfaces(settings)


class PeerRoutes:
    """What leads to a router's peers beside its settings: assigned addresses, networks of those who have joined."""

    def __init__(self, node: Node) -> None:
        """`node`: its board is a router."""
        board = node.board
        assert isinstance(board, Router)
        self._router = board
        self._node = node
        self._networks: dict[Peer, list[Network]] = {}

    def add(self, peer: Peer, networks: Sequence[Network]) -> None:
        """A peer has joined, with these networks behind it. Raises ValueError if one leads somewhere already."""
        port = self._node.port_of(peer)
        self._router.name(port, peer.name)
        known = self._networks[peer] = []
        for network in networks:
            self._router.add_routes(port, [network])
            known.append(network)

    def assigned(self, peer: Peer, interfaces: Sequence[Interface]) -> None:
        """A peer has these addresses now, instead of those before. What the settings say of an address stays."""
        self._router.grant(self._node.port_of(peer), [ip_network(each.ip) for each in interfaces])

    def remove(self, peer: Peer) -> None:
        """A peer is no more."""
        self._router.remove_routes(self._networks.pop(peer, []))
        self._router.grant(self._node.port_of(peer), [])
