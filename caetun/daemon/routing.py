"""The router that the settings ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    from caetun.daemon.assigner import own_interfaces

    return own_interfaces(settings)


def assigned(node: Node, addresses: Iterable[Interface]) -> None:
    """This host has these addresses of a server's pool now, and no others."""
    if isinstance(node.board, Router):
        node.board.grant(LOCAL, [ip_network(each.ip) for each in addresses])


def granted(node: Node, peer: Peer, addresses: Iterable[Interface]) -> None:
    """A peer has these addresses of a pool now, and no others."""
    if isinstance(node.board, Router):
        node.board.grant(node.port_of(peer), [ip_network(each.ip) for each in addresses])
