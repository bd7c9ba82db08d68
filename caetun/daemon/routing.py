"""The router that the settings ask for."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from caetun.board import LOCAL
from caetun.l3.answers import Answers
from caetun.l3.router import Between, Router
from caetun.l3.table import VACANT, Network, Table
from caetun.ports import LOCAL_NAME
from caetun.types import Mode

if TYPE_CHECKING:
    from caetun.settings import Settings
    from caetun.types import Drops


def make_router(settings: Settings, drops: Drops) -> Router:
    """A router with the routes of all peers, whose ports have the numbers 1, 2, ... in the order of the settings.

    This host's addresses lead to itself; the rest of their networks, as far as no peer has it, to nobody: else packets
    to a peer that is not known would go to and fro between us and the host.
    """
    table = Table()
    answers = Answers(Mode.TUN, drops, [each.ip.packed for each in settings.address])
    router = Router(table, answers, drops, Between(settings.client_to_client), patient=bool(settings.connect))
    router.name(LOCAL, LOCAL_NAME)
    taken: set[Network] = set()
    for number, peer in enumerate(settings.peer, 1):
        router.name(number, peer.port.name or ("peer" if len(settings.peer) == 1 else f"peer{number}"))
        router.add_routes(number, peer.port.networks)
        taken.update(peer.port.networks)
    for each in settings.address:
        for network, port in ((ip_network(each.ip), LOCAL), (each.network, VACANT)):
            if network not in taken:
                taken.add(network)
                router.add_routes(port, [network])
    return router
