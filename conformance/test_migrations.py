"""Twenty times a carrier dies under traffic and comes back: no connection inside breaks, nothing is left over."""

from __future__ import annotations

from typing import Final

import pytest

from caetun.lab import Lab
from tests.tunnel.ends import INNER4
from tests.tunnel.flow import Flow
from tests.tunnel.street import Street, stop
from tests.tunnel.test_migration import all_closed, open_files, prove_itself, there_and_back
from tests.tunnel.watch import until, way

pytestmark = [pytest.mark.needs("namespaces", "tun", "firewall", "ip"), pytest.mark.slow]

# chosen by us
ROUNDS: Final = 20
_SETTLED: Final = 3
"""Rounds after which memory has what it needs: buffers as large as they get, everything imported."""
_GROWTH: Final = 16 << 20
"""Bytes of memory that the rest of the rounds may add: the freed heap that is kept (daemon/heap.py)."""


@pytest.mark.parametrize("outward", [True, False], ids=["client sends", "hub sends"])
@pytest.mark.parametrize("better", ["udp", "quic"])
def test_twenty_moves_leave_nothing(lab: Lab, better: str, outward: bool) -> None:
    street = Street(lab)
    hub = street.listen("--listen", ":443", "--transport", f"{better},wss")
    client = street.call(transport=f"{better},wss")
    until(lambda: way(client) == better, better)
    hosts = (street.client, street.hub, INNER4[0]) if outward else (street.hub, street.client, INNER4[1])
    memory = [0, 0]
    with Flow(*hosts) as flow:
        before = open_files(client, hub)
        for number in range(ROUNDS):
            there_and_back(street, client, flow, better, "wss")
            prove_itself()
            all_closed(before, client, hub)
            if number < _SETTLED:
                memory = [end.memory() for end in (client, hub)]
        assert flow.error is None
    grown = [end.memory() - then for end, then in zip((client, hub), memory, strict=True)]
    print(f"memory: {[f'{size / 2**20:+.1f} MiB' for size in grown]} since round {_SETTLED}")
    assert max(grown) < _GROWTH
    assert not client.events("peer.down")
    assert not hub.events("peer.down")
    stop(client, hub)
